//! What waits and what runs, as the store last said it: the schedule, shared, and whoever waits for a job to move on.
//!
//! The store's writer tells it each group, in order, so it never mixes up two changes of one job. The schedule hears of a group before the disk has it,
//! so that what the group makes ready starts in the same commit ([`starter`](super::starter)); whoever watches, only afterwards.
//! What the schedule counts may so be ahead of the disk by the group that is being made durable. Attempts and expiries are taken from it.
//!
//! *Owns:* the schedule in memory, the watchers, the listeners. *Never:* decides the order (`schedule`) or what state follows (`lifecycle`).
//! *Crash:* nothing of it is on disk; the next start fills it from the store.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use strongroom_job::{JobId, Name, QueueMode, QueueView, Timestamp};
use tokio::sync::watch;
use tokio::time::timeout;

use super::ends::Listeners;
use super::starter::Starter;
use super::watchers::Watchers;
use crate::clock::Clock;
use crate::config::Config;
use crate::schedule::{Entry, LaneView, QueueCounts, Schedule};
use crate::store::Effect;
use crate::telemetry::Tracer;

/// Longest sleep until the clock is looked at again: a system's clock that is set forward is noticed so late at most.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The schedule, the watchers and the listeners.
#[derive(Debug)]
pub struct Board {
    schedule: Mutex<Schedule>,
    pub(super) watchers: Watchers,
    pub(super) listeners: Arc<Listeners>,
    clock: Arc<Clock>,
    /// Told after each change.
    changed: watch::Sender<()>,
    /// Who is told of jobs that end, if somebody is.
    tracer: OnceLock<Tracer>,
    pub(super) starter: Starter,
}

impl Board {
    /// A board without jobs, under the rules of a configuration.
    #[must_use]
    pub fn new(config: &Config, clock: Arc<Clock>) -> Self {
        // Every queue is known from the start, with or without rules.
        let rules = |queue: &Name| config.queue_rules.get(queue).cloned().unwrap_or_default();
        let queues = config.queues.iter().map(|queue| (queue.clone(), rules(queue))).collect();
        let schedule = Schedule::new(queues, config.tenants.clone(), clock.now());
        Self {
            schedule: Mutex::new(schedule),
            watchers: Watchers::default(),
            listeners: Arc::default(),
            clock,
            changed: watch::Sender::default(),
            tracer: OnceLock::new(),
            starter: Starter::default(),
        }
    }

    /// Takes in what a durable group means.
    pub fn hear(&self, effects: Vec<Effect>) {
        self.take_in(&effects);
        self.tell(effects);
    }

    /// The schedule takes in what a group means.
    pub(super) fn take_in(&self, effects: &[Effect]) {
        if effects.is_empty() {
            return;
        }
        let mut schedule = self.schedule();
        for effect in effects {
            match effect {
                Effect::Ran(job, ran) => drop(schedule.ended(job, *ran)),
                Effect::Waits(entry) => put(&mut schedule, entry.clone()),
                Effect::Over(job) => forget(&mut schedule, job),
                Effect::Queue(queue, mode) => schedule.set_mode(queue, *mode),
            }
        }
    }

    /// Everybody is told of what the schedule has taken in, and a durable group means.
    pub(super) fn tell(&self, effects: Vec<Effect>) {
        if effects.is_empty() {
            return;
        }
        self.changed.send_replace(());
        for effect in effects {
            match effect {
                Effect::Waits(entry) => self.watchers.changed(&entry.job),
                Effect::Over(job) => {
                    self.watchers.over(&job);
                    self.listeners.over(&job);
                    if let Some(tracer) = self.tracer() {
                        tracer.over(job);
                    }
                }
                Effect::Ran(..) | Effect::Queue(..) => {}
            }
        }
    }

    /// From now on, what happens to jobs is noted there. The first one stays.
    pub(crate) fn traced_by(&self, tracer: Tracer) {
        let _ = self.tracer.set(tracer);
    }

    /// Where it is noted what happens to jobs, if anywhere.
    pub(crate) fn tracer(&self) -> Option<&Tracer> {
        self.tracer.get()
    }

    /// Takes the best job that may start now, with the time since which it had been ready. `taken` is told before anybody can see that the job
    /// does not wait any more: at every moment it waits or is taken.
    ///
    /// # Errors
    /// When there is none, with what [`Board::change`] is to be told.
    pub(super) fn take(&self, taken: impl FnOnce(JobId)) -> Result<(JobId, Timestamp), Until> {
        self.look(|schedule, now| {
            let job = schedule.take(now)?;
            taken(job);
            Some((job, schedule.ready_since(&job).unwrap_or(now)))
        })
    }

    /// Takes out a job whose time is up; waits until there is one.
    pub(super) async fn expired(&self) -> JobId {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            match self.look(Schedule::expired) {
                Ok(job) => return job,
                Err(until) => self.change(&mut changes, until).await,
            }
        }
    }

    /// Looks once; when it is for nothing, also until when the clock alone changes nothing: in one, since whoever looks for something else moves
    /// the schedule to another time.
    fn look<T>(&self, look: impl FnOnce(&mut Schedule, Timestamp) -> Option<T>) -> Result<T, Until> {
        let mut schedule = self.schedule();
        let now = self.clock.now();
        let sleep =
            |schedule: &mut Schedule| schedule.next_change(now).map(|at| at.since(now).min(LONGEST_SLEEP));
        look(&mut schedule, now).ok_or_else(|| Until(sleep(&mut schedule)))
    }

    /// Waits for a change that was not seen, or until the clock brings one.
    pub(super) async fn change(&self, changes: &mut watch::Receiver<()>, until: Until) {
        // The sender is `self`, so it cannot be gone.
        match until.0 {
            Some(sleep) => drop(timeout(sleep, changes.changed()).await),
            None => drop(changes.changed().await),
        }
    }

    /// The time by which it starts jobs.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Jobs that are ready in a queue that is not paused: what a host that stops when it has nothing to do waits for. Scheduled
    /// jobs stay where they are, durably.
    pub(super) fn ready(&self) -> usize {
        let queues = self.schedule().queues(self.clock.now());
        let started = queues.iter().filter(|queue| queue.mode != QueueMode::Paused);
        started.map(|queue| queue.jobs.queued as usize).sum()
    }

    /// Tells of every change from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The queues as one tenant sees them.
    pub(crate) fn queues(&self, tenant: &Name) -> Vec<QueueView> {
        let queues = self.schedule().queues_of(tenant, self.clock.now());
        let view = |counts: QueueCounts| QueueView {
            mode: counts.mode,
            queue: counts.queue,
            accepted: counts.jobs.held.into(),
            scheduled: counts.jobs.scheduled.into(),
            queued: counts.jobs.queued.into(),
            running: counts.jobs.running.into(),
            oldest: counts.oldest,
        };
        queues.into_iter().map(view).collect()
    }

    /// All queues, and what each tenant has in each.
    pub(crate) fn watched(&self) -> (Vec<QueueCounts>, Vec<LaneView>) {
        let now = self.clock.now();
        let mut schedule = self.schedule();
        (schedule.queues(now), schedule.lanes(now))
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        // A panic inside the schedule would be a fault of it: what it holds then is still what the store said, but for one job.
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the clock alone changes nothing, if it ever does.
#[derive(Debug)]
pub(super) struct Until(Option<Duration>);

/// The job waits from now on, whatever it did before.
fn put(schedule: &mut Schedule, entry: Entry) {
    forget(schedule, &entry.job);
    let added = schedule.add(entry);
    debug_assert!(added, "a job that was forgotten can be added");
}

/// The job neither waits nor runs.
fn forget(schedule: &mut Schedule, job: &JobId) {
    let _ = schedule.remove(job) || schedule.ended(job, Duration::ZERO);
}
