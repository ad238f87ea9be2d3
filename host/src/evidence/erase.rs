//! Evidence that is erased for good: the entries of some jobs, in whatever segment they are.
//!
//! The entry's place is kept, with zeros in it: nothing behind it moves. The segment is written anew beside itself and takes its own
//! place by renaming; then the bytes of the old file are overwritten, which is as much as a program can do about a disk.
//!
//! *Crash:* there is the segment of before or the new one. The record that says what is erased is published after this, so it is
//! done again.
//! *Bound:* one segment in memory.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Cursor, ErrorKind, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use strongroom_job::{Digest, ErasedJob, MAX_BATCH_JOBS};

use super::{Entries, Evidence, HEAD_BYTES, Key, Kind, SUM_BYTES, encode, segments};

/// A segment on its way.
const REWRITING: &str = "rewriting";

/// Removes what a crash left of a segment on its way.
pub(super) fn clean(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(REWRITING)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Evidence {
    /// Erases an envelope, and what these jobs of it left. Durable when this returns.
    pub(super) fn erase(&mut self, envelope: &Digest, jobs: &[ErasedJob]) -> io::Result<()> {
        let mut doomed = HashSet::from([(Kind::Envelope, Key::from(envelope))]);
        for one in jobs {
            for kind in [Kind::Stdout, Kind::Stderr, Kind::Result, Kind::Opening] {
                doomed.insert((kind, Key::from(&one.job)));
            }
        }
        self.segment.flush()?;
        let found = segments(&self.dir)?;
        for (place, (first, path)) in found.iter().enumerate() {
            let end = found.get(place + 1).map_or(u64::MAX, |(next, _)| *next);
            if !jobs.iter().any(|job| may_be_in(job, *first..end)) || !rewrite(&self.dir, path, &doomed)? {
                continue;
            }
            if place + 1 == found.len() {
                // The one that is being written is another file now.
                let mut file = OpenOptions::new().write(true).open(path)?;
                file.seek(SeekFrom::End(0))?;
                self.segment.file = file;
                self.segment.held.retain(|entry| !doomed.contains(entry));
            }
        }
        Ok(())
    }
}

/// Whether a segment with records of these indexes may hold something of the job. Its envelope may be there for another job of it, whose
/// record comes later.
fn may_be_in(job: &ErasedJob, records: Range<u64>) -> bool {
    let of_envelope = job.admitted..=job.admitted.saturating_add(MAX_BATCH_JOBS as u64);
    records.contains(&job.finished)
        || (*of_envelope.start() < records.end && records.start <= *of_envelope.end())
}

/// Writes a segment without these entries, if it has any of them; says whether it has.
fn rewrite(dir: &Path, path: &Path, doomed: &HashSet<(Kind, Key)>) -> io::Result<bool> {
    let mut bytes = fs::read(path)?;
    let erased = places(&bytes, doomed)?;
    if erased.is_empty() {
        return Ok(false);
    }
    for place in &erased {
        let zeros = vec![0; place.len() - HEAD_BYTES - SUM_BYTES];
        bytes[place.clone()].copy_from_slice(&encode(Kind::Erased, &Key([0; 32]), &zeros));
    }
    let old = OpenOptions::new().write(true).open(path)?;
    let new = dir.join(REWRITING);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(dir)?.sync_all()?;
    // Nobody finds the old file any more; its bytes go, too, where the file system writes in place.
    for place in erased {
        old.write_all_at(&vec![0; place.len()], place.start as u64)?;
    }
    old.sync_all()?;
    Ok(true)
}

/// Where these entries are. Behind damage nothing can be told apart, and nothing is found.
fn places(bytes: &[u8], doomed: &HashSet<(Kind, Key)>) -> io::Result<Vec<Range<usize>>> {
    let mut entries = Entries::new(Cursor::new(bytes))?;
    let mut places = Vec::new();
    let mut start = entries.end() as usize;
    while let Some(entry) = entries.read_next()? {
        let end = entries.end() as usize;
        if doomed.contains(&(entry.kind, entry.key)) {
            places.push(start..end);
        }
        start = end;
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use strongroom_job::JobId;

    use super::super::{Entry, file};
    use super::*;

    fn entry(kind: Kind, job: u8, value: &[u8]) -> Entry {
        Entry { kind, key: Key::from(&JobId::from_bytes([job; 16])), value: value.to_vec() }
    }

    // Red without the zeros, and red when the entry is taken out: what stands behind it would be found elsewhere.
    #[test]
    fn what_is_erased_is_zeros_and_the_rest_is_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        let held = [
            entry(Kind::Stdout, 1, b"first"),
            entry(Kind::Stdout, 2, b"the secret"),
            entry(Kind::Stderr, 2, b""),
            entry(Kind::Stdout, 3, b"last"),
        ];
        fs::write(&path, file(&held)).unwrap();
        let before = fs::read(&path).unwrap();
        let other_name = dir.path().join("other");
        fs::hard_link(&path, &other_name).unwrap();
        let doomed = HashSet::from([(Kind::Stdout, held[1].key), (Kind::Stderr, held[2].key)]);
        assert!(rewrite(dir.path(), &path, &doomed).unwrap());
        let after = fs::read(&path).unwrap();
        assert_eq!(after.len(), before.len());
        let mut entries = Entries::new(Cursor::new(&after)).unwrap();
        let mut read = Vec::new();
        while let Some(entry) = entries.read_next().unwrap() {
            read.push(entry);
        }
        assert!(!entries.is_damaged());
        let zeros = |length| Entry { kind: Kind::Erased, key: Key([0; 32]), value: vec![0; length] };
        assert_eq!(read, [held[0].clone(), zeros(10), zeros(0), held[3].clone()]);
        let old = fs::read(&other_name).unwrap();
        assert!(!old.windows(10).any(|bytes| bytes == b"the secret"), "red without the overwriting");
        assert!(!rewrite(dir.path(), &path, &doomed).unwrap(), "there is nothing more to erase");
    }
}
