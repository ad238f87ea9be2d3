//! The schedule as a list: every question looks at every job. Written from `docs/queues.md`, not from the code.

use std::time::Duration;

use strongroom::config::{QueueRules, TenantRules};
use strongroom::schedule::{Entry, NOT_YET, Tally};
use strongroom_job::{JobId, Name, Timestamp};

/// Divisible by each weight that the model uses, so that shares are whole numbers.
const PARTS: u128 = 60;
const HOUR: u128 = 3_600_000_000_000 * PARTS;
const START: u128 = 1_000_000 * PARTS;

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Scheduled,
    Ready,
    Expired,
    Running,
}

#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) name: Name,
    pub(crate) rules: QueueRules,
    pub(crate) paused: bool,
    /// Nanoseconds times starts.
    tokens: u128,
}

#[derive(Clone, Debug)]
struct Tenant {
    name: Name,
    rules: TenantRules,
    used: u128,
}

#[derive(Clone, Debug)]
pub(crate) struct Reference {
    now: u64,
    jobs: Vec<(Entry, State)>,
    pub(crate) queues: Vec<Queue>,
    tenants: Vec<Tenant>,
    /// What the tenant had used that started last.
    level: u128,
}

impl Reference {
    /// Tenants and queues in the order of their names.
    pub(crate) fn new(
        queues: impl IntoIterator<Item = (Name, QueueRules)>,
        tenants: impl IntoIterator<Item = (Name, TenantRules)>,
        now: Timestamp,
    ) -> Self {
        let queues = queues.into_iter().map(|(name, rules)| {
            let tokens = rules.rate.map_or(0, |rate| rate.per.as_nanos() * u128::from(rate.burst));
            Queue { name, rules, paused: false, tokens }
        });
        let tenants = tenants.into_iter().map(|(name, rules)| Tenant { name, rules, used: 0 });
        let (queues, tenants) = (queues.collect(), tenants.collect());
        Self { now: now.as_millis(), jobs: Vec::new(), queues, tenants, level: 0 }
    }

    pub(crate) fn add(&mut self, entry: Entry) -> bool {
        if self.jobs.iter().any(|(known, _)| known.job == entry.job) {
            return false;
        }
        let ready = entry.ready_at.as_millis() <= self.now;
        self.jobs.push((entry, if ready { State::Ready } else { State::Scheduled }));
        true
    }

    pub(crate) fn remove(&mut self, job: &JobId) -> bool {
        let before = self.jobs.len();
        self.jobs.retain(|(entry, state)| entry.job != *job || *state == State::Running);
        self.jobs.len() < before
    }

    pub(crate) fn take(&mut self, now: Timestamp) -> Option<JobId> {
        self.pass_time(now);
        let startable = (0..self.jobs.len()).filter(|at| self.may_start(&self.jobs[*at]));
        let best = startable.min_by_key(|at| {
            let entry = &self.jobs[*at].0;
            let tenant = self.tenant(&entry.tenant);
            (self.tenants[tenant].used, tenant, -i16::from(entry.priority), entry.admitted)
        })?;
        self.jobs[best].1 = State::Running;
        let entry = self.jobs[best].0.clone();
        let tenant = self.tenant(&entry.tenant);
        self.level = self.level.max(self.tenants[tenant].used);
        self.tenants[tenant].used = self.level + START / u128::from(self.tenants[tenant].rules.weight);
        let queue = self.queues.iter_mut().find(|queue| queue.name == entry.queue).unwrap();
        if let Some(rate) = queue.rules.rate {
            queue.tokens -= rate.per.as_nanos();
        }
        Some(entry.job)
    }

    pub(crate) fn ended(&mut self, job: &JobId, ran: Duration) -> bool {
        let Some(at) =
            self.jobs.iter().position(|(entry, state)| entry.job == *job && *state == State::Running)
        else {
            return false;
        };
        let (entry, _) = self.jobs.remove(at);
        let tenant = self.tenant(&entry.tenant);
        let Tenant { name, rules, used } = &mut self.tenants[tenant];
        let furthest = (self.level + HOUR).max(*used);
        *used = furthest.min(*used + ran.as_nanos() * PARTS / u128::from(rules.weight));
        let others = self.jobs.iter().any(|(entry, state)| entry.tenant != *name && *state == State::Ready);
        if !others {
            self.level = self.level.max(*used);
        }
        true
    }

    pub(crate) fn expired(&mut self, now: Timestamp) -> Option<JobId> {
        self.pass_time(now);
        let expired = self.jobs.iter().filter(|(_, state)| *state == State::Expired);
        let (job, _) = expired.map(|(entry, _)| (entry.job, entry.expires_at)).min_by_key(|(_, at)| *at)?;
        self.remove(&job);
        Some(job)
    }

    /// The first millisecond in `horizon` after `now` in which something starts or expires, when nothing does at `now`.
    pub(crate) fn first_event(&self, now: Timestamp, horizon: u64) -> Option<Timestamp> {
        let mut future = self.clone();
        (1..=horizon).map(|step| now.saturating_add(Duration::from_millis(step))).find(|then| {
            future.pass_time(*then);
            future.is_busy()
        })
    }

    /// Whether something could start or be told as expired, without time passing.
    pub(crate) fn is_busy(&self) -> bool {
        self.jobs.iter().any(|job| job.1 == State::Expired || self.may_start(job))
    }

    /// Whether a job expires just then.
    pub(crate) fn expires(&self, when: Timestamp) -> bool {
        self.jobs.iter().any(|(entry, _)| entry.expires_at == Some(when))
    }

    /// Whether a scheduled job is ready by then.
    pub(crate) fn becomes_ready(&self, when: Timestamp) -> bool {
        self.jobs.iter().any(|(entry, state)| *state == State::Scheduled && entry.ready_at <= when)
    }

    pub(crate) fn pass_time(&mut self, now: Timestamp) {
        for (entry, state) in &mut self.jobs {
            if *state == State::Running {
                continue;
            }
            if entry.expires_at.is_some_and(|at| at <= now) {
                *state = State::Expired;
            } else if *state == State::Scheduled && entry.ready_at <= now {
                *state = State::Ready;
            }
        }
        for _ in self.now..now.as_millis() {
            for Queue { rules, tokens, .. } in &mut self.queues {
                if let Some(rate) = rules.rate {
                    let full = rate.per.as_nanos() * u128::from(rate.burst);
                    *tokens = full.min(*tokens + 1_000_000 * u128::from(rate.starts));
                }
            }
        }
        self.now = now.as_millis();
    }

    fn may_start(&self, (entry, state): &(Entry, State)) -> bool {
        let queue = self.queues.iter().find(|queue| queue.name == entry.queue).unwrap();
        let runs = |alike: &dyn Fn(&Entry) -> bool| {
            self.jobs.iter().filter(|(other, state)| *state == State::Running && alike(other)).count()
        };
        let below = |max: Option<u32>, alike: &dyn Fn(&Entry) -> bool| {
            max.is_none_or(|max| runs(alike) < max as usize)
        };
        let in_queue = |other: &Entry| other.queue == entry.queue;
        let in_lane = |other: &Entry| in_queue(other) && other.tenant == entry.tenant;
        let tenant = &self.tenants[self.tenant(&entry.tenant)];
        *state == State::Ready
            && !queue.paused
            && queue.rules.rate.is_none_or(|rate| queue.tokens >= rate.per.as_nanos())
            && below(queue.rules.max_running, &in_queue)
            && below(queue.rules.max_running_per_tenant, &in_lane)
            && below(tenant.rules.max_running, &|other| other.tenant == entry.tenant)
            && (entry.key.is_none()
                || below(queue.rules.max_running_per_group, &|other| {
                    in_lane(other) && other.key == entry.key
                }))
    }

    fn tenant(&self, name: &Name) -> usize {
        self.tenants.iter().position(|tenant| tenant.name == *name).unwrap()
    }

    pub(crate) fn tally(&self, of: impl Fn(&Entry) -> bool) -> Tally {
        let count = |wanted| {
            let those = self.jobs.iter().filter(|(entry, state)| *state == wanted && of(entry));
            u32::try_from(those.count()).unwrap()
        };
        let held = |(entry, state): &&(Entry, State)| {
            *state == State::Scheduled && entry.ready_at == NOT_YET && of(entry)
        };
        let held = u32::try_from(self.jobs.iter().filter(held).count()).unwrap();
        Tally {
            queued: count(State::Ready),
            scheduled: count(State::Scheduled) - held,
            held,
            running: count(State::Running),
        }
    }

    /// The earliest `ready_at` of some jobs that are ready, or not.
    pub(crate) fn earliest(&self, of: impl Fn(&Entry) -> bool, ready: bool) -> Option<Timestamp> {
        let wanted = if ready { State::Ready } else { State::Scheduled };
        let those = self
            .jobs
            .iter()
            .filter(|(entry, state)| *state == wanted && entry.ready_at != NOT_YET && of(entry));
        those.map(|(entry, _)| entry.ready_at).min()
    }

    /// Jobs whose time is not known.
    pub(crate) fn held(&self) -> Vec<JobId> {
        let held =
            self.jobs.iter().filter(|(entry, state)| *state == State::Scheduled && entry.ready_at == NOT_YET);
        held.map(|(entry, _)| entry.job).collect()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.jobs.iter().filter(|(_, state)| *state != State::Running).count()
    }

    pub(crate) fn running(&self) -> Vec<JobId> {
        self.jobs.iter().filter(|(_, state)| *state == State::Running).map(|(entry, _)| entry.job).collect()
    }
}
