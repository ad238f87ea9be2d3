//! Grants that principals gave to other keys, each with the record that says so.
//!
//! *Never:* whether one is taken, or who may end it: that was asked before (`admission/delegation`).
//! *Spec:* `docs/formats/state.md`, `docs/formats/delegation.md`.

use strongroom_job::delegation::{DelegationBody, GrantId, SignedDelegation};
use strongroom_job::{Event, GrantEnd, Name, PublicKey};

use super::group::{Group, Refused};
use super::rows::Rows as _;
use super::{Committed, ReadError, Store, keys, statement};
use crate::admission::delegation::Kept;

impl Group<'_> {
    pub(super) fn add_grant(
        &mut self,
        signed: &SignedDelegation,
        replaces: Option<GrantId>,
        by: PublicKey,
    ) -> Result<Committed, Refused> {
        let body = signed.body();
        let log_index = self.log(Event::GrantAdded {
            grant: body.id,
            principal: by,
            delegator: body.delegator,
            delegate: body.delegate,
            tenant: body.tenant.clone(),
            replaces,
            payload: signed.payload(),
            signature: signed.signature(),
        });
        self.batch.insert(keys::grant(&body.id), statement::row(signed, log_index)?);
        if let Some(replaced) = replaces {
            self.batch.insert(keys::grant_ended(&replaced), [1]);
        }
        Ok(Committed::Granted { log_index })
    }

    /// Grants that were revoked stay, with a mark: their ids must not come back while their time is not up.
    pub(super) fn end_grants(
        &mut self,
        tenant: Name,
        grants: Vec<GrantId>,
        why: GrantEnd,
        by: PublicKey,
    ) -> Committed {
        for grant in &grants {
            match why {
                GrantEnd::Revoked => self.batch.insert(keys::grant_ended(grant), [1]),
                GrantEnd::Expired => {
                    self.batch.remove(keys::grant(grant));
                    self.batch.remove(keys::grant_ended(grant));
                }
            }
        }
        self.log(Event::GrantsEnded { tenant, grants, why, principal: by });
        Committed::Done
    }
}

impl Store {
    /// Every grant that is kept, those among them that have ended before their time.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn grants(&self) -> Result<Vec<Kept>, ReadError> {
        let id = |body: &DelegationBody| *body.id.as_bytes();
        let all = statement::all(&self.current, keys::GRANTS, id, "a grant")?;
        let kept = |(signed, log_index): (SignedDelegation, u64)| {
            let ended = self.current.value(&keys::grant_ended(&signed.body().id))?.is_some();
            Ok(Kept { signed, log_index, ended })
        };
        all.into_iter().map(kept).collect()
    }
}
