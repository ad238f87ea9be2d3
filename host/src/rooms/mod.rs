//! Private directories of attempts: scratch space, and secrets that are given as files.
//!
//! *Owns:* one directory in which each room is a directory of its own, mode 0700. *Never:* follows a link of a guest's.
//! *Bound:* what a guest may put into its room is the sandbox's business; emptying one takes two open files, however deep
//! it is.
//! *Crash:* rooms stay behind; [`Rooms::open`] at the next start removes them before a guest runs.

mod collect;
mod empty;

use std::fs::DirBuilder;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use collect::{Collected, collect};

const PRIVATE: u32 = 0o700;
/// Names that begin so are of rooms on their way out.
const GONE: &str = "gone-";

/// All rooms of one kind. Clones are handles to the same directory.
#[derive(Clone, Debug)]
pub(crate) struct Rooms {
    root: Arc<Root>,
}

#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// Numbers rooms on their way out, whose names would clash otherwise.
    gone: AtomicU64,
}

/// One attempt's directory. Dropped, it is emptied and gone; [`Room::remove`] does that without holding up a thread.
#[derive(Debug)]
pub(crate) struct Room {
    root: Arc<Root>,
    path: PathBuf,
    removed: bool,
}

impl Rooms {
    /// Makes the directory, or takes it over and removes what a crash left in it.
    ///
    /// # Errors
    /// When it cannot be made or read. What cannot be removed is told to the log, and stays.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        match DirBuilder::new().mode(PRIVATE).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if let Err(error) = empty::empty(path) {
            tracing::warn!(path = %path.display(), %error, "leftovers of an earlier run cannot be removed");
        }
        Ok(Self { root: Arc::new(Root { path: path.into(), gone: AtomicU64::new(0) }) })
    }

    /// Rooms below these, in a directory of this name.
    ///
    /// # Errors
    /// As [`Rooms::open`].
    pub(crate) fn within(&self, name: &str) -> io::Result<Self> {
        Self::open(&self.root.path.join(name))
    }

    /// Where they are.
    pub(crate) fn path(&self) -> &Path {
        &self.root.path
    }

    /// A new empty room. `name` is one part of a path, and no other room of this kind has it now.
    ///
    /// # Errors
    /// When the disk has no place for it.
    pub(crate) fn room(&self, name: &str) -> io::Result<Room> {
        let path = self.root.path.join(name);
        DirBuilder::new().mode(PRIVATE).create(&path)?;
        Ok(Room { root: Arc::clone(&self.root), path, removed: false })
    }
}

impl Room {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory in it.
    pub(crate) fn make(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        DirBuilder::new().mode(PRIVATE).create(&path)?;
        Ok(path)
    }

    /// Empties and removes it, on a thread that may wait for the disk.
    pub(crate) async fn remove(self) {
        // A panic there is in the log already.
        drop(tokio::task::spawn_blocking(move || drop(self)).await);
    }

    /// Away from its name first: a call of the guest's that is still on its way in the kernel holds the directory itself and
    /// may still write, but a path to it leads nowhere any more.
    fn discard(&self) -> io::Result<()> {
        let number = self.root.gone.fetch_add(1, Ordering::Relaxed);
        let gone = self.root.path.join(format!("{GONE}{number}"));
        std::fs::rename(&self.path, &gone)?;
        empty::empty(&gone)?;
        std::fs::remove_dir(&gone)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if std::mem::replace(&mut self.removed, true) {
            return;
        }
        if let Err(error) = self.discard() {
            // The next start tries again.
            tracing::error!(path = %self.path.display(), %error, "an attempt's directory cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_room_is_private_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let rooms = Rooms::open(&dir.path().join("scratch")).unwrap();
        let room = rooms.room("a").unwrap();
        assert_eq!(room.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(rooms.room("a").unwrap_err().kind(), ErrorKind::AlreadyExists, "never shared");
        std::fs::write(room.make("out").unwrap().join("x"), b"x").unwrap();
        drop(room);
        assert_eq!(std::fs::read_dir(dir.path().join("scratch")).unwrap().count(), 0);
    }

    #[test]
    fn leftovers_go_at_the_next_start_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (scratch, outside) = (dir.path().join("scratch"), dir.path().join("outside"));
        std::fs::create_dir_all(scratch.join("left/deep/er")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("keep"), b"x").unwrap();
        std::fs::write(scratch.join("left/deep/file"), b"x").unwrap();
        symlink(&outside, scratch.join("left/link")).unwrap();
        symlink(&outside, scratch.join("link")).unwrap();
        Rooms::open(&scratch).unwrap();
        assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
        assert_eq!(std::fs::read(outside.join("keep")).unwrap(), b"x");
    }

    /// A guest may nest directories deeper than a process may open files, or than a path may be long.
    // `std::fs::remove_dir_all` would hold an open file for each level.
    #[test]
    fn depth_costs_neither_files_nor_stack() {
        let dir = tempfile::tempdir().unwrap();
        let rooms = Rooms::open(&dir.path().join("scratch")).unwrap();
        let room = rooms.room("a").unwrap();
        let mut at = rustix::fs::open(room.path(), empty::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
        for _ in 0..3_000 {
            rustix::fs::mkdirat(&at, "directory", 0o700.into()).unwrap();
            at = rustix::fs::openat(&at, "directory", empty::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
        }
        drop(room);
        assert_eq!(std::fs::read_dir(dir.path().join("scratch")).unwrap().count(), 0);
    }
}
