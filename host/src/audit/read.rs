//! Showing the log: entries, proofs, exports.
//!
//! *Never:* vouches for entries that it only shows: `verify` does, and a proof is checked before it is handed out.
//! *Memory:* one bundle.

use std::path::Path;

use strongroom_job::PublicKey;
use strongroom_job::checkpoint::Checkpoint;
use strongroom_job::merkle::{
    Hash, LeafIndex, ProveError, RightEdge, TreeHead, TreeSize, prove_consistency, prove_inclusion,
};
use strongroom_job::note::VerifierKey;
use strongroom_job::succession::KeyChain;
use strongroom_job::tile::{NodeError, Tile, TileNodes, bundle};
use strongroom_job::tlog_proof::{TlogProof, TlogProofError};

use super::export::{ExportError, export};
use super::files::{FileError, Files, Signer, WrongKey};
use super::verify::Verified;

/// A log as its checkpoint stood when it was opened; a host may go on writing it.
#[derive(Debug)]
pub struct LogReader {
    files: Files,
    verifier: VerifierKey,
    keys: KeyChain,
    checkpoint: Checkpoint,
}

/// Why the log cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file of the log.
    #[error(transparent)]
    File(#[from] FileError),
    /// The log is not the one that was asked for.
    #[error(transparent)]
    WrongKey(#[from] WrongKey),
    /// No such entry.
    #[error("the log has {size} entries, and none at {index} (the first is 0)")]
    NoSuchEntry {
        /// What was asked for.
        index: LeafIndex,
        /// What there is.
        size: TreeSize,
    },
    /// The tiles do not show the log to extend an older one.
    #[error("cannot prove that the log extends its first {old} entries: {problem}")]
    NoExtension {
        /// The older size.
        old: TreeSize,
        /// What is wrong.
        problem: String,
    },
    /// The tiles do not give a proof.
    #[error("cannot prove entry {index}: {problem}; run `audit verify`")]
    Unprovable {
        /// What was asked for.
        index: LeafIndex,
        /// Which tile, and what is wrong with it.
        problem: String,
    },
}

impl LogReader {
    /// Opens the log in `dir`; `expected` is the key that must have signed it, or an earlier one from which the log's `keys` lead there,
    /// when the caller knows one.
    ///
    /// # Errors
    /// When the checkpoint or the key is missing or does not fit the other, or the key is not the expected one.
    pub fn open(dir: &Path, expected: Option<&PublicKey>) -> Result<Self, ReadError> {
        let files = Files::new(dir);
        let signer = files.signer()?;
        signer.check(expected)?;
        let Signer { verifier, keys } = signer;
        let checkpoint = files.checkpoint(&verifier)?;
        Ok(Self { files, verifier, keys, checkpoint })
    }

    /// The checkpoint that everything here refers to.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The newest checkpoint that witnesses cosigned, if there is one: of this log, perhaps newer than
    /// [`LogReader::checkpoint`]. Who cosigned it is not checked.
    ///
    /// # Errors
    /// When the file is there and is no checkpoint of this log.
    pub fn cosigned(&self) -> Result<Option<Checkpoint>, ReadError> {
        Ok(self.files.cosigned(&self.verifier)?)
    }

    /// The proof that the log extends the one of its first `old` entries. Made from tiles; whoever checks it has both roots.
    ///
    /// # Errors
    /// When the log has fewer entries, or a tile cannot be read.
    pub fn prove_extension(&self, old: TreeSize) -> Result<Vec<Hash>, ReadError> {
        let size = self.checkpoint.size();
        let mut nodes = TileNodes::new(size, |tile| self.files.tile_or_full(tile));
        prove_consistency(old, size, |node| nodes.hash(node)).map_err(|error| match error {
            ProveError::Read(NodeError::Read(file)) => ReadError::File(file),
            other => ReadError::NoExtension { old, problem: other.to_string() },
        })
    }

    /// Who signs this log.
    #[must_use]
    pub const fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Who signed it before, as its own statements lead from key to key.
    #[must_use]
    pub const fn keys(&self) -> &KeyChain {
        &self.keys
    }

    /// The entries from `from` up to but without `to`, as far as there are any. Read, not verified.
    #[must_use]
    pub fn entries(&self, from: LeafIndex, to: LeafIndex) -> Entries<'_> {
        let end = to.get().min(self.checkpoint.size().get());
        Entries { log: self, next: from.get(), end, bundle: None }
    }

    /// The first entry from `from` on that `wanted` accepts.
    ///
    /// # Errors
    /// When a bundle on the way cannot be read.
    pub fn find(
        &self,
        from: LeafIndex,
        mut wanted: impl FnMut(LeafIndex, &[u8]) -> bool,
    ) -> Result<Option<(LeafIndex, Vec<u8>)>, ReadError> {
        let mut entries = self.entries(from, self.checkpoint.size().next_index());
        let found = entries.find(|entry| match entry {
            Ok((index, entry)) => wanted(*index, entry),
            Err(_) => true,
        });
        Ok(found.transpose()?)
    }

    /// Whether the log begins with a tree that was seen earlier. Reads O(log n) tiles.
    ///
    /// # Errors
    /// When a tile on the way cannot be read.
    pub fn begins_with(&self, seen: &TreeHead) -> Result<bool, ReadError> {
        let size = self.checkpoint.size();
        let Some(last) = seen.size.last() else { return Ok(true) };
        if seen.size > size {
            return Ok(false);
        }
        let mut nodes = TileNodes::new(size, |tile| self.files.tile_or_full(tile));
        let edge = RightEdge::restore(seen.size, |node| nodes.hash(node)).map_err(|error| match error {
            NodeError::Read(file) => ReadError::File(file),
            other => ReadError::Unprovable { index: last, problem: other.to_string() },
        })?;
        Ok(edge.head() == *seen)
    }

    /// The checkpoint that a proof of entry `index` is to lead to: the cosigned one when that covers the entry, since then the proof is
    /// worth more, else the log's own.
    ///
    /// # Errors
    /// When the cosigned checkpoint cannot be read.
    pub fn covering(&self, index: LeafIndex) -> Result<Checkpoint, ReadError> {
        let cosigned = self.cosigned()?.filter(|cosigned| index < cosigned.size().next_index());
        Ok(cosigned.unwrap_or_else(|| self.checkpoint.clone()))
    }

    /// The proof that entry `index` is in the log, and the entry. Checked before it is returned.
    ///
    /// It leads to the [covering](Self::covering) checkpoint. Reads one bundle and O(log n) tiles.
    ///
    /// # Errors
    /// When there is no such entry, a file is missing, or the tiles do not lead from the entry to the signed root.
    pub fn prove(&self, index: LeafIndex) -> Result<(TlogProof, Vec<u8>), ReadError> {
        self.prove_under(index, &self.covering(index)?)
    }

    /// The same, under a checkpoint of this log that is given: for several proofs that lead to one.
    ///
    /// # Errors
    /// As [`prove`](Self::prove), and when the checkpoint does not cover the entry.
    pub fn prove_under(
        &self,
        index: LeafIndex,
        checkpoint: &Checkpoint,
    ) -> Result<(TlogProof, Vec<u8>), ReadError> {
        let size = self.checkpoint.size();
        let Some((_, entry)) =
            self.entries(index, LeafIndex::new(index.get().saturating_add(1))).next().transpose()?
        else {
            return Err(ReadError::NoSuchEntry { index, size });
        };
        let size = checkpoint.size();
        let mut nodes = TileNodes::new(size, |tile| self.files.tile_or_full(tile));
        let hashes = prove_inclusion(index, size, |node| nodes.hash(node)).map_err(|error| match error {
            ProveError::Read(NodeError::Read(file)) => ReadError::File(file),
            other => ReadError::Unprovable { index, problem: other.to_string() },
        })?;
        let unprovable = |error: TlogProofError| ReadError::Unprovable { index, problem: error.to_string() };
        let proof = TlogProof::new(index, hashes, checkpoint.signed().clone()).map_err(unprovable)?;
        proof.clone().verify(&entry, self.verifier.name(), self.verifier.key()).map_err(unprovable)?;
        Ok((proof, entry))
    }

    /// Copies the log to the new directory `dest` and verifies the copy. Works beside a running host.
    ///
    /// Reads the checkpoint anew, so the copy may hold more than this reader shows.
    ///
    /// # Errors
    /// When `dest` exists, the log does not verify, or a file cannot be read or written.
    pub fn export(&self, dest: &Path) -> Result<Verified, ExportError> {
        export(self.files.dir(), dest, Some(self.verifier.key()))
    }
}

/// Entries in order; ends behind the first error.
#[derive(Debug)]
pub struct Entries<'a> {
    log: &'a LogReader,
    next: u64,
    end: u64,
    /// The bundle that was read last; entries are taken out of it.
    bundle: Option<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    first: u64,
    entries: Vec<Vec<u8>>,
}

impl Entries<'_> {
    fn load(&self, index: LeafIndex) -> Result<Loaded, FileError> {
        let size = self.log.checkpoint.size();
        // `next` is below `end`, which is at most the size.
        let tile = Tile::of_entry(index, size)
            .ok_or_else(|| FileError::Missing { file: format!("entry {index}") })?;
        let bytes = self.log.files.tile_or_full(tile)?;
        let entries =
            bundle::decode(tile, &bytes).map_err(|error| FileError::malformed(&tile.to_string(), &error))?;
        Ok(Loaded { first: tile.first(), entries: entries.into_iter().map(<[u8]>::to_vec).collect() })
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<(LeafIndex, Vec<u8>), FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let index = LeafIndex::new(self.next);
        let within = |loaded: &Loaded| usize::try_from(self.next.checked_sub(loaded.first)?).ok();
        let mut entry = self.bundle.as_mut().and_then(|loaded| {
            let place = within(loaded)?;
            loaded.entries.get_mut(place).map(std::mem::take)
        });
        if entry.is_none() {
            let mut loaded = match self.load(index) {
                Ok(loaded) => loaded,
                Err(error) => {
                    self.next = self.end;
                    return Some(Err(error));
                }
            };
            entry = within(&loaded).and_then(|place| loaded.entries.get_mut(place).map(std::mem::take));
            self.bundle = Some(loaded);
        }
        self.next += 1;
        entry.map(|entry| Ok((index, entry)))
    }
}
