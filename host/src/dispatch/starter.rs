//! Jobs that start in the commit that makes them ready: no second one stands between an admission, or the end of what a job waited for, and its attempt.
//!
//! *Owns:* whether that is done now, and the places of what is about to start. *Never:* decides which job is the next (`schedule`).
//! *Bound:* as many as places are free, and [`MOST`] of one group. *Crash:* both records are in one group, which is on the disk or not.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use strongroom_job::{JobId, Timestamp};
use strongroom_runtime::CancelToken;
use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument as _;

use super::board::Until;
use super::output::Outputs;
use super::{Board, Running, Shared};
use crate::lifecycle::{Event, Illegal};
use crate::spans;
use crate::store::{CommitError, Committed, Effect, Listener, Starting, Transition};

/// Most jobs that start with one group: as many as other transitions have room in it.
const MOST: usize = 512;

/// The dispatcher, while it starts jobs.
#[derive(Debug, Default)]
pub(super) struct Starter(Mutex<Weak<Shared>>);

impl Starter {
    fn set(&self, shared: Weak<Shared>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = shared;
    }
}

/// Jobs start with their groups until what it gives is dropped; those that were taken until then are among the running ones.
pub(super) fn begin(shared: &Arc<Shared>) -> impl Drop + use<> {
    shared.board.starter.set(Arc::downgrade(shared));
    Begun(Arc::clone(&shared.board))
}

struct Begun(Arc<Board>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.starter.set(Weak::new());
    }
}

impl Listener for Arc<Board> {
    fn judged(&self, effects: &[Effect]) -> Vec<Box<dyn Starting>> {
        self.take_in(effects);
        // Held until all are taken: who ends this then finds them among those that run.
        let starter = self.starter.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(shared) = starter.upgrade() else { return Vec::new() };
        let next = || {
            let slot = Arc::clone(&shared.slots).try_acquire_owned().ok()?;
            let taken = Taken::next(&shared, slot).ok()?;
            Some(Box::new(Claim { job: taken.job, taken: Some(taken) }) as Box<dyn Starting>)
        };
        std::iter::from_fn(next).take(MOST).collect()
    }

    fn durable(&self, effects: Vec<Effect>, known: usize) {
        // What the starts mean themselves.
        self.take_in(&effects[known..]);
        self.tell(effects);
    }
}

/// A job that was taken from the schedule, and has a place.
pub(super) struct Taken {
    shared: Arc<Shared>,
    pub(super) job: JobId,
    /// Since when it had been ready.
    pub(super) ready: Timestamp,
    pub(super) running: Running,
    slot: OwnedSemaphorePermit,
}

impl Taken {
    /// The job that is to have this place. From now on it is among those that run, before its start is committed: whoever sees it running finds
    /// it there.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn next(shared: &Arc<Shared>, slot: OwnedSemaphorePermit) -> Result<Self, Until> {
        let running = Running { cancel: CancelToken::new(), outputs: Arc::new(Outputs::new()) };
        let taken = |job| drop(shared.running().insert(job, running.clone()));
        let (job, ready) = shared.board.take(taken)?;
        Ok(Self { shared: Arc::clone(shared), job, ready, running, slot })
    }

    /// Its start is a commit of its own.
    pub(super) fn start(self) {
        let (attempts, span) = (self.shared.attempts.clone(), spans::attempt(&self.job));
        let attempt = async move {
            let start = Transition::Step { job: self.job, event: Event::Start };
            let start = self.shared.store.commit(start).instrument(stage!("commit start")).await;
            self.run(start).await;
        };
        attempts.spawn(attempt.instrument(span));
    }

    async fn run(self, start: Result<Committed, CommitError>) {
        self.shared.attempt(&self, start).await;
        self.leave();
    }

    fn leave(self) {
        let Self { shared, job, running, slot, .. } = self;
        running.outputs.close();
        {
            let mut all = shared.running();
            // The job's next attempt may be there already.
            if all.get(&job).is_some_and(|now| Arc::ptr_eq(&now.outputs, &running.outputs)) {
                all.remove(&job);
            }
        }
        // A follower of this attempt's output looks again: the job is over, or waits for its next attempt.
        shared.board.watchers.changed(&job);
        drop(slot);
        shared.idle.notify_waiters();
    }
}

/// One whose start is in the group that is being made durable.
struct Claim {
    job: JobId,
    /// None once it was answered.
    taken: Option<Taken>,
}

impl Starting for Claim {
    fn job(&self) -> JobId {
        self.job
    }

    fn answer(mut self: Box<Self>, start: Result<Committed, CommitError>) {
        let Some(taken) = self.taken.take() else { return };
        if let Err(CommitError::Illegal(Illegal::TooEarly(_))) = start {
            // The schedule looks at the clock after the group did.
            return taken.start();
        }
        let (attempts, span) = (taken.shared.attempts.clone(), spans::attempt(&taken.job));
        attempts.spawn(taken.run(start).instrument(span));
    }
}

impl Drop for Claim {
    /// The group was not made durable, and the store is at its end: whoever waits until nothing runs is not to wait for this.
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take() {
            taken.leave();
        }
    }
}
