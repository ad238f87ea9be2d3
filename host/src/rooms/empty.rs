//! Emptying a directory that somebody hostile filled: no link is followed, no depth costs more than two open files.
//!
//! A directory that is not empty is moved up beside the one where it all began, and emptied there: nothing is ever deeper
//! than one step. Every name is used relative to an open directory, and never looked up twice.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, open, openat, renameat, unlinkat};
use rustix::io::Errno;

/// How directories are opened here.
pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// A call that a guest had handed to the system may still add a file: so often it is looked again.
const PASSES: u32 = 20;
/// Between two passes.
const PAUSE: Duration = Duration::from_millis(5);

/// Removes everything in the directory `root`, and not the directory.
pub(super) fn empty(root: &Path) -> io::Result<()> {
    let root = open(root, DIRECTORY, Mode::empty())?;
    let mut number = 0;
    for _ in 0..PASSES {
        let names = names(&root)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            remove(&root, &name, &mut number)?;
        }
        std::thread::sleep(if is_empty(&root)? { Duration::ZERO } else { PAUSE });
    }
    if is_empty(&root)? { Ok(()) } else { Err(io::Error::from(Errno::NOTEMPTY)) }
}

/// Removes one name of `root`. A directory's own directories are left behind in `root`, for the next names.
fn remove(root: &OwnedFd, name: &CString, number: &mut u64) -> io::Result<()> {
    let mut waiting = vec![name.clone()];
    while let Some(name) = waiting.pop() {
        match unlinkat(root, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            // Linux says the one of a directory, POSIX the other.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        let directory = openat(root, &name, DIRECTORY, Mode::empty())?;
        for inner in names(&directory)? {
            match unlinkat(&directory, &inner, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
            if unlinkat(&directory, &inner, AtFlags::REMOVEDIR).is_ok() {
                continue;
            }
            waiting.push(move_up(&directory, &inner, root, number)?);
        }
        match unlinkat(root, &name, AtFlags::REMOVEDIR) {
            // Filled again while it was emptied: the next pass finds it.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Gives a directory a name in `root` that nothing there has.
fn move_up(from: &OwnedFd, name: &CString, root: &OwnedFd, number: &mut u64) -> io::Result<CString> {
    loop {
        let up = CString::new(format!("up-{number}")).map_err(io::Error::other)?;
        *number += 1;
        match renameat(from, name, root, &up) {
            Ok(()) => return Ok(up),
            // A guest can have used the name; a directory replaces an empty one only.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn names(directory: impl AsFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

fn is_empty(directory: impl AsFd) -> io::Result<bool> {
    Ok(names(directory)?.is_empty())
}
