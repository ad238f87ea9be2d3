//! The writer: the one thread that changes the store.
//!
//! It takes every transition that is waiting, up to a bound, into one group: an idle host commits at once, a busy one
//! shares each `fdatasync` among all who came while the last one ran.
//!
//! *Crash:* see `store`. Any error of the disk ends the writer: what is on disk is then unknown until the next start.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use strongroom_job::{MAX_MISSED, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};

use super::active::ActiveJobs;
use super::core::{self, Judged};
use super::counts::Counts;
use super::current::Current;
use super::fault::{Fault, Step};
use super::nudge::Nudge;
use super::renew::{Renewed, Renewer};
use super::rows::Batch;
use super::{CommitError, Committed, Listener, PublishedHead, ReadError, Transition, garbage, keys, migrate};
use crate::clock::{Clock, Stopwatch};
use crate::meters::Meters;

/// Most transitions of one group: bounds the time that the first of them waits for the last.
const MAX_GROUP: usize = 512;
/// No transition joins a group whose transitions may bring so many new jobs: each is up to 64 KiB of the batch, which so is 128 MiB
/// and what the last of them brings.
const MAX_GROUP_JOBS: usize = 2048;
/// The layout that this version reads and writes.
const LAYOUT_VERSION: u8 = 3;

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
    pub(super) active: ActiveJobs,
}

impl Start {
    /// Of rows that are opened from this directory.
    pub(super) fn read(db: &sled::Db, state: &Path) -> Result<Self, LayoutError> {
        let number = |key: &[u8]| -> Result<u64, LayoutError> {
            let Some(bytes) = db.get(key)? else { return Ok(0) };
            Ok(u64::from_be_bytes(bytes.as_ref().try_into().map_err(|_| LayoutError::Number)?))
        };
        match db.get(keys::LAYOUT)?.as_deref() {
            None if db.is_empty() => drop(db.insert(keys::LAYOUT, &[LAYOUT_VERSION])?),
            Some([LAYOUT_VERSION]) => {}
            Some([before @ (1 | 2)]) => migrate::from(db, state, *before, LAYOUT_VERSION)?,
            None => return Err(LayoutError::NoVersion),
            _ => return Err(LayoutError::Version),
        }
        migrate::clean(db)?;
        let mut active = ActiveJobs::default();
        let counts = Counts::read(db, |job| active.push(job))?;
        let latest = Timestamp::from_millis(number(keys::LATEST)?);
        let published = match db.get(keys::PUBLISHED)? {
            Some(bytes) => Some(PublishedHead::from_bytes(&bytes).ok_or(LayoutError::Number)?),
            None => None,
        };
        Ok(Self { log_size: number(keys::LOG_SIZE)?, latest, published, counts, active })
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
    /// Whoever watches the host.
    pub(super) meters: Arc<Meters>,
}

/// The writer's own state. Nobody else changes the store.
pub(super) struct Writer {
    current: Current,
    /// The same, for the one thread that changes them, and another one.
    db: sled::Db,
    /// sled's file, for `fdatasync`.
    sync: File,
    renewer: Renewer,
    clock: Arc<Clock>,
    fault: Box<dyn Fault>,
    told: Told,
    log_size: u64,
    counts: Counts,
}

impl Writer {
    pub(super) fn new(
        current: Current,
        opened: Renewed,
        renewer: Renewer,
        clock: Arc<Clock>,
        fault: Box<dyn Fault>,
        told: Told,
        start: Start,
    ) -> Self {
        let Renewed { db, sync } = opened;
        let Start { log_size, counts, .. } = start;
        Self { current, db, sync, renewer, clock, fault, told, log_size, counts }
    }

    pub(super) fn run(
        mut self,
        requests: mpsc::Receiver<Request>,
        failed: &watch::Sender<Option<String>>,
        nudge: Nudge,
    ) {
        let mut requests = Requests(requests);
        while let Some(waiting) = self.next(&mut requests.0) {
            if let Err(Broken { reason, waiting }) = nudge.during(|| self.work(waiting)) {
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
        drop(requests);
        nudge.during(|| self.renewer.stop());
        self.current.make(None);
        // What sled would write when it is dropped, while somebody still watches.
        let _ = nudge.during(|| self.db.flush());
        nudge.stop();
    }

    /// The next group, once there is one; or none, while there is something to copy. Nothing when nobody can come any more.
    fn next(&self, requests: &mut mpsc::Receiver<Request>) -> Option<Vec<Request>> {
        let first = if self.renewer.is_copying() {
            match requests.try_recv() {
                Ok(first) => first,
                Err(mpsc::error::TryRecvError::Empty) => return Some(Vec::new()),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
            }
        } else {
            requests.blocking_recv()?
        };
        Some(gather(first, requests))
    }

    /// Commits a group if there is one, and copies a slice if there is something to copy.
    fn work(&mut self, waiting: Vec<Request>) -> Result<(), Broken> {
        let rows = if waiting.is_empty() { 0 } else { self.commit(waiting)? };
        self.renewer.begin_if_due(&self.sync);
        self.current.make(self.renewer.making());
        match self.renewer.go_on(&self.db, &self.sync, rows) {
            Ok(None) => {
                // One that was given up takes room while anybody has it.
                self.current.make(self.renewer.making());
                Ok(())
            }
            Ok(Some(Renewed { db, sync })) => {
                let before = self.current.put(db.clone());
                let handles = (before, std::mem::replace(&mut self.db, db));
                self.sync = sync;
                self.renewer.retire(handles);
                Ok(())
            }
            Err(error) => Err(Broken { reason: error.to_string(), waiting: Vec::new() }),
        }
    }

    /// Commits one group and tells everybody; on an error nobody is told that anything happened.
    /// Gives the number of rows that changed.
    fn commit(&mut self, requests: Vec<Request>) -> Result<usize, Broken> {
        let (transitions, waiting): (Vec<_>, Vec<_>) =
            requests.into_iter().map(|Request { transition, answer }| (transition, answer)).unzip();
        let (size, whole) = (transitions.len(), Stopwatch::start());
        let judged = core::judge(&self.db, &self.counts, self.log_size, self.clock.now(), transitions);
        let written = judged.map_err(|error| error.to_string()).and_then(|mut judged| {
            let rows = judged.batch.as_ref().map_or(0, Batch::len);
            let share = judged.batch.as_ref().and_then(|batch| self.renewer.share_of(batch));
            if let Some(batch) = judged.batch.take() {
                let fsync = make_durable(&self.db, &self.sync, self.fault.as_mut(), batch.into())
                    .map_err(|error| error.to_string())?;
                let meters = &self.told.meters;
                meters.group.record(size as u64);
                meters.fsync.record_time(fsync);
                meters.commit.record_time(whole.passed());
            }
            Ok((judged, rows, share))
        });
        let (Judged { answers, effects, log_size, .. }, rows, share) = match written {
            Ok(written) => written,
            Err(reason) => return Err(Broken { reason, waiting }),
        };
        self.log_size = log_size;
        self.told.durable.send_replace(log_size);
        (self.told.listener)(effects);
        for (answer, result) in waiting.into_iter().zip(answers) {
            // Whoever asked may be gone.
            let _ = answer.send(result);
        }
        // While those who were answered go on.
        self.renewer.follow(share, &self.sync);
        garbage::free(rows);
        Ok(rows)
    }
}

/// What waits for the writer. However the writer ends, also by a panic of sled's, nobody waits for it any longer.
struct Requests(mpsc::Receiver<Request>);

impl Drop for Requests {
    /// Drops every request, and its answer with it. The receiver's own drop misses one whose sender already had its place in the
    /// channel and filled it a moment later: it would stay there, and who sent it would wait, for as long as anybody can send.
    fn drop(&mut self) {
        self.0.close();
        while self.0.blocking_recv().is_some() {}
    }
}

/// What is committed together: the first request, and what waits behind it as far as the bounds of a group go.
fn gather(first: Request, requests: &mut mpsc::Receiver<Request>) -> Vec<Request> {
    let mut jobs = new_jobs(&first.transition);
    let mut group = vec![first];
    while group.len() < MAX_GROUP
        && jobs < MAX_GROUP_JOBS
        && let Ok(next) = requests.try_recv()
    {
        jobs += new_jobs(&next.transition);
        group.push(next);
    }
    group
}

/// The most jobs that a transition brings, or takes for good.
fn new_jobs(transition: &Transition) -> usize {
    match transition {
        Transition::Admit { jobs, .. } => jobs.len(),
        Transition::Fire { .. } => MAX_MISSED as usize,
        Transition::Erase { doomed, .. } => doomed.jobs.len(),
        _ => 0,
    }
}

/// Promise 1: when this returns, the batch survives a power cut. Says how long the last step of it took.
fn make_durable(
    db: &sled::Db,
    sync: &File,
    fault: &mut dyn Fault,
    batch: sled::Batch,
) -> io::Result<Duration> {
    fault.at(Step::BeforeApply)?;
    db.apply_batch(batch)?;
    fault.at(Step::Applied)?;
    db.flush()?;
    fault.at(Step::Flushed)?;
    let syncing = Stopwatch::start();
    sync.sync_data()?;
    let took = syncing.passed();
    fault.at(Step::Synced)?;
    Ok(took)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use strongroom_job::{Digest, JobId, Name, SecretKey};

    use super::super::{Doomed, DoomedJob};
    use super::*;

    fn request(transition: Transition) -> Request {
        Request { transition, answer: oneshot::channel().0 }
    }

    // Red without the loop in `Requests::drop`: the answer never comes.
    #[tokio::test(flavor = "multi_thread")]
    async fn who_had_a_place_when_the_writer_ended_is_not_kept_waiting() {
        let (sender, receiver) = mpsc::channel(4);
        let place = sender.reserve().await.unwrap();
        let (answer, result) = oneshot::channel();
        let writer = std::thread::spawn(move || drop(Requests(receiver)));
        sender.closed().await;
        let head = PublishedHead { size: 0, root: [0; 32] };
        place.send(Request { transition: Transition::Published { head, forget_below: 0 }, answer });
        let answered = tokio::time::timeout(Duration::from_secs(60), result).await;
        assert!(answered.expect("no answer").is_err(), "nobody committed it");
        writer.join().unwrap();
    }

    // Red without `jobs` in `gather`: 512 series that make up for 100 runs each, of 64 KiB, would be one batch of 3 GiB. And red without
    // `Erase` in `new_jobs`.
    #[test]
    fn a_group_is_bounded_by_the_jobs_that_it_may_bring() {
        let fire = || {
            let job = JobId::from_bytes([1; 16]);
            request(Transition::Fire { job, max_active: 9, rules: Box::default() })
        };
        let light = || {
            request(Transition::Published { head: PublishedHead { size: 0, root: [0; 32] }, forget_below: 0 })
        };
        let erase = || {
            let (job, unique) = (JobId::from_bytes([1; 16]), None);
            let doomed = Doomed {
                asked: job,
                envelope: Digest::of(b""),
                tenant: Name::default_name(),
                jobs: vec![DoomedJob { job, unique }; 1000],
                inputs: Vec::new(),
                in_clear: 0,
            };
            let by = SecretKey::from_seed(&[1; 32].into()).public();
            request(Transition::Erase { doomed: Box::new(doomed), by })
        };
        for (make, expected) in [(&fire as &dyn Fn() -> Request, 21), (&erase, 3), (&light, MAX_GROUP)] {
            let (sender, mut receiver) = mpsc::channel(1000);
            for _ in 0..1000 {
                sender.try_send(make()).unwrap();
            }
            assert_eq!(gather(make(), &mut receiver).len(), expected);
        }
    }
}
