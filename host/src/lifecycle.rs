//! The life of a job as one pure function: (state, event) → (state, what the log says), or illegal.
//!
//! ```text
//!   Accepted ──Met──► Queued, Scheduled ──Start──► Running ──Finish, under the attempt's own fence──► Over
//!      │                  │    ▲                     │  ├─ Finish, tried again: Scheduled               ▲
//!      │                  │    └──── Recover ────────┘  ├─ Cancel: noted; the attempt is told to stop   │
//!      │                  │  (idempotent, not too often) └─ Recover: interrupted ───────────────────────┤
//!      └── Unmet, Cancel, Expire, Replace ─┴── Cancel, Expire, Replace ─────────────────────────────────┘
//! ```
//!
//! A series, of which runs are made, has a life of its own: [`series`].
//!
//! *Owns:* which transitions exist. *Never:* I/O, clocks (`now` is passed in), who may ask for a transition.
//! *Crash:* after a restart every job that was `Running` gets `Recover`, through this same function.

pub mod series;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use strongroom_job::{
    Artifact, DeadReason, Denial, Event as Said, JobId, JobState, LeftRecord, Opening, Outcome, OutputSalt,
    OutputSummary, PublicKey, Repeat, RetryPolicy, Task, Timestamp, Usage,
};

/// Times that the host may go down under an idempotent job before it is not run again: it may be what brings the host down.
pub const MAX_CRASHES: u32 = 3;

/// How one job stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Life {
    /// Whether it may be run again after a crash, as signed.
    pub idempotent: bool,
    /// Which ends are tried again, as signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Box<Retrying>>,
    /// Not started earlier, as signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Not started then or later, as signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// It is a series, as signed: it never runs itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Box<Repeat>>,
    /// Attempts begun so far. The number of the running attempt is its fence: a result under another number is void.
    pub attempt: u32,
    /// Attempts that ended because the host went down.
    #[serde(default, skip_serializing_if = "none")]
    pub crashes: u32,
    /// When the last attempt began.
    pub started_at: Option<Timestamp>,
    /// Where it is.
    pub stage: Stage,
}

/// Which ends are tried again, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retrying {
    /// As signed.
    pub policy: RetryPolicy,
    /// No attempt begins later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// Where a job is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Durable, waiting for other jobs.
    Accepted {
        /// How many of them are not over.
        waits_for: u32,
    },
    /// Waiting for its time. The clock alone makes it ready: nothing is written then, so nothing can be late or happen twice.
    Scheduled {
        /// Ready from then on.
        ready_at: Timestamp,
    },
    /// Ready, waiting for a slot.
    Queued,
    /// An attempt is running.
    Running {
        /// Whether somebody has asked for it to be stopped.
        cancelling: bool,
    },
    /// Over, once and for all.
    Over(Box<End>),
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// When.
    pub at: Timestamp,
    /// How.
    pub outcome: Outcome,
    /// What the last attempt used.
    pub usage: Usage,
    /// Standard output of the last attempt.
    pub stdout: OutputSummary,
    /// Standard error of the last attempt.
    pub stderr: OutputSummary,
    /// What the last attempt asked for and was not granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<Denial>,
    /// Files that the last attempt left, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// What the last attempt gave as its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<OutputSummary>,
    /// Why it is not tried again, when its plan tries such an outcome again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead: Option<DeadReason>,
    /// What hides in the record what it left; none when nothing is hidden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<OutputSalt>,
}

/// What happens to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A job that it waits for ended as it must.
    Met,
    /// A job that it waits for ended otherwise.
    Unmet {
        /// That job.
        job: JobId,
    },
    /// A slot is free: begin the next attempt.
    Start,
    /// The attempt with this number is over.
    Finish {
        /// The attempt's number, its fencing token.
        fence: u32,
        /// How it ended and what it left.
        end: Box<Finished>,
    },
    /// Somebody who may do so wants it stopped.
    Cancel {
        /// Who.
        by: PublicKey,
    },
    /// Its time is up.
    Expire,
    /// Another job takes its unique key.
    Replace {
        /// That job.
        by: JobId,
    },
    /// The host was down while the job ran.
    Recover,
}

/// What an attempt reports at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// How it ended.
    pub outcome: Outcome,
    /// What it used.
    pub usage: Usage,
    /// Standard output.
    pub stdout: OutputSummary,
    /// Standard error.
    pub stderr: OutputSummary,
    /// What it asked for and was not granted.
    pub denied: Vec<Denial>,
    /// Files that it left, by name.
    pub artifacts: Vec<Artifact>,
    /// What it gave as its result.
    pub result: Option<OutputSummary>,
    /// What hides in the record what it left: random, and this attempt's own. Without it all is told in clear.
    pub salt: Option<OutputSalt>,
}

/// An event that does not fit the state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    /// The job is over.
    #[error("the job is already {0}")]
    Over(JobState),
    /// It is not in the state that the event starts from.
    #[error("the job is {0}")]
    WrongState(JobState),
    /// The result of an attempt that is not the running one.
    #[error("attempt {fence} is not the running one, which is {attempt}")]
    Fenced {
        /// The attempt that reported.
        fence: u32,
        /// The attempt that runs.
        attempt: u32,
    },
    /// It is not its time yet.
    #[error("the job is not ready before {0}")]
    TooEarly(Timestamp),
    /// Its time is not up yet.
    #[error("the job does not expire yet")]
    NotExpired,
    /// It never starts: runs are made of it.
    #[error("the job is a series, of which runs are made")]
    Series,
}

const fn none(count: &u32) -> bool {
    *count == 0
}

impl Life {
    /// The life of a job that is accepted now and waits for `waits_for` others.
    #[must_use]
    pub fn accepted(task: &Task, waits_for: u32, now: Timestamp) -> Self {
        let plan = &task.plan;
        let retry = plan.retry.clone().map(|policy| {
            let age = policy.max_age_ms.map(|age| now.saturating_add(Duration::from_millis(age)));
            // An attempt may not begin when the job has expired.
            let last =
                plan.expires.map(|expires| Timestamp::from_millis(expires.as_millis().saturating_sub(1)));
            let until = [age, last].into_iter().flatten().min();
            Box::new(Retrying { policy, until })
        });
        let stage = match (waits_for, &plan.repeat) {
            (0, Some(repeat)) => Stage::Scheduled { ready_at: series::first(repeat, now) },
            (0, None) => ready(plan.at, now),
            (waits_for, _) => Stage::Accepted { waits_for },
        };
        Self {
            idempotent: task.idempotent,
            retry,
            at: plan.at,
            expires: plan.expires,
            repeat: plan.repeat.clone(),
            attempt: 0,
            crashes: 0,
            started_at: None,
            stage,
        }
    }

    /// The state as clients see it at `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> JobState {
        match &self.stage {
            Stage::Accepted { .. } => JobState::Accepted,
            Stage::Scheduled { ready_at } if now < *ready_at => JobState::Scheduled,
            Stage::Scheduled { .. } | Stage::Queued => JobState::Queued,
            Stage::Running { .. } => JobState::Running,
            Stage::Over(end) => end.state(),
        }
    }

    /// The end, when it is over.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        match &self.stage {
            Stage::Over(end) => Some(end),
            _ => None,
        }
    }

    /// Whether no other attempt can follow the one that runs, unless the host goes down.
    #[must_use]
    pub fn is_last_attempt(&self) -> bool {
        self.retry.as_deref().is_none_or(|retrying| self.attempt >= retrying.policy.attempts)
    }

    /// Whether it waits, and no attempt of it ever began: another job may still take its place.
    #[must_use]
    pub const fn has_not_begun(&self) -> bool {
        self.attempt == 0
            && matches!(self.stage, Stage::Accepted { .. } | Stage::Scheduled { .. } | Stage::Queued)
    }

    /// It does not begin then or later, nor is it tried again: its time is up, or it is older than its plan allows.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        let too_old = self.retry.as_deref().and_then(|retrying| retrying.until);
        let too_old = too_old.map(|until| until.saturating_add(Duration::from_millis(1)));
        [self.expires, too_old].into_iter().flatten().min()
    }
}

impl End {
    /// What it left, and what hides that in the record.
    #[must_use]
    pub fn opening(&self) -> Opening {
        let Self { stdout, stderr, artifacts, result, salt, .. } = self;
        Opening {
            salt: *salt,
            stdout: *stdout,
            stderr: *stderr,
            artifacts: artifacts.clone(),
            result: *result,
        }
    }

    /// The terminal state.
    #[must_use]
    pub const fn state(&self) -> JobState {
        terminal(&self.outcome, self.dead)
    }
}

/// The terminal state of a job that ends so.
#[must_use]
pub const fn terminal(outcome: &Outcome, dead: Option<DeadReason>) -> JobState {
    match dead {
        Some(_) => JobState::Dead,
        None => outcome.state(),
    }
}

/// The stage of a job that waits for nobody.
fn ready(at: Option<Timestamp>, now: Timestamp) -> Stage {
    match at {
        Some(ready_at) if now < ready_at => Stage::Scheduled { ready_at },
        _ => Stage::Queued,
    }
}

/// The one transition function: the state after `event`, and the record that is committed with it. Only a job that still waits
/// for others has none: the ends of those are in the log.
///
/// # Errors
/// When the event does not fit the state; nothing changes then.
pub fn step(job: JobId, life: &Life, event: Event, now: Timestamp) -> Result<(Life, Option<Said>), Illegal> {
    let over = |outcome| finish(job, life, Finished::without_run(outcome), None, now);
    let (life, said) = match (&life.stage, event) {
        (Stage::Over(end), _) => return Err(Illegal::Over(end.state())),
        (Stage::Accepted { waits_for: 2.. }, Event::Met) => return Ok((met(life), None)),
        (Stage::Accepted { .. }, Event::Met) => {
            (Life { stage: ready(life.at, now), ..life.clone() }, Said::Released { job })
        }
        (Stage::Accepted { .. }, Event::Unmet { job: other }) => over(Outcome::Unmet { job: other }),
        (Stage::Scheduled { ready_at }, Event::Start) if now < *ready_at => {
            return Err(Illegal::TooEarly(*ready_at));
        }
        (Stage::Scheduled { .. }, Event::Start) if life.repeat.is_some() => return Err(Illegal::Series),
        // The slot came too late: the job must not start, and need not wait for somebody to notice.
        (Stage::Scheduled { .. } | Stage::Queued, Event::Start) if has_expired(life, now) => {
            over(Outcome::Expired)
        }
        (Stage::Scheduled { .. } | Stage::Queued, Event::Start) => start(job, life, now),
        (Stage::Running { cancelling }, Event::Finish { fence, end }) if fence == life.attempt => {
            match again(job, life, *cancelling, &end.outcome, now) {
                Again::No(dead) => finish(job, life, *end, dead, now),
                Again::At(ready_at) => retry(job, life, *end, ready_at),
            }
        }
        (Stage::Running { .. }, Event::Finish { fence, .. }) => {
            return Err(Illegal::Fenced { fence, attempt: life.attempt });
        }
        (Stage::Accepted { .. } | Stage::Scheduled { .. } | Stage::Queued, Event::Cancel { .. }) => {
            over(Outcome::Cancelled)
        }
        (Stage::Accepted { .. } | Stage::Scheduled { .. } | Stage::Queued, Event::Expire) => {
            if !has_expired(life, now) {
                return Err(Illegal::NotExpired);
            }
            over(Outcome::Expired)
        }
        (_, Event::Replace { by }) if life.has_not_begun() => over(Outcome::Replaced { by }),
        (Stage::Running { cancelling: false }, Event::Cancel { by }) => {
            let stage = Stage::Running { cancelling: true };
            (Life { stage, ..life.clone() }, Said::CancelRequested { job, principal: by })
        }
        (Stage::Running { cancelling }, Event::Recover) => recover(job, life, *cancelling, now),
        (_, _) => return Err(Illegal::WrongState(life.state(now))),
    };
    Ok((life, Some(said)))
}

fn has_expired(life: &Life, now: Timestamp) -> bool {
    life.expires_at().is_some_and(|expires| expires <= now)
}

fn met(life: &Life) -> Life {
    let waits_for = match life.stage {
        Stage::Accepted { waits_for } => waits_for.saturating_sub(1),
        _ => 0,
    };
    Life { stage: Stage::Accepted { waits_for }, ..life.clone() }
}

fn start(job: JobId, life: &Life, now: Timestamp) -> (Life, Said) {
    let attempt = life.attempt + 1;
    let stage = Stage::Running { cancelling: false };
    (Life { attempt, started_at: Some(now), stage, ..life.clone() }, Said::Started { job, attempt })
}

/// Whether an attempt is followed by another.
enum Again {
    /// Not before then.
    At(Timestamp),
    /// No; and why not, when the plan tries such an outcome again.
    No(Option<DeadReason>),
}

fn again(job: JobId, life: &Life, cancelling: bool, outcome: &Outcome, now: Timestamp) -> Again {
    let Some(Retrying { policy, until }) = life.retry.as_deref() else { return Again::No(None) };
    if cancelling || !policy.covers(outcome) {
        return Again::No(None);
    }
    if life.attempt >= policy.attempts {
        return Again::No(Some(DeadReason::Attempts));
    }
    let ready_at = now.saturating_add(policy.pause(&job, life.attempt));
    match until {
        Some(until) if *until < ready_at => Again::No(Some(DeadReason::Age)),
        _ => Again::At(ready_at),
    }
}

fn retry(job: JobId, life: &Life, finished: Finished, ready_at: Timestamp) -> (Life, Said) {
    let Finished { outcome, usage, .. } = finished;
    let said = Said::Retried { job, attempt: life.attempt, outcome, usage, ready_at };
    (Life { stage: Stage::Scheduled { ready_at }, ..life.clone() }, said)
}

fn finish(
    job: JobId,
    life: &Life,
    finished: Finished,
    dead: Option<DeadReason>,
    now: Timestamp,
) -> (Life, Said) {
    let Finished { outcome, usage, stdout, stderr, denied, artifacts, result, salt } = finished;
    let mut end = End {
        at: now,
        outcome: outcome.clone(),
        usage,
        stdout,
        stderr,
        denied: denied.clone(),
        artifacts,
        result,
        dead,
        salt,
    };
    let told = end.opening().told();
    // Where nothing is hidden there is nothing to keep.
    end.salt = salt.filter(|_| told.is_hidden());
    let LeftRecord { stdout, stderr, artifacts, result } = told;
    let attempt = life.attempt;
    let said =
        Said::Finished { job, attempt, outcome, usage, stdout, stderr, denied, artifacts, result, dead };
    (Life { stage: Stage::Over(Box::new(end)), ..life.clone() }, said)
}

fn recover(job: JobId, life: &Life, cancelling: bool, now: Timestamp) -> (Life, Said) {
    if cancelling {
        return finish(job, life, Finished::without_run(Outcome::Cancelled), None, now);
    }
    let crashes = life.crashes + 1;
    if life.idempotent && crashes < MAX_CRASHES {
        let said = Said::Requeued { job, attempt: life.attempt };
        return (Life { stage: Stage::Queued, crashes, ..life.clone() }, said);
    }
    finish(job, life, Finished::without_run(Outcome::Interrupted), None, now)
}

impl Finished {
    /// The end of a job of which nothing is left but the outcome.
    #[must_use]
    pub fn without_run(outcome: Outcome) -> Self {
        let nothing = OutputSummary::nothing();
        let (denied, artifacts) = (Vec::new(), Vec::new());
        let usage = Usage::default();
        let (result, salt) = (None, None);
        Self { outcome, usage, stdout: nothing, stderr: nothing, denied, artifacts, result, salt }
    }
}
