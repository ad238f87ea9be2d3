//! How much the host says of itself, on standard error: set when the process starts, and again while it runs.
//!
//! *Owns:* the one filter of the process. *Never:* a variable of the environment; a word of what the host is built on that is louder than
//! a warning: such output names peers and keys that have no place in a log.
//! *Bound:* [`MAX_BYTES`], [`MAX_DIRECTIVES`].
//! *Spec:* `docs/reference/cli.md`, "`strongroom log-level`".

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Longest text of directives.
pub(crate) const MAX_BYTES: usize = 1024;
const MAX_DIRECTIVES: usize = 32;
/// Longest name of a part of the host.
const MAX_TARGET_BYTES: usize = 64;
/// From quiet to loud.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// Our own crates.
const OURS: [&str; 4] = ["strongroom", "strongroom_sdk", "strongroom_runtime", "strongroom_job"];

static STEERED: OnceLock<Steered> = OnceLock::new();

/// Puts a filter in force, in the words of tracing's `EnvFilter`, or says why not.
pub(crate) type Apply = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// What is in force, and how to change it.
struct Steered {
    apply: Apply,
    directives: Mutex<Directives>,
}

/// `info`, or `info,strongroom::store=debug`: a level for all of the host, and others for parts of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directives {
    level: &'static str,
    parts: Vec<(String, &'static str)>,
}

/// Why a text is no such thing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DirectivesError {
    #[error("longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("more than {MAX_DIRECTIVES} parts")]
    TooMany,
    #[error("{0:?} is no level: write off, error, warn, info, debug or trace")]
    Level(String),
    #[error(
        "{0:?} is no part of the host, such as strongroom::store: of what it is built on nothing but warnings is logged"
    )]
    Target(String),
    #[error("there are two levels for the whole host")]
    Twice,
}

/// Why the level stays as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetError {
    #[error("this process does not write a log of its own")]
    NoLog,
    #[error("the log cannot be steered: {0}")]
    Gone(String),
}

/// From now on these directives are in force, and [`set`] changes them through `apply`. Once for each process.
pub(crate) fn steer(directives: Directives, apply: Apply) {
    let _ = STEERED.set(Steered { apply, directives: Mutex::new(directives) });
}

/// What is in force, if this process logs.
pub(crate) fn in_force() -> Option<Directives> {
    let directives = &STEERED.get()?.directives;
    Some(directives.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Puts other directives in force.
///
/// # Errors
/// When there is no log to steer.
pub(crate) fn set(directives: &Directives) -> Result<(), SetError> {
    let steered = STEERED.get().ok_or(SetError::NoLog)?;
    // Held over both steps, so that what is said is what is in force.
    let mut now = steered.directives.lock().unwrap_or_else(PoisonError::into_inner);
    (steered.apply)(&directives.filter()).map_err(SetError::Gone)?;
    *now = directives.clone();
    Ok(())
}

impl Directives {
    /// As an `EnvFilter` reads it.
    pub(crate) fn filter(&self) -> String {
        let others = if matches!(self.level, "off" | "error") { self.level } else { "warn" };
        let mut filter = others.to_owned();
        for ours in OURS {
            let _ = write!(filter, ",{ours}={}", self.level);
        }
        for (target, level) in &self.parts {
            let _ = write!(filter, ",{target}={level}");
        }
        filter
    }
}

impl fmt::Display for Directives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.level)?;
        self.parts.iter().try_for_each(|(target, level)| write!(f, ",{target}={level}"))
    }
}

impl FromStr for Directives {
    type Err = DirectivesError;

    /// Without a level for the whole host, that is `info`.
    fn from_str(text: &str) -> Result<Self, DirectivesError> {
        if text.len() > MAX_BYTES {
            return Err(DirectivesError::TooLong);
        }
        let (mut whole, mut parts) = (None, Vec::new());
        for (index, directive) in text.split(',').map(str::trim).enumerate() {
            if index == MAX_DIRECTIVES {
                return Err(DirectivesError::TooMany);
            }
            match directive.split_once('=') {
                Some((target, word)) => parts.push((part(target)?, level(word)?)),
                None if whole.is_some() => return Err(DirectivesError::Twice),
                None => whole = Some(level(directive)?),
            }
        }
        Ok(Self { level: whole.unwrap_or("info"), parts })
    }
}

fn level(word: &str) -> Result<&'static str, DirectivesError> {
    let found = LEVELS.into_iter().find(|level| *level == word);
    found.ok_or_else(|| DirectivesError::Level(word.to_owned()))
}

/// One of our crates, or a module of one.
fn part(target: &str) -> Result<String, DirectivesError> {
    let first = target.split("::").next().unwrap_or_default();
    let plain =
        target.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b':' | b'0'..=b'9'));
    if OURS.contains(&first) && plain && target.len() <= MAX_TARGET_BYTES {
        Ok(target.to_owned())
    } else {
        Err(DirectivesError::Target(target.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        text.parse::<Directives>().map(|directives| directives.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_level_and_parts_are_read_and_said_again() {
        for text in
            ["off", "info", "trace,strongroom::store=off", "warn,strongroom_sdk=debug,strongroom=info"]
        {
            assert_eq!(read(text), Ok(text.to_owned()));
        }
        assert_eq!(read("strongroom::intake=debug"), Ok("info,strongroom::intake=debug".into()));
    }

    // What quinn and rustls say at `debug` names peers and keys.
    #[test]
    fn what_the_host_is_built_on_cannot_be_made_louder() {
        for text in ["quinn=debug", "info,rustls=trace", "strongroomy=info", "=debug", "strongroom[x]=debug"]
        {
            let error = read(text).unwrap_err();
            assert!(error.contains("is no part of the host"), "{text}: {error}");
        }
        let filter = "trace,strongroom::store=debug".parse::<Directives>().unwrap().filter();
        assert!(filter.contains("warn") && !filter.contains("quinn"), "{filter}");
    }

    #[test]
    fn nonsense_is_refused_and_bounded() {
        for text in ["", "loud", "info,", "info,debug", "INFO", "strongroom=", "info info"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!("x".repeat(MAX_BYTES + 1).parse::<Directives>(), Err(DirectivesError::TooLong));
        let many = vec!["strongroom=info"; MAX_DIRECTIVES + 1].join(",");
        assert_eq!(many.parse::<Directives>(), Err(DirectivesError::TooMany));
    }
}
