//! Small parts of records.

use serde::{Deserialize, Serialize};

use crate::{Digest, JobId};

/// Why grants ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GrantEnd {
    /// Somebody who may said so. Their ids stay known until their time is up, so that they cannot be handed in again.
    Revoked,
    /// Their time was up.
    Expired,
}

/// What something was, and what it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its digest as the log last said; none when it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Digest>,
    /// Its digest now.
    pub new: Digest,
}

impl Change {
    /// Whether it is another one now.
    #[must_use]
    pub fn is_one(&self) -> bool {
        self.old != Some(self.new)
    }
}

/// A job that was erased, and where the log tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasedJob {
    /// Which.
    pub job: JobId,
    /// Index of its `admitted` record; of its `merged` record when it was not run.
    pub admitted: u64,
    /// Index of its `finished` record; none when it was not run, because another job had its unique key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<u64>,
}

/// What a host found in place of its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateFault {
    /// Nothing, or a state without anything in it.
    Lost,
    /// An earlier state: the log goes on where it ends.
    RolledBack,
    /// What cannot be opened or read.
    Damaged,
    /// A state that somebody who has this machine said must go.
    GivenUp,
}

impl StateFault {
    /// The word for it, as it is in a record.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::RolledBack => "rolled-back",
            Self::Damaged => "damaged",
            Self::GivenUp => "given-up",
        }
    }
}
