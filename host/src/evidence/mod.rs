//! Evidence: what the log's records refer to and do not hold, in files beside the log, so that the state can be made anew.
//!
//! A record names an envelope by its digest, and an output too. Their bytes are in the state, and here once more: whatever a
//! checkpoint covers can be rebuilt from the log, these files and the blobs (`store::rebuild`).
//!
//! *Owns:* `DIR/evidence` and the form of its files. *Never:* decides what is remembered (`retention`), believes an envelope: who
//! reads one back verifies its signature.
//! *Crash:* entries are durable before the checkpoint that covers their records. What a crash leaves behind the last [`Kind::Covered`]
//! is cut off at the next start, and written again.
//! *Spec:* `docs/formats/evidence.md`.

mod copy;
mod erase;
mod read;
mod sweep;
mod turns;
mod writer;

use std::io::{self, BufRead, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use strongroom_job::{Digest, JobId, MAX_ENVELOPE_BYTES};

pub use copy::CopyError;
pub(crate) use copy::copy;
pub use read::Reader;
pub(crate) use sweep::Sweeper;
pub use turns::Damage;
pub use writer::{Evidence, EvidenceError};

/// What every file begins with.
const MAGIC: &[u8; 22] = b"strongroom evidence 1\n";
/// A segment of this length is followed by a new one. It may be longer by the entries of one record.
const SEGMENT_BYTES: u64 = 4 << 20;
/// Longest value: an envelope.
const MAX_VALUE_BYTES: usize = MAX_ENVELOPE_BYTES;
/// Length, kind and key.
const HEAD_BYTES: usize = 4 + 1 + 32;
/// The checksum.
const SUM_BYTES: usize = 32;
/// The file of the tenants of modules.
const TENANTS: &str = "tenants";
/// Digits in the name of a segment: every u64 fits.
const NAME_DIGITS: usize = 20;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A signed envelope, by the digest of its body.
    Envelope = 1,
    /// The standard output of a job, by its id, when it is short enough to be no blob.
    Stdout = 2,
    /// Its standard error.
    Stderr = 3,
    /// Its result.
    Result = 4,
    /// The tenants that gave a module, by the index of the `module-registered` record; names, with a NUL between them.
    Tenants = 5,
    /// Nothing: all that the records below this index refer to stands before it.
    Covered = 6,
    /// What a job left and what hides that in its record, by its id: the JSON of an [`Opening`](strongroom_job::Opening).
    Opening = 7,
    /// Zeros, in the place of an entry that was erased.
    Erased = 8,
}

impl Kind {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Envelope,
            2 => Self::Stdout,
            3 => Self::Stderr,
            4 => Self::Result,
            5 => Self::Tenants,
            6 => Self::Covered,
            7 => Self::Opening,
            8 => Self::Erased,
            _ => return None,
        })
    }
}

/// What an entry is found by: a digest; or a job id or an index, with zeros behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; 32]);

impl From<&Digest> for Key {
    fn from(digest: &Digest) -> Self {
        Self(*digest.as_bytes())
    }
}

impl From<&JobId> for Key {
    fn from(job: &JobId) -> Self {
        Self::padded(job.as_bytes())
    }
}

impl From<u64> for Key {
    fn from(index: u64) -> Self {
        Self::padded(&index.to_be_bytes())
    }
}

impl Key {
    fn padded(bytes: &[u8]) -> Self {
        let mut key = [0; 32];
        key[..bytes.len()].copy_from_slice(bytes);
        Self(key)
    }

    fn digest(&self) -> Digest {
        Digest::from_bytes(self.0)
    }

    fn job(&self) -> JobId {
        let mut id = [0; 16];
        id.copy_from_slice(&self.0[..16]);
        JobId::from_bytes(id)
    }

    fn index(&self) -> u64 {
        let mut index = [0; 8];
        index.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(index)
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// What it is found by.
    pub key: Key,
    /// Its bytes.
    pub value: Vec<u8>,
}

/// The bytes of an entry.
#[must_use]
pub fn encode(kind: Kind, key: &Key, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + value.len() + SUM_BYTES);
    // No value is longer than `MAX_VALUE_BYTES`.
    bytes.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.push(kind as u8);
    bytes.extend_from_slice(&key.0);
    bytes.extend_from_slice(value);
    let sum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

/// The bytes of a file with these entries.
#[must_use]
pub fn file(entries: &[Entry]) -> Vec<u8> {
    let entries = entries.iter().flat_map(|entry| encode(entry.kind, &entry.key, &entry.value));
    MAGIC.iter().copied().chain(entries).collect()
}

/// Entries of a file in order. Ends at the first that is not whole: with nothing at the end of the file, else with where it is.
#[derive(Debug)]
pub struct Entries<R> {
    reader: R,
    /// Behind the last good entry.
    end: u64,
    damaged: bool,
}

impl<R: BufRead> Entries<R> {
    /// The entries of a file that is read from its beginning.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(mut reader: R) -> io::Result<Self> {
        let mut magic = Vec::new();
        reader.by_ref().take(MAGIC.len() as u64).read_to_end(&mut magic)?;
        let damaged = magic != MAGIC;
        Ok(Self { reader, end: if damaged { 0 } else { MAGIC.len() as u64 }, damaged })
    }

    /// Whether the entries end before the file does.
    #[must_use]
    pub const fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// Where the last good entry ends, bytes from the beginning of the file.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// The next entry, if there is a whole one.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read_next(&mut self) -> io::Result<Option<Entry>> {
        if self.damaged || self.reader.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let entry = self.read()?;
        self.damaged = entry.is_none();
        if let Some(entry) = &entry {
            self.end += (HEAD_BYTES + entry.value.len() + SUM_BYTES) as u64;
        }
        Ok(entry)
    }

    fn read(&mut self) -> io::Result<Option<Entry>> {
        let mut bytes = Vec::new();
        self.reader.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut bytes)?;
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        let Some((kind, key)) = rest.split_first() else { return Ok(None) };
        let (Some(kind), Ok(key)) = (Kind::from_byte(*kind), <[u8; 32]>::try_from(key)) else {
            return Ok(None);
        };
        if length > MAX_VALUE_BYTES {
            return Ok(None);
        }
        self.reader.by_ref().take((length + SUM_BYTES) as u64).read_to_end(&mut bytes)?;
        let Some((summed, sum)) = bytes.split_last_chunk::<SUM_BYTES>() else { return Ok(None) };
        if summed.len() != HEAD_BYTES + length || Sha256::digest(summed)[..] != sum[..] {
            return Ok(None);
        }
        bytes.truncate(HEAD_BYTES + length);
        Ok(Some(Entry { kind, key: Key(key), value: bytes.split_off(HEAD_BYTES) }))
    }
}

/// The segments in a directory with the first record of each, in order; none when there is no directory.
fn segments(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let listing = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for file in listing {
        let file = file?;
        let name = file.file_name();
        let first = name.to_str().filter(|name| name.len() == NAME_DIGITS).and_then(|name| name.parse().ok());
        found.extend(first.map(|first| (first, file.path())));
    }
    found.sort_unstable();
    Ok(found)
}

fn segment(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:0NAME_DIGITS$}"))
}
