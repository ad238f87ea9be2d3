//! The log of what the host does, on standard error. Its level is set by options, and while it runs by `log-level`; never by a variable.

use clap::ValueEnum;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, reload};

use crate::log_level::{self, Directives};

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Level {
    /// Nothing.
    Off,
    /// What went wrong.
    Error,
    /// What may go wrong.
    Warn,
    /// What an operator wants to see.
    Info,
    /// What a developer wants to see.
    Debug,
    /// Everything.
    Trace,
}

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Pretty,
    /// One JSON object in a line.
    Json,
}

impl Level {
    /// With `-v` and `-vv`, from a level that is more quiet.
    pub(super) fn at_least(self, verbose: u8) -> Self {
        match (self, verbose) {
            (Self::Trace, _) => Self::Trace,
            (level, 0) => level,
            (_, 1) => Self::Debug,
            _ => Self::Trace,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Starts logging for the rest of the process, at a level that can be changed while it runs. A second call changes nothing.
pub(super) fn start(level: Level, format: Format, colour: bool) {
    let Ok(directives) = level.word().parse::<Directives>() else { return };
    let (filter, handle) = reload::Layer::new(EnvFilter::new(directives.filter()));
    let apply = move |filter: &str| {
        handle.reload(EnvFilter::new(filter)).map_err(|error: reload::Error| error.to_string())
    };
    log_level::steer(directives, Box::new(apply));
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
    let _ = match format {
        Format::Pretty => registry.with(layer.with_target(false)).try_init(),
        Format::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
}
