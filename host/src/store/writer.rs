//! The writer: the one thread that changes the store.
//!
//! It takes every transition that is waiting, up to a bound, into one group: an idle host commits at once, a busy one
//! shares each `fdatasync` among all who came while the last one ran.
//!
//! *Crash:* see `store`. Any error of the disk ends the writer: what is on disk is then unknown until the next start.

use std::fs::File;
use std::io;
use std::sync::Arc;

use strongroom_job::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::core::{self, Judged};
use super::counts::Counts;
use super::fault::{Fault, Step};
use super::nudge::Nudge;
use super::{CommitError, Committed, Listener, PublishedHead, ReadError, Transition, keys, migrate};
use crate::clock::Clock;

/// Most transitions of one group: bounds the time that the first of them waits for the last.
const MAX_GROUP: usize = 512;
/// The layout that this version reads and writes.
const LAYOUT_VERSION: u8 = 2;

/// A group that could not be made durable, and who waits for it.
struct Broken {
    reason: String,
    waiting: Vec<Answer>,
}

type Answer = oneshot::Sender<Result<Committed, CommitError>>;

/// A transition and whom to tell.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) transition: Transition,
    pub(super) answer: Answer,
}

/// What the writer needs to know of the past.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) log_size: u64,
    pub(super) latest: Timestamp,
    pub(super) published: Option<PublishedHead>,
    pub(super) counts: Counts,
}

impl Start {
    pub(super) fn read(db: &sled::Db) -> Result<Self, LayoutError> {
        let number = |key: &[u8]| -> Result<u64, LayoutError> {
            let Some(bytes) = db.get(key)? else { return Ok(0) };
            Ok(u64::from_be_bytes(bytes.as_ref().try_into().map_err(|_| LayoutError::Number)?))
        };
        match db.get(keys::LAYOUT)?.as_deref() {
            None if db.is_empty() => drop(db.insert(keys::LAYOUT, &[LAYOUT_VERSION])?),
            Some([LAYOUT_VERSION]) => {}
            Some([1]) => migrate::from_1(db, LAYOUT_VERSION)?,
            None => return Err(LayoutError::NoVersion),
            _ => return Err(LayoutError::Version),
        }
        let counts = Counts::read(db)?;
        let latest = Timestamp::from_millis(number(keys::LATEST)?);
        let published = match db.get(keys::PUBLISHED)? {
            Some(bytes) => Some(PublishedHead::from_bytes(&bytes).ok_or(LayoutError::Number)?),
            None => None,
        };
        Ok(Self { log_size: number(keys::LOG_SIZE)?, latest, published, counts })
    }
}

/// Why the rows cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayoutError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Sled(#[from] sled::Error),
    #[error("a counter has the wrong number of bytes")]
    Number,
    #[error("its layout is not version {LAYOUT_VERSION}")]
    Version,
    #[error("it does not say which layout it has")]
    NoVersion,
}

/// Who hears of each group once it is durable.
pub(super) struct Told {
    /// Readers: the size of the log.
    pub(super) durable: watch::Sender<u64>,
    /// Whoever schedules.
    pub(super) listener: Listener,
}

/// The writer's own state. Nobody else changes the store.
pub(super) struct Writer {
    db: sled::Db,
    /// sled's file, for `fdatasync`.
    sync: File,
    clock: Arc<Clock>,
    fault: Box<dyn Fault>,
    told: Told,
    log_size: u64,
    counts: Counts,
}

impl Writer {
    pub(super) fn new(
        db: sled::Db,
        sync: File,
        clock: Arc<Clock>,
        fault: Box<dyn Fault>,
        told: Told,
        start: Start,
    ) -> Self {
        Self { db, sync, clock, fault, told, log_size: start.log_size, counts: start.counts }
    }

    pub(super) fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        failed: &watch::Sender<Option<String>>,
        nudge: Nudge,
    ) {
        while let Some(first) = requests.blocking_recv() {
            let mut waiting = vec![first];
            while waiting.len() < MAX_GROUP
                && let Ok(next) = requests.try_recv()
            {
                waiting.push(next);
            }
            if let Err(Broken { reason, waiting }) = nudge.during(|| self.commit(waiting)) {
                tracing::error!(%reason, "the store failed; the host stops");
                // First the fact, then the answers: whoever is told can already see why.
                failed.send_replace(Some(reason.clone()));
                for answer in waiting {
                    // Whoever asked may be gone.
                    let _ = answer.send(Err(CommitError::Failed(reason.clone())));
                }
                break;
            }
        }
        // What sled would write when it is dropped, while somebody still watches.
        let _ = nudge.during(|| self.db.flush());
        nudge.stop();
    }

    /// Commits one group and tells everybody; on an error nobody is told that anything happened.
    fn commit(&mut self, requests: Vec<Request>) -> Result<(), Broken> {
        let (transitions, waiting): (Vec<_>, Vec<_>) =
            requests.into_iter().map(|Request { transition, answer }| (transition, answer)).unzip();
        let judged = core::judge(&self.db, &self.counts, self.log_size, self.clock.now(), transitions);
        let written = judged.map_err(|error| error.to_string()).and_then(|mut judged| {
            if let Some(batch) = judged.batch.take() {
                make_durable(&self.db, &self.sync, self.fault.as_mut(), batch.into())
                    .map_err(|error| error.to_string())?;
            }
            Ok(judged)
        });
        let Judged { answers, effects, log_size, .. } = match written {
            Ok(judged) => judged,
            Err(reason) => return Err(Broken { reason, waiting }),
        };
        self.log_size = log_size;
        self.told.durable.send_replace(log_size);
        (self.told.listener)(effects);
        for (answer, result) in waiting.into_iter().zip(answers) {
            // Whoever asked may be gone.
            let _ = answer.send(result);
        }
        Ok(())
    }
}

/// Promise 1: when this returns, the batch survives a power cut.
fn make_durable(db: &sled::Db, sync: &File, fault: &mut dyn Fault, batch: sled::Batch) -> io::Result<()> {
    fault.at(Step::BeforeApply)?;
    db.apply_batch(batch)?;
    fault.at(Step::Applied)?;
    db.flush()?;
    fault.at(Step::Flushed)?;
    sync.sync_data()?;
    fault.at(Step::Synced)
}
