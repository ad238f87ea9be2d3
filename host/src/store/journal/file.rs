//! One file of the journal: a header, then entries, then whatever was there before.
//!
//! A file is made whole, in zeros, before it is used, or was used before: so a sync of an entry has no length and no block to write.
//! What stands behind the last entry is of an earlier use, and is told by its number.
//!
//! *Crash:* an entry that was on its way is there, or is not whole: nobody was told of it. *Bound:* a file is read in one piece, at
//! the start.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::entry::{self, Change, HEAD_BYTES};

/// The state that a journal belongs to.
pub(in crate::store) type StateId = [u8; 16];

const MAGIC: &[u8; 8] = b"SRJRNL1\n";
/// Magic, state, number of the first entry, CRC-32 of these three; the rest of a sector is zero.
const HEADER_BYTES: usize = 512;
/// What is written at once when a file is made.
const ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// A file that takes entries.
#[derive(Debug)]
pub(super) struct Open {
    file: File,
    /// Where the next entry goes.
    end: u64,
    length: u64,
}

/// What a file has.
#[derive(Debug)]
pub(super) struct Found {
    /// Its first entry's number.
    pub(super) first: u64,
    /// The changes of each entry, in order.
    pub(super) entries: Vec<Vec<Change>>,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Wrong {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damaged(&'static str),
    /// It was being made when its process ended. Nobody used it.
    #[error("it was not finished")]
    Unfinished,
}

impl Open {
    /// Makes a file of this length, durably but for its name.
    pub(super) fn make(path: &Path, length: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let mut at = 0;
        while at < length {
            let piece = &ZEROS[..ZEROS.len().min((length - at) as usize)];
            file.write_all_at(piece, at)?;
            at += piece.len() as u64;
        }
        file.sync_all()?;
        Ok(Self { file, end: 0, length })
    }

    /// Takes a file that was used before.
    pub(super) fn reuse(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, end: 0, length })
    }

    /// Begins it, durably: from now on it belongs to a state, and what stands in it is of an earlier use.
    pub(super) fn begin(&mut self, state: &StateId, first: u64) -> io::Result<()> {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..24].copy_from_slice(state);
        header[24..32].copy_from_slice(&first.to_le_bytes());
        let sum = crc32fast::hash(&header[..32]);
        header[32..36].copy_from_slice(&sum.to_le_bytes());
        self.file.write_all_at(&header, 0)?;
        self.file.sync_data()?;
        self.end = HEADER_BYTES as u64;
        Ok(())
    }

    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Whether an entry of so many bytes has room.
    pub(super) const fn has_room(&self, bytes: usize) -> bool {
        bytes as u64 <= self.length.saturating_sub(self.end)
    }

    /// Writes an entry; it is durable after the next [`Open::sync`].
    pub(super) fn append(&mut self, entry: &[u8]) -> io::Result<()> {
        self.file.write_all_at(entry, self.end)?;
        self.end += entry.len() as u64;
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// The length of a file for an entry of so many bytes.
pub(super) const fn length_for(entry: usize, usual: u64) -> u64 {
    let least = (HEADER_BYTES + entry) as u64;
    if least > usual { least } else { usual }
}

/// Reads a file of this state's journal.
///
/// An entry that is not whole ends it: it was on its way when the process ended, or the power went. Unless there is a later one behind it,
/// since that was written only after a sync of the first.
pub(super) fn read(path: &Path, state: &StateId) -> Result<Found, Wrong> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    let Some(header) = bytes.get(..HEADER_BYTES) else { return Err(Wrong::Unfinished) };
    if header.iter().all(|byte| *byte == 0) {
        return Err(Wrong::Unfinished);
    }
    if &header[..8] != MAGIC || header[32..36] != crc32fast::hash(&header[..32]).to_le_bytes() {
        return Err(Wrong::Damaged("its header is not what was written"));
    }
    if &header[8..24] != state {
        return Err(Wrong::Damaged("it belongs to another state"));
    }
    let first = header[24..32].try_into().map_or(0, u64::from_le_bytes);
    let (mut entries, mut at) = (Vec::new(), HEADER_BYTES);
    while let Some((head, body)) = entry::whole(&bytes[at..])
        && head.number == first + entries.len() as u64
    {
        entries.push(entry::changes(body).ok_or(Wrong::Damaged("an entry says nothing of ours"))?);
        at += HEAD_BYTES + head.length;
    }
    if has_later(&bytes[at..], first + entries.len() as u64) {
        return Err(Wrong::Damaged("an entry is not what was written, and there is a later one"));
    }
    Ok(Found { first, entries })
}

/// Whether there is a whole entry with a number above this one anywhere.
fn has_later(bytes: &[u8], missing: u64) -> bool {
    (0..bytes.len()).any(|at| {
        entry::Head::of(&bytes[at..]).is_some_and(|head| {
            // A file has fewer entries than bytes.
            head.number > missing && head.number - missing < bytes.len() as u64
        }) && entry::whole(&bytes[at..]).is_some()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::fs;
    use std::path::PathBuf;

    use super::super::super::rows::Batch;
    use super::*;

    const STATE: StateId = [3; 16];
    const LENGTH: u64 = 4096;

    fn entry(number: u64) -> Vec<u8> {
        let mut batch = Batch::default();
        batch.insert(number.to_be_bytes(), vec![number as u8; 40]);
        let mut bytes = Vec::new();
        entry::encode(number, &batch, &mut bytes).unwrap();
        bytes
    }

    /// A file with these entries.
    fn filled(dir: &Path, numbers: std::ops::Range<u64>) -> PathBuf {
        let path = dir.join("file");
        let mut open = if path.exists() { Open::reuse(&path) } else { Open::make(&path, LENGTH) }.unwrap();
        open.begin(&STATE, numbers.start).unwrap();
        numbers.for_each(|number| open.append(&entry(number)).unwrap());
        open.sync().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), LENGTH, "it does not grow");
        path
    }

    fn keys(found: &Found) -> Vec<u64> {
        let key = |changes: &Vec<Change>| u64::from_be_bytes(changes[0].0.as_ref().try_into().unwrap());
        found.entries.iter().map(key).collect()
    }

    #[test]
    fn entries_come_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let found = read(&filled(dir.path(), 5..12), &STATE).unwrap();
        assert_eq!((found.first, keys(&found)), (5, (5..12).collect()));
    }

    // Red when `read` does not ask for the number.
    #[test]
    fn what_an_earlier_use_left_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 5..30);
        let found = read(&filled(dir.path(), 30..33), &STATE).unwrap();
        assert_eq!(keys(&found), [30, 31, 32]);
    }

    #[test]
    fn an_entry_that_was_on_its_way_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = filled(dir.path(), 5..9);
        let bytes = fs::read(&path).unwrap();
        let end = HEADER_BYTES + (5..9).map(|number| entry(number).len()).sum::<usize>();
        let last = end - entry(8).len();
        for cut in last..end {
            let mut torn = bytes.clone();
            torn[cut..].fill(0);
            fs::write(&path, torn).unwrap();
            let found = read(&path, &STATE).unwrap();
            // A zero at its end may be what was written.
            assert!([&[5, 6, 7][..], &[5, 6, 7, 8]].contains(&keys(&found).as_slice()), "cut at {cut}");
        }
    }

    // Red without `has_later`.
    #[test]
    fn an_entry_that_is_damaged_before_a_later_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = filled(dir.path(), 5..9);
        let bytes = fs::read(&path).unwrap();
        let last = HEADER_BYTES + (5..8).map(|number| entry(number).len()).sum::<usize>();
        for place in HEADER_BYTES..last {
            let mut flipped = bytes.clone();
            flipped[place] ^= 0x10;
            fs::write(&path, flipped).unwrap();
            assert!(matches!(read(&path, &STATE), Err(Wrong::Damaged(_))), "byte {place}");
        }
    }

    #[test]
    fn a_header_of_another_state_or_of_none_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = filled(dir.path(), 5..9);
        assert!(matches!(read(&path, &[4; 16]), Err(Wrong::Damaged(_))));
        let bytes = fs::read(&path).unwrap();
        for place in 0..36 {
            let mut flipped = bytes.clone();
            flipped[place] ^= 0x10;
            fs::write(&path, flipped).unwrap();
            assert!(matches!(read(&path, &STATE), Err(Wrong::Damaged(_))), "byte {place}");
        }
        Open::make(&path, LENGTH).unwrap();
        assert!(matches!(read(&path, &STATE), Err(Wrong::Unfinished)));
        fs::write(&path, b"").unwrap();
        assert!(matches!(read(&path, &STATE), Err(Wrong::Unfinished)));
    }
}
