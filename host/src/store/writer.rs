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
use super::base::{self, Base, SharedJournal};
use super::core::{self, Judged};
use super::counts::Counts;
use super::current::Current;
use super::fault::{Fault, Step};
use super::pace::Haste;
use super::recent::Recent;
use super::rows::{Batch, Rows};
use super::unpublished::Unpublished;
use super::{
    CommitError, Committed, Effect, Listener, PublishedHead, ReadError, Starting, Transition, journal, keys,
    migrate,
};
use crate::clock::{Clock, Stopwatch};
use crate::lifecycle::Event;
use crate::meters::Meters;

/// Bytes of the journal for each byte of rows in a layer, at most.
const JOURNAL_FOR_ROWS: u64 = 4;
/// Most transitions of one group: bounds the time that the first of them waits for the last.
const MAX_GROUP: usize = 512;
/// No transition joins a group whose transitions may bring so many new jobs: each is up to 64 KiB of the batch, which so is 128 MiB
/// and what the last of them brings.
const MAX_GROUP_JOBS: usize = 2048;
/// Changed rows that fill so many files of the journal are enough to be given to sled. Twice as many, and the writer waits until it has taken
/// those before.
const LAYER_FILES: u64 = 2;
/// The writer waits for no longer than this behind a group, before two layers are full.
const LONGEST_WAIT: Duration = Duration::from_millis(16);
/// The layout that this version reads and writes.
const LAYOUT_VERSION: u8 = 5;

/// What is said when the thread behind the writer has ended; it has said more itself.
const BASE_FAILED: &str = "the state's file cannot be written";

/// A group that could not be made durable, who waits for it, and what would have started with it.
struct Broken {
    reason: String,
    waiting: Vec<Answer>,
    starting: Vec<Box<dyn Starting>>,
}

/// Between two groups.
fn broken(reason: &str) -> Broken {
    Broken { reason: reason.into(), waiting: Vec::new(), starting: Vec::new() }
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
    /// Of rows that are opened.
    pub(super) fn read(rows: &dyn Rows) -> Result<Self, LayoutError> {
        let number = |key: &[u8]| -> Result<u64, LayoutError> {
            let Some(bytes) = rows.value(key)? else { return Ok(0) };
            Ok(u64::from_be_bytes(bytes.as_ref().try_into().map_err(|_| LayoutError::Number)?))
        };
        // Without it every row would be one of a record that never was, and go.
        if rows.value(keys::LOG_SIZE)?.is_none() && rows.under(keys::PLACES).next().transpose()?.is_some() {
            return Err(LayoutError::NoLogSize);
        }
        let mut active = ActiveJobs::default();
        let counts = Counts::read(rows, |job| active.push(job))?;
        let latest = Timestamp::from_millis(number(keys::LATEST)?);
        let published = match rows.value(keys::PUBLISHED)? {
            Some(bytes) => Some(PublishedHead::from_bytes(&bytes).ok_or(LayoutError::Number)?),
            None => None,
        };
        Ok(Self { log_size: number(keys::LOG_SIZE)?, latest, published, counts, active })
    }
}

/// Brings sled to the layout of this version, from none or an earlier one. A state of layout 4 or of this one has a journal: without one it is damaged.
pub(super) fn lay_out(db: &sled::Db, state: &Path) -> Result<(), LayoutError> {
    let before = db.get(keys::LAYOUT)?;
    if !matches!(before.as_deref(), Some([4 | LAYOUT_VERSION])) {
        journal::make(state).and_then(|()| File::open(state)?.sync_all()).map_err(ReadError::Io)?;
    }
    match before.as_deref() {
        None if db.is_empty() => drop(db.insert(keys::LAYOUT, &[LAYOUT_VERSION])?),
        Some([LAYOUT_VERSION]) => {}
        // An earlier host would not read the journal, nor a job from its envelope: it must not open what is behind them.
        Some([3 | 4]) => migrate::name(db, state, LAYOUT_VERSION)?,
        Some([before @ (1 | 2)]) => migrate::from(db, state, *before, LAYOUT_VERSION)?,
        None => return Err(LayoutError::NoVersion),
        _ => return Err(LayoutError::Version),
    }
    migrate::clean(db)
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
    #[error("it has jobs, and does not say how long its log is")]
    NoLogSize,
}

/// Who hears of each group: once it is durable, but for the schedule, which is asked before what starts with it.
pub(super) struct Told {
    /// Readers: the size of the log.
    pub(super) durable: watch::Sender<u64>,
    /// Readers: jobs that came a moment ago.
    pub(super) recent: Recent,
    /// The publisher.
    pub(super) unpublished: Unpublished,
    /// Whoever schedules.
    pub(super) listener: Box<dyn Listener>,
    /// Whoever watches the host.
    pub(super) meters: Arc<Meters>,
}

/// The writer's own state. Nobody else changes the store.
pub(super) struct Writer {
    current: Current,
    journal: SharedJournal,
    base: Base,
    clock: Arc<Clock>,
    fault: Box<dyn Fault>,
    told: Told,
    log_size: u64,
    counts: Counts,
    /// So many bytes of rows are enough to be given to sled.
    layer_bytes: usize,
}

impl Writer {
    pub(super) fn new(
        current: Current,
        journal: SharedJournal,
        base: Base,
        clock: Arc<Clock>,
        fault: Box<dyn Fault>,
        told: Told,
        start: Start,
    ) -> Self {
        let Start { log_size, counts, .. } = start;
        let layer_bytes = LAYER_FILES.saturating_mul(base::lock(&journal).file_bytes());
        let layer_bytes = usize::try_from(layer_bytes).unwrap_or(usize::MAX);
        current.overlay().is_of(log_size);
        Self { current, journal, base, clock, fault, told, log_size, counts, layer_bytes }
    }

    pub(super) fn run(mut self, requests: mpsc::Receiver<Request>, failed: &watch::Sender<Option<String>>) {
        let mut requests = Requests(requests);
        let mut is_whole = true;
        // What an earlier process left in the journal.
        let mut bytes = self.current.overlay().bytes();
        while let Some(first) = requests.0.blocking_recv() {
            let waiting = gather(first, &mut requests.0);
            let told = failed.borrow().clone();
            let done = match told {
                None => self.commit(waiting),
                // What stands behind the writer has ended.
                Some(reason) => {
                    let waiting = waiting.into_iter().map(|request| request.answer).collect();
                    Err(Broken { waiting, ..broken(&reason) })
                }
            };
            let done = done.map(|now| bytes = now.unwrap_or(bytes));
            let done = done.and_then(|()| self.lower(&mut bytes));
            if let Err(Broken { reason, waiting, starting }) = done {
                tracing::error!(%reason, "the store failed; the host stops");
                // First the fact, then the answers: whoever is told can already see why.
                base::fail(failed, reason.clone());
                for answer in waiting {
                    // Whoever asked may be gone.
                    let _ = answer.send(Err(CommitError::Failed(reason.clone())));
                }
                drop(starting);
                is_whole = false;
                break;
            }
        }
        drop(requests);
        // A stop in order leaves nothing in the journal. When that fails it is all there, and the thread has said why.
        if is_whole && bytes > 0 && self.base.wait() {
            self.hand_over();
        }
        self.base.stop();
    }

    /// Hands what was committed to whoever gives it to sled, when it is enough.
    fn lower(&mut self, bytes: &mut usize) -> Result<(), Broken> {
        // What was erased leaves the journal, and then sled's file, without waiting for more.
        let erased = self.current.overlay().sets(keys::STALE);
        // A start reads the journal as a whole, so that is not longer than it must be either, however little of it still counts.
        let journal = base::lock(&self.journal).since_roll() / JOURNAL_FOR_ROWS;
        let waiting = usize::try_from(journal).unwrap_or(usize::MAX).max(*bytes);
        let goes_on = match Lag::of(waiting, self.layer_bytes, erased) {
            Lag::None => return Ok(()),
            _ if self.base.is_idle() => true,
            Lag::Some => {
                self.base.hurry(Haste::Some);
                return Ok(());
            }
            Lag::Share { part, of, at_most } => self.base.wait_for(part, of, at_most),
            Lag::Whole => self.base.wait(),
        };
        if !goes_on {
            return Err(broken(BASE_FAILED));
        }
        if !self.base.is_idle() {
            return Ok(());
        }
        if erased && self.base.wait() {
            // A spare file that is begun from here on would be neither among those that are let go of with the layer nor spare then.
            let dropped = base::lock(&self.journal).drop_spare();
            dropped.map_err(|error| broken(&format!("a file of the journal cannot be removed: {error}")))?;
        }
        if !self.base.wait() || !self.hand_over() {
            return Err(broken(BASE_FAILED));
        }
        *bytes = 0;
        Ok(())
    }

    /// Hands it over, to who waits for it. False when he has failed.
    fn hand_over(&mut self) -> bool {
        let upto = {
            let mut journal = base::lock(&self.journal);
            journal.roll();
            journal.next()
        };
        self.base.give(self.current.overlay().lower(self.log_size), upto)
    }

    /// Commits one group and tells everybody; on an error nobody is told that anything happened.
    /// Gives the bytes that wait for sled then, when there are more than before.
    fn commit(&mut self, requests: Vec<Request>) -> Result<Option<usize>, Broken> {
        let (transitions, waiting): (Vec<_>, Vec<_>) =
            requests.into_iter().map(|Request { transition, answer }| (transition, answer)).unzip();
        let whole = Stopwatch::start();
        // Jobs that this makes ready, and that have a free place, start with it. Should it fail, they are dropped and did not.
        let (mut starting, mut known) = (Vec::new(), 0);
        let then = |effects: &[Effect]| {
            (starting, known) = (self.told.listener.judged(effects), effects.len());
            let jobs = starting.iter().map(|start| start.job());
            jobs.map(|job| Transition::Step { job, event: Event::Start }).collect()
        };
        let now = self.clock.now();
        let judged = core::judge(&self.current, &self.counts, self.log_size, now, transitions, then);
        let written = judged.map_err(|error| error.to_string()).and_then(|mut judged| {
            let mut bytes = None;
            if let Some(batch) = judged.batch.take() {
                let fsync = make_durable(&self.journal, self.fault.as_mut(), &batch)
                    .map_err(|error| error.to_string())?;
                let meters = &self.told.meters;
                meters.group.record(judged.answers.len() as u64);
                meters.fsync.record_time(fsync);
                meters.commit.record_time(whole.passed());
                // Nobody sees it before it is durable.
                bytes = Some(self.current.overlay().take(batch.into_changes()));
            }
            Ok((judged, bytes))
        });
        let (Judged { mut answers, effects, news, leaves, log_size, .. }, bytes) = match written {
            Ok(written) => written,
            Err(reason) => return Err(Broken { reason, waiting, starting }),
        };
        self.told.recent.hear(news);
        self.told.unpublished.put(self.log_size, leaves);
        self.log_size = log_size;
        self.told.durable.send_replace(log_size);
        self.told.listener.durable(effects, known);
        let started = answers.split_off(waiting.len());
        for (answer, result) in waiting.into_iter().zip(answers) {
            // Whoever asked may be gone.
            let _ = answer.send(result);
        }
        for (start, result) in starting.into_iter().zip(started) {
            start.answer(result);
        }
        Ok(bytes)
    }
}

/// How far sled is behind, when it is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lag {
    /// There is no full layer for it.
    None,
    /// There is one, and the writer goes on.
    Some,
    /// The writer waits until sled has taken so much of its layer, but not for longer than this.
    Share { part: usize, of: usize, at_most: Duration },
    /// It waits until sled has all of it.
    Whole,
}

impl Lag {
    /// From half a layer before two are full the writer waits a little behind each group, the longer the nearer that is, if sled is not in step with it: so it seldom stands still for
    /// all that is left.
    fn of(waiting: usize, layer: usize, erased: bool) -> Self {
        let half = (layer / 2).max(1);
        match waiting.saturating_sub(layer.saturating_add(half)) {
            _ if erased => Self::Whole,
            _ if waiting < layer => Self::None,
            0 => Self::Some,
            part if part < half => {
                Self::Share { part, of: half, at_most: LONGEST_WAIT.mul_f64(part as f64 / half as f64) }
            }
            _ => Self::Whole,
        }
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
fn make_durable(journal: &SharedJournal, fault: &mut dyn Fault, batch: &Batch) -> io::Result<Duration> {
    fault.at(Step::BeforeApply)?;
    let mut journal = base::lock(journal);
    journal.append(batch)?;
    fault.at(Step::Flushed)?;
    let syncing = Stopwatch::start();
    journal.sync()?;
    let took = syncing.passed();
    fault.at(Step::Synced)?;
    Ok(took)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use strongroom_job::{Digest, JobId, Name, SecretKey};

    use super::super::rows::Memory;
    use super::super::{Doomed, DoomedJob};
    use super::*;

    // Red with a writer that only waits when two layers are full, which is what there was before: everybody stood still for up to two seconds.
    #[test]
    fn the_writer_waits_the_longer_the_further_it_is_ahead() {
        let lag = |waiting| Lag::of(waiting, 1000, false);
        assert_eq!([0, 999].map(lag), [Lag::None; 2]);
        assert_eq!([1000, 1500].map(lag), [Lag::Some; 2]);
        let share = |part, at_most| Lag::Share { part, of: 500, at_most };
        assert_eq!(lag(1750), share(250, LONGEST_WAIT / 2));
        let (Lag::Share { at_most: first, .. }, Lag::Share { at_most: last, .. }) = (lag(1501), lag(1999))
        else {
            panic!("both wait for a part")
        };
        assert!(Duration::ZERO < first && first < last && last < LONGEST_WAIT);
        assert_eq!([2000, usize::MAX].map(lag), [Lag::Whole; 2]);
        // What was erased does not wait for more.
        assert_eq!([0, 1000, 2000].map(|waiting| Lag::of(waiting, 1000, true)), [Lag::Whole; 3]);
    }

    // Red without `NoLogSize`: an opening would take away all that belongs to a job.
    #[test]
    fn a_state_of_jobs_that_does_not_say_how_long_its_log_is_is_damaged() {
        let mut rows = Memory::default();
        assert_eq!(Start::read(&rows).unwrap().log_size, 0, "nothing is in it");
        let mut batch = Batch::default();
        batch.insert(keys::place(&JobId::from_bytes([1; 16])), 3u64.to_be_bytes());
        rows.apply(batch);
        assert!(matches!(Start::read(&rows), Err(LayoutError::NoLogSize)));
        let mut batch = Batch::default();
        batch.insert(keys::LOG_SIZE, 9u64.to_be_bytes());
        rows.apply(batch);
        assert_eq!(Start::read(&rows).unwrap().log_size, 9);
    }

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
