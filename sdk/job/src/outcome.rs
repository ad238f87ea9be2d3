//! How a job stands and how its attempts end, as clients and the audit log see it.
//!
//! *Spec:* `docs/formats/record.md`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Digest, text};

/// Longest reason that is written or read, in bytes: 500 jobs with the longest reasons fit one answer.
pub const MAX_REASON_BYTES: usize = 480;

/// Where a job is in its life. Everything after `Running` is terminal: it is reached once and never left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// Durable, waiting for a slot.
    Queued,
    /// A guest is running, or was when the host went down.
    Running,
    /// The guest ended with exit status 0.
    Succeeded,
    /// The guest ended with another exit status.
    Failed,
    /// The guest hit one of its limits.
    Exceeded,
    /// The guest trapped.
    Trapped,
    /// Somebody who may do so stopped it.
    Cancelled,
    /// The host went down while it ran, and it is not signed as idempotent.
    Interrupted,
    /// The host could not run it, for a reason of its own.
    Faulted,
}

impl JobState {
    /// Whether the job will never change again.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Exceeded => "exceeded",
            Self::Trapped => "trapped",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::Faulted => "faulted",
        })
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Outcome {
    /// The guest ended by itself.
    Exited {
        /// Its exit status; 0 is success.
        code: i32,
    },
    /// The guest did what WebAssembly forbids.
    Trapped {
        /// The engine's word for it. Written and read without control characters, at most [`MAX_REASON_BYTES`].
        #[serde(
            serialize_with = "text::write::<MAX_REASON_BYTES, _>",
            deserialize_with = "text::read::<'de, MAX_REASON_BYTES, _>"
        )]
        reason: String,
    },
    /// The guest hit a limit.
    Exceeded {
        /// Which one.
        limit: Limit,
        /// Its value, in the limit's unit.
        allowed: u64,
        /// What the guest had used, or wanted, at that moment.
        used: u64,
    },
    /// Stopped on request.
    Cancelled,
    /// The host went down while the guest ran; it is not run again, because it is not signed as idempotent.
    Interrupted,
    /// The host could not run it. Not the guest's doing.
    Faulted {
        /// What went wrong at the host. Written and read without control characters, at most [`MAX_REASON_BYTES`].
        #[serde(
            serialize_with = "text::write::<MAX_REASON_BYTES, _>",
            deserialize_with = "text::read::<'de, MAX_REASON_BYTES, _>"
        )]
        reason: String,
    },
}

impl Outcome {
    /// The terminal state that this outcome puts a job in.
    #[must_use]
    pub const fn state(&self) -> JobState {
        match self {
            Self::Exited { code: 0 } => JobState::Succeeded,
            Self::Exited { .. } => JobState::Failed,
            Self::Trapped { .. } => JobState::Trapped,
            Self::Exceeded { .. } => JobState::Exceeded,
            Self::Cancelled => JobState::Cancelled,
            Self::Interrupted => JobState::Interrupted,
            Self::Faulted { .. } => JobState::Faulted,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "exited with status {code}"),
            Self::Trapped { reason } => write!(f, "trapped: {reason}"),
            Self::Exceeded { limit, allowed, used } => {
                write!(f, "exceeded its {limit} limit of {allowed} (used {used})")
            }
            Self::Cancelled => f.write_str("cancelled"),
            Self::Interrupted => f.write_str("interrupted: the host went down while it ran"),
            Self::Faulted { reason } => write!(f, "the host could not run it: {reason}"),
        }
    }
}

/// The limits that a guest can hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// Linear memories and tables, bytes.
    Memory,
    /// Instructions, the engine's units.
    Fuel,
    /// Wall time, milliseconds.
    WallTime,
    /// Standard output, bytes.
    Stdout,
    /// Standard error, bytes.
    Stderr,
    /// Instances, count.
    Instances,
    /// Tables, count.
    Tables,
    /// Linear memories, count.
    Memories,
    /// Open files and other handles, count.
    Handles,
    /// The host's buffers for one call, bytes.
    HostBuffers,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Fuel => "fuel",
            Self::WallTime => "wall-time",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Instances => "instances",
            Self::Tables => "tables",
            Self::Memories => "memories",
            Self::Handles => "handles",
            Self::HostBuffers => "host-buffers",
        })
    }
}

/// What an attempt used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// From start to end, microseconds.
    pub wall_us: u64,
    /// Time during which the guest held a core, microseconds.
    pub cpu_us: u64,
    /// Fuel, when the job had a fuel limit.
    pub fuel: Option<u64>,
    /// The most linear memory and table space at one moment, bytes.
    pub peak_memory_bytes: u64,
    /// Bytes that the guest read from standard input.
    pub stdin_bytes: u64,
}

/// One output stream of a finished attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSummary {
    /// Bytes kept.
    pub length: u64,
    /// SHA-256 of the bytes kept.
    pub digest: Digest,
}
