//! What is said to a principal when an envelope, or its commit, fails.

use strongroom_job::{EnvelopeError, JobId, Refusal, RefusalCode};

use crate::lifecycle::Illegal;
use crate::store::CommitError;

pub(super) fn refuse_envelope(error: &EnvelopeError) -> Refusal {
    match error {
        EnvelopeError::BadSignature(_) => {
            let text =
                format!("{error}: sign with the key that you connect with, and change nothing afterwards");
            Refusal::new(RefusalCode::BadSignature, text)
        }
        _ => Refusal::new(RefusalCode::BadEnvelope, error),
    }
}

pub(super) fn refuse_commit(error: &CommitError, job: Option<JobId>) -> (Refusal, Option<JobId>) {
    let (code, job) = match error {
        CommitError::Illegal(_) => (RefusalCode::WrongState, job),
        CommitError::UnknownJob => (RefusalCode::UnknownJob, job),
        CommitError::Conflict(id) => (RefusalCode::Conflict, Some(*id)),
        CommitError::Full { .. } => (RefusalCode::QueueFull, job),
        CommitError::NotUnique { job, .. } => (RefusalCode::NotUnique, Some(*job)),
        CommitError::Denied(refusal) => (refusal.code, job),
        CommitError::Failed(_) => (RefusalCode::HostFault, job),
    };
    let text = match (error, job) {
        (CommitError::Illegal(Illegal::Over(state)), Some(job)) => {
            format!("job {job} is over already ({state}): nothing was changed")
        }
        (CommitError::Failed(_), _) => {
            format!("the host's own fault: {error}. Nothing was acknowledged; try again when it is back")
        }
        _ => error.to_string(),
    };
    (Refusal::new(code, text), job)
}
