//! A task's arguments.

use std::env;
use std::fmt::Display;
use std::str::FromStr;

use crate::Failure;

/// The arguments that were given to the task, without the program's name.
///
/// A task takes the options it knows, by name, and then what is left: an option that nobody took is an error,
/// never ignored. `--name value` and `--name=value` are the same; after `--` nothing is an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    /// What stands before `--`, or everything.
    options: Vec<String>,
    /// What stands after `--`.
    operands: Vec<String>,
}

impl Args {
    /// The arguments of this process.
    ///
    /// # Errors
    ///
    /// [`Failure::USAGE`] for an argument that is not UTF-8.
    pub fn from_env() -> Result<Self, Failure> {
        let mut given = Vec::new();
        for argument in env::args_os().skip(1) {
            given.push(
                argument
                    .into_string()
                    .map_err(|bad| Failure::usage(format!("the argument {bad:?} is not UTF-8")))?,
            );
        }
        Ok(Self::new(given))
    }

    /// Arguments from elsewhere than this process: for tests of a task.
    pub fn new(given: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut options: Vec<String> = given.into_iter().map(Into::into).collect();
        let mut operands = Vec::new();
        if let Some(at) = options.iter().position(|one| one == "--") {
            operands = options.split_off(at);
            operands.remove(0);
        }
        Self { options, operands }
    }

    /// Takes the option `name` that has no value; whether it was there.
    pub fn flag(&mut self, name: &str) -> bool {
        let found = self.options.iter().position(|one| one == name);
        found.map(|at| self.options.remove(at)).is_some()
    }

    /// Takes the option `name` and its value, if it was given.
    ///
    /// # Errors
    ///
    /// [`Failure::USAGE`] when it stands there without a value.
    pub fn value(&mut self, name: &str) -> Result<Option<String>, Failure> {
        for at in 0..self.options.len() {
            if self.options[at] == name {
                let has_value = self.options.get(at + 1).is_some_and(|next| !next.starts_with("--"));
                if !has_value {
                    return Err(Failure::usage(format!("{name} wants a value")));
                }
                self.options.remove(at);
                return Ok(Some(self.options.remove(at)));
            }
            let joined = self.options[at].strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
            if let Some(value) = joined {
                let value = value.to_owned();
                self.options.remove(at);
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// Takes the option `name`, which must be there, and its value.
    ///
    /// # Errors
    ///
    /// [`Failure::USAGE`] when it is missing or has no value.
    pub fn required(&mut self, name: &str) -> Result<String, Failure> {
        self.value(name)?.ok_or_else(|| Failure::usage(format!("{name} is missing")))
    }

    /// Takes the option `name` and its value as a `T`, if it was given.
    ///
    /// # Errors
    ///
    /// [`Failure::USAGE`] when the value is missing or is not a `T`.
    pub fn parsed<T>(&mut self, name: &str) -> Result<Option<T>, Failure>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.value(name)?
            .map(|text| text.parse().map_err(|error| Failure::usage(format!("{name} {text:?}: {error}"))))
            .transpose()
    }

    /// What is left, in order: file names and the like. A lone `-` is one of them.
    ///
    /// # Errors
    ///
    /// [`Failure::USAGE`] for an option that the task did not take: unknown, or given twice.
    pub fn rest(self) -> Result<Vec<String>, Failure> {
        let mut rest = self.options;
        if let Some(odd) = rest.iter().find(|one| one.starts_with('-') && *one != "-") {
            return Err(Failure::usage(format!("the option {odd:?} is unknown here, or given twice")));
        }
        rest.extend(self.operands);
        Ok(rest)
    }

    /// Says that the task takes nothing more.
    ///
    /// # Errors
    ///
    /// [`Failure::USAGE`] when something is left.
    pub fn none_left(self) -> Result<(), Failure> {
        match self.rest()?.first() {
            None => Ok(()),
            Some(odd) => Err(Failure::usage(format!("the argument {odd:?} is one too many"))),
        }
    }
}
