//! The envelope of a job in its receipt: written the one way in which we write envelopes, so that no byte of it is free.

use super::{Admitted, ReceiptError, to_json};
use crate::dsse::Dsse;
use crate::succession::{KeyChain, KeyRole, Succession};
use crate::{Digest, Envelope, GrantRecord, JobBody, PublicKey};

/// For whom an envelope in a receipt may be signed: the key that signed the receipt, or one before it.
pub(super) struct Audiences<'a> {
    /// What the verifier knows.
    pub(super) hosts: &'a KeyChain,
    /// Who signed the receipt.
    pub(super) signer: PublicKey,
    /// What the receipt brings along: the line from the envelope's audience to the signer, and nothing else.
    pub(super) within: &'a [Succession],
}

impl Audiences<'_> {
    fn hold(&self, audience: &PublicKey) -> Result<bool, ReceiptError> {
        let Self { hosts, signer, within } = self;
        if let [first, .., last] | [first @ last] = within {
            let line = KeyChain::pinned(KeyRole::Host, *signer).follow(within).map_err(ReceiptError::Keys)?;
            // Statements that are not needed would be bytes that nobody holds against anything.
            if first.old_key() != audience || line.current() != signer || last.new_key() != signer {
                return Err(ReceiptError::NotAsWritten);
            }
            return Ok(true);
        }
        // One that came later cannot have been answered by one before it.
        Ok(hosts.place(audience).is_some_and(|place| Some(place) <= hosts.place(signer)))
    }
}

/// What the principal signed: the body of the job, or of the series that the job is a run of. None for a run whose series came in a
/// batch with other jobs: which of them it is a run of stands in the log, and not here.
///
/// What the record says of the job must be what was signed: a host that ran another module, or under other bounds, is found out here.
pub(super) fn body_of(
    dsse: &Dsse,
    admitted: &Admitted,
    audiences: &Audiences<'_>,
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
    // All jobs of an envelope are signed for one host.
    let is_for_us = match jobs.first() {
        Some(first) => audiences.hold(&first.body().context.audience)?,
        None => false,
    };
    let is_series = jobs.len() == 1 && jobs.iter().all(|one| one.body().task.plan.repeat.is_some());
    let found = jobs.into_iter().find(|one| is_series || one.body().id == *job);
    let found = found.map(crate::VerifiedJob::into_body);
    let is_same = |body: &JobBody| {
        let JobBody { context, task, .. } = body;
        context.tenant == admitted.tenant
            && task.module == admitted.module
            && task.limits == admitted.limits
            && GrantRecord::of(&task.capabilities) == admitted.grant
    };
    if !is_for_us || !found.as_ref().is_none_or(is_same) {
        return Err(ReceiptError::OtherTask);
    }
    Ok(found)
}
