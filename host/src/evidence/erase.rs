//! Evidence that is erased for good: the entries of some jobs, in whatever segment they are.
//!
//! The entry's place is kept, with zeros in it: nothing behind it moves. The segment is written anew beside itself and takes its own
//! place by renaming; then the bytes of the old file are overwritten, which is as much as a program can do about a disk.
//!
//! *Crash:* there is the segment of before or the new one. The record that says what is erased is published after this, so it is
//! done again. Between the renaming and the overwriting the old file is gone with its bytes, which nothing overwrites then but the file
//! system's next use of them.
//! *Bound:* one segment in memory.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Cursor, ErrorKind, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use strongroom_job::{Digest, ErasedJob, MAX_BATCH_JOBS};

use super::{Damage, Entries, Evidence, HEAD_BYTES, Key, Kind, SUM_BYTES, encode, segments};

/// A segment on its way.
const REWRITING: &str = "rewriting";
/// Records that the jobs of one envelope make when it comes, those of jobs which they replace and release among them. A batch that makes
/// more is looked for near each of its jobs, too.
const RECORDS_OF_AN_ENVELOPE: u64 = 4 * MAX_BATCH_JOBS as u64;

/// Removes what a crash left of a segment on its way.
pub(super) fn clean(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(REWRITING)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Evidence {
    /// Erases an envelope, and what these jobs of it left. Durable when this returns.
    pub(super) fn erase(&mut self, envelope: &Digest, came: u64, jobs: &[ErasedJob]) -> io::Result<()> {
        let mut doomed = HashSet::from([(Kind::Envelope, Key::from(envelope))]);
        for one in jobs {
            for kind in [Kind::Stdout, Kind::Stderr, Kind::Result, Kind::Opening] {
                doomed.insert((kind, Key::from(&one.job)));
            }
        }
        self.segment.flush()?;
        let turns = self.turns.clone();
        let _turn = turns.take();
        let found = segments(&self.dir)?;
        for (place, (first, path)) in found.iter().enumerate() {
            let end = found.get(place + 1).map_or(u64::MAX, |(next, _)| *next);
            if !may_hold(came, jobs, *first..end) {
                continue;
            }
            let Rewritten { changed, damaged } = rewrite(&self.dir, path, &doomed)?;
            if damaged {
                tracing::warn!(file = ?path, "a file of evidence is damaged: what stands behind the damage cannot be erased; remove the \
                    evidence directory while the host is stopped, and the next start writes it anew");
                self.damage.add(path.clone());
            }
            if changed && place + 1 == found.len() {
                // The one that is being written is another file now.
                let mut file = OpenOptions::new().write(true).open(path)?;
                file.seek(SeekFrom::End(0))?;
                self.segment.file = file;
                self.segment.held.retain(|entry| !doomed.contains(entry));
            }
        }
        Ok(())
    }

    /// What of it was found damaged when something was to be erased.
    #[must_use]
    pub fn damage(&self) -> Damage {
        self.damage.clone()
    }
}

/// Whether a segment with records of these indexes may hold something of the jobs, whose envelope came at `came`. The envelope stands where
/// it came, and once more behind a new segment's beginning for each of its jobs that stands there; of these jobs some may be forgotten.
fn may_hold(came: u64, jobs: &[ErasedJob], records: Range<u64>) -> bool {
    let near = |from: u64, most: u64| from < records.end && records.start <= from.saturating_add(most);
    near(came, RECORDS_OF_AN_ENVELOPE)
        || jobs.iter().any(|job| {
            // A series' run is where it fired.
            near(job.admitted, MAX_BATCH_JOBS as u64) || job.finished.is_some_and(|at| records.contains(&at))
        })
}

/// What came of a segment.
#[derive(Debug, PartialEq, Eq)]
struct Rewritten {
    changed: bool,
    /// Behind its damage nothing can be told apart.
    damaged: bool,
}

/// Writes a segment without these entries, if it has any of them.
fn rewrite(dir: &Path, path: &Path, doomed: &HashSet<(Kind, Key)>) -> io::Result<Rewritten> {
    let mut bytes = match fs::read(path) {
        // Whoever removed it did what is to be done.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Rewritten { changed: false, damaged: false });
        }
        other => other?,
    };
    let (erased, damaged) = places(&bytes, doomed)?;
    if erased.is_empty() {
        return Ok(Rewritten { changed: false, damaged });
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
    // Nobody finds the old file any more, unless it has another name; its bytes go, too, where the file system writes in place. What
    // stands there now is an entry again: a copy that shares the file can be read as before.
    for place in erased {
        old.write_all_at(&bytes[place.clone()], place.start as u64)?;
    }
    old.sync_all()?;
    Ok(Rewritten { changed: true, damaged })
}

/// Where these entries are, and whether there is damage, behind which nothing is found.
fn places(bytes: &[u8], doomed: &HashSet<(Kind, Key)>) -> io::Result<(Vec<Range<usize>>, bool)> {
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
    Ok((places, entries.is_damaged()))
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
        let whole = |changed| Rewritten { changed, damaged: false };
        assert_eq!(rewrite(dir.path(), &path, &doomed).unwrap(), whole(true));
        let after = fs::read(&path).unwrap();
        assert_eq!(after.len(), before.len());
        let zeros = |length| Entry { kind: Kind::Erased, key: Key([0; 32]), value: vec![0; length] };
        assert_eq!(read(&after), ([held[0].clone(), zeros(10), zeros(0), held[3].clone()].into(), false));
        // Red without the overwriting, and red with plain zeros: nobody could read the last entry of that copy.
        assert_eq!(fs::read(&other_name).unwrap(), after);
        assert_eq!(
            rewrite(dir.path(), &path, &doomed).unwrap(),
            whole(false),
            "there is nothing more to erase"
        );
        // Red without the question for `NotFound`.
        assert_eq!(rewrite(dir.path(), &dir.path().join("swept"), &doomed).unwrap(), whole(false));
    }

    fn read(bytes: &[u8]) -> (Vec<Entry>, bool) {
        let mut entries = Entries::new(Cursor::new(bytes)).unwrap();
        let mut read = Vec::new();
        while let Some(entry) = entries.read_next().unwrap() {
            read.push(entry);
        }
        (read, entries.is_damaged())
    }

    // Red when `rewrite` says nothing of damage.
    #[test]
    fn damage_before_what_is_to_be_erased_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        let held = [entry(Kind::Stdout, 1, b"first"), entry(Kind::Stdout, 2, b"the secret")];
        let mut bytes = file(&held);
        // In the first entry's value.
        bytes[super::super::MAGIC.len() + HEAD_BYTES] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let doomed = HashSet::from([(Kind::Stdout, held[1].key)]);
        let told = rewrite(dir.path(), &path, &doomed).unwrap();
        assert_eq!(told, Rewritten { changed: false, damaged: true });
    }

    // Red without `came`, and red without each of the other two.
    #[test]
    fn an_envelope_is_looked_for_where_it_came_and_its_jobs_where_they_are() {
        let run = ErasedJob { job: JobId::from_bytes([1; 16]), admitted: 900_000, finished: Some(990_000) };
        let holds = |records| may_hold(7, &[run], records);
        for here in [0..8, 0..100, 7..8, 890_000..900_001, 989_999..u64::MAX] {
            assert!(holds(here.clone()), "{here:?}");
        }
        for elsewhere in [0..7, 100_000..200_000, 950_000..990_000, 990_001..u64::MAX] {
            assert!(!holds(elsewhere.clone()), "{elsewhere:?}");
        }
    }
}
