//! When and how often a job runs, and what it waits for: everything about a job that is not about its sandbox.
//!
//! All of it is inside the signature, and all of it may be left out: a job without a plan is ready at once and runs once.
//!
//! *Spec:* `docs/formats/job.md`, "Plan".

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::task::{TaskError, at_most, check_labels, fault};
use crate::{Digest, JobId, JobState, Outcome, Timestamp};

/// Most attempts that a job may ask for.
pub const MAX_ATTEMPTS: u32 = 100;
/// Longest pause between two attempts, and longest age at which one begins, in milliseconds: 30 days.
pub const MAX_PAUSE_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// Longest unique key and longest group, in bytes.
pub const MAX_KEY_BYTES: usize = 256;
/// Longest cron expression of a repeating job, in bytes.
pub const MAX_REPEAT_CRON_BYTES: usize = 128;
/// Longest name of a time zone, in bytes.
pub const MAX_ZONE_BYTES: usize = 64;
/// Most missed due times that a repeating job may make up for at once.
pub const MAX_MISSED: u32 = 100;
/// Most ranges of jobs that one job waits for.
pub const MAX_AFTER: usize = 64;

/// When a job runs, how often, and what it waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Not started earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Not started at this time or later: a job that still waits then ends `expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Which ends are tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// At most one job of the tenant with this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<Unique>,
    /// A queue may bound how many jobs of one group run at once, such as those for one customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Labels that the host must have, such as `environment` = `production`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requires: BTreeMap<String, String>,
    /// Jobs of the same batch that must be over first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<After>,
    /// The job is a series: it does not run itself, a run is made of it each time that it is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Box<Repeat>>,
}

/// When a run of a series is due, and until when. The contract bounds the texts; the host reads them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// A cron expression of five fields, 1 to 128 bytes.
    pub cron: String,
    /// The time zone whose wall clock it goes by, a name of the IANA database of 1 to 64 bytes, such as `Europe/Berlin`.
    pub zone: String,
    /// Nothing is due then or later: the series is over.
    pub until: Timestamp,
    /// What is made up for.
    pub missed: Missed,
}

/// What is made up for of the due times that a series missed, because its host was down or had no place for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missed {
    /// Nothing.
    Skip,
    /// One run, for the last of them.
    Once,
    /// A run for each, but at most for this many, the last ones; 1 to 100.
    All(u32),
}

/// Which ends are tried again, how often and after which pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included; 2 to 100.
    pub attempts: u32,
    /// The ends that are tried again, in the order of the words below, each once.
    pub on: Vec<RetryOn>,
    /// The pause before the second attempt, in milliseconds; it doubles with each further one.
    pub pause_ms: u64,
    /// No pause is longer, in milliseconds.
    pub max_pause_ms: u64,
    /// No attempt begins later than this after the job was accepted, in milliseconds; none: the attempts alone decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_ms: Option<u64>,
}

/// An end that may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetryOn {
    /// The guest ended with another exit status than 0.
    Failed,
    /// The guest trapped.
    Trapped,
    /// The guest hit one of its limits.
    Exceeded,
    /// The host could not run it.
    Faulted,
}

/// At most one job of the tenant with this key at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unique {
    /// The key, 1 to 256 bytes.
    pub key: String,
    /// The key stays taken this long after its job was accepted, also when that is over, in milliseconds; 0: until it is over.
    pub window_ms: u64,
    /// What happens to a job whose key is taken.
    pub taken: Taken,
}

/// What happens to a job whose unique key is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Taken {
    /// It is refused.
    Refuse,
    /// It is not run: the answer names the job that has the key.
    Existing,
    /// It takes the place of the job that has the key, if that has not started; otherwise it is refused.
    Replace,
}

/// Jobs of the same batch that must be over first: those from one place in it to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    /// Place of the first of them in the batch, from 0.
    pub first: u32,
    /// Place of the last of them; none: only the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u32>,
    /// How each of them must have ended. If one ends otherwise, this job is cancelled.
    #[serde(default, skip_serializing_if = "On::is_success")]
    pub on: On,
}

/// How a job must have ended for another one to follow it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum On {
    /// With exit status 0.
    #[default]
    Success,
    /// In any other way.
    Failure,
    /// In any way.
    End,
}

impl On {
    /// Whether an end in this state lets the other job follow.
    #[must_use]
    pub const fn is_met_by(self, state: JobState) -> bool {
        match self {
            Self::Success => matches!(state, JobState::Succeeded),
            Self::Failure => !matches!(state, JobState::Succeeded),
            Self::End => true,
        }
    }

    const fn is_success(&self) -> bool {
        matches!(self, Self::Success)
    }
}

impl After {
    /// One job of the batch, which must have succeeded.
    #[must_use]
    pub const fn success_of(place: u32) -> Self {
        Self { first: place, last: None, on: On::Success }
    }

    /// Places in the batch.
    #[must_use]
    pub fn places(&self) -> std::ops::RangeInclusive<u32> {
        self.first..=self.last.unwrap_or(self.first)
    }
}

impl RetryPolicy {
    /// Whether an attempt that ended like this is tried again, as far as its outcome goes.
    #[must_use]
    pub fn covers(&self, outcome: &Outcome) -> bool {
        let class = match outcome {
            Outcome::Exited { code: 0 } => return false,
            Outcome::Exited { .. } => RetryOn::Failed,
            Outcome::Trapped { .. } => RetryOn::Trapped,
            Outcome::Exceeded { .. } => RetryOn::Exceeded,
            Outcome::Faulted { .. } => RetryOn::Faulted,
            Outcome::Cancelled
            | Outcome::Interrupted
            | Outcome::Expired
            | Outcome::Unmet { .. }
            | Outcome::Replaced { .. } => return false,
        };
        self.on.contains(&class)
    }

    /// The pause after attempt number `attempt` of `job`: doubling, at most [`max_pause_ms`](Self::max_pause_ms), and drawn from
    /// its upper half by the job's id, so that jobs that failed together do not come back together.
    #[must_use]
    pub fn pause(&self, job: &JobId, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(63);
        let whole = self.pause_ms.saturating_mul(1 << doublings).min(self.max_pause_ms);
        let draw = Digest::of(&[job.as_bytes().as_slice(), &attempt.to_be_bytes()].concat());
        let draw = draw.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let half = whole / 2;
        Duration::from_millis(whole - draw % (half + 1))
    }
}

impl Plan {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Checks what the types alone do not say. Whether `after` fits its batch is checked with the batch.
    pub(crate) fn check(&self) -> Result<(), TaskError> {
        if let (Some(at), Some(expires)) = (self.at, self.expires)
            && expires <= at
        {
            return Err(fault("plan.expires", "is not later than plan.at: the job would never run"));
        }
        self.retry.as_ref().map_or(Ok(()), RetryPolicy::check)?;
        if let Some(unique) = &self.unique {
            check_key("plan.unique.key", &unique.key)?;
            at_most_millis("plan.unique.window_ms", unique.window_ms)?;
        }
        self.group.as_ref().map_or(Ok(()), |group| check_key("plan.group", group))?;
        check_labels("plan.requires", &self.requires)?;
        self.check_repeat()?;
        at_most("plan.after", self.after.len(), MAX_AFTER)?;
        match self.after.iter().position(|after| after.last.is_some_and(|last| last <= after.first)) {
            Some(index) => {
                let problem = "must be more than first; leave it out for a single job";
                Err(fault(format_args!("plan.after[{index}].last"), problem))
            }
            None => Ok(()),
        }
    }
}

impl Plan {
    fn check_repeat(&self) -> Result<(), TaskError> {
        let Some(repeat) = &self.repeat else { return Ok(()) };
        // Each of these is about one run, and a series is none.
        let alone = [
            ("plan.at", self.at.is_some()),
            ("plan.expires", self.expires.is_some()),
            ("plan.unique", self.unique.is_some()),
            ("plan.after", !self.after.is_empty()),
        ];
        if let Some((field, _)) = alone.iter().find(|(_, is_there)| *is_there) {
            return Err(fault(field, "does not go together with plan.repeat"));
        }
        check_text("plan.repeat.cron", &repeat.cron, MAX_REPEAT_CRON_BYTES)?;
        check_text("plan.repeat.zone", &repeat.zone, MAX_ZONE_BYTES)?;
        match repeat.missed {
            Missed::All(most) if !(1..=MAX_MISSED).contains(&most) => {
                Err(fault("plan.repeat.missed", format_args!("all must be from 1 to {MAX_MISSED}")))
            }
            Missed::Skip | Missed::Once | Missed::All(_) => Ok(()),
        }
    }
}

impl RetryPolicy {
    fn check(&self) -> Result<(), TaskError> {
        if !(2..=MAX_ATTEMPTS).contains(&self.attempts) {
            return Err(fault("plan.retry.attempts", format_args!("must be from 2 to {MAX_ATTEMPTS}")));
        }
        if self.on.is_empty() || !self.on.is_sorted_by(|a, b| a < b) {
            let problem =
                "must name at least one of failed, trapped, exceeded, faulted, in this order, each once";
            return Err(fault("plan.retry.on", problem));
        }
        at_most_millis("plan.retry.pause_ms", self.pause_ms)?;
        at_most_millis("plan.retry.max_pause_ms", self.max_pause_ms)?;
        at_most_millis("plan.retry.max_age_ms", self.max_age_ms.unwrap_or(0))?;
        if self.max_pause_ms < self.pause_ms {
            return Err(fault("plan.retry.max_pause_ms", "is less than pause_ms"));
        }
        Ok(())
    }
}

fn at_most_millis(field: &str, millis: u64) -> Result<(), TaskError> {
    if millis > MAX_PAUSE_MS {
        return Err(fault(
            field,
            format_args!("{millis} where at most {MAX_PAUSE_MS} are allowed (30 days)"),
        ));
    }
    Ok(())
}

fn check_key(field: &str, key: &str) -> Result<(), TaskError> {
    check_text(field, key, MAX_KEY_BYTES)
}

fn check_text(field: &str, text: &str, most: usize) -> Result<(), TaskError> {
    if text.is_empty() || text.len() > most {
        return Err(fault(field, format_args!("has {} bytes: 1 to {most} are allowed", text.len())));
    }
    if text.chars().any(char::is_control) {
        return Err(fault(field, "holds a control character"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(plan: &Plan) -> String {
        plan.check().expect_err("must be refused").to_string()
    }

    fn retry() -> RetryPolicy {
        RetryPolicy {
            attempts: 5,
            on: vec![RetryOn::Failed, RetryOn::Faulted],
            pause_ms: 1000,
            max_pause_ms: 10_000,
            max_age_ms: None,
        }
    }

    #[test]
    fn each_rule_names_its_field() {
        assert_eq!(Plan::default().check(), Ok(()));
        let time = |millis| Some(Timestamp::from_millis(millis));
        let plan = Plan { at: time(5), expires: time(5), ..Plan::default() };
        assert_eq!(refused(&plan), "plan.expires: is not later than plan.at: the job would never run");
        let with = |retry| Plan { retry: Some(retry), ..Plan::default() };
        assert_eq!(with(retry()).check(), Ok(()));
        for attempts in [0, 1, 101] {
            assert_eq!(
                refused(&with(RetryPolicy { attempts, ..retry() })),
                "plan.retry.attempts: must be from 2 to 100"
            );
        }
        for on in [vec![], vec![RetryOn::Trapped, RetryOn::Failed], vec![RetryOn::Failed; 2]] {
            assert!(refused(&with(RetryPolicy { on, ..retry() })).starts_with("plan.retry.on: must name"));
        }
        let long = RetryPolicy { pause_ms: MAX_PAUSE_MS + 1, ..retry() };
        assert!(refused(&with(long)).starts_with("plan.retry.pause_ms: 2592000001 where at most"));
        let upside_down = RetryPolicy { max_pause_ms: 999, ..retry() };
        assert_eq!(refused(&with(upside_down)), "plan.retry.max_pause_ms: is less than pause_ms");
        let unique = |key: String, window_ms| Plan {
            unique: Some(Unique { key, window_ms, taken: Taken::Refuse }),
            ..Plan::default()
        };
        assert_eq!(refused(&unique(String::new(), 0)), "plan.unique.key: has 0 bytes: 1 to 256 are allowed");
        assert_eq!(
            refused(&unique("x".repeat(257), 0)),
            "plan.unique.key: has 257 bytes: 1 to 256 are allowed"
        );
        assert_eq!(refused(&unique("\u{1b}".into(), 0)), "plan.unique.key: holds a control character");
        assert!(refused(&unique("a".into(), MAX_PAUSE_MS + 1)).starts_with("plan.unique.window_ms: "));
        let plan = Plan { group: Some(String::new()), ..Plan::default() };
        assert!(refused(&plan).starts_with("plan.group: has 0 bytes"));
        let plan = Plan { requires: BTreeMap::from([(String::new(), String::new())]), ..Plan::default() };
        assert_eq!(refused(&plan), "plan.requires: a label needs a name");
        let plan = Plan { after: vec![After::success_of(0); MAX_AFTER + 1], ..Plan::default() };
        assert_eq!(refused(&plan), "plan.after: 65 where at most 64 are allowed");
        let after = After { last: Some(3), ..After::success_of(3) };
        let plan = Plan { after: vec![after], ..Plan::default() };
        assert!(refused(&plan).starts_with("plan.after[0].last: must be more than first"));
    }

    // Red without `check_repeat`.
    #[test]
    fn a_series_says_what_it_needs_and_nothing_of_a_single_run() {
        let repeat = |cron: &str, zone: &str, missed| Repeat {
            cron: cron.into(),
            zone: zone.into(),
            until: Timestamp::from_millis(9),
            missed,
        };
        let of = |repeat| Plan { repeat: Some(Box::new(repeat)), ..Plan::default() };
        let good = of(repeat("0 3 * * 1-5", "Europe/Berlin", Missed::Once));
        assert_eq!(good.check(), Ok(()));
        let kept = Plan { retry: Some(retry()), group: Some("g".into()), ..good.clone() };
        assert_eq!(kept.check(), Ok(()));
        for missed in [Missed::Skip, Missed::All(1), Missed::All(MAX_MISSED)] {
            assert_eq!(of(repeat("* * * * *", "UTC", missed)).check(), Ok(()));
        }
        let time = Some(Timestamp::from_millis(5));
        let unique = Some(Unique { key: "k".into(), window_ms: 0, taken: Taken::Refuse });
        for (plan, field) in [
            (Plan { at: time, ..good.clone() }, "plan.at"),
            (Plan { expires: time, ..good.clone() }, "plan.expires"),
            (Plan { unique, ..good.clone() }, "plan.unique"),
            (Plan { after: vec![After::success_of(0)], ..good.clone() }, "plan.after"),
        ] {
            assert_eq!(refused(&plan), format!("{field}: does not go together with plan.repeat"));
        }
        let long = of(repeat(&"*".repeat(129), "UTC", Missed::Skip));
        assert_eq!(refused(&long), "plan.repeat.cron: has 129 bytes: 1 to 128 are allowed");
        let control = of(repeat("* * * *\u{7} *", "UTC", Missed::Skip));
        assert_eq!(refused(&control), "plan.repeat.cron: holds a control character");
        for zone in [String::new(), "x".repeat(65)] {
            let refusal = refused(&of(repeat("* * * * *", &zone, Missed::Skip)));
            assert!(refusal.starts_with("plan.repeat.zone: has "), "{refusal}");
        }
        for most in [0, MAX_MISSED + 1] {
            let refusal = refused(&of(repeat("* * * * *", "UTC", Missed::All(most))));
            assert_eq!(refusal, "plan.repeat.missed: all must be from 1 to 100");
        }
    }

    #[test]
    fn pauses_double_up_to_their_bound_and_differ_between_jobs() {
        let policy = retry();
        let one = JobId::from_bytes([1; 16]);
        for (attempt, whole) in [(1, 1000), (2, 2000), (3, 4000), (4, 8000), (5, 10_000), (99, 10_000)] {
            let pause = policy.pause(&one, attempt).as_millis();
            assert!((whole / 2..=whole).contains(&pause), "{attempt}: {pause}");
            assert_eq!(policy.pause(&one, attempt).as_millis(), pause, "the same job waits as long again");
        }
        let mut pauses: Vec<_> =
            (0..50).map(|number| policy.pause(&JobId::from_bytes([number; 16]), 4)).collect();
        pauses.sort();
        pauses.dedup();
        assert!(pauses.len() > 40, "{}", pauses.len());
        let none = RetryPolicy { pause_ms: 0, max_pause_ms: 0, ..retry() };
        assert_eq!(none.pause(&one, 3), Duration::ZERO);
    }

    #[test]
    fn only_named_ends_are_tried_again() {
        let policy = retry();
        let faulted = Outcome::Faulted { reason: String::new() };
        assert!(policy.covers(&Outcome::Exited { code: 1 }) && policy.covers(&faulted));
        let trapped = Outcome::Trapped { reason: String::new() };
        for never in [Outcome::Exited { code: 0 }, Outcome::Cancelled, Outcome::Interrupted, trapped] {
            assert!(!policy.covers(&never), "{never}");
        }
    }

    #[test]
    fn an_edge_is_met_by_the_ends_that_it_names() {
        let met =
            |on: On| [JobState::Succeeded, JobState::Failed, JobState::Dead].map(|state| on.is_met_by(state));
        assert_eq!(met(On::Success), [true, false, false]);
        assert_eq!(met(On::Failure), [false, true, true]);
        assert_eq!(met(On::End), [true, true, true]);
    }
}
