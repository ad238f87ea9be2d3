//! The life of a job as one pure function: (state, event) → (state, what the log says), or illegal.
//!
//! ```text
//!            Start                 Finish, under the attempt's own fence
//!   Queued ─────────► Running ───────────────────────────────────────────► Over
//!     │  ▲               │ ├─ Cancel: noted; the attempt is told to stop       ▲
//!     │  └───────────────┘ └─ Recover: interrupted ─────────────────────────────┤
//!     │   Recover, when idempotent and attempts are left                        │
//!     └─ Cancel ────────────────────────────────────────────────────────────────┘
//! ```
//!
//! *Owns:* which transitions exist. *Never:* I/O, clocks (`now` is passed in), who may ask for a transition.
//! *Crash:* after a restart every job that was `Running` gets `Recover`, through this same function.

use serde::{Deserialize, Serialize};
use strongroom_job::{
    Artifact, Denial, Digest, Event as Said, JobId, JobState, Outcome, OutputSummary, PublicKey, Timestamp,
    Usage,
};

/// Attempts after which even an idempotent job is not run again: it may be what brings the host down.
pub const MAX_ATTEMPTS: u32 = 3;

/// How one job stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Life {
    /// Whether it may be run again after a crash, as signed.
    pub idempotent: bool,
    /// Attempts begun so far. The number of the running attempt is its fence: a result under another number is void.
    pub attempt: u32,
    /// When the last attempt began.
    pub started_at: Option<Timestamp>,
    /// Where it is.
    pub stage: Stage,
}

/// Where a job is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Durable, waiting for a slot.
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
}

/// What happens to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
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
}

impl Life {
    /// A job that was just accepted.
    #[must_use]
    pub const fn queued(idempotent: bool) -> Self {
        Self { idempotent, attempt: 0, started_at: None, stage: Stage::Queued }
    }

    /// The state as clients see it.
    #[must_use]
    pub fn state(&self) -> JobState {
        match &self.stage {
            Stage::Queued => JobState::Queued,
            Stage::Running { .. } => JobState::Running,
            Stage::Over(end) => end.outcome.state(),
        }
    }

    /// The end, when it is over.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        match &self.stage {
            Stage::Over(end) => Some(end),
            Stage::Queued | Stage::Running { .. } => None,
        }
    }
}

/// The one transition function: the state after `event`, and the record that is committed with it.
///
/// # Errors
/// When the event does not fit the state; nothing changes then.
pub fn step(job: JobId, life: &Life, event: Event, now: Timestamp) -> Result<(Life, Said), Illegal> {
    match (&life.stage, event) {
        (Stage::Over(end), _) => Err(Illegal::Over(end.outcome.state())),
        (Stage::Queued, Event::Start) => Ok(start(job, life, now)),
        (Stage::Running { .. }, Event::Finish { fence, end }) if fence == life.attempt => {
            Ok(finish(job, life, *end, now))
        }
        (Stage::Running { .. }, Event::Finish { fence, .. }) => {
            Err(Illegal::Fenced { fence, attempt: life.attempt })
        }
        (Stage::Queued, Event::Cancel { .. }) => {
            Ok(finish(job, life, Finished::without_run(Outcome::Cancelled), now))
        }
        (Stage::Running { cancelling: false }, Event::Cancel { by }) => {
            let stage = Stage::Running { cancelling: true };
            Ok((Life { stage, ..life.clone() }, Said::CancelRequested { job, principal: by }))
        }
        (Stage::Running { cancelling }, Event::Recover) => Ok(recover(job, life, *cancelling, now)),
        (Stage::Running { .. }, Event::Start | Event::Cancel { .. }) | (Stage::Queued, _) => {
            Err(Illegal::WrongState(life.state()))
        }
    }
}

fn start(job: JobId, life: &Life, now: Timestamp) -> (Life, Said) {
    let attempt = life.attempt + 1;
    let stage = Stage::Running { cancelling: false };
    (Life { attempt, started_at: Some(now), stage, ..life.clone() }, Said::Started { job, attempt })
}

fn finish(job: JobId, life: &Life, finished: Finished, now: Timestamp) -> (Life, Said) {
    let Finished { outcome, usage, stdout, stderr, denied, artifacts } = finished;
    let end = End {
        at: now,
        outcome: outcome.clone(),
        usage,
        stdout,
        stderr,
        denied: denied.clone(),
        artifacts: artifacts.clone(),
    };
    let said =
        Said::Finished { job, attempt: life.attempt, outcome, usage, stdout, stderr, denied, artifacts };
    (Life { stage: Stage::Over(Box::new(end)), ..life.clone() }, said)
}

fn recover(job: JobId, life: &Life, cancelling: bool, now: Timestamp) -> (Life, Said) {
    if cancelling {
        return finish(job, life, Finished::without_run(Outcome::Cancelled), now);
    }
    if life.idempotent && life.attempt < MAX_ATTEMPTS {
        let said = Said::Requeued { job, attempt: life.attempt };
        return (Life { stage: Stage::Queued, ..life.clone() }, said);
    }
    finish(job, life, Finished::without_run(Outcome::Interrupted), now)
}

impl Finished {
    /// The end of a job of which nothing is left but the outcome.
    #[must_use]
    pub fn without_run(outcome: Outcome) -> Self {
        let nothing = OutputSummary { length: 0, digest: Digest::of(b"") };
        let (denied, artifacts) = (Vec::new(), Vec::new());
        Self { outcome, usage: Usage::default(), stdout: nothing, stderr: nothing, denied, artifacts }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    const JOB: JobId = JobId::from_bytes([7; 16]);
    const NOW: Timestamp = Timestamp::from_millis(5);

    fn key() -> PublicKey {
        strongroom_job::SecretKey::from_seed(&[1; 32].into()).public()
    }

    fn go(life: &Life, event: Event) -> Result<Life, Illegal> {
        step(JOB, life, event, NOW).map(|(life, _)| life)
    }

    fn finish_event(fence: u32, code: i32) -> Event {
        Event::Finish { fence, end: Box::new(Finished::without_run(Outcome::Exited { code })) }
    }

    fn running(idempotent: bool) -> Life {
        go(&Life::queued(idempotent), Event::Start).unwrap()
    }

    #[test]
    fn an_ordinary_life() {
        let life = running(false);
        assert_eq!((life.state(), life.attempt, life.started_at), (JobState::Running, 1, Some(NOW)));
        let (life, said) = step(JOB, &life, finish_event(1, 0), NOW).unwrap();
        assert_eq!(life.state(), JobState::Succeeded);
        assert!(matches!(said, Said::Finished { attempt: 1, .. }));
    }

    #[test]
    fn what_is_over_stays_as_it_is() {
        let over = go(&running(true), finish_event(1, 3)).unwrap();
        for event in [Event::Start, finish_event(1, 0), Event::Cancel { by: key() }, Event::Recover] {
            assert_eq!(go(&over, event), Err(Illegal::Over(JobState::Failed)));
        }
    }

    // Red without the guard `fence == life.attempt`.
    #[test]
    fn a_result_counts_under_its_own_fence_only() {
        let again = go(&go(&running(true), Event::Recover).unwrap(), Event::Start).unwrap();
        assert_eq!(go(&again, finish_event(1, 0)), Err(Illegal::Fenced { fence: 1, attempt: 2 }));
        assert_eq!(go(&again, finish_event(2, 0)).unwrap().state(), JobState::Succeeded);
    }

    #[test]
    fn after_a_crash_only_idempotent_jobs_run_again_and_not_for_ever() {
        assert_eq!(go(&running(false), Event::Recover).unwrap().state(), JobState::Interrupted);
        let mut life = Life::queued(true);
        for attempt in 1..=MAX_ATTEMPTS {
            life = go(&life, Event::Start).unwrap();
            assert_eq!(life.attempt, attempt);
            life = go(&life, Event::Recover).unwrap();
        }
        assert_eq!(life.state(), JobState::Interrupted);
    }

    #[test]
    fn a_cancel_ends_what_waits_and_stops_what_runs() {
        let cancel = || Event::Cancel { by: key() };
        assert_eq!(go(&Life::queued(false), cancel()).unwrap().state(), JobState::Cancelled);
        let asked = go(&running(true), cancel()).unwrap();
        assert_eq!(asked.state(), JobState::Running);
        assert_eq!(go(&asked, cancel()), Err(Illegal::WrongState(JobState::Running)));
        assert_eq!(go(&asked, Event::Recover).unwrap().state(), JobState::Cancelled);
        assert_eq!(go(&asked, finish_event(1, 0)).unwrap().state(), JobState::Succeeded);
    }

    #[test]
    fn what_never_ran_cannot_finish() {
        let queued = Life::queued(true);
        for event in [finish_event(0, 0), Event::Recover] {
            assert_eq!(go(&queued, event), Err(Illegal::WrongState(JobState::Queued)));
        }
    }
}
