//! Grants: taken, shown, ended; and what follows for those who had them.
//!
//! The order, and what a crash after each step means: the grant, or its end, is durable with its record (the next start reads both) → it is in
//! force → connections of keys that are gone, or may do less, are closed → their jobs are stopped (the next start gives them no grant).
//!
//! *Owns:* that order, and the look once a second at whose time is up. *Never:* whether a grant is taken (`admission/delegation`).
//! *Spec:* `docs/formats/delegation.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use strongroom_job::delegation::{DelegationError, GrantId, SignedDelegation};
use strongroom_job::{GrantEnd, GrantView, MAX_FORGOTTEN, Name, PublicKey, Refusal, RefusalCode, Role};
use tokio::time::MissedTickBehavior;

use super::refuse::refuse_commit;
use super::service::HostService;
use crate::admission::delegation::{Asking, Kept, Taken};
use crate::config::Principal;
use crate::dispatch::InForce;
use crate::intake::Doors;
use crate::store::{CommitError, Committed, Transition};

/// Between two looks at whose time is up.
const LOOK: Duration = Duration::from_secs(1);
/// Grants that are shown at once: some 40 KiB.
const SHOWN_AT_ONCE: usize = 100;

impl HostService {
    /// From now on connections can be closed; while a file lies at `lock`, nobody gets any right.
    pub(super) fn has_doors(&self, doors: Doors, lock: PathBuf) {
        // A second time is the same.
        let _ = self.doors.set((doors, lock));
    }

    pub(super) async fn take_grant(
        &self,
        who: &Arc<Principal>,
        envelope: &[u8],
    ) -> Result<GrantView, Refusal> {
        self.check_open()?;
        let signed = SignedDelegation::parse(envelope).map_err(|error| refuse_form(&error))?;
        let body = signed.body();
        // Nothing changes between this judgement and its commit.
        let _turn = self.reloading.lock().await;
        let before = self.policy.in_force();
        let delegator = before.principal(&body.delegator, self.now());
        let asking = Asking {
            host: &self.policy.host,
            config: &before.config,
            speaks: who.key == body.delegator || self.operates(who),
            locked: self.is_locked(),
            delegator: delegator.as_deref(),
            now: self.now(),
        };
        let replaces = match before.grants.judge(&signed, &asking)? {
            Taken::New(_) if before.commands.is_revoked(&body.delegate) => {
                let text = format!(
                    "a command took {} out, and no grant lets it in again: use another key, or have an operator restore it",
                    body.delegate
                );
                return Err(Refusal::new(RefusalCode::Conflict, text));
            }
            Taken::New(replaces) => replaces,
            Taken::Before(_) => {
                return before
                    .grants
                    .standing(&body.id)
                    .map(|kept| self.grant_view(kept, &before))
                    .ok_or_else(odd);
            }
        };
        self.check_room()?;
        let transition = Transition::AddGrant { signed: Box::new(signed.clone()), replaces, by: who.key };
        let log_index = match self.store().commit(transition).await {
            Ok(Committed::Granted { log_index }) => log_index,
            Ok(_) => return Err(odd()),
            Err(error) => return Err(refuse_commit(&error, None).0),
        };
        let id = body.id;
        self.policy.replace_grants(before.grants.with(signed, log_index, replaces, self.now()));
        if replaces.is_some() {
            self.enforce(&before).await;
        }
        let now = self.policy.in_force();
        now.grants.standing(&id).map(|kept| self.grant_view(kept, &now)).ok_or_else(odd)
    }

    pub(super) fn show_grants(&self, who: &Arc<Principal>, after: Option<GrantId>) -> (Vec<GrantView>, bool) {
        let in_force = self.policy.in_force();
        let mut grants = in_force.grants.of_tenant(&who.tenant, after);
        let shown =
            grants.by_ref().take(SHOWN_AT_ONCE).map(|kept| self.grant_view(kept, &in_force)).collect();
        (shown, grants.next().is_some())
    }

    pub(super) async fn end_grant(
        &self,
        who: &Arc<Principal>,
        grant: GrantId,
    ) -> Result<Vec<GrantView>, Refusal> {
        let _turn = self.reloading.lock().await;
        let before = self.policy.in_force();
        // The same answer for one that does not exist and for one that is somebody else's.
        let ends = before.grants.is_above(&who.key, &grant)
            || (self.operates(who) && before.grants.standing(&grant).is_some());
        if !ends {
            let text = format!(
                "this host keeps no grant {grant} that {} gave, or that hangs below one it gave: look at `strongroom grant list`, or ask an operator",
                who.name
            );
            return Err(Refusal::new(RefusalCode::UnknownGrant, text));
        }
        let ended = before.grants.below(&grant);
        self.end(&before, &ended, GrantEnd::Revoked, who.key)
            .await
            .map_err(|error| refuse_commit(&error, None).0)?;
        self.policy.replace_grants(before.grants.revoked(&ended));
        self.enforce(&before).await;
        let shown = ended.iter().filter_map(|id| before.grants.standing(id));
        Ok(shown.map(|kept| GrantView { in_force: false, ..self.grant_view(kept, &before) }).collect())
    }

    /// Lets grants go whose time is up, or that a key has which is out.
    async fn end_expired(&self) -> Result<(), CommitError> {
        let looked = self.policy.in_force();
        // Looked at without the turn first: there is almost never one.
        let is_left = !looked.grants.of_keys(|key| looked.commands.is_revoked(key)).is_empty();
        if !is_left && looked.grants.expired(self.now(), 1).is_empty() {
            return Ok(());
        }
        drop(looked);
        let _turn = self.reloading.lock().await;
        self.end_of_the_revoked(self.policy.host).await?;
        let before = self.policy.in_force();
        let expired = before.grants.expired(self.now(), MAX_FORGOTTEN);
        if expired.is_empty() {
            return Ok(());
        }
        // What hangs below goes first: under another giver of the same delegate it would come back, by the right of somebody who never allowed it.
        let below: BTreeSet<_> = expired.iter().flat_map(|id| before.grants.below(id)).collect();
        let below: Vec<_> = below.into_iter().filter(|id| !expired.contains(id)).collect();
        self.end(&before, &below, GrantEnd::Revoked, self.policy.host).await?;
        self.end(&before, &expired, GrantEnd::Expired, self.policy.host).await?;
        self.policy.replace_grants(before.grants.revoked(&below).without(&expired));
        self.enforce(&before).await;
        Ok(())
    }

    /// Ends grants for good whose giver or delegate a command took out, and all below them. They are worth nothing before, too: a crash, or a disk
    /// that takes no record of it, leaves it to the next look.
    pub(super) async fn end_of_the_revoked(&self, by: PublicKey) -> Result<(), CommitError> {
        let before = self.policy.in_force();
        let ended = before.grants.of_keys(|key| before.commands.is_revoked(key));
        if !ended.is_empty() {
            self.end(&before, &ended, GrantEnd::Revoked, by).await?;
            self.policy.replace_grants(before.grants.revoked(&ended));
        }
        Ok(())
    }

    /// A record for each tenant whose they are, and for each so many.
    async fn end(
        &self,
        before: &InForce,
        grants: &[GrantId],
        why: GrantEnd,
        by: PublicKey,
    ) -> Result<(), CommitError> {
        let mut of: BTreeMap<&Name, Vec<GrantId>> = BTreeMap::new();
        for grant in grants {
            if let Some(tenant) = before.grants.tenant(grant) {
                of.entry(tenant).or_default().push(*grant);
            }
        }
        for (tenant, grants) in of {
            for grants in grants.chunks(MAX_FORGOTTEN) {
                let (tenant, grants) = (tenant.clone(), grants.to_vec());
                self.store().commit(Transition::EndGrants { tenant, grants, why, by }).await?;
            }
        }
        Ok(())
    }

    /// Whether it may do what operators may, by its role and by the trust file, if there is one.
    fn operates(&self, who: &Principal) -> bool {
        who.roles.has(Role::Operate) && self.is_operator(who)
    }

    /// Whether `config.lock` lies there. Whatever keeps it from being looked at counts as a lock.
    pub(super) fn is_locked(&self) -> bool {
        self.doors.get().is_some_and(|(_, lock)| {
            let looked = lock.symlink_metadata();
            !looked.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        })
    }

    fn grant_view(&self, kept: &Kept, in_force: &InForce) -> GrantView {
        let body = kept.signed.body();
        let by_this = |who: &Principal| who.narrowed.as_deref().is_some_and(|own| own.grant == body.id);
        GrantView {
            grant: body.id,
            name: body.name.clone(),
            delegator: body.delegator,
            delegate: body.delegate,
            tenant: body.tenant.clone(),
            not_before: body.not_before,
            not_after: body.not_after,
            further: body.further,
            roles: body.roles.clone(),
            in_force: in_force.principal(&body.delegate, self.now()).is_some_and(|who| by_this(&who)),
            log_index: kept.log_index,
        }
    }
}

/// `other`, and beside it a look once a second at whose time is up. Ends when `other` does.
pub(super) async fn watch_beside(other: impl Future<Output = ()>, service: Arc<HostService>) {
    let looking = async {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if let Err(error) = service.end_expired().await {
                // It is worth nothing all the same.
                tracing::error!(%error, "grants whose time is up could not be let go");
            }
        }
    };
    tokio::select! {
        () = other => {}
        () = looking => {}
    }
}

fn refuse_form(error: &DelegationError) -> Refusal {
    match error {
        DelegationError::BadSignature(_) => {
            Refusal::new(RefusalCode::BadSignature, format!("{error}: change nothing after it was signed"))
        }
        _ => Refusal::new(RefusalCode::BadEnvelope, error),
    }
}

fn odd() -> Refusal {
    Refusal::new(RefusalCode::HostFault, "the host's own fault: the grant is not there")
}
