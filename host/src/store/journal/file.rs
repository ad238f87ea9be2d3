//! One file of the journal: a header twice, then entries, then whatever was there before.
//!
//! A file is made whole, in zeros, before it is used, or was used before: so a sync of an entry has no length and no block to write.
//! What stands behind the last entry is of an earlier use, and is told by its salt.
//!
//! *Crash:* an entry that was on its way is there, or is not whole: nobody was told of it. A header that was on its way is not whole either: then
//! the second one is still that of the use before, of which sled has everything. *Bound:* a file is read in one piece, at the start.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::entry::{self, Change, HEAD_BYTES, Salt};

const MAGIC: &[u8; 8] = b"SRJRNL1\n";
/// Magic, number of the first entry, salt, CRC-32 of the three; the rest of a sector is zero.
const HEADER_BYTES: usize = 512;
/// What of it is not zero.
const SAID_BYTES: usize = 28;
/// Where entries begin: behind the header and its second copy.
const START: usize = 2 * HEADER_BYTES;
/// What is written at once when a file is made.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// A file that takes entries.
#[derive(Debug)]
pub(super) struct Open {
    file: File,
    salt: Salt,
    /// Where the next entry goes.
    end: u64,
    length: u64,
}

/// What a file has.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Its first entry's number.
    pub(super) first: u64,
    /// The changes of each entry, in order.
    pub(super) entries: Vec<Vec<Change>>,
    salt: Salt,
    /// Where the last entry begins, and where it ends.
    last: (usize, usize),
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Wrong {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damaged(&'static str),
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
        Ok(Self { file, salt: Salt::default(), end: 0, length })
    }

    /// Takes a file that was used before.
    pub(super) fn reuse(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, salt: Salt::default(), end: 0, length })
    }

    /// Begins it, durably: from now on what stands in it is of an earlier use.
    ///
    /// The second copy comes behind the sync of the first, and is durable with the first entry: whenever the first is not whole there is no entry of
    /// this use, and the second says of which use it is.
    pub(super) fn begin(&mut self, first: u64) -> io::Result<()> {
        getrandom::fill(&mut self.salt).map_err(io::Error::other)?;
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..16].copy_from_slice(&first.to_le_bytes());
        header[16..24].copy_from_slice(&self.salt);
        let sum = crc32fast::hash(&header[..24]);
        header[24..SAID_BYTES].copy_from_slice(&sum.to_le_bytes());
        self.file.write_all_at(&header, 0)?;
        self.file.sync_data()?;
        self.file.write_all_at(&header, HEADER_BYTES as u64)?;
        self.end = START as u64;
        Ok(())
    }

    /// Goes on with a file behind the last of its entries, which it writes once more, durably: who wrote it may have been told that it could not
    /// be synced, and of such a write the system knows no more that it is not on the disk.
    pub(super) fn go_on(path: &Path, found: &Found) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let length = file.metadata()?.len();
        for (from, to) in [(0, START), found.last] {
            let mut bytes = vec![0; to - from];
            file.read_exact_at(&mut bytes, from as u64)?;
            file.write_all_at(&bytes, from as u64)?;
        }
        file.sync_data()?;
        Ok(Self { file, salt: found.salt, end: found.last.1 as u64, length })
    }

    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Whether an entry of so many bytes has room.
    pub(super) const fn has_room(&self, bytes: usize) -> bool {
        bytes as u64 <= self.length.saturating_sub(self.end)
    }

    /// Writes an entry, and its checksum before that; it is durable after the next [`Open::sync`].
    pub(super) fn append(&mut self, entry: &mut [u8]) -> io::Result<()> {
        entry::seal(entry, self.salt);
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
    let least = (START + entry) as u64;
    if least > usual { least } else { usual }
}

/// Reads a file, of which entries from `from` on matter. None when nobody has used it yet.
///
/// An entry that is not whole ends it: it was on its way when the process ended, or the power went. Unless there is a later one behind it,
/// since that was written only after a sync of the first.
pub(super) fn read(path: &Path, from: u64) -> Result<Option<Found>, Wrong> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    let Some((first, salt)) = header(&bytes)? else { return Ok(None) };
    let (mut entries, mut last) = (Vec::new(), (START, START));
    while let Some((head, body)) = entry::whole(&bytes[last.1..], salt)
        && head.number == first + entries.len() as u64
    {
        entries.push(entry::changes(body).ok_or(Wrong::Damaged("an entry says nothing of ours"))?);
        last = (last.1, last.1 + HEAD_BYTES + head.length);
    }
    if has_later(&bytes[last.1..], salt, first + entries.len() as u64, from) {
        return Err(Wrong::Damaged("an entry is not what was written, and there is a later one"));
    }
    Ok(Some(Found { first, entries, salt, last }))
}

/// The first number and the salt that the file's header says.
fn header(bytes: &[u8]) -> Result<Option<(u64, Salt)>, Wrong> {
    // A file has its name only with its whole length.
    let headers = bytes.get(..START).ok_or(Wrong::Damaged("it was cut short"))?;
    let said = headers.chunks_exact(HEADER_BYTES).find_map(|header| {
        let (said, sum) = header[..SAID_BYTES].split_last_chunk::<4>()?;
        let is_whole = said.starts_with(MAGIC) && crc32fast::hash(said).to_le_bytes() == *sum;
        let (first, salt) = said[8..].split_first_chunk()?;
        is_whole.then_some((u64::from_le_bytes(*first), salt.try_into().ok()?))
    });
    // The first copy may have been on its way. Without a second one there never was an entry.
    let was_never_used = headers[HEADER_BYTES..].iter().all(|byte| *byte == 0);
    if said.is_none() && !was_never_used {
        return Err(Wrong::Damaged("its header is not what was written"));
    }
    Ok(said)
}

/// Whether there is a whole entry that matters, with a number above this one, anywhere.
fn has_later(bytes: &[u8], salt: Salt, missing: u64, from: u64) -> bool {
    // Most of a file that is new is zeros.
    let chunks = bytes.chunks(ZEROS.len()).rev().skip_while(|chunk| **chunk == ZEROS[..chunk.len()]);
    let length = chunks.map(<[u8]>::len).sum();
    // The last chunk is the only one that may be shorter.
    let bytes = &bytes[..usize::min(length, bytes.len())];
    let least = from.max(missing.saturating_add(1));
    (0..bytes.len()).any(|at| {
        entry::Head::of(&bytes[at..]).is_some_and(|head| {
            // A file has fewer entries than bytes.
            head.number >= least && head.number - missing < bytes.len() as u64
        }) && entry::whole(&bytes[at..], salt).is_some()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::fs;
    use std::path::PathBuf;

    use super::super::super::rows::Batch;
    use super::*;

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
        open.begin(numbers.start).unwrap();
        numbers.for_each(|number| open.append(&mut entry(number)).unwrap());
        open.sync().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), LENGTH, "it does not grow");
        path
    }

    fn found(path: &Path) -> (u64, Vec<u64>) {
        let found = read(path, 0).unwrap().unwrap();
        let key = |changes: &Vec<Change>| u64::from_be_bytes(changes[0].0.as_ref().try_into().unwrap());
        (found.first, found.entries.iter().map(key).collect())
    }

    /// What a file begins with, and two entries, as the format says, written by something else: `docs/formats/state.md`, "The journal".
    const GOLDEN: &str = include_str!("../../../tests/golden/journal_1.txt");

    #[test]
    fn a_file_is_as_its_format_says() {
        let golden: Vec<Vec<u8>> = GOLDEN.lines().map(|line| hex::decode(line).unwrap()).collect();
        let (header, entries) = (&golden[0], &golden[1..]);
        let mut bytes = vec![0; LENGTH as usize];
        for at in [0, HEADER_BYTES] {
            bytes[at..at + header.len()].copy_from_slice(header);
        }
        let both = entries.concat();
        bytes[START..START + both.len()].copy_from_slice(&both);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, bytes).unwrap();
        let found = read(&path, 0).unwrap().unwrap();
        assert_eq!((found.first, found.salt), (41, [0, 1, 2, 3, 4, 5, 0xf6, 0xf7]));
        let leaf = [b"l/".as_slice(), &6u64.to_be_bytes()].concat();
        let mut one = Batch::default();
        one.insert(leaf.clone(), *b"a record");
        one.insert(*b"m/log-size", 7u64.to_be_bytes());
        one.insert(*b"q/default", []);
        let mut two = Batch::default();
        two.remove(leaf);
        let output: Vec<u8> = (0..=255).collect();
        two.insert([b"z/".as_slice(), &3u64.to_be_bytes(), &[1]].concat(), output);
        for (number, (batch, golden)) in (41..).zip([one, two].into_iter().zip(entries)) {
            let mut bytes = Vec::new();
            entry::encode(number, &batch, &mut bytes).unwrap();
            entry::seal(&mut bytes, found.salt);
            assert_eq!(&bytes, golden);
            let changes: Vec<Change> = batch.into_changes().collect();
            assert_eq!(found.entries[number as usize - 41], changes);
        }
    }

    #[test]
    fn entries_come_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(found(&filled(dir.path(), 5..12)), (5, (5..12).collect()));
    }

    // Red with one salt for every use, and a number that is not asked for: the file of before ends with 32 and 33.
    #[test]
    fn what_an_earlier_use_left_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 28..34);
        assert_eq!(found(&filled(dir.path(), 28..32)), (28, vec![28, 29, 30, 31]));
    }

    // Red when `go_on` begins anywhere else, or with another salt.
    #[test]
    fn a_file_is_gone_on_with_behind_its_last_entry() {
        let dir = tempfile::tempdir().unwrap();
        let path = filled(dir.path(), 5..9);
        let mut torn = fs::read(&path).unwrap();
        let end = START + (5..8).map(|number| entry(number).len()).sum::<usize>();
        torn[end + 30] ^= 1;
        fs::write(&path, torn).unwrap();
        let mut open = Open::go_on(&path, &read(&path, 0).unwrap().unwrap()).unwrap();
        for number in [8, 9] {
            open.append(&mut entry(number)).unwrap();
        }
        assert_eq!(found(&path), (5, vec![5, 6, 7, 8, 9]));
        assert_eq!(fs::metadata(&path).unwrap().len(), LENGTH);
    }

    #[test]
    fn an_entry_that_was_on_its_way_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = filled(dir.path(), 5..9);
        let bytes = fs::read(&path).unwrap();
        let end = START + (5..9).map(|number| entry(number).len()).sum::<usize>();
        let last = end - entry(8).len();
        for cut in last..end {
            let mut torn = bytes.clone();
            torn[cut..].fill(0);
            fs::write(&path, torn).unwrap();
            // A zero at its end may be what was written.
            assert!([&[5, 6, 7][..], &[5, 6, 7, 8]].contains(&found(&path).1.as_slice()), "cut at {cut}");
        }
    }

    // Red without `has_later`.
    #[test]
    fn an_entry_that_is_damaged_before_a_later_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = filled(dir.path(), 5..9);
        let bytes = fs::read(&path).unwrap();
        let last = START + (5..8).map(|number| entry(number).len()).sum::<usize>();
        for place in START..last {
            let mut flipped = bytes.clone();
            flipped[place] ^= 0x10;
            fs::write(&path, flipped).unwrap();
            assert!(matches!(read(&path, 0), Err(Wrong::Damaged(_))), "byte {place}");
            assert!(read(&path, 9).is_ok(), "nobody needs what sled has");
        }
    }

    // Red with one copy of the header; red when one that is torn is an error, and when two that are damaged are none.
    #[test]
    fn a_header_that_was_on_its_way_leaves_the_use_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = filled(dir.path(), 5..9);
        let bytes = fs::read(&path).unwrap();
        for place in 0..SAID_BYTES {
            let mut flipped = bytes.clone();
            flipped[place] ^= 0x10;
            fs::write(&path, &flipped).unwrap();
            assert_eq!(found(&path), (5, vec![5, 6, 7, 8]), "byte {place}");
            flipped[HEADER_BYTES + place] ^= 0x10;
            fs::write(&path, &flipped).unwrap();
            assert!(matches!(read(&path, 0), Err(Wrong::Damaged(_))), "byte {place}");
            // A new file, whose first copy was on its way.
            flipped[HEADER_BYTES..].fill(0);
            fs::write(&path, &flipped).unwrap();
            assert!(read(&path, 0).unwrap().is_none());
        }
        Open::make(&path, LENGTH).unwrap();
        assert!(read(&path, 0).unwrap().is_none());
        fs::write(&path, b"").unwrap();
        assert!(matches!(read(&path, 0), Err(Wrong::Damaged(_))));
    }
}
