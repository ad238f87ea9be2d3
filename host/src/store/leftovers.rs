//! What a host that was killed while it opened its state leaves behind.
//!
//! sled writes a snapshot of its page table at each opening, under a name of its own until it is whole. Its next opening would
//! take an unfinished one for the newest, find its checksum wrong, and refuse the state for ever.
//!
//! *Owns:* nothing but files whose name says that they are not finished. *Crash:* what is not removed now is removed at the next
//! opening.

use std::io;
use std::path::Path;

/// How sled begins the name of a snapshot, and ends that of one that it has not finished.
const SNAPSHOT: &str = "snap.";
const UNFINISHED: &str = ".generating";

/// Removes unfinished snapshots from sled's directory. Only for who holds the directory's lock.
pub(super) fn remove(state: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(state) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(SNAPSHOT) && name.ends_with(UNFINISHED)) {
            tracing::warn!(file = ?entry.path(), "a snapshot that was not finished is removed");
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::super::Store;

    // Red without `remove` in `Store::open`: sled reports corruption, at this opening and at every later one.
    #[test]
    fn a_kill_during_the_opening_does_not_close_the_state_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path()).unwrap());
        for unfinished in ["", "half of a snapshot, and no checksum"] {
            std::fs::write(dir.path().join("snap.0000000000FFFFFF.generating"), unfinished).unwrap();
            drop(Store::open(dir.path()).unwrap());
        }
        let left = std::fs::read_dir(dir.path()).unwrap();
        let names: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert!(names.iter().all(|name| !name.ends_with(".generating")), "{names:?}");
    }
}
