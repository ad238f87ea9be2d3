//! Grants that principals gave to other keys, each with the record that says so.
//!
//! *Never:* whether one is taken, or who may end it: that was asked before (`admission/delegation`).
//! *Spec:* `docs/formats/state.md`, `docs/formats/delegation.md`.

use serde::{Deserialize, Serialize};
use strongroom_job::delegation::{GrantId, SignedDelegation};
use strongroom_job::{Base64Bytes, Event, GrantEnd, Name, PublicKey};

use super::group::{Group, Refused};
use super::rows::Rows;
use super::{Committed, ReadError, Store, keys};
use crate::admission::delegation::Kept;

/// A grant as it stands in a row: what was signed, and where the log says so.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    payload: Base64Bytes,
    signature: Base64Bytes,
    log_index: u64,
}

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
        let row = Row { payload: signed.payload(), signature: signed.signature(), log_index };
        let row = serde_json::to_vec(&row).map_err(ReadError::from)?;
        self.batch.insert(keys::grant(&body.id), row);
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

fn grants(rows: &dyn Rows) -> Result<Vec<Kept>, ReadError> {
    let mut kept = Vec::new();
    for row in rows.under(keys::GRANTS) {
        let (key, value) = row?;
        let Row { payload, signature, log_index } = serde_json::from_slice(&value)?;
        let signed = SignedDelegation::from_parts(&payload, &signature);
        let signed = signed.map_err(|_| ReadError::Damaged("a grant"))?;
        let id = &signed.body().id;
        if key[keys::GRANTS.len()..] != *id.as_bytes() {
            return Err(ReadError::Damaged("a grant under another one's id"));
        }
        let ended = rows.value(&keys::grant_ended(id))?.is_some();
        kept.push(Kept { signed, log_index, ended });
    }
    Ok(kept)
}

impl Store {
    /// Every grant that is kept, those among them that have ended before their time.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn grants(&self) -> Result<Vec<Kept>, ReadError> {
        grants(&self.current)
    }
}
