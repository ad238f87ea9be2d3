//! What a witness is asked, and when it may say yes.
//!
//! *Owns:* the text of a request, and the judgement of it: a checkpoint is cosigned only when it is the log's and extends
//! the last one that was cosigned. *Never:* remembers anything: the caller keeps the last head of each log, durably, and
//! lets nobody in between the judgement and the keeping.
//! *Spec:* C2SP tlog-witness (`add-checkpoint`); `docs/formats/cosignature.md`.

use std::fmt;

use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint, decimal};
use crate::merkle::{Hash, ProofError, TreeHead, TreeSize, verify_consistency};
use crate::note::{MAX_NOTE_BYTES, VerifierKey};

/// The most hashes in a request.
pub const MAX_PROOF_LINES: usize = 63;

/// The longest request that is read.
pub const MAX_REQUEST_BYTES: usize = MAX_NOTE_BYTES + 64 * (MAX_PROOF_LINES + 1);

/// The last head that a witness cosigned, before it cosigned any: every tree extends the empty one.
#[must_use]
pub fn never_seen() -> TreeHead {
    TreeHead { size: TreeSize::ZERO, root: Hash::empty_root() }
}

/// A request to cosign, read but not judged yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    old: TreeSize,
    proof: Vec<Hash>,
    checkpoint: SignedCheckpoint,
}

/// Bytes that are no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseRequestError {
    /// More bytes than any request has.
    #[error("the request has {found} bytes; at most {MAX_REQUEST_BYTES} are read")]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// A line has another form.
    #[error("line {line} of the request is malformed: expected {expected}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What belongs there.
        expected: &'static str,
    },
    /// The checkpoint in it.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Why a witness does not cosign. Each has the status of the specification.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WitnessRefusal {
    /// The log did not sign it.
    #[error(transparent)]
    NotTheLogs(CheckpointError),
    /// The proof would run backwards.
    #[error("the old size {old} is larger than the checkpoint's {size}")]
    OldIsLarger {
        /// The old size of the request.
        old: TreeSize,
        /// The checkpoint's size.
        size: TreeSize,
    },
    /// The request starts from another size than the last one that was cosigned.
    #[error("the last checkpoint that was cosigned has {0} entries")]
    OtherSize(TreeSize),
    /// The same size as the last one that was cosigned, and another root. If the log made this request, it has two histories.
    #[error("the last checkpoint that was cosigned has as many entries, and another root")]
    OtherRoot,
    /// The proof does not lead from the last one that was cosigned to this one. If the log made this request, it has two
    /// histories.
    #[error("{0}")]
    Inconsistent(String),
}

impl WitnessRefusal {
    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::NotTheLogs(_) => 403,
            Self::OldIsLarger { .. } => 400,
            Self::OtherSize(_) => 409,
            Self::OtherRoot | Self::Inconsistent(_) => 422,
        }
    }
}

impl From<ProofError> for WitnessRefusal {
    fn from(error: ProofError) -> Self {
        Self::Inconsistent(error.to_string())
    }
}

impl AddCheckpoint {
    /// A request from its parts. The proof runs from `old` to the checkpoint's size.
    #[must_use]
    pub const fn new(old: TreeSize, proof: Vec<Hash>, checkpoint: SignedCheckpoint) -> Self {
        Self { old, proof, checkpoint }
    }

    /// Reads a request; nothing is checked but its form.
    ///
    /// # Errors
    /// When the bytes are not a request in its only form, or exceed a bound.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseRequestError> {
        if bytes.len() > MAX_REQUEST_BYTES {
            return Err(ParseRequestError::TooLong { found: bytes.len() });
        }
        let malformed = |line, expected| ParseRequestError::Line { line, expected };
        let text = str::from_utf8(bytes).map_err(|_| malformed(1, "text in UTF-8"))?;
        let first = "`old`, a space, and a size without leading zeros";
        let (line, mut rest) = text.split_once('\n').ok_or_else(|| malformed(1, first))?;
        let old = line.strip_prefix("old ").and_then(decimal).and_then(|size| TreeSize::new(size).ok());
        let old = old.ok_or_else(|| malformed(1, first))?;
        let mut proof = Vec::new();
        loop {
            let number = proof.len() + 2;
            let next = malformed(number, "base64 of a hash, or an empty line");
            let Some((line, behind)) = rest.split_once('\n') else { return Err(next) };
            rest = behind;
            if line.is_empty() {
                break;
            }
            if proof.len() == MAX_PROOF_LINES {
                return Err(malformed(number, "an empty line, as no proof has more hashes"));
            }
            proof.push(Hash::from_base64(line).ok_or(next)?);
        }
        Ok(Self { old, proof, checkpoint: SignedCheckpoint::parse(rest.as_bytes())? })
    }

    /// The checkpoint, unverified: for finding its log.
    #[must_use]
    pub const fn unverified(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }

    /// Whether a witness that last cosigned `latest` of `log` may cosign this; if so, the checkpoint that it then signs, and
    /// must remember first.
    ///
    /// # Errors
    /// With the specification's reason and status, in its order.
    pub fn judge(self, log: &VerifierKey, latest: &TreeHead) -> Result<Checkpoint, WitnessRefusal> {
        let checkpoint = self.checkpoint.verify(log.name(), log.key()).map_err(|error| match error {
            CheckpointError::EmptyRoot => WitnessRefusal::Inconsistent(error.to_string()),
            error => WitnessRefusal::NotTheLogs(error),
        })?;
        if self.old > checkpoint.size() {
            return Err(WitnessRefusal::OldIsLarger { old: self.old, size: checkpoint.size() });
        }
        if self.old != latest.size {
            return Err(WitnessRefusal::OtherSize(latest.size));
        }
        if checkpoint.head().size == latest.size && checkpoint.head().root != latest.root {
            return Err(WitnessRefusal::OtherRoot);
        }
        verify_consistency(latest, checkpoint.head(), &self.proof)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        for hash in &self.proof {
            writeln!(f, "{hash}")?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}
