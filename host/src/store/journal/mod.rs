//! The journal: what was committed and is not in sled yet.
//!
//! A commit is one entry in a file that was made beforehand, and one sync. sled gets the rows later, many groups at once, from a thread
//! of its own ([`base`](super::base)): what came and went meanwhile it never sees. Until sled has them durably, the files here are where they are.
//!
//! *Owns:* `journal/`. *Never:* removes a file before whoever gave sled its rows says so. *Crash:* the next start reads what is whole, and sled's own
//! row says up to which entry it has everything (`m/journal`); entries that it has are put once more where they are, which changes nothing.
//! *Bound:* what the layers in memory may hold, and [`MAX_SPARE`] files that wait to be used again, each of [`FILE_BYTES`].
//! *Spec:* `docs/formats/state.md`, "The journal".

mod entry;
mod file;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

pub(super) use entry::Change;
use file::{Open, Wrong};

use super::rows::Batch;

/// A file's usual length: short enough to be made and read in some milliseconds.
pub(super) const FILE_BYTES: u64 = 4 << 20;
/// Files that wait to be used again.
const MAX_SPARE: usize = 4;
/// What is kept of the memory of an entry that was a long one.
const KEPT_BYTES: usize = 1 << 20;
/// A file on its way. It gets a number for a name when it has its length.
const MAKING: &str = "making";

/// The files, and where the next entry goes.
#[derive(Debug)]
pub(super) struct Journal {
    dir: PathBuf,
    /// A file's usual length.
    file_bytes: u64,
    open: Option<Open>,
    /// Files with entries, by the number of the first.
    used: BTreeMap<u64, PathBuf>,
    /// Files that can be used again.
    spare: Vec<PathBuf>,
    /// Of the next file.
    next_name: u64,
    /// Of the next entry.
    next: u64,
    /// The entry that is being written.
    bytes: Vec<u8>,
    /// Bytes of entries since the last roll.
    since_roll: u64,
}

/// What a journal had at the start.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) journal: Journal,
    /// The changes of each group that sled may not have, in order.
    pub(super) groups: Vec<Vec<Change>>,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{path}: {problem}")]
    Damaged { path: PathBuf, problem: String },
}

impl Journal {
    /// Reads the journal in `dir`, which is there: sled has everything before entry `from`. A second sled directory with the same journal does not exist:
    /// whoever calls has sled's lock.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was written.
    pub(super) fn open(dir: &Path, from: u64, file_bytes: u64) -> Result<Recovered, JournalError> {
        let failed = |error| JournalError::Io { path: dir.into(), error };
        remove(&dir.join(MAKING)).map_err(failed)?;
        let names = names(dir).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                JournalError::Damaged { path: dir.into(), problem: "it is missing".into() }
            }
            _ => failed(error),
        })?;
        let next_name = names.last_key_value().map_or(0, |(last, _)| last + 1);
        let (mut found, mut spare) = (Vec::new(), Vec::new());
        for path in names.into_values() {
            match file::read(&path, from) {
                Ok(Some(file)) => found.push((path, file)),
                Ok(None) => spare.push(path),
                Err(Wrong::Io(error)) => return Err(JournalError::Io { path, error }),
                Err(wrong) => return Err(JournalError::Damaged { path, problem: wrong.to_string() }),
            }
        }
        found.sort_by_key(|(_, file)| file.first);
        let (mut used, mut groups, mut next, mut open) = (BTreeMap::new(), Vec::new(), from, None);
        for (path, mut file) in found {
            let (first, entries) = (file.first, std::mem::take(&mut file.entries));
            let end = first + entries.len() as u64;
            let damaged = |problem| JournalError::Damaged { path: path.clone(), problem };
            if first > next {
                return Err(damaged(format!("it begins with entry {first}, and entry {next} is in no file")));
            }
            if end <= from || entries.is_empty() {
                // All of it is in sled; or it was begun and nothing in it acknowledged.
                spare.push(path);
                continue;
            }
            if first < next && !used.is_empty() {
                return Err(damaged(format!("entry {first} is in another file, too")));
            }
            groups.extend(entries.into_iter().skip((next - first) as usize));
            next = end;
            used.insert(first, path.clone());
            open = Some((path, file));
        }
        for path in spare.split_off(spare.len().min(MAX_SPARE)) {
            remove(&path).map_err(failed)?;
        }
        let open = open.map(|(path, found)| Open::go_on(&path, &found)).transpose().map_err(failed)?;
        // What is told from now on may rest on a name that a killed process left with the operating system.
        File::open(dir).and_then(|names| names.sync_all()).map_err(failed)?;
        let (dir, bytes) = (dir.into(), Vec::new());
        Ok(Recovered {
            journal: Self { dir, file_bytes, open, used, spare, next_name, next, bytes, since_roll: 0 },
            groups,
        })
    }

    /// Files that are made from now on have this length.
    pub(super) const fn set_file_bytes(&mut self, bytes: u64) {
        self.file_bytes = bytes;
    }

    /// The usual length of a file.
    pub(super) const fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The number of the next entry.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Writes what a group changed. It is durable after [`Journal::sync`].
    ///
    /// # Errors
    /// What the disk says. Nothing may be written any more then.
    pub(super) fn append(&mut self, batch: &Batch) -> io::Result<()> {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        entry::encode(self.next, batch, &mut self.bytes)
            .ok_or_else(|| io::Error::other("a group is longer than an entry of the journal can be"))?;
        if !self.open.as_ref().is_some_and(|open| open.has_room(self.bytes.len())) {
            self.begin(file::length_for(self.bytes.len(), self.file_bytes))?;
        }
        let Some(open) = &mut self.open else {
            return Err(io::Error::other("no file of the journal is open"));
        };
        open.append(&mut self.bytes)?;
        self.since_roll += self.bytes.len() as u64;
        self.next += 1;
        Ok(())
    }

    /// Bytes of entries that nobody can let go of before the next roll. Rows that came and went are in them, and in no layer any more.
    pub(super) const fn since_roll(&self) -> u64 {
        self.since_roll
    }

    /// Makes everything durable that was written.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.open.as_ref().map_or(Ok(()), Open::sync)
    }

    /// What comes next goes to another file. So what is in the ones so far can be let go of as a whole.
    pub(super) fn roll(&mut self) {
        self.open = None;
        self.since_roll = 0;
    }

    /// Removes the files that wait to be used again: somebody erased what may be in them.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub(super) fn drop_spare(&mut self) -> io::Result<()> {
        std::mem::take(&mut self.spare).iter().try_for_each(|path| remove(path))
    }

    /// Begins a file, durably.
    fn begin(&mut self, length: u64) -> io::Result<()> {
        let (path, mut open) = loop {
            let spare = if length == self.file_bytes { self.spare.pop() } else { None };
            match spare {
                Some(path) => {
                    let open = Open::reuse(&path)?;
                    // One that was made for a long entry is given back.
                    if open.length() == length {
                        break (path, open);
                    }
                    remove(&path)?;
                }
                None => {
                    let path = self.dir.join(format!("{:016x}", self.next_name));
                    self.next_name += 1;
                    let making = self.dir.join(MAKING);
                    let open = Open::make(&making, length)?;
                    fs::rename(making, &path)?;
                    File::open(&self.dir)?.sync_all()?;
                    break (path, open);
                }
            }
        };
        open.begin(self.next)?;
        self.used.insert(self.next, path);
        self.open = Some(open);
        Ok(())
    }

    /// Gives another directory the same files, as second names: what is written to them from now on is in both.
    ///
    /// # Errors
    /// When that cannot be made.
    pub(super) fn link_into(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(dir)?;
        for path in self.used.values() {
            let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
            fs::hard_link(path, dir.join(name))?;
        }
        Ok(())
    }

    /// The directory that was given the same files has the name of this one now. Files that waited to be used again stayed behind.
    pub(super) fn has_moved(&mut self) {
        self.spare.clear();
    }

    /// sled has every entry before this one, durably. Files that have no others can be used again; or go, when somebody erased what is in them.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub(super) fn forget_below(&mut self, below: u64, erased: bool) -> io::Result<()> {
        // A file ends where the next begins.
        while let Some((&first, _)) = self.used.first_key_value() {
            let end = self.used.range(first + 1..).next().map_or(self.next, |(next, _)| *next);
            let is_open = self.open.is_some() && self.used.len() == 1;
            if end > below || is_open {
                break;
            }
            let Some((_, path)) = self.used.pop_first() else { break };
            // One that was made for a long entry is as long as that.
            if erased || self.spare.len() >= MAX_SPARE || fs::metadata(&path)?.len() > self.file_bytes {
                remove(&path)?;
            } else {
                self.spare.push(path);
            }
        }
        if erased { self.drop_spare() } else { Ok(()) }
    }
}

/// The journal of the state in `path`.
pub(super) fn of(path: &Path) -> PathBuf {
    path.join("journal")
}

/// Makes an empty one for the state in `path`, if there is none. It is durable with the names of that state.
pub(super) fn make(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(of(path)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The files by their names. Anything else in there is nobody's, and stays.
fn names(dir: &Path) -> io::Result<BTreeMap<u64, PathBuf>> {
    let mut names = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).filter(|name| name.len() == 16);
        if let Some(name) = name.and_then(|name| u64::from_str_radix(name, 16).ok()) {
            names.insert(name, path);
        }
    }
    Ok(names)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
