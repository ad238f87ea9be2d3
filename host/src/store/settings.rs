//! How sled is set, and opened.

use std::path::Path;
use std::time::Duration;

/// sled's page cache. It uses several times this much memory while it writes.
const CACHE_BYTES: u64 = 32 << 20;
/// sled's unit of writing. A page longer than a quarter of it goes to a file of its own, which sled never syncs: so a quarter
/// must hold the longest page, some 27 rows of 64 KiB. A power of two, at most 16 MiB.
const SEGMENT_BYTES: usize = 8 << 20;
/// How often sled's own lock is asked for, and how long each time is waited: 2 s. sled's threads may hold it for a moment
/// after the last handle is gone; another host cannot, since it would hold the directory's lock.
const LOCK_TRIES: u32 = 400;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Those of the state in this directory.
pub(super) fn of(path: &Path) -> sled::Config {
    sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT_BYTES)
        // The writer flushes; a second flusher would only add writes.
        .flush_every_ms(None)
}

/// Opens it, once nothing of this process holds it any more.
pub(super) fn open(config: &sled::Config) -> sled::Result<sled::Db> {
    // sled gives the lock's error no kind of its own.
    let is_held = |error: &sled::Error| matches!(error, sled::Error::Io(error) if error.to_string().contains("acquire lock"));
    for _ in 1..LOCK_TRIES {
        match config.open() {
            Err(error) if is_held(&error) => std::thread::sleep(LOCK_PAUSE),
            other => return other,
        }
    }
    config.open()
}
