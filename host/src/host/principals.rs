//! Commands of operators about principals: taken, shown; and what follows for those whom they take out.
//!
//! The order, and what a crash after each step means: the command is durable with its record (the next start reads it) → it is in force →
//! connections of keys that are gone are closed → their jobs are stopped (the next start gives them no grant) → grants that they gave or got have ended
//! (they are worth nothing from the first step on; whoever looks next ends them).
//!
//! *Owns:* that order. *Never:* whether a command is taken (`admission/command`). *Spec:* `docs/formats/principal.md`.

use std::sync::Arc;

use strongroom_job::principal::{CommandError, SignedCommand};
use strongroom_job::trust::TrustFile;
use strongroom_job::{PrincipalSource, PrincipalView, PublicKey, Refusal, RefusalCode};

use super::refuse::refuse_commit;
use super::service::HostService;
use crate::admission::command::{Asking, Judged, entry, roles};
use crate::config::Principal;
use crate::dispatch::InForce;
use crate::store::{Committed, Transition};

/// Most of a list that is shown at once: principals, and bytes of what commands would say of them.
const SHOWN_AT_ONCE: usize = 50;
const SHOWN_BYTES: usize = 16 << 10;

impl HostService {
    pub(super) async fn take_command(
        &self,
        who: &Arc<Principal>,
        envelope: &[u8],
    ) -> Result<Vec<PrincipalView>, Refusal> {
        self.check_open()?;
        let signed = SignedCommand::parse(envelope).map_err(|error| refuse_form(&error))?;
        // Nothing changes between this judgement and its commit.
        let _turn = self.reloading.lock().await;
        if !self.is_operator(who) {
            return Err(self.no_operator(who));
        }
        let before = self.policy.in_force();
        // It may have been taken out while it waited for its turn.
        if before.principal(&who.key, self.now()).is_none_or(|now| !now.roles.cover(who.roles)) {
            let text = format!("{} may not do this any more", who.name);
            return Err(Refusal::new(RefusalCode::Forbidden, text));
        }
        let asking = Asking {
            host: &self.policy.host,
            who: &who.key,
            file: &before.file,
            config: &before.config,
            grants: &before.grants,
            locked: self.is_locked(),
            now: self.now(),
        };
        let keys: Vec<PublicKey> = signed.body().keys().collect();
        if let Judged::New(forgets) = before.commands.judge(&signed, &asking)? {
            // A key is taken out also when the disk is almost full.
            if signed.body().revoke.is_none() || signed.body().add.is_some() {
                self.check_room()?;
            }
            let transition =
                Transition::Command { signed: Box::new(signed.clone()), forgets: forgets.clone() };
            let log_index = match self.store().commit(transition).await {
                Ok(Committed::Granted { log_index }) => log_index,
                Ok(_) => return Err(Refusal::new(RefusalCode::HostFault, "a wrong answer of the store")),
                Err(error) => return Err(refuse_commit(&error, None).0),
            };
            self.policy.replace_commands(before.commands.with(signed, log_index, &forgets));
            self.enforce(&before).await;
            if let Err(error) = self.end_of_the_revoked(who.key).await {
                tracing::error!(%error, "grants of a key that is out cannot be ended; they are worth nothing, and it is tried again in a second");
            }
        }
        let now = self.policy.in_force();
        Ok(keys.iter().map(|key| view(key, &now)).collect())
    }

    pub(super) fn show_principals(&self, after: Option<PublicKey>) -> (Vec<PrincipalView>, bool) {
        let in_force = self.policy.in_force();
        let named = in_force.file.principals.iter().map(|who| who.key);
        let mut keys: Vec<PublicKey> = named.chain(in_force.commands.keys().copied()).collect();
        keys.sort_unstable_by_key(|key| *key.as_bytes());
        keys.dedup();
        let behind = |key: &&PublicKey| after.is_none_or(|after| key.as_bytes() > after.as_bytes());
        let mut keys = keys.iter().filter(behind).peekable();
        let (mut shown, mut bytes) = (Vec::new(), 0);
        while let Some(key) = keys.next_if(|_| shown.len() < SHOWN_AT_ONCE && bytes < SHOWN_BYTES) {
            let view = view(key, &in_force);
            bytes += serde_json::to_vec(&view.entry).map_or(0, |entry| entry.len());
            shown.push(view);
        }
        (shown, keys.peek().is_some())
    }
}

/// Says what to do when commands took out everybody who could operate the host by its file. It starts all the same: jobs need no operator.
pub(super) fn tell_of_no_operator(in_force: &InForce, trusted: Option<&TrustFile>) {
    let InForce { file, config, .. } = in_force;
    let named = |who: &Principal| trusted.is_none_or(|trusted| trusted.in_force().names(&who.key));
    if file.lets_in(named).is_ok()
        && let Err(problem) = config.lets_in(named)
    {
        tracing::error!(
            "commands of operators took out whom the configuration lets operate this host, and {problem}. Jobs go on. Give another key the role admin \
             in [[principals]], reload, and with it look at `strongroom principal list` and restore whom you want back"
        );
    }
}

fn view(key: &PublicKey, in_force: &InForce) -> PrincipalView {
    let InForce { file, config, commands, .. } = in_force;
    let of = |principals: &[Principal]| principals.iter().find(|who| who.key == *key).cloned();
    let (named, now) = (of(&file.principals), of(&config.principals));
    let revoked = commands.is_revoked(key);
    let source = match (&named, commands.added(key)) {
        (Some(_), _) => Some(PrincipalSource::File),
        (None, Some(_)) => Some(PrincipalSource::Command),
        (None, None) => None,
    };
    let who = now.or(named);
    PrincipalView {
        key: *key,
        revoked,
        source,
        name: who.as_ref().map(|who| who.name.clone()),
        tenant: who.as_ref().map(|who| who.tenant.clone()),
        roles: who.as_ref().map(roles).unwrap_or_default(),
        log_index: commands.record(key),
        // One that commands would not take for its length is shown without.
        entry: who.as_ref().and_then(entry).filter(short).map(Box::new),
    }
}

fn short(entry: &strongroom_job::principal::Entry) -> bool {
    serde_json::to_vec(entry).is_ok_and(|bytes| bytes.len() <= SHOWN_BYTES)
}

fn refuse_form(error: &CommandError) -> Refusal {
    match error {
        CommandError::BadSignature(_) => {
            Refusal::new(RefusalCode::BadSignature, format!("{error}: change nothing after it was signed"))
        }
        _ => Refusal::new(RefusalCode::BadEnvelope, error),
    }
}
