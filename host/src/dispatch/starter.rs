//! Jobs that start in the commit that makes them ready: no second one stands between an admission, or the end of what a job waited for, and its attempt.
//!
//! *Owns:* whether that is done now, and the places of what is about to start. *Never:* decides which job is the next (`schedule`).
//! *Bound:* as many as places are free, and [`MOST`] of one group. *Crash:* both records are in one group, which is on the disk or not.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use strongroom_job::{JobId, Timestamp};
use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument as _;

use super::{Board, Running, Shared};
use crate::spans;
use crate::store::{CommitError, Committed, Effect, Listener, Starting};

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
        let claim = || Some(Box::new(Claim::take(&shared)?) as Box<dyn Starting>);
        std::iter::from_fn(claim).take(MOST).collect()
    }

    fn durable(&self, effects: Vec<Effect>, known: usize) {
        // What the starts mean themselves.
        self.take_in(&effects[known..]);
        self.tell(effects);
    }
}

/// A place, and the job that is to have it.
struct Claim(Option<Taken>);

struct Taken {
    shared: Arc<Shared>,
    job: JobId,
    ready: Timestamp,
    running: Running,
    slot: OwnedSemaphorePermit,
}

impl Claim {
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        let slot = Arc::clone(&shared.slots).try_acquire_owned().ok()?;
        let running = Running::default();
        let (job, ready) = shared.board.take_now(|job| shared.add(job, &running))?;
        Some(Self(Some(Taken { shared: Arc::clone(shared), job, ready, running, slot })))
    }
}

impl Starting for Claim {
    fn job(&self) -> JobId {
        self.0.as_ref().map(|taken| taken.job).expect("only its answer and its end take it out")
    }

    fn answer(mut self: Box<Self>, start: Result<Committed, CommitError>) {
        let Some(Taken { shared, job, ready, running, slot }) = self.0.take() else { return };
        let attempts = shared.attempts.clone();
        let attempt = async move { shared.attempt(job, ready, running, slot, start).await };
        attempts.spawn(attempt.instrument(spans::attempt(&job)));
    }
}

impl Drop for Claim {
    /// The group was not made durable, and the store is at its end: whoever waits until nothing runs is not to wait for this.
    fn drop(&mut self) {
        if let Some(Taken { shared, job, running, slot, .. }) = self.0.take() {
            shared.remove(job, &running, slot);
        }
    }
}
