//! A state that is made anew: the log's records are replayed, in order, through the code that wrote them.
//!
//! Each record leads back to the transition that made it. The transition is done again at the record's time, and every record that
//! comes out must be, byte for byte, the one that the log has: what the lifecycle does not allow, or would have told otherwise, stops
//! the rebuild. Envelopes come from evidence and are verified again.
//!
//! *Owns:* `state.making`, until it takes the place of the state. *Never:* changes the log, or a state that is there: that one is moved
//! aside whole. *Bound:* one group of records, one segment of evidence, and the jobs that are not over and not known.
//! *Crash:* before the last rename there is the old state or none, and the next start begins again; after it the new one is whole.
//! *Spec:* `docs/formats/evidence.md`, "Rebuilding".

mod admit;
mod compare;
mod gone;
mod records;
mod replay;
mod simulated;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use strongroom_job::{Digest, Event, JobId, JobState, RecordError, StateFault, Timestamp};

use super::counts::Counts;
use super::evidence::Source;
use super::group::Group;
use super::rows::{Batch, Rows};
use super::writer::lay_out;
use super::{PublishedHead, ReadError, fresh, garbage, keys, read, settings};
pub use compare::Compared;
use records::Records;
use replay::Replay;

/// Records that are replayed into one batch, and what the last transition of them brings.
const GROUP: u64 = 512;
/// Leaves of a full bundle of the log: what is in one need not be kept here.
const BUNDLE: u64 = 256;

/// Says in which state a job ended, if it did before the record with an index.
pub type Ended<'a> = Box<dyn Fn(&JobId, u64) -> io::Result<Option<JobState>> + 'a>;

/// The log that a state is rebuilt from. Whoever calls has verified it.
pub struct History<'a> {
    /// Its size and root.
    pub head: PublishedHead,
    /// Its entries, from the first one on.
    pub leaves: Box<dyn Iterator<Item = io::Result<Vec<u8>>> + 'a>,
    /// The state in which a job ended, if it did before the record with this index. Asked for rarely: it may read the whole log.
    pub ended: Ended<'a>,
}

/// What else a rebuild goes by.
pub struct Terms<'a> {
    /// The time of the rebuild.
    pub now: Timestamp,
    /// How long after its admission a job may still be submitted, at most: until then the id of one that is not known any more must
    /// bar a second run.
    pub submittable: Duration,
    /// Whether the bytes of a blob are there.
    pub has_blob: &'a dyn Fn(&Digest) -> bool,
    /// What was found in place of the state, for the record.
    pub found: StateFault,
    /// The same in words.
    pub problem: String,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Records that were replayed.
    pub records: u64,
    /// Jobs that are known again.
    pub jobs: u64,
    /// Jobs of the log that are not: they were forgotten before.
    pub forgotten: u64,
    /// Jobs of which something that they left is no longer there.
    pub stripped: u64,
    /// Modules and inputs that were given once and are no longer there.
    pub blobs_gone: u64,
    /// The time of the last record.
    pub last: Timestamp,
}

/// Why a state could not be rebuilt. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The state cannot be written or read.
    #[error(transparent)]
    State(#[from] ReadError),
    /// A directory or file of the new state.
    #[error("{path}: {error}")]
    Io {
        /// Which.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// Log or evidence cannot be read.
    #[error("record {index}: its log or evidence cannot be read: {error}")]
    Unreadable {
        /// Near which record.
        index: u64,
        /// The reason.
        error: io::Error,
    },
    /// A leaf that is no record.
    #[error("record {index}: {error}")]
    Record {
        /// Which.
        index: u64,
        /// The reason.
        error: RecordError,
    },
    /// No host can have written this record at this place.
    #[error("record {index} cannot follow from those before it: {problem}")]
    Illegal {
        /// Which.
        index: u64,
        /// Why not.
        problem: String,
    },
    /// Jobs are not over, and what they are is gone.
    #[error(
        "{count} jobs are not over, and the evidence of what they are is gone or damaged, such as of job {job} (record {index}): put the \
         evidence directory back as it was, or the state"
    )]
    NoEvidence {
        /// How many.
        count: usize,
        /// One of them.
        job: JobId,
        /// The record of its admission.
        index: u64,
    },
}

/// Rows that a rebuild writes.
pub(super) trait Target: Rows {
    fn apply(&mut self, batch: Batch) -> Result<(), ReadError>;
}

impl Target for sled::Db {
    fn apply(&mut self, batch: Batch) -> Result<(), ReadError> {
        let rows = batch.len();
        self.apply_batch(batch.into())?;
        garbage::free(rows);
        Ok(())
    }
}

impl Target for super::rows::Memory {
    fn apply(&mut self, batch: Batch) -> Result<(), ReadError> {
        Self::apply(self, batch);
        Ok(())
    }
}

/// A new state that waits beside the place of the old one.
#[derive(Debug)]
#[must_use = "nothing has changed before it is put in its place"]
pub struct Made {
    path: PathBuf,
    /// What came of the rebuild.
    pub rebuilt: Rebuilt,
}

/// Makes a new state from a log, beside `path`. Its last record says that.
///
/// # Errors
/// When the log's records do not follow from each other, evidence is missing that is needed, or the disk fails.
pub fn rebuild(
    path: &Path,
    history: History<'_>,
    source: &mut dyn Source,
    terms: &Terms<'_>,
) -> Result<Made, RebuildError> {
    let failed = |error| RebuildError::Io { path: path.into(), error };
    let making = fresh::begin(path).map_err(failed)?;
    let mut db = settings::of(&making).open().map_err(ReadError::from)?;
    // Writes the layout's version.
    lay_out(&db, &making).map_err(|error| failed(io::Error::other(error.to_string())))?;
    let head = history.head;
    let (mut rebuilt, counts, size) = replay(&mut db, history, source, terms)?;
    finish(&mut db, terms, &counts, size, head, &mut rebuilt)?;
    db.flush().map_err(ReadError::from)?;
    drop(db);
    fresh::sync_all(&making).map_err(failed)?;
    Ok(Made { path: path.into(), rebuilt })
}

impl Made {
    /// Moves what is in the state's place aside, to a name that is not taken, and the new state there. Durable when this returns.
    ///
    /// # Errors
    /// When the disk fails. Called again, or at the next start, it is all begun again.
    pub fn put(self, aside: &Path) -> Result<Rebuilt, RebuildError> {
        let failed = |error| RebuildError::Io { path: self.path.clone(), error };
        fresh::put(&self.path, aside).map_err(failed)?;
        Ok(self.rebuilt)
    }
}

/// Replays a log into empty rows. Gives the size with the records that complete what its end cut in two.
pub(super) fn replay<R: Target>(
    rows: &mut R,
    history: History<'_>,
    source: &mut dyn Source,
    terms: &Terms<'_>,
) -> Result<(Rebuilt, Counts, u64), RebuildError> {
    let size = history.head.size;
    let counts = Counts::default();
    let mut replay =
        Replay::new(Records::new(history.leaves), history.ended, source, terms, size - size % BUNDLE);
    let (mut now, mut next) = (Timestamp::default(), 0);
    while next < size {
        let mut group = Group::new(&*rows, now, next, &counts);
        let again = replay.group(&mut group, size, GROUP)?;
        (now, next) = (group.now, group.log_size);
        let batch = group.finish().batch;
        rows.apply(batch)?;
        for (forget, strip) in [(again.forget, Vec::new()), (Vec::new(), again.strip)] {
            if !forget.is_empty() || !strip.is_empty() {
                let mut group = Group::new(&*rows, now, next, &counts);
                replay.let_go(&mut group, &forget, &strip)?;
                let batch = group.finish().batch;
                rows.apply(batch)?;
            }
        }
    }
    let mut rebuilt = replay.done()?;
    (rebuilt.records, rebuilt.last) = (next, now);
    Ok((rebuilt, counts, next))
}

/// What a replay does not find in records: which files are still there, what was published, and that the state is a new one.
fn finish<R: Target>(
    rows: &mut R,
    terms: &Terms<'_>,
    counts: &Counts,
    size: u64,
    head: PublishedHead,
    rebuilt: &mut Rebuilt,
) -> Result<(), ReadError> {
    let mut group = Group::new(&*rows, rebuilt.last.max(terms.now), size, counts);
    rebuilt.blobs_gone = group.drop_missing(terms.has_blob)?;
    for job in read::jobs(group.rows) {
        job?;
        rebuilt.jobs += 1;
    }
    group.batch.insert(keys::PUBLISHED, head.as_bytes());
    group.log(Event::StateRebuilt {
        found: terms.found,
        problem: terms.problem.clone(),
        records: rebuilt.records,
        jobs: rebuilt.jobs,
        forgotten: rebuilt.forgotten,
        last: rebuilt.last,
    });
    let batch = group.finish().batch;
    rows.apply(batch)
}
