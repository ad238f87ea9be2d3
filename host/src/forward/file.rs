//! JSON lines in a file that is rotated.
//!
//! When the next line would make the file longer than it may be, the file gets the index of its first record behind its name
//! and a new one begins; names in order are records in order. The file itself says how far it is, so that over any crash each
//! record is in it once.
//!
//! *Owns:* the file and the rotated ones beside it. Nobody else should write there; a file that holds anything else is left alone.
//! *Crash:* a line that is cut off is removed, since its record was not counted yet. *Spec:* `docs/formats/forwarding.md`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use strongroom_job::MAX_RECORD_BYTES;
use strongroom_job::merkle::LeafIndex;

use super::Trouble;
use super::entry::Entry;
use super::json;
use crate::audit::read::LogReader;
use crate::config::FileRules;
use crate::home::place::PRIVATE_FILE;

/// Longer than any line.
const TAIL_BYTES: usize = MAX_RECORD_BYTES + 128;
/// Digits of an index in a name: all indexes are equally long, so that names sort as numbers do.
const DIGITS: usize = 20;

pub(super) struct FileSink {
    rules: FileRules,
}

impl FileSink {
    pub(super) const fn new(rules: FileRules) -> Self {
        Self { rules }
    }

    /// The record to go on with: the one behind the file's last line, whatever the cursor says; without such a line, `next`.
    pub(super) fn resume(&self, log: &LogReader, next: u64) -> Result<u64, Trouble> {
        let (last, is_there) = match self.mended()? {
            Some(last) => (Some(last), true),
            // Just rotated: the last line is in the newest of the others.
            None => match self.rotated().map_err(|error| self.failed(&error))?.pop() {
                Some(newest) => {
                    let last = last_line(&newest, &mut open(&newest).map_err(|error| self.failed(&error))?)?;
                    (last, false)
                }
                None => (None, false),
            },
        };
        let Some(last) = last else { return Ok(next) };
        let path = self.rules.path.display();
        let index = json::index_of(&last).ok_or_else(|| {
            Trouble::Stuck(format!(
                "{path}: holds something else than forwarded records. Name another file, or move it away"
            ))
        })?;
        let entry = log.entries(LeafIndex::new(index), LeafIndex::new(index + 1)).next().transpose();
        let same = entry
            .map_err(Trouble::later)?
            .is_some_and(|(_, leaf)| json::line(&Entry::new(index, leaf)) == last);
        if same && is_there {
            Ok(index + 1)
        } else if same {
            // Somebody who took the file away has what was in it.
            Ok(next.max(index + 1))
        } else {
            Err(Trouble::Stuck(format!(
                "{path}: record {index} in it is not that of this log: it is of another log, or this one was rolled back. \
                 Move the file away, or restore the log"
            )))
        }
    }

    pub(super) fn send(&self, batch: &[Entry]) -> Result<(), Trouble> {
        self.write(batch).map_err(|error| self.failed(&error))
    }

    fn write(&self, batch: &[Entry]) -> io::Result<()> {
        let mut file = open(&self.rules.path)?;
        let mut length = file.seek(SeekFrom::End(0))?;
        let mut is_new = length == 0;
        let mut lines = Vec::new();
        for entry in batch {
            let line = json::line(entry);
            let grown = length + lines.len() as u64;
            if grown > 0 && grown + line.len() as u64 > self.rules.rotate_bytes {
                file.write_all(&lines)?;
                file.sync_all()?;
                lines.clear();
                self.rotate(&mut file)?;
                file = open(&self.rules.path)?;
                (length, is_new) = (0, true);
            }
            lines.extend(line);
        }
        file.write_all(&lines)?;
        file.sync_all()?;
        if is_new {
            sync_directory(&self.rules.path)?;
        }
        Ok(())
    }

    /// Gives the file its name for good, and removes the oldest that are not kept any more.
    fn rotate(&self, file: &mut File) -> io::Result<()> {
        let mut head = [0; 64];
        file.seek(SeekFrom::Start(0))?;
        let read = file.read(&mut head)?;
        let first = json::index_of(&head[..read])
            .ok_or_else(|| io::Error::other("its first line is no forwarded record"))?;
        fs::rename(&self.rules.path, self.rotated_name(first))?;
        sync_directory(&self.rules.path)?;
        if let Some(keep) = self.rules.keep {
            let rotated = self.rotated()?;
            let keep = usize::try_from(keep).unwrap_or(usize::MAX);
            for old in &rotated[..rotated.len().saturating_sub(keep)] {
                fs::remove_file(old)?;
                tracing::info!(file = %old.display(), "the oldest file of forwarded records is removed, as `keep` says; the log still has them");
            }
        }
        Ok(())
    }

    fn rotated_name(&self, first: u64) -> PathBuf {
        let mut name = self.rules.path.clone().into_os_string();
        name.push(format!(".{first:0DIGITS$}"));
        name.into()
    }

    /// The rotated files, oldest first.
    fn rotated(&self) -> io::Result<Vec<PathBuf>> {
        let (Some(directory), Some(name)) = (self.rules.path.parent(), self.rules.path.file_name()) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let suffix = path.extension().is_some_and(|digits| {
                digits.len() == DIGITS && digits.as_encoded_bytes().iter().all(u8::is_ascii_digit)
            });
            if suffix && path.file_stem() == Some(name) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// The file's last line, after one that was cut off is removed; none when there is no line.
    fn mended(&self) -> Result<Option<Vec<u8>>, Trouble> {
        let path = &self.rules.path;
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(&error)),
            Ok(found) if !found.is_file() => {
                return Err(Trouble::Stuck(format!("{}: is no regular file", path.display())));
            }
            Ok(_) => {}
        }
        let mut file = open(path).map_err(|error| self.failed(&error))?;
        last_line(path, &mut file)
    }

    fn failed(&self, error: &io::Error) -> Trouble {
        Trouble::Later(format!("{}: {error}", self.rules.path.display()))
    }
}

/// The last whole line; what is behind it is cut off.
fn last_line(path: &Path, file: &mut File) -> Result<Option<Vec<u8>>, Trouble> {
    let failed = |error: io::Error| Trouble::Later(format!("{}: {error}", path.display()));
    let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
    let start = length.saturating_sub(TAIL_BYTES as u64 * 2);
    file.seek(SeekFrom::Start(start)).map_err(failed)?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).map_err(failed)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole < tail.len() {
        let rest = &tail[whole..];
        // Of ours, it is the beginning of one line.
        let ours = rest.len() < TAIL_BYTES && json::may_begin(rest);
        if !ours || (whole == 0 && start > 0) {
            return Err(Trouble::Stuck(format!(
                "{}: does not end as a file of forwarded records. Name another file, or move it away",
                path.display()
            )));
        }
        file.set_len(start + whole as u64).and_then(|()| file.sync_all()).map_err(failed)?;
        tail.truncate(whole);
    }
    let Some(body) = tail.len().checked_sub(1) else { return Ok(None) };
    let begin = tail[..body].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    Ok(Some(tail.split_off(begin)))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(PRIVATE_FILE).open(path)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}
