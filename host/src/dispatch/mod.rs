//! Dispatch: takes jobs from the queue when a slot is free, runs them, commits how they ended.
//!
//! *Owns:* the board of what waits, the slots, the compiled modules, the attempts that run. *Never:* decides what a job may
//! do, or what state follows which; a guest's result reaches the store only under its attempt's fence.
//! *Bound:* `max_running` attempts; guests run on threads of their own and yield to each other, so that a guest that spins
//! keeps neither its neighbours nor the network waiting.
//! *Crash:* an attempt that was running is judged anew by `lifecycle` at the next start.

mod attempt;
mod board;
mod ends;
mod inputs;
mod modules;
mod output;
mod policy;
mod ran;
mod starter;
mod watchers;

use std::collections::HashMap;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use strongroom_job::{Digest, JobId, PublicKey};
use strongroom_runtime::{CancelToken, PoolUse};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tracing::Instrument as _;

pub use board::Board;
pub(crate) use ends::Ends;
use output::Outputs;
pub(crate) use output::{Live, MAX_INLINE_BYTES};
pub use policy::{InForce, OwnPolicy};
pub(crate) use ran::{Ran, limits, translate};
use starter::Taken;

use crate::blobs::Blobs;
use crate::clock::Stopwatch;
use crate::compile::{LoadError, Loader};
use crate::home::LockedHome;
use crate::lifecycle::{Event, Illegal};
use crate::rooms::Rooms;
use crate::secrets::{Memory, Vault};
use crate::spans;
use crate::store::{CommitError, Committed, JobRow, ReadError, Store, Transition};
use crate::telemetry::{Part, Steps};
use crate::worker::{Area, Workers};

/// What attempts have for themselves while they run.
#[derive(Clone, Debug)]
pub struct Places {
    /// In-process; each tenant that has workers has a part of it.
    area: Area,
    vault: Vault,
    /// Where guests run, if not in this process.
    workers: Option<Workers>,
}

impl Places {
    /// Opens the places of a data directory, and removes what a crash left in them.
    ///
    /// # Errors
    /// When a directory cannot be made or read.
    pub fn open(home: &LockedHome) -> io::Result<Self> {
        let scratch = home.scratch();
        let rooms = Rooms::open(&scratch)?;
        let memory = Memory::open(home.dir(), &scratch.join("secrets"))?;
        let area = Area { scratch: rooms, memory };
        Ok(Self { area, vault: Vault::of(home), workers: None })
    }

    /// Guests run in these processes.
    pub(crate) fn working_in(self, workers: Option<Workers>) -> Self {
        Self { workers, ..self }
    }
}

/// Runs jobs. Clones are handles to the same dispatcher.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    blobs: Blobs,
    places: Places,
    policy: Arc<OwnPolicy>,
    modules: modules::Modules,
    board: Arc<Board>,
    slots: Arc<Semaphore>,
    /// Attempts from before their start is committed until after their end is.
    running: Mutex<HashMap<JobId, Running>>,
    /// Told when an attempt is gone.
    idle: Notify,
    /// Where attempts run, so that no commit waits for a guest.
    attempts: Handle,
    /// Where their guests do.
    guests: Handle,
    /// No module that is being registered is waited for any longer.
    given_up: CancelToken,
}

#[derive(Clone, Debug)]
struct Running {
    cancel: CancelToken,
    outputs: Arc<Outputs>,
}

impl Dispatcher {
    /// A dispatcher that runs nothing before [`Dispatcher::run`].
    #[must_use]
    pub(crate) fn new(
        store: Store,
        blobs: Blobs,
        places: Places,
        board: Arc<Board>,
        policy: Arc<OwnPolicy>,
        loader: Loader,
        (attempts, guests): (Handle, Handle),
    ) -> Self {
        let in_force = policy.in_force();
        let bounds = &in_force.config.bounds;
        let modules = modules::Modules::new(loader, blobs.clone(), bounds.max_module_bytes);
        let slots = Arc::new(Semaphore::new(bounds.max_running));
        let shared = Shared {
            store,
            blobs,
            places,
            policy,
            modules,
            board,
            slots,
            running: Mutex::default(),
            idle: Notify::new(),
            attempts,
            guests,
            given_up: CancelToken::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Places for attempts.
    pub(crate) fn slots(&self) -> usize {
        self.shared.policy.in_force().config.bounds.max_running
    }

    /// What guests have of the sandbox's pools now.
    pub(crate) fn pool(&self) -> PoolUse {
        self.shared.modules.pool_use()
    }

    /// What waits and what runs.
    pub(crate) fn board(&self) -> &Board {
        &self.shared.board
    }

    /// Starts jobs as slots become free, and ends those whose time is up, until it is dropped. Attempts that run then go on.
    pub async fn run(&self) {
        let _starting = starter::begin(&self.shared);
        tokio::join!(self.start_jobs(), self.expire_jobs());
    }

    async fn start_jobs(&self) {
        let mut changes = self.shared.board.changes();
        while let Ok(slot) = Arc::clone(&self.shared.slots).acquire_owned().await {
            changes.mark_unchanged();
            match Taken::next(&self.shared, slot) {
                Ok(taken) => taken.start(),
                // The place is free meanwhile for a job that starts with its group.
                Err(until) => self.shared.board.change(&mut changes, until).await,
            }
        }
    }

    async fn expire_jobs(&self) {
        loop {
            let job = self.shared.board.expired().await;
            match self.shared.store.commit(Transition::Step { job, event: Event::Expire }).await {
                Ok(_) => {}
                // It ended in another way meanwhile.
                Err(CommitError::Illegal(_)) => {}
                Err(error) => tracing::error!(%job, %error, "a job that has expired cannot be ended"),
            }
            self.shared.idle.notify_waiters();
        }
    }

    /// Waits until nothing is ready or running. What is scheduled, or waits for that, stays durable.
    pub async fn drained(&self) {
        self.until(|| self.shared.board.ready() == 0 && self.running() == 0).await;
    }

    /// Attempts that run now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.shared.running().len()
    }

    /// The jobs of those attempts.
    pub(crate) fn running_jobs(&self) -> Vec<JobId> {
        self.shared.running().keys().copied().collect()
    }

    /// Waits until no attempt runs.
    pub async fn settled(&self) {
        self.until(|| self.running() == 0).await;
    }

    /// Waits until so it is. It is looked at after each change of the board (a job that waits may be cancelled, its queue paused),
    /// and when an attempt is gone.
    async fn until(&self, so_it_is: impl Fn() -> bool) {
        let mut changes = self.shared.board.changes();
        loop {
            changes.mark_unchanged();
            let idle = self.shared.idle.notified();
            if so_it_is() {
                return;
            }
            tokio::select! {
                () = idle => {}
                _ = changes.changed() => {}
            }
        }
    }

    /// Records that `by` wants the job stopped, and stops it.
    ///
    /// # Errors
    /// When there is no such job, or it is over.
    pub async fn cancel(&self, job: JobId, by: PublicKey) -> Result<JobRow, CommitError> {
        let committed =
            self.shared.store.commit(Transition::Step { job, event: Event::Cancel { by } }).await?;
        let Committed::Stepped(row) = committed else {
            return Err(CommitError::Failed("a step was answered with something else".into()));
        };
        if row.life.end().is_none()
            && let Some(running) = self.shared.running().get(&job)
        {
            running.cancel.cancel();
        }
        Ok(*row)
    }

    /// The job once it is over. None when there is no such job.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn wait(&self, job: JobId) -> Result<Option<JobRow>, ReadError> {
        let mut watching = self.watch(job);
        loop {
            match self.shared.store.row(&job).await? {
                Some(row) if row.life.end().is_none() => watching.changed().await,
                other => return Ok(other),
            }
        }
    }

    /// Tells when the job changes, from now on.
    pub(crate) fn watch(&self, job: JobId) -> Watching {
        Watching {
            receiver: Some(self.shared.board.watchers.subscribe(job)),
            job,
            shared: Arc::clone(&self.shared),
        }
    }

    /// Tells of the ends of these jobs, from now on.
    pub(crate) fn listen(&self, jobs: &[JobId]) -> Ends {
        self.shared.board.listeners.listen(jobs)
    }

    /// The output of the attempt that runs now, if one does.
    pub(crate) fn outputs(&self, job: &JobId) -> Option<Arc<Outputs>> {
        self.shared.running().get(job).map(|running| Arc::clone(&running.outputs))
    }

    /// Compiles a module that is being registered from its file, so that its first job does not wait, and a bad one is
    /// refused. The caller has held the file's bytes against the digest.
    ///
    /// # Errors
    /// When it is no module that this host runs, or when the host is shutting down.
    pub async fn compile(&self, module: &Digest, file: &Path) -> Result<(), LoadError> {
        tokio::select! {
            compiled = self.shared.modules.register(module, file) => compiled,
            () = self.shared.given_up.cancelled() => Err(LoadError::ShuttingDown),
        }
    }

    /// Ends the compilations of modules that are being registered: each may take minutes, and many may wait for their turn.
    pub(crate) fn give_up_registering(&self) {
        self.shared.given_up.cancel();
    }
}

/// A subscription to the changes of one job.
#[derive(Debug)]
pub(crate) struct Watching {
    receiver: Option<watch::Receiver<()>>,
    job: JobId,
    shared: Arc<Shared>,
}

impl Watching {
    /// Waits for the next change, or for the job's end.
    pub(crate) async fn changed(&mut self) {
        if let Some(receiver) = &mut self.receiver {
            // An error says that the job is over, which is a change.
            let _ = receiver.changed().await;
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.receiver = None;
        self.shared.board.watchers.release(&self.job);
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, HashMap<JobId, Running>> {
        // Each change is one operation of the map.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Run, finish, after a start that was answered so: each durable before the next.
    async fn attempt(&self, taken: &Taken, start: Result<Committed, CommitError>) {
        let Taken { job, ready, running, .. } = taken;
        match start {
            // Its time may have been up: then it is over already.
            Ok(Committed::Stepped(row)) if row.life.end().is_some() => {}
            Ok(Committed::Stepped(row)) => {
                let now = self.board.now();
                self.store.meters().wait.record_time(now.since(*ready));
                let steps = self.board.tracer().map_or_else(Steps::default, |_| Steps::begin(*ready, now));
                self.run_started(*row, running, steps).await;
            }
            Err(CommitError::Illegal(Illegal::Series)) => self.fire(*job).await,
            // Cancelled while it waited: its end is committed already.
            Ok(_) | Err(CommitError::Illegal(_)) => {}
            Err(error) => tracing::error!(%job, %error, "the start of an attempt cannot be committed"),
        }
    }

    /// Makes the runs of a series that is due. One for which there is no room is handed out again a moment later.
    async fn fire(&self, job: JobId) {
        let in_force = self.policy.in_force();
        let config = &in_force.config;
        let tenant = match self.store.spec(&job) {
            Ok(spec) => spec.map(|spec| spec.context().tenant.clone()),
            Err(error) => return tracing::error!(%job, %error, "a series cannot be read"),
        };
        tenant.iter().for_each(spans::is_of);
        let rules = tenant.and_then(|tenant| config.tenants.get(&tenant)).cloned().unwrap_or_default();
        let fire = Transition::Fire { job, max_active: config.bounds.max_queued, rules: Box::new(rules) };
        match self.store.commit(fire).await {
            // Or it was cancelled meanwhile.
            Ok(_) | Err(CommitError::Illegal(_)) => {}
            Err(error @ (CommitError::Full { .. } | CommitError::Denied(_))) => {
                tracing::debug!(%job, %error, "there is no room for a run of a series");
            }
            Err(error) => tracing::error!(%job, %error, "a series that is due cannot be fired"),
        }
    }

    async fn run_started(&self, row: JobRow, running: &Running, mut steps: Steps) {
        let (job, fence, watch) = (row.job, row.life.attempt, Stopwatch::start());
        // A job that is not over has a slot.
        let tenant = row.slot.as_ref().map(|slot| slot.tenant.clone());
        tenant.iter().for_each(spans::is_of);
        tracing::debug!(attempt = fence, "started");
        self.board.watchers.changed(&job);
        // A panic under one job fails that job only.
        let guest = AssertUnwindSafe(self.run_guest(&row, running, &mut steps));
        let ended = match guest.catch_unwind().await {
            Ok(ended) => ended,
            Err(_) => {
                attempt::faulted("the host panicked while it ran the job; its log has the details".into())
            }
        };
        let (outcome, denied) = (ended.finished.outcome.clone(), ended.finished.denied.clone());
        steps.next(Part::Commit);
        let event = Event::Finish { fence, end: Box::new(ended.finished) };
        let commit = self.store.commit(Transition::Finish { job, event, outputs: ended.inline });
        let finish = async {
            let committed = commit.instrument(stage!("commit end")).await;
            tracing::debug!(state = %outcome.state(), durable = committed.is_ok(), "ended");
            committed
        };
        match finish.instrument(spans::finish(&job, tenant.as_ref())).await {
            Ok(_) => {
                let meters = self.store.meters();
                meters.attempt(&outcome);
                meters.denied(&denied);
                meters.took.record_time(watch.passed());
                if let Some(tracer) = self.board.tracer() {
                    tracer.attempt(steps, fence, &outcome);
                }
            }
            Err(error) => tracing::error!(%job, %error, "the end of an attempt cannot be committed"),
        }
    }

    async fn run_guest(&self, row: &JobRow, running: &Running, steps: &mut Steps) -> attempt::Ended {
        let spec = match self.store.spec_of(row) {
            Ok(Some(spec)) => spec,
            Ok(None) => return attempt::faulted("the job's row is missing from the store".into()),
            Err(error) => return attempt::faulted(error.to_string()),
        };
        steps.are_of(&spec);
        attempt::run(self, &spec, &running.outputs, &running.cancel, steps).await
    }
}
