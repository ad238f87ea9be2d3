//! `strongroom secret`: store, list and forget secrets of the data directory's host. Works while it serves.

use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_job::Name;
use zeroize::Zeroizing;

use super::Common;
use super::console::Console;
use super::directory::config;
use super::exit::{Exit, Failure};
use crate::secrets::{MAX_SECRET_BYTES, SecretError, Vault};

/// What to do with secrets.
#[derive(Debug, Subcommand)]
pub(super) enum SecretCommand {
    /// Store a secret, or replace it, from standard input or a file
    Set(SetArgs),
    /// List the names of all secrets
    List,
    /// Forget a secret
    Remove(RemoveArgs),
}

#[derive(Args, Debug)]
pub(super) struct SetArgs {
    /// What jobs call it
    #[arg(value_name = "NAME")]
    name: Name,
    /// Take every byte of a file [default: standard input, without a newline at its end]
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct RemoveArgs {
    /// What jobs call it
    #[arg(value_name = "NAME")]
    name: Name,
}

#[derive(Serialize)]
struct One<'a> {
    secret: &'a Name,
}

#[derive(Serialize)]
struct All {
    secrets: Vec<Name>,
}

pub(super) fn secret(common: &Common, command: SecretCommand, console: &Console) -> Result<Exit, Failure> {
    let home = common.home()?;
    let vault = Vault::of(&home);
    match command {
        SecretCommand::Set(SetArgs { name, from_file }) => {
            let value = match &from_file {
                Some(path) => file(path)?,
                None => stdin(&name)?,
            };
            vault.set(&name, &value)?;
            if console.json() {
                console.document(&One { secret: &name })?;
            } else {
                console.say(format_args!("stored the secret {name}"));
            }
            if !config(&home)?.principals.iter().any(|who| who.secrets.contains(&name)) {
                console.say(format_args!(
                    "no key may ask for it yet: add \"{name}\" to a principal's secrets in {}, and start the host anew",
                    home.config().display()
                ));
            }
        }
        SecretCommand::List => {
            let secrets = vault.list()?;
            if console.json() {
                console.document(&All { secrets })?;
            } else {
                for name in secrets {
                    console.print(name)?;
                }
            }
        }
        SecretCommand::Remove(RemoveArgs { name }) => {
            vault.remove(&name)?;
            if console.json() {
                console.document(&One { secret: &name })?;
            } else {
                console.say(format_args!("forgot the secret {name}"));
            }
        }
    }
    Ok(Exit::Status(0))
}

fn file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let wrong = |error: io::Error| Failure::usage(format_args!("--from-file {}: {error}", path.display()));
    read(&mut std::fs::File::open(path).map_err(wrong)?).map_err(wrong)
}

/// A newline at the end is the terminal's or `echo`'s, not the secret's.
fn stdin(name: &Name) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if io::stdin().is_terminal() {
        let text = format_args!(
            "a secret is not typed where it can be read: pipe it in, or use `secret set {name} --from-file FILE`"
        );
        return Err(Failure::usage(text));
    }
    let value = read(&mut io::stdin().lock());
    let mut value = value.map_err(|error| Failure::usage(format_args!("standard input: {error}")))?;
    if value.last() == Some(&b'\n') {
        value.pop();
    }
    Ok(value)
}

/// A little more than may be stored, so that what is too long is told and not cut.
fn read(from: &mut impl io::Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let most = MAX_SECRET_BYTES + 2;
    // All of it at once: a vector that grows leaves copies behind.
    let mut value = Zeroizing::new(Vec::with_capacity(most));
    from.take(most as u64).read_to_end(&mut value)?;
    Ok(value)
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::Absent(_) | SecretError::TooLong(_) => Self::usage(error),
            SecretError::Place(error) => error.into(),
            error => Self::fault(error),
        }
    }
}
