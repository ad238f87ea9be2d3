//! Cosignatures: witnesses say that a checkpoint extends all that they have seen of its log.
//!
//! A log can sign two histories. A witness signs one of them, and a reader who asks for the signatures of enough
//! witnesses cannot be shown the other.
//!
//! *Owns:* the signed bytes of a cosignature, the keys that check them, and how many are enough.
//! *Never:* decides whether a checkpoint may be cosigned: that is `witness`. *Spec:* C2SP tlog-cosignature, ed25519 (type
//! 0x04) only; `docs/formats/cosignature.md`.

use std::fmt;
use std::str::FromStr;

use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use crate::key::{PublicKey, SecretKey, Signature};
use crate::note::{KeyIdBytes, KeyName, NoteError, key_id, parse_key, write_key, write_signature};
use crate::time::Timestamp;

/// The most witnesses that a [`Quorum`] names: with the log's own signature, as many as a note holds.
pub const MAX_WITNESSES: usize = crate::note::MAX_SIGNATURES - 1;

const COSIGNATURE_V1: u8 = 0x04;
const TIME_BYTES: usize = 8;
/// The last time that a cosignature can carry: 2^63 - 1 seconds.
const MAX_SECONDS: u64 = i64::MAX.unsigned_abs();

/// What checks the cosignatures of one witness. Its text form (`name+id+key`) is what other tools call a vkey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CosignerKey {
    name: KeyName,
    key: PublicKey,
}

/// A text that is no key of a witness.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a witness's key: expected name+8 hex digits+base64 of 0x04 and an ed25519 key, with digits that match name and key"
)]
pub struct ParseCosignerKeyError;

/// A cosignature that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosignature {
    by: KeyName,
    seconds: u64,
    line: String,
}

impl CosignerKey {
    /// The verifier of the cosignatures that `key` makes as `name`.
    #[must_use]
    pub const fn new(name: KeyName, key: PublicKey) -> Self {
        Self { name, key }
    }

    /// Who cosigns.
    #[must_use]
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// With what.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    fn id(&self) -> KeyIdBytes {
        key_id(&self.name, COSIGNATURE_V1, &self.key)
    }

    /// This witness's cosignature on `checkpoint`; of several, the newest. Lines by others are ignored, whatever they hold.
    ///
    /// # Errors
    /// When there is none, or one that carries this name and id is bad.
    pub fn find(&self, checkpoint: &Checkpoint) -> Result<Cosignature, NoteError> {
        let mut newest: Option<Cosignature> = None;
        for signature in checkpoint.note().signatures_by(&self.name, self.id()) {
            let found = self.check(checkpoint, signature);
            let found = found.ok_or_else(|| NoteError::BadSignature { name: self.name.clone() })?;
            if newest.as_ref().is_none_or(|newest| newest.seconds < found.seconds) {
                newest = Some(found);
            }
        }
        newest.ok_or_else(|| NoteError::NotSigned { name: self.name.clone() })
    }

    fn check(&self, checkpoint: &Checkpoint, signature: &[u8]) -> Option<Cosignature> {
        let (time, bytes) = signature.split_first_chunk::<TIME_BYTES>()?;
        let seconds = u64::from_be_bytes(*time);
        let bytes = Signature::from_bytes(bytes.try_into().ok()?);
        // A time of zero stands for none: whether it is the newest that the witness knows is then not said.
        if seconds == 0 || seconds > MAX_SECONDS || !self.key.verifies(&message(checkpoint, seconds), &bytes)
        {
            return None;
        }
        let line = write_signature(&self.name, self.id(), signature);
        Some(Cosignature { by: self.name.clone(), seconds, line })
    }
}

impl fmt::Display for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_key(f, &self.name, COSIGNATURE_V1, &self.key)
    }
}

impl FromStr for CosignerKey {
    type Err = ParseCosignerKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, key) = parse_key(text, COSIGNATURE_V1).ok_or(ParseCosignerKeyError)?;
        Ok(Self { name, key })
    }
}

impl Cosignature {
    /// The witness.
    #[must_use]
    pub const fn by(&self) -> &KeyName {
        &self.by
    }

    /// When it signed, by its own clock, to the second.
    #[must_use]
    pub const fn time(&self) -> Timestamp {
        Timestamp::from_millis(self.seconds.saturating_mul(1000))
    }

    /// The signature line, with its newline.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }
}

/// Cosigns `checkpoint` as the witness `name` at `now`, of which whole seconds are kept.
///
/// The caller answers for the promise in it: at that time, this was the largest tree of its log that the witness had seen,
/// and it extends all others that it cosigned.
#[must_use]
pub fn cosign(checkpoint: &Checkpoint, name: &KeyName, key: &SecretKey, now: Timestamp) -> Cosignature {
    let seconds = (now.as_millis() / 1000).max(1);
    let mut signature = seconds.to_be_bytes().to_vec();
    signature.extend_from_slice(key.sign(&message(checkpoint, seconds)).as_bytes());
    let id = CosignerKey::new(name.clone(), key.public()).id();
    Cosignature { by: name.clone(), seconds, line: write_signature(name, id, &signature) }
}

/// The checkpoint with these cosignatures behind its own lines.
///
/// # Errors
/// When a note cannot hold so many.
pub fn attach(
    checkpoint: &Checkpoint,
    cosignatures: &[Cosignature],
) -> Result<SignedCheckpoint, CheckpointError> {
    let lines: String = cosignatures.iter().map(Cosignature::line).collect();
    checkpoint.signed().with_signatures(&lines)
}

fn message(checkpoint: &Checkpoint, seconds: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {seconds}\n{}", checkpoint.note().unverified_text()).into_bytes()
}

/// How many of which witnesses must have cosigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    need: usize,
    witnesses: Vec<CosignerKey>,
}

/// Witnesses of which no quorum can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoQuorumError {
    /// None, or more than there are.
    #[error("{need} of {of} witnesses cannot be required: expected 1 to {of}")]
    Need {
        /// How many were to be required.
        need: usize,
        /// How many are named.
        of: usize,
    },
    /// More than a checkpoint can carry.
    #[error("{found} witnesses are named; a checkpoint carries the signatures of at most {MAX_WITNESSES}")]
    TooMany {
        /// How many are named.
        found: usize,
    },
    /// One key would count twice. A cosignature does not say by which name it was made.
    #[error("{first} and {second} have one key: that is one witness")]
    Twice {
        /// A name of the key.
        first: KeyName,
        /// The other one, which may be the same.
        second: KeyName,
    },
}

/// Too few good cosignatures.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// Some are missing.
    #[error(
        "cosigned by {} of the {need} witnesses that are required; missing: {}",
        .found.len(),
        listed(.missing)
    )]
    TooFew {
        /// How many are required.
        need: usize,
        /// Who has cosigned.
        found: Vec<KeyName>,
        /// Who has not.
        missing: Vec<KeyName>,
    },
    /// One is bad. Its witness did not make it, so somebody forged or damaged the checkpoint.
    #[error(transparent)]
    Bad(#[from] NoteError),
}

fn listed(names: &[KeyName]) -> String {
    names.iter().map(KeyName::as_str).collect::<Vec<_>>().join(", ")
}

impl Quorum {
    /// `need` of `witnesses`.
    ///
    /// # Errors
    /// When that is none of them or more than there are, they are too many, or two of them have one key.
    pub fn new(need: usize, witnesses: Vec<CosignerKey>) -> Result<Self, NoQuorumError> {
        let of = witnesses.len();
        if of > MAX_WITNESSES {
            return Err(NoQuorumError::TooMany { found: of });
        }
        if need == 0 || need > of {
            return Err(NoQuorumError::Need { need, of });
        }
        for (place, second) in witnesses.iter().enumerate() {
            if let Some(first) = witnesses[..place].iter().find(|first| first.key == second.key) {
                let (first, second) = (first.name.clone(), second.name.clone());
                return Err(NoQuorumError::Twice { first, second });
            }
        }
        Ok(Self { need, witnesses })
    }

    /// How many must have cosigned.
    #[must_use]
    pub const fn need(&self) -> usize {
        self.need
    }

    /// Of whom.
    #[must_use]
    pub fn witnesses(&self) -> &[CosignerKey] {
        &self.witnesses
    }

    /// The cosignatures of these witnesses on `checkpoint`: at least as many as are required.
    ///
    /// # Errors
    /// When there are fewer, or one that carries the name and id of a known witness is bad.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<Vec<Cosignature>, QuorumError> {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for witness in &self.witnesses {
            match witness.find(checkpoint) {
                Ok(cosignature) => found.push(cosignature),
                Err(NoteError::NotSigned { name }) => missing.push(name),
                Err(bad) => return Err(bad.into()),
            }
        }
        if found.len() < self.need {
            let found = found.into_iter().map(|cosignature| cosignature.by).collect();
            return Err(QuorumError::TooFew { need: self.need, found, missing });
        }
        Ok(found)
    }
}
