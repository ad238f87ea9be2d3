//! Refusals: a code for programs, a sentence for people, and what would make the request pass.
//!
//! *Spec:* `docs/formats/wire.md` lists every code.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::{self, shown};

/// Longest sentence that a host sends and a client takes, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 4096;
/// Most entries in a list of what is missing: more than one job can ask for.
pub const MAX_MISSING: usize = 96;

/// Why a host did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people: what was refused, whose fault it is, what would make it pass.
    /// Written and read without control characters, at most [`MAX_MESSAGE_BYTES`].
    #[serde(
        serialize_with = "text::write::<MAX_MESSAGE_BYTES, _>",
        deserialize_with = "text::read::<'de, MAX_MESSAGE_BYTES, _>"
    )]
    pub message: String,
    /// What was asked for and is not granted, one by one, when the code is `not-granted`; the role, when it is `missing-role`; else
    /// empty. Written and read with the same care as the message, at most [`MAX_MISSING`] entries.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "write_missing",
        deserialize_with = "read_missing"
    )]
    pub missing: Vec<String>,
}

impl Refusal {
    /// A refusal without a list. Control characters are escaped, a longer message than 4 KiB is cut.
    #[must_use]
    pub fn new(code: RefusalCode, message: impl fmt::Display) -> Self {
        Self { code, message: shown(&message.to_string(), MAX_MESSAGE_BYTES), missing: Vec::new() }
    }
}

fn write_missing<S: Serializer>(missing: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(missing.iter().take(MAX_MISSING).map(|what| shown(what, MAX_MESSAGE_BYTES)))
}

fn read_missing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let missing = Vec::<String>::deserialize(deserializer)?;
    Ok(missing.iter().take(MAX_MISSING).map(|what| shown(what, MAX_MESSAGE_BYTES)).collect())
}

/// What kind of refusal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// The frame or the request in it is malformed.
    BadRequest,
    /// The envelope or the signed body is malformed.
    BadEnvelope,
    /// The signature is not the sender's.
    BadSignature,
    /// The job is addressed to another host.
    WrongAudience,
    /// The job is signed for a tenant that the principal does not belong to.
    WrongTenant,
    /// The time window has passed.
    Expired,
    /// The time window has not begun.
    NotYetValid,
    /// The time window is longer than the host allows.
    TooLongLived,
    /// The job id was used before, for other bytes.
    Conflict,
    /// More asked for than the principal may have.
    NotGranted,
    /// A limit above the host's maximum.
    LimitTooHigh,
    /// No such queue.
    UnknownQueue,
    /// The queue is full; try again later.
    QueueFull,
    /// The queue takes no jobs now.
    QueueClosed,
    /// Another job has the unique key.
    NotUnique,
    /// The tenant has used up what it may have.
    QuotaReached,
    /// The host does not have the labels that the job requires.
    LabelMismatch,
    /// The job could never run.
    NeverRuns,
    /// The module was not given to the host.
    UnknownModule,
    /// The input was not given to the host.
    UnknownInput,
    /// There is no such artifact.
    UnknownArtifact,
    /// The bytes are not those of the digest or the length.
    DigestMismatch,
    /// The bytes are no module that this host runs.
    BadModule,
    /// More bytes than the host takes.
    TooLarge,
    /// No such job of this principal's tenant.
    UnknownJob,
    /// The host keeps no such grant, or none that this key may speak of.
    UnknownGrant,
    /// The request does not fit the job's state.
    WrongState,
    /// The key may not do this.
    Forbidden,
    /// The principal does not have the role that this takes.
    MissingRole,
    /// Too many requests at once; try again later.
    Busy,
    /// The host is shutting down; try again when it is back.
    ShuttingDown,
    /// The host's own fault.
    HostFault,
}

impl RefusalCode {
    /// Whether the same request may pass later without being changed.
    #[must_use]
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::QueueFull | Self::Busy | Self::ShuttingDown)
    }

    /// Whether the host, not the one who asked, is at fault.
    #[must_use]
    pub const fn is_host_fault(self) -> bool {
        matches!(self, Self::HostFault)
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The JSON form without its quotes is the code's one spelling.
        let quoted = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        f.write_str(quoted.trim_matches('"'))
    }
}
