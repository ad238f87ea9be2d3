//! The proof file: everything that shows one entry to be in the log, for checking without a network.
//!
//! *Owns:* the text of proofs. *Never:* trusts the extra data, which nothing signs.
//! *Spec:* C2SP tlog-proof; `docs/formats/proof.md`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint, decimal};
use crate::key::PublicKey;
use crate::merkle::{Hash, LeafIndex, MAX_PROOF_HASHES, ProofError, verify_inclusion};
use crate::note::{KeyName, MAX_NOTE_BYTES};
use crate::tile::bundle::MAX_ENTRY_BYTES;

/// The first line of every proof.
pub const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// The most extra data: an entry of the log fits.
pub const MAX_EXTRA_BYTES: usize = MAX_ENTRY_BYTES;

/// The longest proof that is read.
pub const MAX_PROOF_BYTES: usize = MAX_NOTE_BYTES + 2 * MAX_EXTRA_BYTES + 64 * (MAX_PROOF_HASHES + 3);

/// A proof that was read but not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    extra: Option<Vec<u8>>,
    index: LeafIndex,
    hashes: Vec<Hash>,
    checkpoint: SignedCheckpoint,
}

/// Why a proof cannot be read or proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlogProofError {
    /// More bytes than any proof has.
    #[error("the proof has {found} bytes; at most {MAX_PROOF_BYTES} are read")]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// Not a proof, or of another version.
    #[error("not a proof: the first line must be {HEADER}")]
    Header,
    /// A line has another form.
    #[error("line {line} of the proof is malformed: expected {expected}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What belongs there.
        expected: &'static str,
    },
    /// Extra data longer than is read or written.
    #[error(
        "the proof has {found} bytes of extra data; at most {MAX_EXTRA_BYTES} and at least 1 are allowed"
    )]
    Extra {
        /// Its length.
        found: usize,
    },
    /// The checkpoint in it.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The hashes in it.
    #[error(transparent)]
    Inclusion(#[from] ProofError),
}

impl TlogProof {
    /// A proof from its parts, which are not checked against each other: that is what `verify` is for.
    ///
    /// # Errors
    /// When there are more hashes than any proof has.
    pub fn new(
        index: LeafIndex,
        hashes: Vec<Hash>,
        checkpoint: SignedCheckpoint,
    ) -> Result<Self, TlogProofError> {
        if hashes.len() > MAX_PROOF_HASHES {
            return Err(ProofError::Length { expected: MAX_PROOF_HASHES, found: hashes.len() }.into());
        }
        Ok(Self { extra: None, index, hashes, checkpoint })
    }

    /// The same proof with extra data, 1 to [`MAX_EXTRA_BYTES`] bytes, which nobody signs.
    ///
    /// # Errors
    /// When there is none, or too much of it.
    pub fn with_extra(self, extra: Vec<u8>) -> Result<Self, TlogProofError> {
        check_extra(&extra)?;
        Ok(Self { extra: Some(extra), ..self })
    }

    /// The extra data. Nothing signs it.
    #[must_use]
    pub fn extra(&self) -> Option<&[u8]> {
        self.extra.as_deref()
    }

    /// The place of the entry, as the proof claims it.
    #[must_use]
    pub const fn index(&self) -> LeafIndex {
        self.index
    }

    /// The hashes of the inclusion proof, the leaf's sibling first.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// Reads a proof; nothing is checked but its form.
    ///
    /// # Errors
    /// When the bytes are not a proof in its only form, or exceed a bound.
    pub fn parse(bytes: &[u8]) -> Result<Self, TlogProofError> {
        if bytes.len() > MAX_PROOF_BYTES {
            return Err(TlogProofError::TooLong { found: bytes.len() });
        }
        let text = str::from_utf8(bytes).map_err(|_| TlogProofError::Header)?;
        let mut lines = Lines { rest: text, number: 0 };
        if lines.next() != Some(HEADER) {
            return Err(TlogProofError::Header);
        }
        let mut line = lines.expect("`extra` or `index`")?;
        let mut extra = None;
        if let Some(data) = line.strip_prefix("extra ") {
            let data = BASE64.decode(data).map_err(|_| lines.malformed("base64 of the extra data"))?;
            check_extra(&data)?;
            extra = Some(data);
            line = lines.expect("`index`")?;
        }
        let index = line
            .strip_prefix("index ")
            .and_then(decimal)
            .map(LeafIndex::new)
            .ok_or_else(|| lines.malformed("`index` and a number without leading zeros"))?;
        let mut hashes = Vec::new();
        loop {
            let line = lines.expect("base64 of a hash, or an empty line")?;
            if line.is_empty() {
                break;
            }
            if hashes.len() == MAX_PROOF_HASHES {
                return Err(lines.malformed("an empty line, as no proof has more hashes"));
            }
            hashes.push(Hash::from_base64(line).ok_or_else(|| lines.malformed("base64 of a hash"))?);
        }
        let checkpoint = SignedCheckpoint::parse(lines.rest.as_bytes())?;
        Ok(Self { extra, index, hashes, checkpoint })
    }

    /// Checks that `entry` is in the log `origin`, by the signature of its `key`; returns the checkpoint that says so.
    ///
    /// # Errors
    /// When the checkpoint is not by that log, or the hashes do not lead from the entry to its root.
    pub fn verify(
        self,
        entry: &[u8],
        origin: &KeyName,
        key: &PublicKey,
    ) -> Result<Checkpoint, TlogProofError> {
        let checkpoint = self.checkpoint.verify(origin, key)?;
        verify_inclusion(&Hash::of_leaf(entry), self.index, checkpoint.head(), &self.hashes)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", BASE64.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.hashes {
            writeln!(f, "{hash}")?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

fn check_extra(extra: &[u8]) -> Result<(), TlogProofError> {
    if extra.is_empty() || extra.len() > MAX_EXTRA_BYTES {
        return Err(TlogProofError::Extra { found: extra.len() });
    }
    Ok(())
}

/// Lines that end in a newline, and their numbers.
struct Lines<'a> {
    rest: &'a str,
    number: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (line, rest) = self.rest.split_once('\n')?;
        self.rest = rest;
        self.number += 1;
        Some(line)
    }

    fn expect(&mut self, expected: &'static str) -> Result<&'a str, TlogProofError> {
        self.next().ok_or(TlogProofError::Line { line: self.number + 1, expected })
    }

    const fn malformed(&self, expected: &'static str) -> TlogProofError {
        TlogProofError::Line { line: self.number, expected }
    }
}
