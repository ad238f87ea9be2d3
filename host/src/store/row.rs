//! A job as the store keeps it.

use serde::{Deserialize, Serialize};
use strongroom_job::{Digest, Input, JobEnd, JobId, JobState, JobView, Name, PublicKey, Timestamp};

use crate::admission::AdmittedJob;
use crate::lifecycle::{Life, Stage};

/// What changes in a job's life, and what is needed to change it. The rest, the admitted job, is written once, beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRow {
    /// Which job.
    pub job: JobId,
    /// Who signed it. With `envelope` it tells a repetition from a conflict.
    pub signer: PublicKey,
    /// SHA-256 of the signed body that it was accepted with.
    pub envelope: Digest,
    /// Index of its `admitted` record.
    pub admitted: u64,
    /// When it was admitted.
    pub admitted_at: Timestamp,
    /// Index of its latest record: the row may be shown once that record is durable.
    pub touched: u64,
    /// Index of its `finished` record.
    pub finished: Option<u64>,
    /// Its place among those that wait and run; none once it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Box<Slot>>,
    /// Where it is.
    pub life: Life,
}

/// What of a job decides when it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// In whose name it runs.
    pub tenant: Name,
    /// Where it waits.
    pub queue: Name,
    /// Higher starts earlier.
    pub priority: i8,
    /// When its signature expires.
    pub not_after: Timestamp,
    /// The blob that it reads as its input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Digest>,
    /// Jobs of one group share a bound of their queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The unique key that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<String>,
}

impl Slot {
    pub(super) fn of(job: &AdmittedJob) -> Box<Self> {
        let task = job.task();
        Box::new(Self {
            tenant: job.context().tenant.clone(),
            queue: task.queue.clone(),
            priority: task.priority,
            not_after: job.context().not_after,
            input: match &task.input {
                Input::Blob { digest, .. } => Some(*digest),
                Input::Empty | Input::Inline(_) | Input::Outputs { .. } => None,
            },
            group: task.plan.group.clone(),
            unique: task.plan.unique.as_ref().map(|unique| unique.key.clone()),
        })
    }
}

impl JobRow {
    /// Whether an envelope with this signer and this digest is the one that the job came in.
    #[must_use]
    pub fn came_in(&self, envelope: &Digest, signer: &PublicKey) -> bool {
        self.envelope == *envelope && self.signer == *signer
    }

    /// The job as clients see it at `now`.
    #[must_use]
    pub fn view(&self, spec: &AdmittedJob, now: Timestamp) -> JobView {
        let state = self.life.state(now);
        let (ready_at, waits_for) = match self.life.stage {
            Stage::Scheduled { ready_at } if state == JobState::Scheduled => (Some(ready_at), None),
            Stage::Accepted { waits_for } => (None, Some(waits_for)),
            _ => (None, None),
        };
        let end = self.life.end().map(|end| JobEnd {
            outcome: end.outcome.clone(),
            usage: end.usage,
            stdout: end.stdout,
            stderr: end.stderr,
            denied: end.denied.clone(),
            artifacts: end.artifacts.clone(),
            result: end.result,
            dead: end.dead,
            log_index: self.finished.unwrap_or_default(),
        });
        JobView {
            job: self.job,
            tenant: spec.context().tenant.clone(),
            principal: *spec.signer(),
            module: spec.task().module,
            queue: spec.task().queue.clone(),
            priority: spec.task().priority,
            state,
            attempt: self.life.attempt,
            accepted_at: self.admitted_at,
            started_at: self.life.started_at,
            finished_at: self.life.end().map(|end| end.at),
            log_index: self.admitted,
            ready_at,
            waits_for,
            progress: None,
            end,
        }
    }
}
