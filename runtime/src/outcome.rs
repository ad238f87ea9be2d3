//! How a run ended, and what it used.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::limits::LimitKind;
use crate::quantity::{ByteSize, Fuel};
use crate::reach::Reached;

/// The answer to one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// What it used until then.
    pub usage: Usage,
    /// What it was denied, at most [`MAX_KINDS`](crate::MAX_KINDS) entries; with [`Grant::observe`](crate::Grant::observe) also
    /// what it used of its grant, at most [`MAX_OBSERVED`](crate::MAX_OBSERVED). In the order of the first time.
    pub reached: Vec<Reached>,
    /// From the beginning of the run until its entry point was called: building its world, and its module's own start function. None
    /// when it did not come to that.
    pub began_after: Option<Duration>,
    /// What the guest set as its result last, at most [`MAX_RESULT`](crate::MAX_RESULT) bytes; kept however it ended.
    pub result: Option<Vec<u8>>,
}

/// How a guest ended. Whatever the guest did wrong is here; what the host did wrong is a [`HostFault`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It ended by itself, with this status; a plain return is 0.
    Exited(i32),
    /// It did something that WebAssembly forbids, or gave a host call arguments that make no sense.
    Trapped {
        /// The class of the fault.
        kind: TrapKind,
        /// One line, printable characters only, with the name of the function where it is known.
        message: String,
    },
    /// It went past a limit and was stopped.
    Exceeded {
        /// Which one.
        limit: LimitKind,
        /// What it was allowed, in [`LimitKind::unit`].
        allowed: u64,
        /// What it had used or asked for when it was stopped, in [`LimitKind::unit`].
        used: u64,
    },
    /// The caller cancelled it.
    Cancelled,
    /// The limits ask for more than this engine gives; nothing of the guest ran.
    Denied {
        /// What was asked for and what the engine gives.
        what: String,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with status {code}"),
            Self::Trapped { message, .. } => write!(f, "trapped: {message}"),
            Self::Exceeded { limit, allowed, used } => {
                let unit = limit.unit();
                let space = if unit.is_empty() { "" } else { " " };
                write!(f, "exceeded the {limit} limit: {used} of {allowed}{space}{unit}")
            }
            Self::Cancelled => f.write_str("cancelled"),
            Self::Denied { what } => write!(f, "denied: {what}"),
        }
    }
}

/// The class of a trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TrapKind {
    /// `unreachable`: what most languages compile a panic or an abort to.
    Unreachable,
    /// The call stack is full.
    StackOverflow,
    /// A load or store outside the memory.
    MemoryOutOfBounds,
    /// An access outside a table.
    TableOutOfBounds,
    /// A call through a table to nothing, or to another signature.
    BadIndirectCall,
    /// Division by zero, integer overflow, or a float that has no integer.
    Arithmetic,
    /// A host call refused its arguments.
    HostCall,
    /// Anything else that WebAssembly forbids.
    Other,
}

impl TrapKind {
    /// A stable lower-case name, for logs and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::StackOverflow => "stack-overflow",
            Self::MemoryOutOfBounds => "memory-out-of-bounds",
            Self::TableOutOfBounds => "table-out-of-bounds",
            Self::BadIndirectCall => "bad-indirect-call",
            Self::Arithmetic => "arithmetic",
            Self::HostCall => "host-call",
            Self::Other => "other",
        }
    }
}

/// What a run used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// From the call of `run` to its end.
    pub wall: Duration,
    /// Time on a processor: the first slice (a few milliseconds at most) by the wall clock, later ones by the
    /// thread's own CPU clock. Work done by helper threads on files is not in it.
    pub cpu: Duration,
    /// Fuel burnt; none when the module was compiled without metering.
    pub fuel: Option<Fuel>,
    /// Most memory held at once, memories and tables summed.
    pub peak_memory: ByteSize,
    /// Bytes that the guest read from stdin.
    pub stdin: ByteSize,
    /// Bytes delivered to the stdout sink.
    pub stdout: ByteSize,
    /// Bytes delivered to the stderr sink.
    pub stderr: ByteSize,
    /// Bytes by which files grew, as counted against [`Limits::disk`](crate::Limits::disk).
    pub disk: ByteSize,
    /// Files, directories and links created.
    pub files: u64,
    /// Bytes of all HTTP bodies.
    pub http_body: ByteSize,
}

/// What this side, not the guest, did wrong. The run says nothing about the guest then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostFault {
    /// All of the engine's slots are in use: run fewer at once, or raise `EngineConfig::max_concurrent`.
    #[error("the engine is full ({what}): run fewer jobs at once, or raise max_concurrent")]
    Busy {
        /// Which pool is empty.
        what: String,
    },
    /// A fuel limit was set for a module that was compiled without metering.
    #[error("a fuel limit needs a module compiled with Metering::Fuel")]
    Unmetered,
    /// A granted directory could not be opened.
    #[error("cannot open the granted directory {}: {source}", path.display())]
    Preopen {
        /// The host path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The reader behind stdin failed.
    #[error("reading the guest's input failed: {0}")]
    Stdin(#[source] io::Error),
    /// The sink behind stdout failed.
    #[error("storing the guest's stdout failed: {0}")]
    Stdout(#[source] io::Error),
    /// The sink behind stderr failed.
    #[error("storing the guest's stderr failed: {0}")]
    Stderr(#[source] io::Error),
    /// Host code panicked under this run; other runs are not touched.
    #[error("host code panicked during the run: {message}")]
    Panic {
        /// What the panic said.
        message: String,
    },
    /// wasmtime could not start the run, for a reason that is not the guest's.
    #[error("the engine could not start the run: {message}")]
    Engine {
        /// What wasmtime said.
        message: String,
    },
}
