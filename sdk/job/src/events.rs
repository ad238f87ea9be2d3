//! The stream of events: what is asked for, and the lines that a host answers with.
//!
//! *Spec:* `docs/formats/wire.md`, "Events".

use serde::{Deserialize, Serialize};

use crate::strict::{self, StrictError};
use crate::{JobId, MAX_RECORD_BYTES, Name, Record};

/// Longest line of the answer, in bytes, without its newline: a record, and what stands beside it.
pub const MAX_EVENT_LINE_BYTES: usize = MAX_RECORD_BYTES + 512;

/// Which events somebody wants to hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// From the record with this index in the audit log on; none: from the next one that the host writes.
    pub from: Option<u64>,
    /// Go on with what comes. Without it, the answer ends with the last record that is durable.
    pub follow: bool,
    /// Only records of this type: one of [`Event::KINDS`](crate::Event::KINDS).
    pub kind: Option<String>,
    /// Only records that say something of this job.
    pub job: Option<JobId>,
    /// Only records of jobs in this queue.
    pub queue: Option<Name>,
}

/// A record of the audit log, and where it stands there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostEvent {
    /// Its index in the log.
    pub index: u64,
    /// Whose it is; none for a record about the host itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Name>,
    /// What happened.
    pub record: Record,
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum EventLine {
    /// Something happened.
    Event(Box<HostEvent>),
    /// Some records before `next` are about jobs that the host has let go, and it cannot tell any more whose those were, or in which
    /// queue: they are left out.
    LeftOut {
        /// How many since the line before.
        records: u64,
        /// All records before this index are told or left out.
        next: u64,
    },
    /// All records before this index were told, or are not asked for.
    Next {
        /// Where to go on after a lost connection.
        next: u64,
    },
}

impl EventLine {
    /// Where to go on behind this line.
    #[must_use]
    pub fn next(&self) -> u64 {
        match self {
            Self::Event(event) => event.index.saturating_add(1),
            Self::LeftOut { next, .. } | Self::Next { next } => *next,
        }
    }

    /// The line with its newline.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        #[expect(
            clippy::expect_used,
            reason = "string keys and plain values always serialize; a Vec takes every write"
        )]
        let mut line = serde_json::to_vec(self).expect("plain data serializes");
        line.push(b'\n');
        line
    }

    /// Reads a line without its newline.
    ///
    /// # Errors
    /// When it is no such line, or holds a record that this version does not know.
    pub fn parse(line: &[u8]) -> Result<Self, StrictError> {
        strict::parse(line, MAX_EVENT_LINE_BYTES)
    }
}
