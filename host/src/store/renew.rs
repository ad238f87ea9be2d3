//! sled's file written anew while the host works, so that it stays in proportion to what is in it.
//!
//! sled writes a log in segments, and uses a segment again when nothing in it is in force. Under steady load a few notes of pages that
//! are gone stay in force in nearly every segment, for as long as sled's own flusher does not move them. That one is off: what it moves
//! between two syncs has no bound, and sled would write to segments whose rows are nowhere else on the disk yet. So the file grows by
//! half a KB with each job, for ever. When it has become long, the thread that gives sled its rows ([`base`](super::base)) copies them to a new state,
//! slice after slice, and puts it in the place of the old one. Meanwhile each layer goes to the old one, as ever, and then also to the new one, as
//! far as its rows were copied. The files of the journal get second names in the new one, while nobody commits.
//!
//! The same is due at once when something was erased, however short the file is: sled has the bytes of what was removed for as long as it likes.
//!
//! *Owns:* `state.making` and `state.stale` while the writer runs. *Never:* acknowledges by the new state before it has its name. *Crash:* as
//! in [`compact`](super::compact): before the new state has its name the old one has everything that was acknowledged, and is put back if need be; after it
//! the new one has. *Bound:* a slice of rows in memory; while it copies, the disk holds the state twice, and [`RESERVE_BYTES`] of it stay free.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use sled::IVec;

use super::base::{self, SharedJournal};
use super::journal::{Change, Journal};
use super::proportion::Proportion;
use super::{ReadError, compact, fresh, garbage, keys, settings};
use crate::disk;

/// A file that is no longer than this stays as it is.
pub(super) const FLOOR_BYTES: u64 = 256 << 20;
/// A file may grow to so many times what it would be if it were written anew.
const FACTOR: u64 = 2;
/// While there is much to do the file may become so many times longer than when it would be due otherwise: copying takes as much of a processor as the work does.
const BUSY_FACTOR: u64 = 4;
/// A slice ends behind so many rows, or bytes of rows: a layer waits for the slice that is under way, some milliseconds, and for those that are owed.
const SLICE_ROWS: usize = 128;
const SLICE_BYTES: usize = 64 << 10;
/// Behind a layer come the slices of so many times its rows, if those were short: or a busy host would write faster than it copies, and everything twice for as long.
const PACE: usize = 2;
/// What is copied is synced in pieces of this size, so that the last sync has little to do.
const SYNC_BYTES: usize = 1 << 20;
/// What the disk must have free before each of those pieces, at the least: the host's own writes come first. More where a configuration keeps more.
pub(super) const RESERVE_BYTES: u64 = 128 << 20;

/// What is said when sled panicked in the new state.
const COPY_PANICKED: &str = "sled cannot write what is being copied";

/// Knows when the file is to be written anew, and does it.
pub(super) struct Renewer {
    path: PathBuf,
    floor: u64,
    /// What stays free on the disk.
    reserve: u64,
    proportion: Proportion,
    /// After a failure: not before the file is longer than this.
    again_above: u64,
    /// Something was erased whose bytes the file may still have: since the copy that is under way began, if one is.
    is_stale: bool,
    /// The copy that is under way is for that, or the last one was, and failed.
    is_left: bool,
    under_way: Option<Copying>,
    /// Lets the state go that was replaced last.
    removing: Option<JoinHandle<()>>,
}

/// A state that is being made.
struct Copying {
    to: sled::Db,
    sync: File,
    /// The last key that was copied.
    upto: IVec,
    unsynced: usize,
    rows: u64,
    /// Bytes of their keys and values.
    bytes: u64,
    /// So many slices are to be copied before the next layer is taken.
    owed: usize,
}

/// The state that is in force from now on.
pub(super) struct Renewed {
    pub(super) db: sled::Db,
    /// Its file, for `fdatasync`.
    pub(super) sync: File,
}

/// How far a slice led.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slice {
    More,
    Last,
}

impl Renewer {
    /// For the state in `path`, which is open as `db`. It leaves `reserve` bytes of the disk free.
    ///
    /// # Errors
    /// When sled cannot read.
    pub(super) fn new(path: &Path, db: &sled::Db, floor: u64, reserve: u64) -> sled::Result<Self> {
        let (proportion, is_stale) = (Proportion::read(db)?, db.contains_key(keys::STALE)?);
        let path = path.into();
        Ok(Self {
            path,
            floor,
            reserve,
            proportion,
            again_above: 0,
            is_stale,
            is_left: false,
            under_way: None,
            removing: None,
        })
    }

    /// The file is not written anew before it is longer than this, in a quiet hour.
    fn due_above(&self) -> u64 {
        self.floor.max(self.again_above).max(self.proportion.expected().saturating_mul(FACTOR))
    }

    /// The row that says how much is in sled.
    pub(super) fn count(&self) -> Change {
        self.proportion.row()
    }

    /// Whether there is something to copy.
    pub(super) const fn is_copying(&self) -> bool {
        self.under_way.is_some()
    }

    /// The state that is being made, for who looks after hanging writes.
    pub(super) fn making(&self) -> Option<sled::Db> {
        self.under_way.as_ref().map(|copying| copying.to.clone())
    }

    /// Begins when the file is long enough. A quiet hour is waited for, but not for ever.
    pub(super) fn begin_if_due(&mut self, sync: &File, is_busy: bool) {
        let Ok(length) = sync.metadata().map(|file| file.len()) else { return };
        let is_above = |limit: u64| length > limit.saturating_mul(if is_busy { BUSY_FACTOR } else { 1 });
        let is_due =
            self.is_stale || is_above(self.due_above()) || self.is_left && is_above(self.again_above);
        // Of a link the name would be moved, and not the state.
        if self.under_way.is_some() || !is_due || self.path.is_symlink() || !self.is_clear() {
            return;
        }
        match Copying::begin(&self.path) {
            Ok(copying) => {
                self.is_left |= std::mem::take(&mut self.is_stale);
                tracing::info!(bytes = length, erased = self.is_left, "the state's file is written anew");
                self.under_way = Some(copying);
            }
            Err(error) => self.give_up(&error, length),
        }
    }

    /// Whether the state that was replaced last is gone.
    fn is_clear(&mut self) -> bool {
        if self.removing.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return false;
        }
        self.wait_removed();
        fresh::is_empty(&compact::stale(&self.path)).unwrap_or(false)
    }

    /// What of a piece is to go to the new state as well: changes of rows that it has been given. All others it will get as they are then.
    pub(super) fn share_of(&mut self, piece: &[Change]) -> Option<Vec<Change>> {
        // What is erased from now on may have been copied already.
        self.is_stale |= piece.iter().any(|(key, value)| key == keys::STALE && value.is_some());
        let upto = &self.under_way.as_ref()?.upto;
        Some(piece.iter().filter(|(key, _)| key <= upto).cloned().collect())
    }

    /// Gives the new state its share of a piece that is durable, by which the rows of the old one are so many bytes more.
    /// Calls `between` before each row.
    pub(super) fn follow(
        &mut self,
        share: Option<Vec<Change>>,
        more: i64,
        sync: &File,
        between: &mut dyn FnMut(),
    ) {
        self.proportion.changed(more);
        let (Some(copying), Some(share)) = (&mut self.under_way, share) else { return };
        // sled panics where an earlier write of its own threads has failed. Nobody needs this one.
        let put =
            catch_unwind(AssertUnwindSafe(|| base::put(&copying.to, share.iter().inspect(|_| between()))));
        match put {
            Ok(Ok(more)) => copying.bytes = copying.bytes.saturating_add_signed(more),
            Ok(Err(error)) => self.give_up(&error.into(), length(sync)),
            Err(_) => self.give_up(&ReadError::Damaged(COPY_PANICKED), length(sync)),
        }
    }

    /// Behind a layer of so many rows, some slices must be copied before the next one comes. They are counted, and not their rows: a slice of long rows has
    /// few, and as many of those as a layer has of short ones would be gigabytes, for which the writer would wait.
    pub(super) fn owe(&mut self, layer: usize) {
        if let Some(copying) = &mut self.under_way {
            copying.owed = layer.saturating_mul(PACE).div_ceil(SLICE_ROWS);
        }
    }

    /// Whether the next layer is to wait for the copying.
    pub(super) fn owes(&self) -> bool {
        self.under_way.as_ref().is_some_and(|copying| copying.owed > 0)
    }

    /// Copies a slice of the rows, and calls `between` behind each. After the last one the new state takes its place, and is given back.
    ///
    /// # Errors
    /// When nobody can know which state has the name: the host must not go on.
    pub(super) fn go_on(
        &mut self,
        from: &sled::Db,
        sync: &File,
        journal: &SharedJournal,
        between: &mut dyn FnMut(),
    ) -> io::Result<Option<Renewed>> {
        let Some(copying) = &mut self.under_way else { return Ok(None) };
        // sled panics where it finds what it cannot have written: whoever needs such a row finds it, too, and it is his affair.
        let slice = catch_unwind(AssertUnwindSafe(|| copying.slice(from, &self.path, self.reserve, between)));
        match slice.unwrap_or_else(|_| Err(ReadError::Damaged("a row that cannot be copied"))) {
            Ok(Slice::More) => Ok(None),
            Ok(Slice::Last) => self.replace(sync, journal),
            Err(error) => {
                self.give_up(&error, length(sync));
                Ok(None)
            }
        }
    }

    /// The new state takes the place of the old one.
    fn replace(&mut self, sync: &File, journal: &SharedJournal) -> io::Result<Option<Renewed>> {
        let Some(copying) = self.under_way.take() else { return Ok(None) };
        // Nobody commits meanwhile: a file of the journal that is begun now would be in the old state alone.
        let mut journal = base::lock(journal);
        let whole =
            catch_unwind(AssertUnwindSafe(|| copying.make_whole(&self.path, self.is_stale, &mut journal)));
        let base = match whole.unwrap_or(Err(ReadError::Damaged(COPY_PANICKED))) {
            Ok(base) => base,
            Err(error) => {
                drop(copying);
                // A full disk is the likeliest reason: what was copied must not stay on it.
                if let Err(error) = fresh::discard(&self.path) {
                    tracing::warn!(%error, "what was begun of a state cannot be removed; the next start does that");
                }
                self.give_up(&error, length(sync));
                return Ok(None);
            }
        };
        let stale = compact::stale(&self.path);
        // From here on the old state cannot be gone on with: a crash may find either of the two in the place.
        fresh::put(&self.path, &stale)?;
        journal.has_moved();
        (self.proportion, self.again_above, self.is_left) = (Proportion::anew(base, copying.bytes), 0, false);
        tracing::info!(
            bytes = base,
            before = length(sync),
            rows = copying.rows,
            "the state's file was written anew"
        );
        Ok(Some(Renewed { db: copying.to, sync: copying.sync }))
    }

    /// Lets go of the state that was replaced, and of its handles. All that sled knows of a long one takes a while to free, and its file
    /// to remove: nobody waits for either. What is not removed is removed at the next start.
    pub(super) fn retire(&mut self, handles: impl Send + 'static) {
        let stale = compact::stale(&self.path);
        let thread = std::thread::Builder::new().name("state-removal".into()).spawn(move || {
            drop(handles);
            compact::remove(&stale);
        });
        self.removing = thread.ok();
    }

    /// Nothing was replaced. The next time is when the file has grown further.
    fn give_up(&mut self, error: &ReadError, length: u64) {
        self.again_above = length.saturating_add(self.floor.max(1));
        // The row says it to the next start.
        self.is_left |= std::mem::take(&mut self.is_stale);
        tracing::warn!(%error, "the state's file could not be written anew; it is tried again when the file has grown further");
        self.stop();
    }

    /// Drops what was begun, and waits for what is being removed.
    pub(super) fn stop(&mut self) {
        if self.under_way.take().is_some()
            && let Err(error) = fresh::discard(&self.path)
        {
            tracing::warn!(%error, "what was begun of a state cannot be removed; the next start does that");
        }
        self.wait_removed();
    }

    fn wait_removed(&mut self) {
        if let Some(thread) = self.removing.take() {
            // A panic in it left the directory, which the next start removes.
            let _ = thread.join();
        }
    }
}

impl Copying {
    fn begin(path: &Path) -> Result<Self, ReadError> {
        let making = fresh::begin(path).map_err(ReadError::Io)?;
        let to = settings::of(&making).open()?;
        let sync = File::open(making.join("db")).map_err(ReadError::Io)?;
        Ok(Self { to, sync, upto: IVec::default(), unsynced: 0, rows: 0, bytes: 0, owed: 0 })
    }

    fn slice(
        &mut self,
        from: &sled::Db,
        path: &Path,
        reserve: u64,
        between: &mut dyn FnMut(),
    ) -> Result<Slice, ReadError> {
        if self.unsynced >= SYNC_BYTES {
            if disk::free_bytes(fresh::above(path)).map_err(ReadError::Io)? < reserve {
                return Err(ReadError::Io(io::ErrorKind::StorageFull.into()));
            }
            self.to.flush()?;
            self.sync.sync_data().map_err(ReadError::Io)?;
            self.unsynced = 0;
        }
        let (mut rows, mut bytes) = (0, 0);
        // The first key behind the last; the empty key is nobody's.
        let next = [self.upto.as_ref(), &[0]].concat();
        let mut left = from.range(next..);
        while rows < SLICE_ROWS && bytes < SLICE_BYTES {
            let Some(row) = left.next() else { break };
            let (key, value) = row?;
            (rows, bytes, self.upto) = (rows + 1, bytes + key.len() + value.len(), key.clone());
            // Each by itself: see `base::put`.
            self.to.insert(key, value)?;
            between();
        }
        garbage::free(rows);
        self.rows += rows as u64;
        self.bytes += bytes as u64;
        self.owed = self.owed.saturating_sub(1);
        self.unsynced += bytes;
        Ok(if rows == 0 { Slice::Last } else { Slice::More })
    }

    /// Makes all of it durable; gives the length of its file.
    fn make_whole(&self, path: &Path, is_stale: bool, journal: &mut Journal) -> Result<u64, ReadError> {
        if !is_stale {
            self.to.remove(keys::STALE)?;
        }
        let base = remember(&self.to, &self.sync, self.bytes)?;
        self.sync.sync_data().map_err(ReadError::Io)?;
        let making = fresh::beside(path);
        journal.link_into(&super::journal::of(&making)).map_err(ReadError::Io)?;
        fresh::sync_all(&making).map_err(ReadError::Io)?;
        Ok(base)
    }
}

/// Writes down how long a file is that was just written anew, with so many bytes of rows, and gives it.
pub(super) fn remember(db: &sled::Db, file: &File, bytes: u64) -> Result<u64, ReadError> {
    db.flush()?;
    let base = file.metadata().map_err(ReadError::Io)?.len();
    let renewed = (keys::RENEWED.into(), Some(IVec::from(&base.to_be_bytes())));
    base::put(db, &[renewed, Proportion::anew(base, bytes).row()])?;
    db.flush()?;
    Ok(base)
}

fn length(file: &File) -> u64 {
    file.metadata().map_or(0, |file| file.len())
}

#[cfg(test)]
mod tests;
