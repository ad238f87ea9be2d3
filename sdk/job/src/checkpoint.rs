//! Checkpoints: a log's signed statement of its size and root.
//!
//! `SignedCheckpoint` was read; `Checkpoint` was believed. Only [`SignedCheckpoint::verify`] leads from one to
//! the other, so size and root of an unchecked checkpoint cannot be used by mistake.
//!
//! *Owns:* the checkpoint's text. *Never:* extension lines, which no monitor could check.
//! *Spec:* C2SP tlog-checkpoint; `docs/formats/checkpoint.md`.

use std::fmt;

use crate::key::{PublicKey, SecretKey};
use crate::merkle::{Hash, TreeHead, TreeSize};
use crate::note::{KeyName, NoteError, SignedNote, VerifierKey};
use crate::succession::KeyChain;

/// A checkpoint that was read but not believed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    note: SignedNote,
    origin: KeyName,
    head: TreeHead,
}

/// A checkpoint whose signature by a known log was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint(SignedCheckpoint);

/// Why a checkpoint cannot be read or believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note around it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text has another form.
    #[error(
        "not a checkpoint: expected three lines: the log's name, its size without leading zeros, base64 of its root"
    )]
    Form,
    /// It belongs to another log.
    #[error("the checkpoint is of the log {found}, not of {expected}")]
    Origin {
        /// The log that was asked for.
        expected: KeyName,
        /// The log that the checkpoint names.
        found: KeyName,
    },
    /// No entries, but a root over something.
    #[error("the checkpoint of an empty log has another root than the empty tree's")]
    EmptyRoot,
}

impl SignedCheckpoint {
    /// Signs `head` as the log `origin`.
    ///
    /// The caller answers for the promise in it: every entry is durable, and the tree extends all that were
    /// signed before.
    ///
    /// # Errors
    /// Only when a head of no entries has another root than the empty tree's.
    pub fn sign(head: &TreeHead, origin: &KeyName, key: &SecretKey) -> Result<Self, CheckpointError> {
        check_empty(head)?;
        let text = format!("{origin}\n{}\n{}\n", head.size, head.root);
        Self::from_note(SignedNote::sign(&text, origin, key)?)
    }

    /// Reads a checkpoint; nothing is checked but its form.
    ///
    /// # Errors
    /// When the bytes are no signed note, or its text is no checkpoint in its only form.
    pub fn parse(bytes: &[u8]) -> Result<Self, CheckpointError> {
        Self::from_note(SignedNote::parse(bytes)?)
    }

    fn from_note(note: SignedNote) -> Result<Self, CheckpointError> {
        let (origin, head) = parse_text(note.unverified_text()).ok_or(CheckpointError::Form)?;
        Ok(Self { note, origin, head })
    }

    /// Checks that the log `origin` signed it with `key`.
    ///
    /// # Errors
    /// When it names another log, carries no good signature by that name and key, or signs another root than the empty
    /// tree's over no entries.
    pub fn verify(self, origin: &KeyName, key: &PublicKey) -> Result<Checkpoint, CheckpointError> {
        if self.origin != *origin {
            return Err(CheckpointError::Origin { expected: origin.clone(), found: self.origin });
        }
        self.note.verify(&VerifierKey::new(origin.clone(), *key))?;
        check_empty(&self.head)?;
        Ok(Checkpoint(self))
    }

    /// Checks that the log `origin` signed it with some key of `keys`: for one that was kept, perhaps from before its key was replaced.
    /// What a log shows *now* must be by the [current](KeyChain::current) one.
    ///
    /// # Errors
    /// As [`verify`](Self::verify), with what the current key finds.
    pub fn verify_kept(self, origin: &KeyName, keys: &KeyChain) -> Result<Checkpoint, CheckpointError> {
        let earlier = keys.keys().iter().rev().skip(1);
        let mut found = self.clone().verify(origin, keys.current());
        for key in earlier {
            if found.is_ok() {
                break;
            }
            if let Ok(kept) = self.clone().verify(origin, key) {
                found = Ok(kept);
            }
        }
        found
    }

    /// The log that it says it is of: for finding the key to check that with.
    #[must_use]
    pub const fn unverified_origin(&self) -> &KeyName {
        &self.origin
    }

    /// The same checkpoint with further signature lines, which nobody has checked.
    ///
    /// # Errors
    /// When they are no signature lines, or too many.
    pub fn with_signatures(&self, lines: &str) -> Result<Self, CheckpointError> {
        Self::from_note(self.note.with_signatures(lines)?)
    }

    /// The same checkpoint with the first line by `log`, and without all others: what strangers added to it is gone.
    ///
    /// # Errors
    /// When there is no line by `log`. It is not checked here.
    pub fn only_by(&self, log: &VerifierKey) -> Result<Self, CheckpointError> {
        Self::from_note(self.note.only_by(log)?)
    }

    /// The note, byte for byte as it was read or made.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.note.as_str()
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Checkpoint {
    /// The log that signed.
    #[must_use]
    pub const fn origin(&self) -> &KeyName {
        &self.0.origin
    }

    /// Size and root that it signed.
    #[must_use]
    pub const fn head(&self) -> &TreeHead {
        &self.0.head
    }

    /// How many entries it covers.
    #[must_use]
    pub const fn size(&self) -> TreeSize {
        self.0.head.size
    }

    pub(crate) const fn note(&self) -> &SignedNote {
        &self.0.note
    }

    /// The same size and root, signed with the key that took the place of the one of `old`. Cosignatures stay: they are under the text,
    /// which is the same, and not under the log's signature.
    ///
    /// # Errors
    /// Never for a checkpoint that is one; the forms of both are checked again.
    pub fn signed_anew(
        &self,
        old: &VerifierKey,
        key: &SecretKey,
    ) -> Result<SignedCheckpoint, CheckpointError> {
        let lines = self.0.note.signatures_but(old);
        SignedCheckpoint::sign(self.head(), self.origin(), key)?.with_signatures(&lines)
    }

    /// The signed form, for handing on to somebody who has to check it for themselves.
    #[must_use]
    pub const fn signed(&self) -> &SignedCheckpoint {
        &self.0
    }
}

fn check_empty(head: &TreeHead) -> Result<(), CheckpointError> {
    if head.size == TreeSize::ZERO && head.root != Hash::empty_root() {
        return Err(CheckpointError::EmptyRoot);
    }
    Ok(())
}

fn parse_text(text: &str) -> Option<(KeyName, TreeHead)> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
    if lines.next().is_some() {
        return None;
    }
    let size = TreeSize::new(decimal(size)?).ok()?;
    Some((origin.parse().ok()?, TreeHead { size, root: Hash::from_base64(root)? }))
}

/// A number in its only form: digits without leading zeros.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}
