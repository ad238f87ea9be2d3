//! Durable files: written beside, synced, renamed into place, directories synced.
//!
//! *Owns:* the order of system calls, and the hook through which tests fail each of them.
//! *Crash:* a file that has its name has all its bytes. Names become durable together, in
//! [`DurableDir::sync_names`]; until then a power cut may undo any of them, so nothing may rely on them.
//!
//! Known hole: a disk that lies about having synced defeats this, as it does every database. And a file system that
//! reports a failed write once only (fsync, then forgets) is met by stopping at the first error, never by retrying.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::files::PENDING;

/// Directories whose names are known to be durable; after so many, all are forgotten, and synced once more.
const MAX_NAMED: usize = 1024;

/// One durable step: what can fail, or be the last thing before a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A directory is made.
    MakeDir(PathBuf),
    /// The bytes of a file are written under the pending name.
    Write(PathBuf),
    /// The pending file is synced.
    SyncFile(PathBuf),
    /// The pending file gets its name.
    Rename(PathBuf),
    /// The names in a directory are synced.
    SyncDir(PathBuf),
    /// A file or an empty directory is removed.
    Remove(PathBuf),
}

/// The side of a step that the hook is called on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Failing here: the step did not happen.
    Before,
    /// Failing here: the step happened, and is reported as failed.
    After,
}

/// Called around every step; an error is treated as if the system call had failed. For tests.
pub type Hook = Box<dyn FnMut(When, &Step) -> io::Result<()> + Send>;

/// Writes files under one directory.
pub(super) struct DurableDir {
    dir: PathBuf,
    /// What a file is called until it has its name.
    pending: &'static str,
    /// Directories with names that are not synced yet.
    unsynced: BTreeSet<PathBuf>,
    /// Directories that this writer made or met, with their names synced or in `unsynced`.
    named: BTreeSet<PathBuf>,
    hook: Option<Hook>,
}

impl DurableDir {
    pub(super) fn new(dir: &Path, hook: Option<Hook>) -> Self {
        Self::with_pending(dir, PENDING, hook)
    }

    /// For who writes while somebody else writes in the same directory.
    pub(super) fn with_pending(dir: &Path, pending: &'static str, hook: Option<Hook>) -> Self {
        Self { dir: dir.to_owned(), pending, unsynced: BTreeSet::new(), named: BTreeSet::new(), hook }
    }

    /// Writes one file whole. Its bytes are durable on return, its name after [`DurableDir::sync_names`].
    pub(super) fn write(&mut self, file: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.dir.join(file);
        let parent = path.parent().unwrap_or(&self.dir).to_owned();
        self.make_dirs(&parent)?;
        let pending = self.dir.join(self.pending);
        let mut open = None;
        self.step(&Step::Write(path.clone()), || {
            let mut created = File::create(&pending)?;
            created.write_all(bytes)?;
            open = Some(created);
            Ok(())
        })?;
        self.step(&Step::SyncFile(path.clone()), || open.as_ref().map_or(Ok(()), File::sync_all))?;
        self.step(&Step::Rename(path.clone()), || fs::rename(&pending, &path))?;
        self.unsynced.insert(parent);
        Ok(())
    }

    /// Makes the names of everything written so far durable.
    pub(super) fn sync_names(&mut self) -> io::Result<()> {
        for dir in std::mem::take(&mut self.unsynced) {
            self.step(&Step::SyncDir(dir.clone()), || File::open(&dir)?.sync_all())?;
        }
        Ok(())
    }

    /// Makes the directory itself and the names that lead to it.
    pub(super) fn make_root(&mut self) -> io::Result<()> {
        let dir = self.dir.clone();
        self.make_dirs(&dir)
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.step(&Step::Remove(path.to_owned()), || gone(fs::remove_file(path)))
    }

    /// Removes a directory that holds only files, if it is there.
    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        for file in names(path)? {
            self.remove(&path.join(file))?;
        }
        self.named.remove(path);
        self.step(&Step::Remove(path.to_owned()), || gone(fs::remove_dir(path)))
    }

    fn make_dirs(&mut self, dir: &Path) -> io::Result<()> {
        let ours = dir != self.dir && dir.starts_with(&self.dir);
        if self.named.contains(dir) || (!ours && dir.is_dir()) {
            return Ok(());
        }
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.make_dirs(parent)?;
            // Also of a directory that is there: who made it may have been killed before its name was synced.
            self.unsynced.insert(parent.to_owned());
        }
        if !dir.is_dir() {
            self.step(&Step::MakeDir(dir.to_owned()), || match fs::create_dir(dir) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
                other => other,
            })?;
        }
        if self.named.len() >= MAX_NAMED {
            self.named.clear();
        }
        self.named.insert(dir.to_owned());
        Ok(())
    }

    fn step(&mut self, step: &Step, run: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let Some(hook) = &mut self.hook else { return run() };
        hook(When::Before, step)?;
        run()?;
        hook(When::After, step)
    }
}

/// The names in a directory, sorted, so that tests see one order; none when it is not there.
pub(super) fn names(dir: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let listing = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = listing.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
