//! Which waiting job starts next, and when there is something to do.
//!
//! The road of an entry: [`Schedule::add`] → scheduled (until `ready_at`) → ready → [`Schedule::take`] → running →
//! [`Schedule::ended`]. It leaves early by [`Schedule::remove`], or by [`Schedule::expired`] when its time is over.
//!
//! [`Schedule::take`] asks three parts in turn: `share` for the order of the tenants, the limits here for the queues that a
//! tenant may use, `backlog` for the best job in each of them. `bucket` holds the tokens of a queue; `moves` keeps all of them
//! in step. Beside all that, `cron` says when a recurring job is due.
//!
//! *Owns:* order, fairness, limits, rates, pause. *Never:* I/O, clocks, randomness (`now` is passed in), whether a job is
//! admitted, how many slots the host has.
//! *Time:* a `now` before an earlier one is taken as it is. What was ready stays ready and what has expired stays expired; what
//! is added later is held against the earlier time.
//! *Crash:* nothing of it is on disk. The next start adds what the store says is waiting; buckets are full, and all tenants are
//! equal.
//! *Bound:* jobs that wait and run are the caller's to bound, at 160 to 200 bytes for each that waits, or 320 with an expiry and
//! a key of its own (`host/tests/schedule_memory.rs`). Names of tenants and queues are never forgotten: hand in those of the configuration.
//! *Cost:* the logarithm of the jobs that wait, for each job that becomes ready, expires or is taken. Beside it the number of
//! queues; in [`Schedule::take`], the lanes (queues in use) of each tenant before the first that may start something.
//! *Spec:* `docs/queues.md`.

mod backlog;
mod bucket;
mod counts;
mod cron;
mod moves;
mod share;
mod slab;

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::time::Duration;

use strongroom_job::{JobId, Name, QueueMode, Timestamp};

use crate::config::{QueueRules, TenantRules};
use backlog::{Backlog, GroupId, Order, Place, Slot, Waiting};
use bucket::Bucket;
use share::Shares;

pub use counts::{LaneView, QueueCounts, Tally, TenantCounts};
pub use cron::{Cron, CronError, MAX_CRON_BYTES};

/// The `ready_at` of a job whose time is not known yet: it waits to be added again, and may expire meanwhile.
pub const NOT_YET: Timestamp = Timestamp::from_millis(u64::MAX);
/// The `expires_at` of what does not expire.
const NEVER: Timestamp = Timestamp::from_millis(u64::MAX);

/// A job that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The job.
    pub job: JobId,
    /// Whose it is.
    pub tenant: Name,
    /// Where it waits.
    pub queue: Name,
    /// Jobs of one tenant in one queue with the same key share `max_running_per_group`.
    pub key: Option<String>,
    /// Higher goes first, within a tenant.
    pub priority: i8,
    /// Its place in the order of admission, which a retry keeps. Unique, below 2⁵⁶.
    pub admitted: u64,
    /// It does not start before.
    pub ready_at: Timestamp,
    /// It does not start at or after.
    pub expires_at: Option<Timestamp>,
}

macro_rules! index {
    ($name:ident) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        struct $name(u32);

        impl $name {
            fn new(index: usize) -> Self {
                Self(u32::try_from(index).expect("each has a name or two in memory, which ends before"))
            }

            const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}
index!(TenantId);
index!(QueueId);
index!(LaneId);

#[derive(Debug)]
struct Tenant {
    name: Name,
    max_running: Option<u32>,
    /// By the order of their first use.
    lanes: Vec<LaneId>,
    jobs: Tally,
}

#[derive(Debug)]
struct Queue {
    name: Name,
    rules: QueueRules,
    bucket: Option<Bucket>,
    mode: QueueMode,
    lanes: Vec<LaneId>,
    jobs: Tally,
    /// Its scheduled jobs.
    timers: BTreeSet<(Timestamp, Slot)>,
}

/// What is told of a lane.
#[derive(Debug, Default)]
struct LaneCounts {
    jobs: Tally,
    /// Its ready jobs, by their `ready_at`: whoever asks for the oldest must not look at those of others.
    ready_since: BTreeSet<(Timestamp, Slot)>,
}

impl LaneCounts {
    fn oldest(&self) -> Option<Timestamp> {
        self.ready_since.first().map(|(at, _)| *at)
    }
}

/// All jobs that wait or run, and the rules.
#[derive(Debug)]
pub struct Schedule {
    /// What the last caller said that the time is.
    now: Timestamp,
    queue_rules: BTreeMap<Name, QueueRules>,
    tenant_rules: BTreeMap<Name, TenantRules>,
    tenant_ids: BTreeMap<Name, TenantId>,
    queue_ids: BTreeMap<Name, QueueId>,
    lane_ids: BTreeMap<(TenantId, QueueId), LaneId>,
    /// By [`LaneId`].
    lane_counts: Vec<LaneCounts>,
    tenants: Vec<Tenant>,
    queues: Vec<Queue>,
    shares: Shares,
    backlog: Backlog,
    waiting: BTreeMap<JobId, Slot>,
    /// With the time since which each had been ready.
    running: BTreeMap<JobId, (GroupId, Timestamp)>,
    /// Waiting jobs that expire.
    expiries: BTreeSet<(Timestamp, Slot)>,
    /// Those that have, and nobody was told.
    expired: BTreeSet<(Timestamp, Slot)>,
}

impl Schedule {
    /// An empty schedule. A queue or tenant that the rules do not name has the default ones. Buckets are full.
    #[must_use]
    pub fn new(
        queues: BTreeMap<Name, QueueRules>,
        tenants: BTreeMap<Name, TenantRules>,
        now: Timestamp,
    ) -> Self {
        let (queue_names, tenant_names): (Vec<_>, Vec<_>) =
            (queues.keys().cloned().collect(), tenants.keys().cloned().collect());
        let mut schedule = Self {
            now,
            queue_rules: queues,
            tenant_rules: tenants,
            tenant_ids: BTreeMap::new(),
            queue_ids: BTreeMap::new(),
            lane_ids: BTreeMap::new(),
            lane_counts: Vec::new(),
            tenants: Vec::new(),
            queues: Vec::new(),
            shares: Shares::default(),
            backlog: Backlog::new(),
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            expiries: BTreeSet::new(),
            expired: BTreeSet::new(),
        };
        // So that equals are in the order of their names, whoever comes first.
        for name in &tenant_names {
            schedule.tenant(name);
        }
        for name in &queue_names {
            schedule.queue(name);
        }
        schedule
    }

    /// Adds a job that waits, also one that is to be tried again. `false`, and nothing happens, when it waits or runs already.
    #[must_use]
    pub fn add(&mut self, entry: Entry) -> bool {
        let Entry { job, tenant, queue, key, priority, admitted, ready_at, expires_at } = entry;
        if self.running.contains_key(&job) {
            return false;
        }
        let lane = self.lane(&tenant, &queue);
        let btree_map::Entry::Vacant(vacant) = self.waiting.entry(job) else {
            return false;
        };
        let group = self.backlog.group(lane, key.as_deref());
        let (order, place) = (Order::new(priority, admitted), Place::Scheduled);
        let expires_at = expires_at.unwrap_or(NEVER);
        let slot = self.backlog.insert(Waiting { job, order, ready_at, expires_at, group, place });
        vacant.insert(slot);
        if expires_at != NEVER {
            self.expiries.insert((expires_at, slot));
        }
        if ready_at == NOT_YET {
            self.count(lane, |jobs| jobs.held += 1);
        } else if ready_at <= self.now {
            self.make_ready(slot);
        } else {
            let queue = self.backlog.lane(lane).queue;
            self.queues[queue.index()].timers.insert((ready_at, slot));
            self.count(lane, |jobs| jobs.scheduled += 1);
        }
        true
    }

    /// Takes a waiting job out. `false` when it does not wait.
    pub fn remove(&mut self, job: &JobId) -> bool {
        let Some(slot) = self.waiting.get(job).copied() else {
            return false;
        };
        let Waiting { expires_at, place, .. } = *self.backlog.job(slot);
        if place == Place::Expired {
            self.expired.remove(&(expires_at, slot));
        } else {
            self.expiries.remove(&(expires_at, slot));
            self.set_aside(slot);
        }
        self.forget(slot);
        true
    }

    /// Takes the best job that may start. From now on it runs: it has its places, and its token is spent.
    pub fn take(&mut self, now: Timestamp) -> Option<JobId> {
        self.settle(now);
        let slot = self.shares.in_order().find_map(|tenant| self.best_of(tenant))?;
        let Waiting { group, expires_at, ready_at, .. } = *self.backlog.job(slot);
        self.expiries.remove(&(expires_at, slot));
        self.set_aside(slot);
        // Before the job is forgotten, which would let go of its key.
        self.backlog.start(group);
        let job = self.forget(slot)?;
        let lane = self.backlog.lane_of(group);
        self.count(lane, |jobs| jobs.running += 1);
        let (tenant, queue) = self.ends_of(lane);
        if let Some(bucket) = &mut self.queues[queue.index()].bucket {
            bucket.take();
        }
        self.shares.start(tenant);
        self.running.insert(job, (group, ready_at));
        Some(job)
    }

    /// Since when a job that was taken, and has not ended, had been ready.
    #[must_use]
    pub fn ready_since(&self, job: &JobId) -> Option<Timestamp> {
        self.running.get(job).map(|(_, ready_at)| *ready_at)
    }

    /// A job that was taken does not run any more, and has run for `ran`: its places are free, its tenant is charged. `false`, and
    /// nothing happens, when it does not run.
    pub fn ended(&mut self, job: &JobId, ran: Duration) -> bool {
        let Some((group, _)) = self.running.remove(job) else {
            return false;
        };
        let lane = self.backlog.lane_of(group);
        self.count(lane, |jobs| jobs.running -= 1);
        self.backlog.end(group);
        let (tenant, _) = self.ends_of(lane);
        self.shares.charge(tenant, ran);
        true
    }

    /// Takes out a waiting job whose time is over, the one with the earliest end first.
    pub fn expired(&mut self, now: Timestamp) -> Option<JobId> {
        self.settle(now);
        let (_, slot) = self.expired.pop_first()?;
        self.forget(slot)
    }

    /// The earliest time after `now` at which [`Schedule::take`] or [`Schedule::expired`] could give something that they do not
    /// give at `now`, if nothing else is called in between. Nothing happens before it. At it a job has expired or may start, or
    /// one has become ready that a limit of its tenant or key still holds back: each job wakes the caller for nothing once at most.
    pub fn next_change(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.settle(now);
        let expiry = self.expiries.first().map(|(at, _)| *at);
        let starts = self.queues.iter().filter(|queue| queue.has_room()).filter_map(|queue| {
            let token = queue.bucket.as_ref().map_or(Some(now), Bucket::next)?;
            let waits = token > now && queue.lanes.iter().any(|lane| self.could_start(*lane));
            let timer = queue.timers.first().map(|(at, _)| token.max(*at));
            waits.then_some(token).into_iter().chain(timer).min()
        });
        starts.chain(expiry).min()
    }

    /// What a queue does from now on. Of one that is paused nothing starts; its jobs still become ready, and expire. One that drains
    /// is the same to the schedule as one that is open: what it has, starts, and whether more comes is decided before.
    pub fn set_mode(&mut self, queue: &Name, mode: QueueMode) {
        let queue = self.queue(queue);
        self.queues[queue.index()].mode = mode;
    }

    /// Jobs that wait: ready, scheduled, and expired without anybody having been told.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.backlog.len()
    }

    /// Jobs that were taken and have not ended.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Every queue of the rules or in use, by name.
    pub fn queues(&mut self, now: Timestamp) -> Vec<QueueCounts> {
        self.settle(now);
        let counts = self.queue_ids.values().map(|id| {
            let Queue { name, mode, jobs, timers, lanes, .. } = &self.queues[id.index()];
            let oldest = lanes.iter().filter_map(|lane| self.lane_counts[lane.index()].oldest()).min();
            let next = timers.first().map(|(at, _)| *at);
            QueueCounts { queue: name.clone(), mode: *mode, jobs: *jobs, oldest, next }
        });
        counts.collect()
    }

    /// Every queue of the rules or in use, by name, with the jobs of one tenant. Of the queue itself it says what it does.
    pub fn queues_of(&mut self, tenant: &Name, now: Timestamp) -> Vec<QueueCounts> {
        self.settle(now);
        let tenant = self.tenant_ids.get(tenant);
        let counts = self.queue_ids.values().map(|id| {
            let Queue { name, mode, .. } = &self.queues[id.index()];
            let lane = tenant.and_then(|tenant| self.lane_ids.get(&(*tenant, *id)));
            let counts = lane.map(|lane| &self.lane_counts[lane.index()]);
            let jobs = counts.map(|counts| counts.jobs).unwrap_or_default();
            let oldest = counts.and_then(LaneCounts::oldest);
            QueueCounts { queue: name.clone(), mode: *mode, jobs, oldest, next: None }
        });
        counts.collect()
    }

    /// The jobs of every tenant that has some, queue by queue.
    pub fn lanes(&mut self, now: Timestamp) -> Vec<LaneView> {
        self.settle(now);
        let view = |((tenant, queue), lane): (&(TenantId, QueueId), &LaneId)| LaneView {
            tenant: self.tenants[tenant.index()].name.clone(),
            queue: self.queues[queue.index()].name.clone(),
            jobs: self.lane_counts[lane.index()].jobs,
        };
        self.lane_ids.iter().map(view).filter(|lane| lane.jobs != Tally::default()).collect()
    }

    /// Every tenant of the rules or in use, by name.
    pub fn tenants(&mut self, now: Timestamp) -> Vec<TenantCounts> {
        self.settle(now);
        let counts = self.tenant_ids.values().map(|id| {
            let Tenant { name, jobs, .. } = &self.tenants[id.index()];
            TenantCounts { tenant: name.clone(), jobs: *jobs }
        });
        counts.collect()
    }

    /// Moves everything whose time has come. Each entry is moved twice at most: when it is ready, when it has expired.
    fn settle(&mut self, now: Timestamp) {
        self.now = now;
        while let Some((at, slot)) = pop_until(&mut self.expiries, now) {
            self.set_aside(slot);
            self.backlog.mark_expired(slot);
            self.expired.insert((at, slot));
        }
        for index in 0..self.queues.len() {
            if let Some(bucket) = &mut self.queues[index].bucket {
                bucket.advance(now);
            }
            while let Some((_, slot)) = pop_until(&mut self.queues[index].timers, now) {
                let lane = self.backlog.lane_of(self.backlog.job(slot).group);
                self.count(lane, |jobs| jobs.scheduled -= 1);
                self.make_ready(slot);
            }
        }
    }
}

fn pop_until(set: &mut BTreeSet<(Timestamp, Slot)>, now: Timestamp) -> Option<(Timestamp, Slot)> {
    set.first().is_some_and(|(at, _)| *at <= now).then(|| set.pop_first())?
}
