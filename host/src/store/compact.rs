//! Sled's file written anew, so that what was erased is not in it any more.
//!
//! sled writes a log: a row that was removed, or replaced, stays in the file until sled uses that part of it for something else,
//! which may be never. So the batch that erases leaves a mark, and the next start copies the rows that are there into a new state,
//! which takes the place of the old one, and removes that.
//!
//! *Owns:* `state.stale`, a state between its replacement and its removal.
//! *Crash:* before the new state has its name there is the old one, with its mark; or none, and the old one in `state.stale`, which is put
//! back. After it there is the new one, without the mark, and `state.stale` is removed.
//! *Bound:* one batch of rows in memory; the disk holds the state twice.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{ReadError, fresh, garbage, keys, settings};

/// Bytes of rows that are copied at once.
const BATCH_BYTES: usize = 1 << 20;

/// Where a state waits to be removed.
fn stale(path: &Path) -> PathBuf {
    path.with_extension("stale")
}

/// Whether a crash left a state that waits to be removed, or to be put back.
pub(super) fn has_stale(path: &Path) -> io::Result<bool> {
    Ok(!fresh::is_empty(&stale(path))?)
}

/// What a crash left: the state that waits to be removed is put back when there is no other, or else removed.
pub(super) fn mend(path: &Path) -> io::Result<()> {
    let stale = stale(path);
    if fresh::is_empty(&stale)? {
        return Ok(());
    }
    if fresh::is_empty(path)? {
        fs::rename(&stale, path)?;
    } else {
        fs::remove_dir_all(&stale)?;
    }
    fs::File::open(fresh::above(path))?.sync_all()
}

/// Opens the state in `path`, and writes it anew first if something was erased from it.
pub(super) fn open(path: &Path) -> sled::Result<sled::Db> {
    let db = settings::open(&settings::of(path))?;
    if db.get(keys::STALE)?.is_none() {
        return Ok(db);
    }
    tracing::info!("what was erased is still in the state's file: the file is written anew");
    let making = fresh::begin(path)?;
    let new = settings::of(&making).open()?;
    copy(&db, &new).map_err(|error| match error {
        ReadError::Sled(error) => error,
        error => sled::Error::Io(io::Error::other(error.to_string())),
    })?;
    new.flush()?;
    drop((db, new));
    fresh::sync_all(&making)?;
    fresh::put(path, &stale(path))?;
    match fs::remove_dir_all(stale(path)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => fs::File::open(fresh::above(path))?.sync_all()?,
    }
    settings::open(&settings::of(path))
}

/// Every row but the mark.
fn copy(from: &sled::Db, to: &sled::Db) -> Result<(), ReadError> {
    let (mut batch, mut rows, mut bytes) = (sled::Batch::default(), 0, 0);
    for row in from.iter() {
        let (key, value) = row?;
        if key.as_ref() == keys::STALE {
            continue;
        }
        (rows, bytes) = (rows + 1, bytes + key.len() + value.len());
        batch.insert(key, value);
        if bytes >= BATCH_BYTES {
            to.apply_batch(std::mem::take(&mut batch))?;
            garbage::free(rows);
            (rows, bytes) = (0, 0);
        }
    }
    to.apply_batch(batch)?;
    garbage::free(rows);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::super::Store;
    use super::*;

    const PRIVATE: &[u8] = b"a value that was erased";

    /// A state from which a row was removed, and that says so.
    fn marked(path: &Path) {
        drop(Store::open(path).unwrap());
        let db = settings::open(&settings::of(path)).unwrap();
        db.insert(b"z/private", PRIVATE).unwrap();
        db.insert(b"z/other", b"kept").unwrap();
        db.flush().unwrap();
        db.remove(b"z/private").unwrap();
        db.insert(keys::STALE, &[1]).unwrap();
        db.flush().unwrap();
        drop(db);
        assert!(is_in_a_file(path), "sled keeps what was removed");
    }

    fn is_in_a_file(dir: &Path) -> bool {
        fs::read_dir(dir).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            path.is_file() && fs::read(path).unwrap().windows(PRIVATE.len()).any(|piece| piece == PRIVATE)
        })
    }

    fn is_whole(path: &Path) {
        drop(Store::open(path).unwrap());
        assert!(!is_in_a_file(path) && !stale(path).exists() && !path.with_extension("making").exists());
        let db = settings::open(&settings::of(path)).unwrap();
        assert_eq!(db.get(b"z/other").unwrap().unwrap(), b"kept".as_slice());
        assert_eq!(db.get(keys::STALE).unwrap(), None);
    }

    // Red without `copy` into a new state.
    #[test]
    fn what_was_removed_is_in_no_file_after_the_next_opening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        marked(&path);
        is_whole(&path);
        is_whole(&path);
    }

    // Red without `mend`: an empty state would be begun in the place of the one that waits.
    #[test]
    fn a_crash_between_the_two_renames_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        marked(&path);
        fs::rename(&path, stale(&path)).unwrap();
        assert!(!Store::is_missing(&path).unwrap(), "a state that waits is no lost state");
        is_whole(&path);
    }

    #[test]
    fn a_crash_before_the_old_state_is_removed_leaves_nothing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("state"), dir.path().join("old"));
        marked(&old);
        marked(&path);
        is_whole(&path);
        fs::rename(&old, stale(&path)).unwrap();
        is_whole(&path);
    }
}
