//! Whether a disk has room for a backup, before hours are spent on it and the host's disk is full.
//!
//! What is looked at is what is long: log, evidence, modules and outputs. *Never:* a promise: others write to that disk, too.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{BackupError, io_at, parent};
use crate::config::Config;
use crate::disk;
use crate::home::Home;

/// Refuses what does not fit. On the host's own disk, its reserve stays free: a backup that ends the host helps nobody.
pub(super) fn check(home: &Home, dest: &Path) -> Result<(), BackupError> {
    let above = parent(dest);
    let failed = io_at(above);
    let free = disk::free_bytes(above).map_err(&failed)?;
    let is_same =
        fs::metadata(above).map_err(&failed)?.dev() == fs::metadata(home.dir()).map_err(&failed)?.dev();
    // One that cannot be read is backed up as it is, and keeps nothing.
    let kept = || Config::elsewhere(&home.config()).map_or(0, |config| config.bounds.disk_reserve_bytes);
    let reserve = if is_same { kept() } else { 0 };
    let mut needed = 0;
    for part in [home.audit(), home.evidence(), home.blobs()] {
        needed += length(&part).map_err(io_at(&part))?;
    }
    if free.saturating_sub(reserve) < needed {
        return Err(BackupError::Room { path: dest.into(), needed, free, reserve });
    }
    Ok(())
}

/// Bytes of all files below `top`, or of those that are there when they are looked at: a host may serve it.
fn length(top: &Path) -> io::Result<u64> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let (mut sum, mut left) = (0_u64, vec![top.to_owned()]);
    while let Some(inside) = left.pop() {
        let entries = match fs::read_dir(&inside) {
            Err(error) if gone(&error) => continue,
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            match entry.metadata() {
                Err(error) if gone(&error) => {}
                Err(error) => return Err(error),
                Ok(found) if found.is_dir() => left.push(entry.path()),
                Ok(found) => sum = sum.saturating_add(found.len()),
            }
        }
    }
    Ok(sum)
}
