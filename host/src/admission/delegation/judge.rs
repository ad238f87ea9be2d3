//! Whether a grant is taken: the questions of `docs/formats/delegation.md`, in their order.

use strongroom_job::delegation::{Ceilings, DelegationBody, GrantId, MAX_DELEGATION_DEPTH, SignedDelegation};
use strongroom_job::{Access, MAX_MISSING, PublicKey, Refusal, RefusalCode, Timestamp};

use super::{Grants, LATELY, MAX_GRANTS, MAX_GRANTS_PER_DELEGATOR, MAX_GRANTS_PER_TENANT};
use crate::config::{Config, Narrowed, Principal, Roles};

/// What a grant is held against, besides the other grants.
pub struct Asking<'a> {
    /// The host's key.
    pub host: &'a PublicKey,
    /// The configuration in force.
    pub config: &'a Config,
    /// Whether who hands it in may speak for the delegator: it is the delegator, or an operator.
    pub speaks: bool,
    /// Whether the configuration is locked.
    pub locked: bool,
    /// The delegator as the host knows it at this moment, if it does.
    pub delegator: Option<&'a Principal>,
    /// This moment.
    pub now: Timestamp,
}

/// What comes of a grant that may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was taken before: the index of its record.
    Before(u64),
    /// It is new, and ends this one.
    New(Option<GrantId>),
}

impl Grants {
    /// Whether a grant is taken.
    ///
    /// # Errors
    /// The refusal, in words for who hands it in.
    pub fn judge(&self, signed: &SignedDelegation, asking: &Asking<'_>) -> Result<Taken, Refusal> {
        let body = signed.body();
        let refuse = |code, text: String| Err(Refusal::new(code, text));
        let (name, delegator) = (&body.name, &body.delegator);
        if body.audience != *asking.host {
            let (audience, host) = (&body.audience, asking.host);
            let text = format!(
                "the grant is signed for the host {audience}, and this host is {host}: sign it for this host"
            );
            return refuse(RefusalCode::WrongAudience, text);
        }
        if !asking.speaks {
            let text = format!(
                "a grant is handed in by who gives it or by an operator of the host: connect with the key of {delegator}, or ask an operator"
            );
            return refuse(RefusalCode::Forbidden, text);
        }
        if let Some((digest, kept)) = self.digest(&body.id) {
            if digest == signed.digest() && !kept.ended {
                return Ok(Taken::Before(kept.log_index));
            }
            let what = if kept.ended { "has ended here" } else { "is another one here" };
            return refuse(
                RefusalCode::Conflict,
                format!("the grant {} {what}: sign one with a new id", body.id),
            );
        }
        not_locked(asking.locked, "takes no grants")?;
        if body.not_after <= asking.now {
            let text =
                "the grant's time is up: sign one that ends later, or set the clock of who signs right";
            return refuse(RefusalCode::Expired, text.into());
        }
        let Some(giver) = asking.delegator else {
            let text =
                format!("{delegator}, who gives, may do nothing on this host now, and has nothing to give");
            return refuse(RefusalCode::Forbidden, text);
        };
        if body.tenant != giver.tenant {
            let text = format!(
                "the grant is for tenant {}, and {} belongs to tenant {}: sign it for that tenant",
                body.tenant, giver.name, giver.tenant
            );
            return refuse(RefusalCode::WrongTenant, text);
        }
        let replaces = self.free(body, asking)?;
        let missing = wider(body, giver);
        if !missing.is_empty() {
            let text = format!(
                "the grant for {name} gives more than {} has: {}. Give less, or have more",
                giver.name,
                missing.join("; ")
            );
            return Err(Refusal { missing, ..Refusal::new(RefusalCode::NotGranted, text) });
        }
        self.room(body, asking.now)?;
        Ok(Taken::New(replaces))
    }

    /// Whether key and name of the delegate are free; gives the grant that ends with this one.
    fn free(&self, body: &DelegationBody, asking: &Asking<'_>) -> Result<Option<GrantId>, Refusal> {
        let (key, name) = (&body.delegate, &body.name);
        let conflict = |text: String| Err(Refusal::new(RefusalCode::Conflict, text));
        let principals = &asking.config.principals;
        if key == asking.host || principals.iter().any(|who| who.key == *key) {
            return conflict(format!(
                "{key} is a principal of this host already, which no grant changes: use another key for {name}"
            ));
        }
        let before =
            self.by_delegate.get(key).and_then(|id| self.standing(id)).map(|kept| kept.signed.body());
        if before.is_some_and(|before| before.delegator != body.delegator) {
            return conflict(format!(
                "{key} is somebody else's delegate already: use another key for {name}"
            ));
        }
        let standing = self.kept.values().filter(|kept| !kept.ended).map(|kept| kept.signed.body());
        let mut others = standing.filter(|other| other.delegate != *key);
        if principals.iter().any(|who| who.name == *name) || others.any(|other| other.name == *name) {
            return conflict(format!("somebody is called {name} here already: call the delegate otherwise"));
        }
        Ok(before.map(|before| before.id))
    }

    fn room(&self, body: &DelegationBody, now: Timestamp) -> Result<(), Refusal> {
        let bodies = || self.kept.values().map(|kept| kept.signed.body());
        let lately = || self.lately.iter().filter(|(.., taken)| now.since(*taken) < LATELY);
        let by_this = lately().filter(|(delegator, ..)| *delegator == body.delegator).count();
        let by_tenant = lately().filter(|(_, tenant, _)| *tenant == body.tenant).count();
        if by_this >= MAX_GRANTS_PER_DELEGATOR
            || by_tenant >= MAX_GRANTS_PER_TENANT
            || lately().count() >= MAX_GRANTS
        {
            let minutes = LATELY.as_secs() / 60;
            let text = format!(
                "too many grants were handed in during the last {minutes} minutes: {MAX_GRANTS_PER_DELEGATOR} of one delegator are taken, {MAX_GRANTS_PER_TENANT} of one \
                 tenant, {MAX_GRANTS} in all; wait, and sign fewer that last longer"
            );
            return Err(Refusal::new(RefusalCode::QuotaReached, text));
        }
        let delegator = bodies().filter(|other| other.delegator == body.delegator).count();
        let tenant = bodies().filter(|other| other.tenant == body.tenant).count();
        let (what, max) = match () {
            () if delegator >= MAX_GRANTS_PER_DELEGATOR => ("delegator", MAX_GRANTS_PER_DELEGATOR),
            () if tenant >= MAX_GRANTS_PER_TENANT => ("tenant", MAX_GRANTS_PER_TENANT),
            () if self.kept.len() >= MAX_GRANTS => ("host", MAX_GRANTS),
            () => return Ok(()),
        };
        let text = format!(
            "this {what} has {max} grants, and may have no more. One that was revoked counts until its time is up: wait, or sign grants for a shorter time"
        );
        Err(Refusal::new(RefusalCode::QuotaReached, text))
    }
}

/// Refuses what may not be done while the configuration is locked. `what` completes "the host …".
///
/// # Errors
/// When it is locked.
pub fn not_locked(locked: bool, what: &str) -> Result<(), Refusal> {
    if !locked {
        return Ok(());
    }
    let text = format!(
        "the configuration of this host is locked (config.lock), and until somebody on its machine removes that file it {what}"
    );
    Err(Refusal::new(RefusalCode::Forbidden, text))
}

/// What a grant names and its giver does not have, one by one.
fn wider(body: &DelegationBody, giver: &Principal) -> Vec<String> {
    let above = giver.narrowed.as_deref();
    let mut wider = Vec::new();
    let depth = above.map_or(MAX_DELEGATION_DEPTH, |above| above.further);
    if depth == 0 {
        wider.push("a further grant (the grant above lets none hang below it)".to_owned());
    } else if body.further >= depth {
        wider.push(format!("{} further grants below it (at most {})", body.further, depth - 1));
    }
    if let Some(above) = above.filter(|above| body.not_after > above.until) {
        wider.push(format!(
            "time until {} (at most {})",
            body.not_after.to_rfc3339(),
            above.until.to_rfc3339()
        ));
    }
    for role in &body.roles {
        if !giver.roles.cover(Roles::of(*role)) {
            wider.push(format!("role {role}"));
        }
    }
    if let Some(queues) = above.and_then(|above| above.queues.as_ref()) {
        let asked = body.queues.iter().flatten().filter(|queue| !queues.contains(*queue));
        wider.extend(asked.map(|queue| format!("queue {queue}")));
    }
    for (name, access) in &body.volumes {
        if giver.volumes.get(name).is_none_or(|given| given < access) {
            let access = if *access == Access::Read { "read" } else { "read-write" };
            wider.push(format!("volume {name} {access}"));
        }
    }
    wider.extend(rights(body, giver));
    let nothing = Ceilings::default();
    let ceilings = above.map_or(&nothing, |above| &above.max_limits);
    wider.extend(body.max_limits.above(ceilings).into_iter().map(|limit| format!("a higher limit {limit}")));
    wider.extend(other_labels(body, above).map(|label| format!("another value of the label {label:?}")));
    wider.truncate(MAX_MISSING);
    wider
}

/// The same of the network and of secrets.
fn rights<'a>(body: &'a DelegationBody, giver: &'a Principal) -> impl Iterator<Item = String> + 'a {
    let asks = !giver.any_network;
    let connect =
        body.connect.iter().filter(move |to| asks && !giver.connect.iter().any(|rule| rule.covers(to)));
    let listen = body.listen.iter().filter(move |at| asks && !giver.listen.contains(at));
    let http =
        body.http.iter().filter(move |rule| asks && !giver.http.iter().any(|given| given.covers(rule)));
    let secrets = body.secrets.iter().filter(|secret| !giver.secrets.contains(*secret));
    let connect = connect.map(|to| format!("connect {to}"));
    let listen = listen.map(|at| format!("listen {at}"));
    let http = http.map(|rule| format!("http {rule}"));
    connect.chain(listen).chain(http).chain(secrets.map(|secret| format!("secret {secret}")))
}

fn other_labels<'a>(
    body: &'a DelegationBody,
    above: Option<&'a Narrowed>,
) -> impl Iterator<Item = &'a String> {
    let other = move |(label, value): &(&String, &String)| {
        above.and_then(|above| above.labels.get(*label)).is_some_and(|above| above != *value)
    };
    body.labels.iter().filter(other).map(|(label, _)| label)
}
