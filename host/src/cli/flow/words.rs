//! The words of one job of a file: options of `submit`.
//!
//! There is no second list of options: each job's keys become the words of a command line, which the same parser reads. So a key
//! means what the option means, and a value is written and refused in the same way.

use std::collections::HashMap;
use std::ops::Range;

use clap::{Arg, ArgAction, CommandFactory as _, Parser};
use toml::de::DeValue;

use super::super::task::TaskArgs;
use super::file::{Fault, Source};

/// A suggestion further away than this (Jaro-Winkler, 0 to 1) would confuse more than help.
const SUGGESTION_MIN: f64 = 0.75;
/// Keys that are no options of `submit`.
const OWN: [&str; 6] = ["module", "args", "after", "after-failure-of", "after-end-of", "stdin-from"];

/// The words of one job.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, disable_version_flag = true)]
struct Words {
    #[command(flatten)]
    task: TaskArgs,
}

/// What the words of one job say, or what is wrong with them.
pub(super) fn parsed(words: Vec<String>) -> Result<TaskArgs, String> {
    Words::try_parse_from(words).map(|words| words.task).map_err(|error| {
        let text = error.render().to_string();
        let first = text.split("\n\n").next().unwrap_or_default();
        first.trim_start_matches("error: ").trim().to_owned()
    })
}

/// A text, a whole number, or a list of those.
pub(super) fn texts(
    source: Source<'_>,
    at: &str,
    span: &Range<usize>,
    value: &DeValue<'_>,
) -> Result<Vec<String>, Fault> {
    let one = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().replace('_', "")),
        _ => None,
    };
    let all = match value {
        DeValue::Array(list) => {
            list.iter().map(|value| one(value.get_ref())).collect::<Option<Vec<String>>>()
        }
        value => one(value).map(|text| vec![text]),
    };
    all.ok_or_else(|| {
        source.fault(span, format_args!("{at}: must be text in quotes, a whole number, or a list of those"))
    })
}

pub(super) fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.map(|known| (strsim::jaro_winkler(unknown, known), known));
    let near = near.filter(|(distance, _)| *distance >= SUGGESTION_MIN);
    near.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, known)| known)
}

/// The options of `submit` that say what to run.
pub(super) struct Options(HashMap<String, Arg>);

impl Options {
    pub(super) fn new() -> Self {
        let command = Words::command();
        let named = command.get_arguments().filter_map(|arg| Some((arg.get_long()?.to_owned(), arg.clone())));
        Self(named.collect())
    }

    /// Refuses a key that is none, or that does not belong here.
    pub(super) fn check(
        &self,
        source: Source<'_>,
        at: &str,
        key: &str,
        span: &Range<usize>,
        elsewhere: &[&str],
    ) -> Result<(), Fault> {
        if elsewhere.contains(&key) {
            return Err(source.fault(span, format_args!("{key}: say in each job what it waits for")));
        }
        if self.0.contains_key(key) || OWN.contains(&key) {
            return Ok(());
        }
        let known = self.0.keys().map(String::as_str).chain(OWN).chain(at.is_empty().then_some("jobs"));
        let hint = match nearest(key, known) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("the keys here are the options of `strongroom submit`, and {}", OWN.join(", ")),
        };
        Err(source.fault(span, format_args!("unknown key {at}{key}: {hint}")))
    }

    /// The words of a command line that say `key = value`.
    pub(super) fn words(
        &self,
        source: Source<'_>,
        at: &str,
        key: &str,
        span: &Range<usize>,
        value: &DeValue<'_>,
    ) -> Result<Vec<String>, Fault> {
        let action = self.0.get(key).map(Arg::get_action);
        if let (Some(ArgAction::SetTrue), value) = (action, value) {
            let DeValue::Boolean(on) = value else {
                return Err(source.fault(span, format_args!("{at}: must be true or false")));
            };
            return Ok(if *on { vec![format!("--{key}")] } else { Vec::new() });
        }
        let texts = texts(source, at, span, value)?;
        if key == "input" && texts.iter().any(|text| text == "-") {
            let problem = "standard input cannot be shared among jobs: name a file";
            return Err(source.fault(span, format_args!("{at}: {problem}")));
        }
        Ok(texts.into_iter().map(|text| format!("--{key}={text}")).collect())
    }
}
