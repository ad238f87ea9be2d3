//! Sled's file written anew, so that what was erased is not in it any more.
//!
//! sled writes a log: a row that was removed, or replaced, stays in the file until sled uses that part of it for something else,
//! which may be never. So the batch that erases leaves a mark, and the next start copies the rows that are there into a new state,
//! which takes the place of the old one, and removes that.
//!
//! *Owns:* `state.stale`, a state between its replacement and its removal.
//! *Never:* stands between a host and its start: whatever fails before the new state has its name, a full disk above all, leaves the old
//! one as it was, with its mark, and the next start tries again.
//! *Crash:* before the new state has its name there is the old one, with its mark; or none, and the old one in `state.stale`, which is put
//! back. After it there is the new one, without the mark, and `state.stale` is removed.
//! *Bound:* a chunk of rows in memory; the disk holds the state twice.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::current::Current;
use super::{OpenError, ReadError, fresh, garbage, journal, keys, renew, settings};

/// Bytes of rows after which what sled replaced is freed.
const FREE_BYTES: usize = 1 << 20;
/// After so many rows it is told that it is not done yet.
const TOLD_ROWS: u64 = 500_000;

/// Where a state waits to be removed.
pub(super) fn stale(path: &Path) -> PathBuf {
    path.with_extension("stale")
}

/// What a crash left: the state that waits to be removed is put back when there is no other, or else removed.
pub(super) fn mend(path: &Path) -> io::Result<()> {
    let stale = stale(path);
    if fresh::is_empty(&stale)? {
        return Ok(());
    }
    if fresh::is_empty(path)? {
        fs::rename(&stale, path)?;
        return fs::File::open(fresh::above(path))?.sync_all();
    }
    remove(&stale);
    Ok(())
}

/// Removes a state that was replaced, once the name of the new one is durable. What cannot be removed now is tried again at the next start.
pub(super) fn remove(stale: &Path) {
    let sync = || fs::File::open(fresh::above(stale))?.sync_all();
    let removed = sync().and_then(|()| fs::remove_dir_all(stale)).and_then(|()| sync());
    if let Err(error) = removed {
        tracing::warn!(?stale, %error, "a state that holds what was erased cannot be removed; the next start tries again");
    }
}

/// Makes one state of what is in sled and in the journal, whose next entry is `upto`, and puts it in the place of the two. They are given back when that
/// could not be done, and are as they were. Otherwise what is in the place now is to be opened.
///
/// # Errors
/// What the disk says of the names.
pub(super) fn anew(path: &Path, rows: Current, upto: u64) -> Result<Option<Current>, OpenError> {
    anew_with(path, rows, upto, make)
}

fn anew_with(
    path: &Path,
    rows: Current,
    upto: u64,
    make: fn(&Path, &Current, u64) -> Result<u64, ReadError>,
) -> Result<Option<Current>, OpenError> {
    if path.is_symlink() {
        // The link would be moved, and not the state.
        tracing::warn!(
            ?path,
            "what was erased may still be in the state's file, which is not written anew behind a link"
        );
        return Ok(Some(rows));
    }
    tracing::info!("what was erased may still be in the state's file: the file is written anew");
    // sled panics where it finds what it cannot have written; a state that has such rows is judged by who reads them.
    let made = catch_unwind(AssertUnwindSafe(|| make(path, &rows, upto)));
    let count = match made.unwrap_or_else(|_| Err(ReadError::Damaged("a row that cannot be copied"))) {
        Ok(count) => count,
        // Of no failure here may anybody conclude that the old state is bad: sled's errors do not say which of the two they are about.
        Err(error) => {
            tracing::warn!(%error, "the state's file could not be written anew, and may still hold what was erased; the next start tries again");
            if let Err(error) = fresh::discard(path) {
                tracing::warn!(%error, "what was begun of it cannot be removed; the next start does that");
            }
            return Ok(Some(rows));
        }
    };
    drop(rows);
    match fresh::put(path, &stale(path)) {
        Ok(()) => {
            remove(&stale(path));
            tracing::info!(rows = count, "the state's file was written anew");
        }
        Err(error) => {
            let refused = |error| OpenError::Io { path: path.into(), error };
            let is_there = |path: &Path| fresh::is_empty(path).map(|is_empty| !is_empty).map_err(refused);
            if is_there(path)? && is_there(&stale(path))? {
                // The new one has the name, and nobody knows for how long: the old one must stay until somebody does.
                return Err(refused(error));
            }
            // When only the second renaming failed, the old state goes back.
            mend(path).map_err(|error| OpenError::Io { path: path.into(), error })?;
            tracing::warn!(%error, "the state's file could not be put in place of the old one; the next start tries again");
        }
    }
    Ok(None)
}

/// Makes a state with the same rows beside the one in `path`, durably; gives their number. Its journal is empty: everything is in sled.
fn make(path: &Path, rows: &Current, upto: u64) -> Result<u64, ReadError> {
    let making = fresh::begin(path).map_err(ReadError::Io)?;
    let new = settings::of(&making).open()?;
    let (rows, bytes) = copy(rows, &new)?;
    new.insert(keys::JOURNAL, &upto.to_be_bytes())?;
    journal::make(&making).map_err(ReadError::Io)?;
    renew::remember(&new, &fs::File::open(making.join("db")).map_err(ReadError::Io)?, bytes)?;
    drop(new);
    fresh::sync_all(&making).map_err(ReadError::Io)?;
    Ok(rows)
}

/// Every row but the mark, and what is true of the old files alone; gives their number and their bytes.
fn copy(from: &Current, to: &sled::Db) -> Result<(u64, u64), ReadError> {
    let (mut rows, mut bytes, mut all, mut all_bytes) = (0, 0, 0, 0);
    for row in from.all_under(b"") {
        let (key, value) = row?;
        if [keys::STALE, keys::RENEWED, keys::BYTES, keys::JOURNAL].contains(&key.as_ref()) {
            continue;
        }
        let length = key.len() + value.len();
        (rows, bytes) = (rows + 1, bytes + length);
        (all, all_bytes) = (all + 1, all_bytes + length as u64);
        to.insert(key, value)?;
        if all % TOLD_ROWS == 0 {
            tracing::info!(rows = all, "the state's file is still being written anew");
        }
        if bytes >= FREE_BYTES {
            garbage::free(rows);
            (rows, bytes) = (0, 0);
        }
    }
    garbage::free(rows);
    Ok((all, all_bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::super::Store;
    use super::super::overlay::Overlay;
    use super::super::proportion::Proportion;
    use super::*;

    const PRIVATE: &[u8] = b"a value that was erased";

    /// Bytes of a row that is kept.
    const LONG: usize = 5000;

    /// A state from which a row was removed, and that says so.
    fn marked(path: &Path) {
        drop(Store::open(path).unwrap());
        let db = settings::open(&settings::of(path)).unwrap();
        db.insert(b"t/private", PRIVATE).unwrap();
        db.insert(b"t/other", b"kept").unwrap();
        db.insert(b"t/long", vec![7; LONG]).unwrap();
        db.flush().unwrap();
        db.remove(b"t/private").unwrap();
        db.insert(keys::STALE, &[1]).unwrap();
        db.flush().unwrap();
        drop(db);
        assert!(is_in_a_file(path), "sled keeps what was removed");
    }

    fn rows(path: &Path) -> Current {
        Current::new(Overlay::default(), settings::open(&settings::of(path)).unwrap())
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
        assert_eq!(db.get(b"t/other").unwrap().unwrap(), b"kept".as_slice());
        assert_eq!(db.get(keys::STALE).unwrap(), None);
        // Besides, there are some short rows.
        let counted = Proportion::read(&db).unwrap().now();
        assert!((LONG as u64..LONG as u64 + 500).contains(&counted), "{counted}");
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

    // Red without the layers in `copy`, and with a journal that is taken along.
    #[test]
    fn what_is_in_the_journal_is_in_the_new_state_and_in_no_file_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        marked(&path);
        fs::write(journal::of(&path).join("0".repeat(16)), PRIVATE).unwrap();
        let rows = rows(&path);
        let layer =
            [("t/new", Some("value")), ("t/other", None), ("t/private", None), ("m/stale", Some("1"))];
        rows.overlay().take(layer.map(|(key, value)| (key.into(), value.map(sled::IVec::from))));
        assert!(anew(&path, rows, 7).unwrap().is_none());
        assert!(!is_in_a_file(&path) && fresh::is_empty(&journal::of(&path)).unwrap());
        drop(Store::open(&path).unwrap());
        let db = settings::open(&settings::of(&path)).unwrap();
        let value = |key: &str| db.get(key).unwrap().map(|value| value.to_vec());
        assert_eq!((value("t/new").as_deref(), value("t/other")), (Some(b"value".as_slice()), None));
        assert_eq!((value("m/journal"), value("m/stale")), (Some(7u64.to_be_bytes().to_vec()), None));
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

    // Red when any of these ends `open`, or counts as damage: sled gives what its own threads were told by a full disk as a clone without
    // a number, which nobody can tell from a damaged file.
    #[test]
    fn a_state_that_cannot_be_written_anew_is_opened_as_it_was() {
        let full = |path: &Path, rows: &Current, _| {
            let making = fresh::begin(path).map_err(ReadError::Io)?;
            let new = settings::of(&making).open()?;
            copy(rows, &new)?;
            let error = io::Error::new(io::ErrorKind::StorageFull, "no space left on device");
            Err(ReadError::Sled(sled::Error::Io(error)))
        };
        let panics = |_: &Path, _: &Current, _| panic!("what sled cannot have written");
        let refused = |_: &Path, _: &Current, _| Err(ReadError::Io(io::ErrorKind::NotFound.into()));
        for make in [full as fn(&Path, &Current, u64) -> _, panics, refused] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("state");
            marked(&path);
            let db = anew_with(&path, rows(&path), 0, make).unwrap().unwrap().base();
            assert_eq!(db.get(b"t/other").unwrap().unwrap(), b"kept".as_slice());
            assert!(db.get(keys::STALE).unwrap().is_some(), "the next start tries again");
            assert!(!path.with_extension("making").exists(), "it would take room from who needs it");
            drop(db);
            is_whole(&path);
        }
    }

    // Something is in the way of the old one. There is no guard to take away, so this one was not seen red: nothing is removed before both have their names.
    #[test]
    fn a_state_that_cannot_be_put_in_place_leaves_the_old_one_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        marked(&path);
        // A file: it is nobody's state, and nothing can be renamed over it.
        let in_the_way = |path: &Path, rows: &Current, upto| {
            let rows = make(path, rows, upto)?;
            fs::write(stale(path), b"").map_err(ReadError::Io)?;
            Ok(rows)
        };
        assert!(anew_with(&path, rows(&path), 0, in_the_way).is_err(), "the disk does not say what it is");
        fs::remove_file(stale(&path)).unwrap();
        is_whole(&path);
    }
}
