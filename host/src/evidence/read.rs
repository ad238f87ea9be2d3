//! Reading evidence back, in the order of the records: one segment at a time is in memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use strongroom_job::{Digest, JobId, Name, OutputStream};

use super::{Entries, Key, Kind, TENANTS, segments};
use crate::store::Source;

/// The entries of a segment.
type Segment = HashMap<(Kind, Key), Vec<u8>>;

/// Evidence as a rebuild reads it.
#[derive(Debug)]
pub struct Reader {
    segments: Vec<(u64, PathBuf)>,
    loaded: Option<(u64, Segment)>,
    tenants: HashMap<u64, Vec<Name>>,
    damaged: Vec<PathBuf>,
}

impl Reader {
    /// The evidence in `dir`; none when there is no such directory.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let mut reader =
            Self { segments: segments(dir)?, loaded: None, tenants: HashMap::new(), damaged: Vec::new() };
        let path = dir.join(TENANTS);
        if path.exists() {
            for ((_, key), value) in reader.load(&path)? {
                let names = std::str::from_utf8(&value).unwrap_or_default().split('\0');
                let names = names.filter_map(|name| name.parse().ok()).collect();
                reader.tenants.insert(key.index(), names);
            }
        }
        Ok(reader)
    }

    /// Files that hold something else than what was written, as far as they were read.
    #[must_use]
    pub fn damaged(&self) -> &[PathBuf] {
        &self.damaged
    }

    /// Every segment, whether or not a record asks for it: so that [`Reader::damaged`] names all that is.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn read_all(&mut self) -> io::Result<()> {
        for (_, path) in self.segments.clone() {
            self.load(&path)?;
        }
        Ok(())
    }

    fn load(&mut self, path: &Path) -> io::Result<Segment> {
        let mut entries = Entries::new(BufReader::new(File::open(path)?))?;
        let mut found = HashMap::new();
        while let Some(entry) = entries.read_next()? {
            if !matches!(entry.kind, Kind::Covered | Kind::Erased) {
                found.insert((entry.kind, entry.key), entry.value);
            }
        }
        if entries.is_damaged() && !self.damaged.iter().any(|known| known == path) {
            self.damaged.push(path.into());
        }
        Ok(found)
    }

    /// What stands under a key in the segment of the record at `at`.
    fn value(&mut self, at: u64, kind: Kind, key: Key) -> io::Result<Option<Vec<u8>>> {
        let Some(place) = self.segments.partition_point(|(first, _)| *first <= at).checked_sub(1) else {
            return Ok(None);
        };
        let (first, path) = self.segments[place].clone();
        if self.loaded.as_ref().is_none_or(|(loaded, _)| *loaded != first) {
            let entries = self.load(&path)?;
            self.loaded = Some((first, entries));
        }
        Ok(self.loaded.as_ref().and_then(|(_, entries)| entries.get(&(kind, key)).cloned()))
    }
}

impl Source for Reader {
    fn envelope(&mut self, at: u64, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        self.value(at, Kind::Envelope, Key::from(digest))
    }

    fn output(&mut self, at: u64, job: &JobId, stream: OutputStream) -> io::Result<Option<Vec<u8>>> {
        let kind = match stream {
            OutputStream::Stdout => Kind::Stdout,
            OutputStream::Stderr => Kind::Stderr,
            OutputStream::Result => Kind::Result,
        };
        self.value(at, kind, Key::from(job))
    }

    fn opening(&mut self, at: u64, job: &JobId) -> io::Result<Option<Vec<u8>>> {
        self.value(at, Kind::Opening, Key::from(job))
    }

    fn tenants(&mut self, at: u64) -> io::Result<Vec<Name>> {
        Ok(self.tenants.get(&at).cloned().unwrap_or_default())
    }
}
