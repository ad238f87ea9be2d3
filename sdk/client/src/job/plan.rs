//! When a job runs, how often, and what it shares with other jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use strongroom_job::{Missed, Plan, Repeat, RetryOn, RetryPolicy, Taken, Timestamp, Unique};

use super::Job;
use super::bounds::whole_millis;

/// The pause before the first retry when a caller says nothing.
const DEFAULT_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause when a caller says nothing.
const DEFAULT_MAX_PAUSE: Duration = Duration::from_secs(600);

/// A plan whose relative times count from the moment of signing.
#[derive(Clone, Debug, Default)]
pub(super) struct Plans {
    at: Option<When>,
    expires: Option<When>,
    retries: Option<Retries>,
    unique: Option<Unique>,
    group: Option<String>,
    requires: BTreeMap<String, String>,
    repeats: Option<Repeats>,
}

/// A point in time, or how long after signing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// This point.
    At(Timestamp),
    /// So long after the job is signed.
    In(Duration),
}

/// Which ends are tried again, how often and after which pause.
///
/// `Retries::new(5)` is: up to 5 further attempts, after another exit status than 0 or a fault of the host, after pauses of 1 s,
/// 2 s, 4 s … up to 10 minutes, each drawn from its upper half. Traps and limits are left out, since the same input mostly
/// meets them again; add them with [`on`](Self::on). A job that is not helped by that ends `dead`.
///
/// ```
/// # use std::time::Duration;
/// # use strongroom_sdk::{Digest, Job, ModuleRef, RetryOn, Retries};
/// # let module = ModuleRef { digest: Digest::of(b""), length: 0 };
/// let job = Job::new(module.clone()).retries(5);
/// let job = Job::new(module).retries(
///     Retries::new(20)
///         .on([RetryOn::Failed, RetryOn::Exceeded])
///         .pause(Duration::from_millis(200))
///         .max_age(Duration::from_secs(24 * 3600)),
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "retries do nothing until a job has them"]
pub struct Retries {
    retries: u32,
    on: BTreeSet<RetryOn>,
    pause: Duration,
    max_pause: Option<Duration>,
    max_age: Option<Duration>,
}

/// When a series makes a run, until when, and what it makes up for.
///
/// The expression has five fields: minute, hour, day of month, month, day of week. It goes by the wall clock of the time zone, also
/// over changes of summer time. A series has an end, which is signed with it.
///
/// ```
/// # use std::time::Duration;
/// # use strongroom_sdk::{Digest, Job, Missed, ModuleRef, Repeats};
/// # let module = ModuleRef { digest: Digest::of(b""), length: 0 };
/// let month = Duration::from_secs(30 * 24 * 3600);
/// let nightly = Repeats::new("0 3 * * 1-5", "Europe/Berlin", month).missed(Missed::Skip);
/// let job = Job::new(module).repeat(nightly);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a repetition does nothing until a job has it"]
pub struct Repeats {
    cron: String,
    zone: String,
    until: When,
    missed: Missed,
}

impl Job {
    /// Not started earlier: a point in time (`SystemTime` or [`Timestamp`]) or a `Duration` from signing on. A time that has passed
    /// is no error: the job is ready at once.
    ///
    /// It may lie behind the end of the [`lifetime`](Self::lifetime), which only bounds when the host may accept the job.
    pub fn at(mut self, when: impl Into<When>) -> Self {
        self.plans.at = Some(when.into());
        self
    }

    /// Not started earlier than this after signing.
    pub fn delay(self, delay: Duration) -> Self {
        self.at(delay)
    }

    /// Not started at this time or later: if the job still waits then, also between two attempts, it ends `expired`. One that
    /// runs is left alone; see [`timeout`](Self::timeout) for that.
    pub fn expires_at(mut self, when: impl Into<When>) -> Self {
        self.plans.expires = Some(when.into());
        self
    }

    /// Not started later than this after signing.
    pub fn expires_in(self, delay: Duration) -> Self {
        self.expires_at(delay)
    }

    /// Tries again after some ends: a number of retries, or [`Retries`]. Whether a job runs again after a crash of the host is
    /// another question: see [`idempotent`](Self::idempotent).
    pub fn retries(mut self, retries: impl Into<Retries>) -> Self {
        self.plans.retries = Some(retries.into());
        self
    }

    /// Makes the job a series: it does not run itself. Each time that it is due the host makes a run of it, a job of its own with an
    /// id of its own, which asks for the same, has the same retries and waits in the same queue. The series is `scheduled` all the
    /// while, [`ready_at`](crate::JobView) is when it is due next, and it ends `succeeded` when nothing is due any more. To end it
    /// earlier, [`cancel`](crate::Client::cancel) it; runs that are there go on.
    ///
    /// Not together with [`at`](Self::at), [`expires_at`](Self::expires_at) and [`unique`](Self::unique).
    pub fn repeat(mut self, repeats: Repeats) -> Self {
        self.plans.repeats = Some(repeats);
        self
    }

    /// At most one job of the tenant with this key (1 to 256 bytes).
    ///
    /// The key stays taken until its job is over, and in any case for `window` after that was accepted. What happens to a job
    /// whose key is taken says `taken`: it is refused; it is not run and [`AcceptedJob::existing`](crate::AcceptedJob) names the
    /// job that has the key; or it takes that one's place, if that has not started.
    pub fn unique(mut self, key: impl Into<String>, window: Duration, taken: Taken) -> Self {
        self.plans.unique = Some(Unique { key: key.into(), window_ms: whole_millis(window), taken });
        self
    }

    /// The group that the job belongs to, such as one customer (1 to 256 bytes): a queue may bound how many jobs of one group
    /// run at once.
    pub fn group(mut self, key: impl Into<String>) -> Self {
        self.plans.group = Some(key.into());
        self
    }

    /// A label that the host must have, such as `environment` = `production`; any other host refuses the job.
    pub fn require(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.plans.requires.insert(label.into(), value.into());
        self
    }
}

impl Plans {
    /// The plan as it is signed at `now`.
    pub(super) fn at(&self, now: Timestamp) -> Plan {
        Plan {
            at: self.at.map(|when| when.counted_from(now)),
            expires: self.expires.map(|when| when.counted_from(now)),
            retry: self.retries.as_ref().and_then(Retries::policy),
            unique: self.unique.clone(),
            group: self.group.clone(),
            requires: self.requires.clone(),
            after: Vec::new(),
            repeat: self.repeats.as_ref().map(|repeats| Box::new(repeats.counted_from(now))),
        }
    }
}

impl Repeats {
    /// By a cron expression and the wall clock of a time zone such as `Europe/Berlin`, until a point in time or so long from signing
    /// on. Of what is missed it makes up for the last, unless [`missed`](Self::missed) says otherwise.
    pub fn new(cron: impl Into<String>, zone: impl Into<String>, until: impl Into<When>) -> Self {
        Self { cron: cron.into(), zone: zone.into(), until: until.into(), missed: Missed::Once }
    }

    /// What is made up for of the due times that passed while the host was down or had no place for the series.
    pub const fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    fn counted_from(&self, now: Timestamp) -> Repeat {
        let Self { cron, zone, until, missed } = self;
        let until = until.counted_from(now);
        Repeat { cron: cron.clone(), zone: zone.clone(), until, missed: *missed }
    }
}

impl When {
    fn counted_from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(point) => point,
            Self::In(delay) => now.saturating_add(Duration::from_millis(whole_millis(delay))),
        }
    }
}

impl From<Timestamp> for When {
    fn from(point: Timestamp) -> Self {
        Self::At(point)
    }
}

impl From<SystemTime> for When {
    /// A time before 1970 counts as 1970.
    fn from(point: SystemTime) -> Self {
        let since_epoch = point.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::At(Timestamp::from_millis(whole_millis(since_epoch)))
    }
}

impl From<Duration> for When {
    fn from(delay: Duration) -> Self {
        Self::In(delay)
    }
}

impl Retries {
    /// At most so many attempts after the first, up to 99; 0 is none.
    pub fn new(retries: u32) -> Self {
        Self {
            retries,
            on: BTreeSet::from([RetryOn::Failed, RetryOn::Faulted]),
            pause: DEFAULT_PAUSE,
            max_pause: None,
            max_age: None,
        }
    }

    /// The ends that are tried again, in place of those that are by default.
    pub fn on(mut self, ends: impl IntoIterator<Item = RetryOn>) -> Self {
        self.on = ends.into_iter().collect();
        self
    }

    /// The longest pause before the first retry; it doubles with each further one. 1 s when this is not said.
    pub const fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// No pause is longer. 10 minutes when this is not said, or the first pause if that is longer.
    pub const fn max_pause(mut self, pause: Duration) -> Self {
        self.max_pause = Some(pause);
        self
    }

    /// No attempt begins later than this after the job was accepted. Only the number bounds it when this is not said.
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    fn policy(&self) -> Option<RetryPolicy> {
        (self.retries > 0).then(|| RetryPolicy {
            attempts: self.retries.saturating_add(1),
            on: self.on.iter().copied().collect(),
            pause_ms: whole_millis(self.pause),
            max_pause_ms: whole_millis(self.max_pause.unwrap_or(DEFAULT_MAX_PAUSE.max(self.pause))),
            max_age_ms: self.max_age.map(whole_millis),
        })
    }
}

impl From<u32> for Retries {
    fn from(retries: u32) -> Self {
        Self::new(retries)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use strongroom_job::{Digest, Input, ModuleRef};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn job() -> Job {
        Job::new(ModuleRef { digest: Digest::of(b"module"), length: 6 })
    }

    fn planned(job: &Job) -> Plan {
        let task = job.task_at(Input::Empty, Timestamp::from_millis(1_000_000)).unwrap();
        task.check().unwrap();
        task.plan
    }

    #[test]
    fn a_job_that_says_nothing_of_a_plan_has_none() {
        assert!(planned(&job()).is_default());
        assert!(planned(&job().retries(0)).is_default(), "no retry is no policy");
    }

    #[test]
    fn every_word_reaches_the_plan() {
        let job = job()
            .delay(SECOND)
            .expires_in(2 * SECOND)
            .retries(3)
            .unique("invoice 7", 60 * SECOND, Taken::Existing)
            .group("customer 12")
            .require("environment", "production");
        let plan = Plan {
            at: Some(Timestamp::from_millis(1_001_000)),
            expires: Some(Timestamp::from_millis(1_002_000)),
            retry: Some(RetryPolicy {
                attempts: 4,
                on: vec![RetryOn::Failed, RetryOn::Faulted],
                pause_ms: 1000,
                max_pause_ms: 600_000,
                max_age_ms: None,
            }),
            unique: Some(Unique { key: "invoice 7".into(), window_ms: 60_000, taken: Taken::Existing }),
            group: Some("customer 12".into()),
            requires: BTreeMap::from([("environment".into(), "production".into())]),
            after: Vec::new(),
            repeat: None,
        };
        assert_eq!(planned(&job), plan);
    }

    #[test]
    fn every_word_of_a_repetition_reaches_the_plan() {
        let repeats = Repeats::new("0 3 * * *", "Europe/Berlin", 9 * SECOND);
        let repeat = planned(&job().repeat(repeats.clone())).repeat.unwrap();
        let expected = Repeat {
            cron: "0 3 * * *".into(),
            zone: "Europe/Berlin".into(),
            until: Timestamp::from_millis(1_009_000),
            missed: Missed::Once,
        };
        assert_eq!(*repeat, expected);
        let all = planned(&job().repeat(repeats.missed(Missed::All(3)))).repeat.unwrap();
        assert_eq!(*all, Repeat { missed: Missed::All(3), ..expected });
    }

    #[test]
    fn a_point_in_time_is_kept_and_a_delay_counts_from_signing() {
        let point = UNIX_EPOCH + 5 * SECOND;
        assert_eq!(planned(&job().at(point)).at, Some(Timestamp::from_millis(5000)));
        let point = Timestamp::from_millis(7);
        assert_eq!(planned(&job().at(point).expires_at(9 * SECOND)).at, Some(point));
        let later = planned(&job().expires_at(9 * SECOND)).expires;
        assert_eq!(later, Some(Timestamp::from_millis(1_009_000)));
        assert_eq!(When::In(Duration::MAX).counted_from(point), Timestamp::from_millis(u64::MAX));
    }

    #[test]
    fn ends_are_signed_in_the_one_order_and_a_long_pause_is_no_mistake() {
        let ends = [RetryOn::Faulted, RetryOn::Trapped, RetryOn::Trapped, RetryOn::Exceeded];
        let retries = Retries::new(99).on(ends).pause(3600 * SECOND).max_age(86_400 * SECOND);
        let policy = planned(&job().retries(retries)).retry.unwrap();
        assert_eq!(policy.on, [RetryOn::Trapped, RetryOn::Exceeded, RetryOn::Faulted]);
        let times = (policy.pause_ms, policy.max_pause_ms, policy.max_age_ms);
        assert_eq!(times, (3_600_000, 3_600_000, Some(86_400_000)));
        assert_eq!(policy.attempts, 100);
        let short = planned(&job().retries(Retries::new(1).max_pause(2 * SECOND))).retry.unwrap();
        assert_eq!(short.max_pause_ms, 2000);
    }
}
