//! Appending to the log: bundles and tiles first, the signed checkpoint last.
//!
//! *Owns:* the log's secret key and the right edge of its tree; only one writer may exist for a directory.
//! *Never:* signs before everything under the signature is durable, and never goes on after a failed write.
//! *Crash:* the rename of `checkpoint` is the commit. Before it, all that was written lies beyond the checkpoint
//! and is removed at the next [`Log::open`]; the caller, who still has the entries, hands them in again.
//! After it, only partial tiles that nobody needs may be left. *Memory:* the right edge: less than 64 KiB of hashes,
//! and one bundle of at most 16 MiB. *Spec:* `docs/formats/tiles.md`.

use std::path::Path;

use strongroom_job::SecretKey;
use strongroom_job::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use strongroom_job::merkle::{Hash, LeafIndex, RightEdge, TreeHead, TreeSize};
use strongroom_job::note::{KeyName, VerifierKey};
use strongroom_job::tile::{Content, TILE_WIDTH, Tile, TileEdge, TileNodes, bundle, hashes};

use super::durable::{DurableDir, Hook};
use super::files::{CHECKPOINT, FileError, Files, LOG_PUB, TILE};
use super::leftovers;
pub use super::writer_error::{HistoryError, OpenError, PublishError};

/// The most entries that one checkpoint adds; a larger publication signs several on its way.
///
/// Bounds what a crash can leave behind. A power of 256, so that whole tiles are left.
pub const MAX_ENTRIES_PER_CHECKPOINT: u64 = 65_536;

/// The log, open for appending.
pub struct Log {
    files: Files,
    dir: DurableDir,
    name: KeyName,
    key: SecretKey,
    edge: TileEdge,
    /// The bytes of the partial bundle.
    bundle: Vec<u8>,
    checkpoint: Checkpoint,
    /// Set while files and `edge` disagree: for ever, when a step failed in between.
    broken: bool,
}

impl Log {
    /// Makes a new log in `dir`, or opens one that was created but has no entries yet.
    ///
    /// For the first start only: a log that lost its entries must not begin anew, that would be a second history.
    ///
    /// # Errors
    /// When there is a log with entries, tiles without a checkpoint, or a log of another key; or writing fails.
    pub fn create(dir: &Path, name: KeyName, key: SecretKey) -> Result<Self, OpenError> {
        Self::create_with(dir, name, key, None)
    }

    /// [`Log::create`] with a hook around every durable step, for tests.
    ///
    /// # Errors
    /// As [`Log::create`], and when the hook says so.
    pub fn create_with(
        dir: &Path,
        name: KeyName,
        key: SecretKey,
        hook: Option<Hook>,
    ) -> Result<Self, OpenError> {
        let files = Files::new(dir);
        if files.exists(CHECKPOINT)? {
            let log = Self::open_with(dir, name, key, hook)?;
            let size = log.size();
            return if size == TreeSize::ZERO { Ok(log) } else { Err(OpenError::HasEntries { size }) };
        }
        if files.exists(TILE)? {
            return Err(OpenError::CheckpointLost);
        }
        let own = VerifierKey::new(name.clone(), key.public());
        if files.exists(LOG_PUB)? {
            check_own(&files, &own)?;
        }
        let mut durable = DurableDir::new(dir, hook);
        durable.make_root()?;
        // A crash behind this leaves a key and no checkpoint: the next `create` goes on from here.
        durable.write(LOG_PUB, format!("{own}\n").as_bytes())?;
        // A checkpoint without a key could neither be opened nor created again.
        durable.sync_names()?;
        let edge = TileEdge::new();
        let checkpoint = sign(&edge.head(), &name, &key)?;
        durable.write(CHECKPOINT, checkpoint.signed().as_str().as_bytes())?;
        durable.sync_names()?;
        Ok(Self { files, dir: durable, name, key, edge, bundle: Vec::new(), checkpoint, broken: false })
    }

    /// Opens a log to go on where its checkpoint ends, and removes what a crash left behind it.
    ///
    /// Checks the checkpoint's signature, and that the tiles at the right edge and the last bundle are what it
    /// signs; the rest is for `verify`.
    ///
    /// # Errors
    /// When the directory is of another log, or one of those files is missing or altered.
    pub fn open(dir: &Path, name: KeyName, key: SecretKey) -> Result<Self, OpenError> {
        Self::open_with(dir, name, key, None)
    }

    /// [`Log::open`] with a hook around every durable step, for tests.
    ///
    /// # Errors
    /// As [`Log::open`], and when the hook says so.
    pub fn open_with(
        dir: &Path,
        name: KeyName,
        key: SecretKey,
        hook: Option<Hook>,
    ) -> Result<Self, OpenError> {
        let files = Files::new(dir);
        let own = VerifierKey::new(name.clone(), key.public());
        check_own(&files, &own)?;
        if !files.exists(CHECKPOINT)? && files.exists(TILE)? {
            return Err(OpenError::CheckpointLost);
        }
        let checkpoint = files.checkpoint(&own)?;
        let size = checkpoint.size();
        let edge = TileEdge::restore(size, |tile| read_hashes(&files, tile))?;
        if edge.head() != *checkpoint.head() {
            return Err(OpenError::Edge);
        }
        let bundle = last_bundle(&files, &edge)?;
        let mut durable = DurableDir::new(dir, hook);
        // A crash in here leaves less of the same: the next `open` goes on.
        leftovers::remove(&files, &mut durable, size)?;
        Ok(Self { files, dir: durable, name, key, edge, bundle, checkpoint, broken: false })
    }

    /// How many entries are published.
    #[must_use]
    pub const fn size(&self) -> TreeSize {
        self.checkpoint.size()
    }

    /// The last checkpoint that was published.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Publishes `entries`, the first of which has the place `first`, and signs the log's new size.
    ///
    /// Entries that are published already are compared, not written: after a crash the caller may hand in again
    /// whatever it is not sure of. When this returns, all entries are durable and so is the checkpoint over them.
    /// A long publication signs a checkpoint every [`MAX_ENTRIES_PER_CHECKPOINT`] entries.
    ///
    /// # Errors
    /// [`PublishError::Gap`], [`PublishError::Rewritten`] and [`PublishError::File`] before anything is
    /// written. After any other error the log is broken: it refuses to publish until it is opened again.
    pub fn publish<E: AsRef<[u8]>>(
        &mut self,
        first: LeafIndex,
        entries: impl IntoIterator<Item = E>,
    ) -> Result<Checkpoint, PublishError> {
        if self.broken {
            return Err(PublishError::Broken);
        }
        let size = self.size();
        if first > size.next_index() {
            return Err(PublishError::Gap { first, size });
        }
        let mut entries = entries.into_iter();
        let known = size.get() - first.get();
        self.compare(first, entries.by_ref().take(usize::try_from(known).unwrap_or(usize::MAX)))?;
        self.broken = true;
        for entry in entries {
            self.append(entry.as_ref())?;
            if self.edge.size().get() - self.size().get() == MAX_ENTRIES_PER_CHECKPOINT {
                self.commit()?;
            }
        }
        self.commit()?;
        self.broken = false;
        Ok(self.checkpoint.clone())
    }

    /// Checks that the published entries from `first` on are these; those behind the log's end are not looked at.
    ///
    /// # Errors
    /// When one of them is published with other bytes, or its tile cannot be read.
    pub fn verify_overlap<E: AsRef<[u8]>>(
        &self,
        first: LeafIndex,
        entries: impl IntoIterator<Item = E>,
    ) -> Result<(), PublishError> {
        let known = self.size().get().saturating_sub(first.get());
        self.compare(first, entries.into_iter().take(usize::try_from(known).unwrap_or(usize::MAX)))
    }

    /// Checks that this log begins with a tree that was seen earlier.
    ///
    /// The tiles tell, not the signature: a host that remembers the last size and root elsewhere notices a
    /// directory that was rolled back or replaced.
    ///
    /// # Errors
    /// When the log is shorter, or has another beginning.
    pub fn extends(&self, seen: &TreeHead) -> Result<(), HistoryError> {
        let size = self.size();
        if seen.size > size {
            return Err(HistoryError::Shrank { size, seen: seen.size });
        }
        let mut nodes = TileNodes::new(size, |tile| self.files.tile(tile));
        let edge = RightEdge::restore(seen.size, |node| nodes.hash(node))
            .map_err(|error| HistoryError::Tiles(error.to_string()))?;
        if edge.head() == *seen { Ok(()) } else { Err(HistoryError::Rewritten { size: seen.size }) }
    }

    fn compare<E: AsRef<[u8]>>(
        &self,
        first: LeafIndex,
        entries: impl Iterator<Item = E>,
    ) -> Result<(), PublishError> {
        let mut leaves: Vec<Hash> = Vec::new();
        let mut loaded = None;
        for (index, entry) in (first.get()..).map(LeafIndex::new).zip(entries) {
            let Some(tile) = Tile::of_entry(index, self.size()).map(Tile::leaf_hashes) else { break };
            if loaded != Some(tile) {
                leaves = read_hashes(&self.files, tile)?;
                loaded = Some(tile);
            }
            let within = usize::from((index.get() - tile.first()).to_le_bytes()[0]);
            if leaves.get(within) != Some(&Hash::of_leaf(entry.as_ref())) {
                return Err(PublishError::Rewritten { index });
            }
        }
        Ok(())
    }

    /// Adds one entry to the edge and writes what it fills. A crash here leaves files beyond the checkpoint.
    fn append(&mut self, entry: &[u8]) -> Result<(), PublishError> {
        bundle::push(&mut self.bundle, entry)?;
        let mut full = Vec::new();
        let index =
            self.edge.push(Hash::of_leaf(entry), |tile, filled| full.push((tile, hashes::encode(filled))))?;
        if full.is_empty() {
            return Ok(());
        }
        if let Ok(tile) = Tile::new(Content::Entries, index.get() / u64::from(TILE_WIDTH), TILE_WIDTH) {
            self.dir.write(&tile.to_string(), &self.bundle)?;
            self.bundle.clear();
        }
        for (tile, bytes) in full {
            self.dir.write(&tile.to_string(), &bytes)?;
        }
        Ok(())
    }

    /// Makes everything appended so far durable, signs it, and removes the partial tiles that are full now.
    fn commit(&mut self) -> Result<(), PublishError> {
        let old = self.size();
        if self.edge.size() == old {
            return Ok(());
        }
        self.write_partial(old)?;
        // Here every byte under the new checkpoint is durable, and a crash still leaves the old one standing.
        self.dir.sync_names()?;
        let checkpoint = sign(&self.edge.head(), &self.name, &self.key)?;
        // The rename in here is the commit. A power cut may undo it until the names are synced, after somebody read
        // the new checkpoint: the caller then publishes the same entries again, so that no second history begins.
        self.dir.write(CHECKPOINT, checkpoint.signed().as_str().as_bytes())?;
        self.dir.sync_names()?;
        self.checkpoint = checkpoint;
        // A crash in here leaves partial tiles beside their full ones: right, unneeded, removed by `open`.
        self.remove_outgrown(old)
    }

    /// Writes the partial tiles and the partial bundle that grew since the log had `old` entries.
    fn write_partial(&mut self, old: TreeSize) -> Result<(), PublishError> {
        let size = self.edge.size();
        for tile in Tile::partial(size).filter(|tile| !tile.is_within(old)) {
            if tile.content() == Content::Entries {
                self.dir.write(&tile.to_string(), &self.bundle)?;
            }
        }
        for (tile, grown) in self.edge.partial().filter(|(tile, _)| !tile.is_within(old)) {
            self.dir.write(&tile.to_string(), &hashes::encode(grown))?;
        }
        Ok(())
    }

    fn remove_outgrown(&mut self, old: TreeSize) -> Result<(), PublishError> {
        for partial in Tile::partial(old) {
            let Ok(full) = Tile::new(partial.content(), partial.index(), TILE_WIDTH) else { continue };
            if full.is_within(self.size()) {
                self.dir.remove_dir(&leftovers::partial_dir(&self.files, full))?;
            }
        }
        Ok(())
    }
}

fn sign(head: &TreeHead, name: &KeyName, key: &SecretKey) -> Result<Checkpoint, CheckpointError> {
    SignedCheckpoint::sign(head, name, key)?.verify(name, &key.public())
}

fn check_own(files: &Files, own: &VerifierKey) -> Result<(), OpenError> {
    let found = files.signer()?.verifier;
    if found == *own {
        Ok(())
    } else {
        Err(OpenError::OtherLog { expected: Box::new(own.clone()), found: Box::new(found) })
    }
}

pub(super) fn read_hashes(files: &Files, tile: Tile) -> Result<Vec<Hash>, FileError> {
    hashes::decode(tile, &files.tile(tile)?).map_err(|error| FileError::malformed(&tile.to_string(), &error))
}

/// The bytes of the partial bundle, when there is one: its entries must be those of the edge.
fn last_bundle(files: &Files, edge: &TileEdge) -> Result<Vec<u8>, OpenError> {
    let Some(tile) = Tile::partial(edge.size()).find(|tile| tile.content() == Content::Entries) else {
        return Ok(Vec::new());
    };
    let bytes = files.tile(tile)?;
    let entries =
        bundle::decode(tile, &bytes).map_err(|error| FileError::malformed(&tile.to_string(), &error))?;
    let leaves = edge.partial().next().map(|(_, hashes)| hashes).unwrap_or_default();
    for ((entry, leaf), index) in entries.iter().zip(leaves).zip(tile.first()..) {
        if Hash::of_leaf(entry) != *leaf {
            return Err(OpenError::LastBundle { bundle: tile, index: LeafIndex::new(index) });
        }
    }
    Ok(bytes)
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("name", &self.name)
            .field("head", self.checkpoint.head())
            .finish_non_exhaustive()
    }
}

const _: () = assert!(MAX_ENTRIES_PER_CHECKPOINT.is_multiple_of(TILE_WIDTH as u64));
