//! How much room a disk has.

use std::io;
use std::path::Path;

/// Bytes that this user may still write where `place` is.
pub(crate) fn free_bytes(place: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(place)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
