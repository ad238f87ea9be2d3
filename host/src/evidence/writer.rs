//! Writing evidence: for each record that is about to be published, what it refers to.
//!
//! *Owns:* the last segment. *Crash:* see the module above. *Bound:* of one segment, the keys of its entries in memory.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use strongroom_job::{Digest, Event, JobId, OutputStream, Record, RecordError};

use super::erase;
use super::turns::{Damage, Turns};
use super::{Entries, Key, Kind, MAGIC, SEGMENT_BYTES, TENANTS, encode, segment, segments};
use crate::store::{Leaf, ReadError, Store};

/// Entries are collected up to so many bytes: one write for many.
const BUFFER_BYTES: usize = 256 << 10;

/// Why evidence could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The disk.
    #[error("the evidence in {path} cannot be written: {error}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The state.
    #[error(transparent)]
    State(#[from] ReadError),
    /// Records before these have no evidence yet.
    #[error("the evidence ends with record {covered}, and record {first} is next")]
    Gap {
        /// Where it ends.
        covered: u64,
        /// What was handed in.
        first: u64,
    },
    /// A leaf that is no record.
    #[error("record {index}: {error}")]
    Record {
        /// Which.
        index: u64,
        /// The reason.
        error: RecordError,
    },
}

/// The evidence of one host, open for writing.
#[derive(Debug)]
pub struct Evidence {
    pub(super) dir: PathBuf,
    /// The last segment.
    pub(super) segment: Segment,
    tenants: File,
    /// All that records below this index refer to is here, durably.
    covered: u64,
    /// The run that the last record was about, if it was `fired`: its own `admitted` is next.
    run: Option<JobId>,
    pub(super) turns: Turns,
    pub(super) damage: Damage,
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: File,
    /// Entries that are not written yet; at most [`BUFFER_BYTES`] and the last of them.
    buffer: Vec<u8>,
    /// With those.
    length: u64,
    /// What it has: a batch's envelope stands in it once.
    pub(super) held: HashSet<(Kind, Key)>,
}

impl Evidence {
    /// Opens the evidence in `dir` for a log of which `published` records are published, or begins it there. What it has beyond
    /// those was written for a publication that did not come to its end, and goes.
    ///
    /// # Errors
    /// When the directory cannot be made, read or written.
    pub fn open(dir: &Path, published: u64) -> Result<Self, EvidenceError> {
        Self::open_in(dir, published).map_err(|error| EvidenceError::Io { path: dir.into(), error })
    }

    fn open_in(dir: &Path, published: u64) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        File::open(dir.parent().unwrap_or(dir))?.sync_all()?;
        erase::clean(dir)?;
        let mut found = segments(dir)?;
        while found.last().is_some_and(|(first, _)| *first > published) {
            let (_, path) = found.pop().unwrap_or_default();
            fs::remove_file(path)?;
        }
        let (segment, covered) = match found.last() {
            Some((first, path)) => Segment::reopen(path, *first, published)?,
            None => (Segment::create(dir, 0)?, 0),
        };
        let tenants = open_tenants(&dir.join(TENANTS))?;
        File::open(dir)?.sync_all()?;
        let (turns, damage) = (Turns::default(), Damage::default());
        Ok(Self { dir: dir.into(), segment, tenants, covered, run: None, turns, damage })
    }

    /// All that records below this index refer to is here, durably.
    #[must_use]
    pub const fn covered(&self) -> u64 {
        self.covered
    }

    /// Writes down what these records refer to, the first of which has the index `first`, as far as the state still has it: what it
    /// has no more was forgotten. Durable when this returns. Gives how many records were taken: all in front of an `erased` record must be
    /// published before what that one names goes, or a crash would leave a log in which its job is not over and nobody knows what it is.
    ///
    /// `between` is called behind each record: who has time may rest there.
    ///
    /// # Errors
    /// When the disk does not take it, or the state cannot be read.
    pub fn append(
        &mut self,
        first: u64,
        leaves: &[Leaf],
        state: &Store,
        between: &mut dyn FnMut(),
    ) -> Result<usize, EvidenceError> {
        if first > self.covered {
            return Err(EvidenceError::Gap { covered: self.covered, first });
        }
        let mut next = first;
        let (mut tenants, mut others) = (false, false);
        for leaf in leaves {
            let record = leaf.record().map_err(|error| EvidenceError::Record { index: next, error })?;
            let erases = matches!(record.event, Event::Erased { .. });
            if erases && others {
                break;
            }
            others |= !erases;
            if self.segment.length >= SEGMENT_BYTES && !self.has_envelope_of(&record.event) {
                self.rotate(next).map_err(|error| self.failed(error))?;
            }
            let run = self.run.take();
            match &record.event {
                Event::Fired { run, .. } => self.run = Some(*run),
                // It came in its series' envelope, which stands where the series was admitted: it would otherwise stand in every
                // segment in which the series fires, and keep them all.
                Event::Admitted { job, .. } if run == Some(*job) => {}
                Event::Admitted { envelope, .. } | Event::Merged { envelope, .. } => {
                    self.envelope(envelope, state)?;
                }
                Event::Finished { job, stdout, stderr, result, .. } => {
                    self.opening(job, &record, state)?;
                    let result = result.map_or(0, |result| result.length());
                    for (stream, kind, length) in [
                        (OutputStream::Stdout, Kind::Stdout, stdout.length()),
                        (OutputStream::Stderr, Kind::Stderr, stderr.length()),
                        (OutputStream::Result, Kind::Result, result),
                    ] {
                        if length > 0 {
                            self.output(job, stream, kind, state)?;
                        }
                    }
                }
                Event::Erased { envelope, first, jobs, .. } => {
                    self.erase(envelope, *first, jobs).map_err(|error| self.failed(error))?;
                }
                Event::ModuleRegistered { module, .. } => {
                    let names = state.module_tenants(&module.digest, record.time)?;
                    let names = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join("\0");
                    let entry = encode(Kind::Tenants, &Key::from(next), names.as_bytes());
                    self.tenants.write_all(&entry).map_err(|error| self.failed(error))?;
                    tenants = true;
                }
                _ => {}
            }
            next += 1;
            between();
        }
        if tenants {
            self.tenants.sync_data().map_err(|error| self.failed(error))?;
        }
        self.cover(next).map_err(|error| self.failed(error))?;
        // As many as there are leaves, at most.
        Ok((next - first) as usize)
    }

    fn failed(&self, error: io::Error) -> EvidenceError {
        EvidenceError::Io { path: self.dir.clone(), error }
    }

    /// Whether the record is of an envelope that stands in the segment: an envelope as long as a segment would otherwise end the one
    /// that it was just written to, at each of its jobs.
    fn has_envelope_of(&self, event: &Event) -> bool {
        match event {
            Event::Admitted { envelope, .. } | Event::Merged { envelope, .. } => {
                self.segment.held.contains(&(Kind::Envelope, Key::from(envelope)))
            }
            _ => false,
        }
    }

    fn envelope(&mut self, digest: &Digest, state: &Store) -> Result<(), EvidenceError> {
        let key = Key::from(digest);
        if !self.segment.held.contains(&(Kind::Envelope, key))
            && let Some(bytes) = state.envelope(digest)?
        {
            self.segment.write(Kind::Envelope, key, &bytes).map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// What opens a record that hides what its job left.
    fn opening(&mut self, job: &JobId, record: &Record, state: &Store) -> Result<(), EvidenceError> {
        if record.left().is_some_and(|left| left.is_hidden())
            && let Some(opening) = state.opening(job)?
        {
            let json = serde_json::to_vec(&opening).map_err(ReadError::from)?;
            self.segment.write(Kind::Opening, Key::from(job), &json).map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    fn output(
        &mut self,
        job: &JobId,
        stream: OutputStream,
        kind: Kind,
        state: &Store,
    ) -> Result<(), EvidenceError> {
        // A longer one is a blob.
        if let Some(bytes) = state.output(job, stream)? {
            self.segment.write(kind, Key::from(job), &bytes).map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// Everything below `next` is here: durable from now on.
    fn cover(&mut self, next: u64) -> io::Result<()> {
        self.segment.write(Kind::Covered, Key::from(next), &[])?;
        self.segment.flush()?;
        self.segment.file.sync_data()?;
        self.covered = next;
        Ok(())
    }

    fn rotate(&mut self, next: u64) -> io::Result<()> {
        // A segment says that those before it are whole.
        self.cover(next)?;
        self.segment = Segment::create(&self.dir, next)?;
        File::open(&self.dir)?.sync_all()
    }
}

impl Segment {
    fn create(dir: &Path, first: u64) -> io::Result<Self> {
        let mut file = options().truncate(true).open(segment(dir, first))?;
        file.write_all(MAGIC)?;
        // Its first entries are synced with their end; a segment that is only a name must be readable.
        file.sync_all()?;
        let (length, buffer, held) = (MAGIC.len() as u64, Vec::new(), HashSet::new());
        Ok(Self { file, buffer, length, held })
    }

    /// The segment up to its last word about published records, and how far it covers them.
    fn reopen(path: &Path, first: u64, published: u64) -> io::Result<(Self, u64)> {
        let mut entries = Entries::new(BufReader::new(File::open(path)?))?;
        let (mut covered, mut length) = (first, entries.end());
        let (mut held, mut since) = (HashSet::new(), Vec::new());
        while let Some(entry) = entries.read_next()? {
            if entry.kind == Kind::Covered {
                if entry.key.index() > published {
                    break;
                }
                (covered, length) = (entry.key.index(), entries.end());
                held.extend(since.drain(..));
            } else {
                since.push((entry.kind, entry.key));
            }
        }
        let mut file = options().open(path)?;
        file.set_len(length)?;
        if length == 0 {
            file.write_all(MAGIC)?;
            length = MAGIC.len() as u64;
        }
        file.seek(SeekFrom::Start(length))?;
        Ok((Self { file, buffer: Vec::new(), length, held }, covered))
    }

    fn write(&mut self, kind: Kind, key: Key, value: &[u8]) -> io::Result<()> {
        let entry = encode(kind, &key, value);
        self.buffer.extend_from_slice(&entry);
        self.length += entry.len() as u64;
        self.held.insert((kind, key));
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options
}

/// The file of tenants, behind its last whole entry.
fn open_tenants(path: &Path) -> io::Result<File> {
    let mut file = options().read(true).open(path)?;
    let mut entries = Entries::new(BufReader::new(&file))?;
    while entries.read_next()?.is_some() {}
    let end = entries.end();
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end))?;
    if end == 0 {
        file.write_all(MAGIC)?;
        file.sync_all()?;
    }
    Ok(file)
}
