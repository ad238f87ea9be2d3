//! Evidence goes when the state remembers nothing of it any more: a segment at a time.
//!
//! *Crash:* the state forgets first, durably, and the published log says so; a segment that stays for longer does no harm.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use strongroom_job::OutputStream;

use super::turns::Turns;
use super::{Entries, Entry, Evidence, Kind, segments};
use crate::store::{ReadError, Store};

/// Removes segments. Remembers how far it looked into each: what is forgotten does not come back.
#[derive(Debug, Default)]
pub(crate) struct Sweeper {
    dir: PathBuf,
    turns: Turns,
    looked: HashMap<u64, u64>,
    /// Segments of which nothing is remembered, by their first record, and how many records there were when that was seen.
    doomed: HashMap<u64, u64>,
}

impl Sweeper {
    /// Beside the one who writes.
    pub(crate) fn beside(writer: &Evidence) -> Self {
        let (dir, turns) = (writer.dir.clone(), writer.turns.clone());
        Self { dir, turns, looked: HashMap::new(), doomed: HashMap::new() }
    }

    /// Removes every segment but the last of which nothing is remembered; says how many. Blocks.
    ///
    /// # Errors
    /// When a segment or the state cannot be read.
    pub(crate) fn sweep(&mut self, state: &Store) -> Result<usize, ReadError> {
        let mut found = segments(&self.dir).map_err(ReadError::Io)?;
        // The last one is being written.
        found.pop();
        let is_there = |first: &u64| found.iter().any(|(known, _)| known == first);
        self.looked.retain(|first, _| is_there(first));
        self.doomed.retain(|first, _| is_there(first));
        // The published log must say, too, that nothing is remembered: a state that is lost now is made from that.
        let published = state.published()?.map_or(0, |head| head.size);
        let mut removed = 0;
        for (first, path) in found {
            match self.remembered(first, &path, state)? {
                Some(place) => drop(self.looked.insert(first, place)),
                None if *self.doomed.entry(first).or_insert_with(|| state.log_size()) > published => {}
                None => {
                    let _turn = self.turns.take();
                    fs::remove_file(&path).map_err(ReadError::Io)?;
                    removed += 1;
                }
            }
        }
        if removed > 0 {
            File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(ReadError::Io)?;
        }
        Ok(removed)
    }

    /// Where the first entry is that the state remembers. A damaged segment is kept, for who may still mend it.
    fn remembered(&self, first: u64, path: &Path, state: &Store) -> Result<Option<u64>, ReadError> {
        let mut entries = self.entries(first, path).map_err(ReadError::Io)?;
        let mut place = entries.end();
        while let Some(entry) = entries.read_next().map_err(ReadError::Io)? {
            if is_remembered(&entry, state)? {
                return Ok(Some(place));
            }
            place = entries.end();
        }
        Ok(entries.is_damaged().then_some(place))
    }

    fn entries(&self, first: u64, path: &Path) -> io::Result<Entries<BufReader<File>>> {
        let mut file = File::open(path)?;
        let Some(looked) = self.looked.get(&first) else { return Entries::new(BufReader::new(file)) };
        file.seek(SeekFrom::Start(*looked))?;
        Ok(Entries { reader: BufReader::new(file), end: *looked, damaged: false })
    }
}

fn is_remembered(entry: &Entry, state: &Store) -> Result<bool, ReadError> {
    match entry.kind {
        Kind::Envelope => state.has_envelope(&entry.key.digest()),
        Kind::Stdout => state.has_output(&entry.key.job(), OutputStream::Stdout),
        Kind::Stderr => state.has_output(&entry.key.job(), OutputStream::Stderr),
        Kind::Result => state.has_output(&entry.key.job(), OutputStream::Result),
        Kind::Opening => Ok(state.opening(&entry.key.job())?.is_some()),
        Kind::Tenants | Kind::Covered | Kind::Erased => Ok(false),
    }
}
