//! How a job stands and how its attempts end, as clients and the audit log see it.
//!
//! *Spec:* `docs/formats/record.md`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Digest, JobId, MAX_PATH_BYTES, text};

/// Longest reason that is written or read, in bytes: 480 jobs with the longest reasons fit one answer.
pub const MAX_REASON_BYTES: usize = 480;

/// Where a job is in its life. Everything from `Succeeded` on is terminal: it is reached once and never left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// Durable, waiting for other jobs of its batch.
    Accepted,
    /// Waiting for its time: the one that it asked for, or the end of the pause before its next attempt.
    Scheduled,
    /// Ready, waiting for a slot.
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
    /// It still waited when its time was up.
    Expired,
    /// It was tried as often, or for as long, as its plan allows, and never succeeded.
    Dead,
}

impl JobState {
    /// Whether the job will never change again.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Accepted | Self::Scheduled | Self::Queued | Self::Running)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Exceeded => "exceeded",
            Self::Trapped => "trapped",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::Faulted => "faulted",
            Self::Expired => "expired",
            Self::Dead => "dead",
        })
    }
}

/// Why a job that may be tried again is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeadReason {
    /// It had all its attempts.
    Attempts,
    /// The next attempt would begin later than its plan allows.
    Age,
}

impl fmt::Display for DeadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attempts => "it had all its attempts",
            Self::Age => "the next attempt would begin later than its plan allows",
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
    /// It still waited when its time was up.
    Expired,
    /// It never started: a job that it waits for did not end as its plan wants.
    Unmet {
        /// That job.
        job: JobId,
    },
    /// It never started: another job with its unique key took its place.
    Replaced {
        /// That job.
        by: JobId,
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
            Self::Cancelled | Self::Unmet { .. } | Self::Replaced { .. } => JobState::Cancelled,
            Self::Interrupted => JobState::Interrupted,
            Self::Faulted { .. } => JobState::Faulted,
            Self::Expired => JobState::Expired,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "exited with status {code}"),
            Self::Trapped { reason } => write!(f, "trapped: {reason}"),
            Self::Exceeded { limit, allowed, used } => {
                let unit = limit.unit();
                write!(f, "exceeded its {limit} limit of {allowed}{unit} (used {used})")
            }
            Self::Cancelled => f.write_str("cancelled"),
            Self::Interrupted => f.write_str("interrupted: the host went down while it ran"),
            Self::Faulted { reason } => write!(f, "the host could not run it: {reason}"),
            Self::Expired => f.write_str("expired: it still waited when its time was up"),
            Self::Unmet { job } => {
                write!(f, "cancelled: job {job}, which it waits for, did not end as it must")
            }
            Self::Replaced { by } => write!(f, "cancelled: job {by} with the same unique key took its place"),
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
    /// Time on a processor, milliseconds.
    CpuTime,
    /// Growth of files, bytes.
    Disk,
    /// One file's size, bytes.
    FileSize,
    /// Files, directories and links created, count.
    Files,
    /// Sockets open at once, count.
    Sockets,
    /// HTTP bodies, bytes.
    HttpBodies,
    /// Artifacts, count.
    Artifacts,
}

impl Limit {
    /// The unit of its numbers; empty for a count.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Memory
            | Self::Stdout
            | Self::Stderr
            | Self::HostBuffers
            | Self::Disk
            | Self::FileSize
            | Self::HttpBodies => " bytes",
            Self::Fuel => " units",
            Self::WallTime | Self::CpuTime => " ms",
            Self::Instances
            | Self::Tables
            | Self::Memories
            | Self::Handles
            | Self::Files
            | Self::Sockets
            | Self::Artifacts => "",
        }
    }
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
            Self::CpuTime => "cpu-time",
            Self::Disk => "disk",
            Self::FileSize => "file-size",
            Self::Files => "files",
            Self::Sockets => "sockets",
            Self::HttpBodies => "http-bodies",
            Self::Artifacts => "artifacts",
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
    /// Growth of files, bytes.
    #[serde(default, skip_serializing_if = "zero")]
    pub disk_bytes: u64,
    /// Files, directories and links created.
    #[serde(default, skip_serializing_if = "zero")]
    pub files: u64,
    /// HTTP bodies, sent and received, bytes.
    #[serde(default, skip_serializing_if = "zero")]
    pub http_bytes: u64,
}

const fn zero(value: &u64) -> bool {
    *value == 0
}

/// Most different denials that are told of one attempt.
pub const MAX_DENIALS: usize = 32;
/// Longest text of one denial, in bytes.
const MAX_DENIAL_BYTES: usize = 320;
/// Most artifacts of one attempt.
pub const MAX_ARTIFACTS: usize = 100;
/// Longest sum of the names of all artifacts of one attempt, in bytes: the audit record holds them, and must fit a log entry.
pub const MAX_ARTIFACT_NAMES_BYTES: usize = 8 * 1024;

/// Something that the guest asked for and was not granted; it got an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    /// What it asked for, such as `connect tcp://10.0.0.5:5432`.
    #[serde(
        serialize_with = "text::write::<MAX_DENIAL_BYTES, _>",
        deserialize_with = "text::read::<'de, MAX_DENIAL_BYTES, _>"
    )]
    pub what: String,
    /// How often.
    pub count: u64,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "asked for {}, not granted", text::shown(&self.what, MAX_DENIAL_BYTES))?;
        if self.count > 1 { write!(f, " ({} times)", self.count) } else { Ok(()) }
    }
}

/// A file that an attempt left in its artifacts directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Relative path, `/` between its parts.
    #[serde(
        serialize_with = "text::write::<MAX_ARTIFACT_NAMES_BYTES, _>",
        deserialize_with = "text::read::<'de, MAX_ARTIFACT_NAMES_BYTES, _>"
    )]
    pub name: String,
    /// Bytes.
    pub length: u64,
    /// SHA-256 of the bytes.
    pub digest: Digest,
}

impl Artifact {
    /// Whether an artifact can be called `name`: relative, one spelling, nothing in it that does not print, at most
    /// [`MAX_PATH_BYTES`]. A client asks before it makes a file of that name.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        name.len() <= MAX_PATH_BYTES
            && !name.split('/').any(|part| matches!(part, "" | "." | ".."))
            && text::shown(name, MAX_PATH_BYTES) == name
    }
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

impl OutputSummary {
    /// A stream without a byte.
    #[must_use]
    pub fn nothing() -> Self {
        Self { length: 0, digest: Digest::of(b"") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifacts_name_stays_where_it_is_put() {
        for good in ["a", "a/b.txt", "...", "\u{fc} b", "\"q\\"] {
            assert!(Artifact::is_name(good), "{good:?}");
        }
        let long = "x".repeat(MAX_PATH_BYTES + 1);
        for bad in
            ["", "/etc/passwd", "../x", "a/../x", "a//b", "a/", ".", "a\n", "\u{1b}[2J", "\u{202e}x", &long]
        {
            assert!(!Artifact::is_name(bad), "{bad:?}");
        }
    }
}
