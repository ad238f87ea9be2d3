//! A new state: made beside its place, and moved there when it is whole and durable.
//!
//! sled writes its settings in two steps, syncs neither them nor the names of its files, and refuses for ever a state whose
//! settings are half there. A kill or a power cut during the first start would leave one.
//!
//! *Owns:* `state.making`. *Crash:* before the rename there is no state, and what was begun is removed at the next opening; after
//! it the state is whole.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// What is added to the name of a state that is not whole yet.
const MAKING: &str = ".making";

/// Makes an empty state with these settings in `path`, unless something is there.
pub(super) fn make(path: &Path, settings: fn(&Path) -> sled::Config) -> sled::Result<()> {
    remove(&beside(path))?;
    if !is_empty(path)? {
        return Ok(());
    }
    let making = begin(path)?;
    settings(&making).open()?.flush()?;
    sync_all(&making)?;
    // In place of the empty directory that may be there. Every start makes the name durable, this one too.
    fs::rename(&making, path)?;
    Ok(())
}

/// Makes an empty directory for a state that will take the place of `path`.
pub(super) fn begin(path: &Path) -> io::Result<PathBuf> {
    let making = beside(path);
    remove(&making)?;
    DirBuilder::new().recursive(true).mode(0o700).create(&making)?;
    Ok(making)
}

/// Removes a state that was begun and will not take the place of `path`.
pub(super) fn discard(path: &Path) -> io::Result<()> {
    remove(&beside(path))
}

/// Puts the state that was begun, and is whole and durable, in the place of what is in `path`, which goes to `aside`. Both names are
/// durable then.
pub(super) fn put(path: &Path, aside: &Path) -> io::Result<()> {
    if !is_empty(path)? {
        DirBuilder::new().recursive(true).mode(0o700).create(above(aside))?;
        fs::rename(path, aside)?;
        // First the old one has its new name. A crash behind this leaves no state, which is made once more.
        let mut names = vec![above(aside), above(path)];
        if above(aside) != above(path) {
            // It may have been made just now. What is above the data directory itself is not ours to open.
            names.push(above(above(aside)));
        }
        for names in names {
            File::open(names)?.sync_all()?;
        }
    }
    fs::rename(beside(path), path)?;
    File::open(above(path))?.sync_all()
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The directory that holds the name of `path`.
pub(super) fn above(path: &Path) -> &Path {
    path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where a state is made that will take the place of `path`.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(MAKING);
    path.with_file_name(name)
}

/// Whether nothing is there.
pub(super) fn is_empty(path: &Path) -> io::Result<bool> {
    match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
        Ok(mut entries) => Ok(entries.next().is_none()),
    }
}

/// Syncs every file below `dir`, and every name.
pub(super) fn sync_all(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(dir)?.sync_all()
}
