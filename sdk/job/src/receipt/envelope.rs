//! The envelope of a job in its receipt: written the one way in which we write envelopes, so that no byte of it is free.

use super::{Admitted, ReceiptError, to_json};
use crate::dsse::Dsse;
use crate::{Digest, Envelope, GrantRecord, JobBody, PublicKey};

/// What the principal signed: the body of the job, or of the series that the job is a run of. None for a run whose series came in a
/// batch with other jobs: which of them it is a run of stands in the log, and not here.
///
/// What the record says of the job must be what was signed: a host that ran another module, or under other bounds, is found out here.
pub(super) fn body_of(
    dsse: &Dsse,
    admitted: &Admitted,
    host: &PublicKey,
) -> Result<Option<JobBody>, ReceiptError> {
    let Admitted { job, principal, envelope, .. } = admitted;
    if Digest::of(&dsse.payload.0) != *envelope {
        return Err(ReceiptError::OtherEnvelope);
    }
    let parsed = Envelope::parse(&to_json(dsse))?;
    if parsed.clone().into_dsse(principal) != *dsse {
        return Err(ReceiptError::NotAsWritten);
    }
    let jobs = parsed.verify(principal)?;
    let is_series = jobs.len() == 1 && jobs.iter().all(|one| one.body().task.plan.repeat.is_some());
    let found = jobs.into_iter().find(|one| is_series || one.body().id == *job);
    let found = found.map(crate::VerifiedJob::into_body);
    let is_same = |body: &JobBody| {
        let JobBody { context, task, .. } = body;
        context.audience == *host
            && context.tenant == admitted.tenant
            && task.module == admitted.module
            && task.limits == admitted.limits
            && GrantRecord::of(&task.capabilities) == admitted.grant
    };
    if !found.as_ref().is_none_or(is_same) {
        return Err(ReceiptError::OtherTask);
    }
    Ok(found)
}
