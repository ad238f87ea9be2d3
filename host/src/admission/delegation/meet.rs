//! The intersection of what somebody may do with what he gives on.
//!
//! *Never:* wider than either side, whatever the two say of each other; a property test holds it to that.

use std::collections::{BTreeMap, BTreeSet};

use strongroom_job::delegation::{Ceilings, DelegationBody, MAX_DELEGATION_DEPTH};
use strongroom_job::{Destination, HttpRule};

use crate::config::{Narrowed, Principal, Roles};

/// The delegate of a grant, as far as both its giver and the grant allow; none when that is nothing at all.
#[must_use]
pub fn meet(giver: &Principal, body: &DelegationBody) -> Option<Principal> {
    if giver.key != body.delegator || giver.tenant != body.tenant {
        return None;
    }
    let above = giver.narrowed.as_deref();
    let further = above.map_or(MAX_DELEGATION_DEPTH, |above| above.further).checked_sub(1)?;
    let roles = giver.roles.meet(Roles::of_list(&body.roles)?)?;
    let own: Option<BTreeSet<_>> = body.queues.as_ref().map(|queues| queues.iter().cloned().collect());
    let queues = match (above.and_then(|above| above.queues.as_ref()), own) {
        (Some(above), Some(own)) => Some(above & &own),
        (above, own) => own.or_else(|| above.cloned()),
    };
    let labels = labels(above, body)?;
    let nothing = Ceilings::default();
    let max_limits = above.map_or(&nothing, |above| &above.max_limits).meet(&body.max_limits);
    let mut chain = above.map_or_else(Vec::new, |above| above.chain.clone());
    chain.push(giver.key);
    let narrowed = Narrowed {
        grant: body.id,
        chain,
        from: above.map_or(body.not_before, |above| above.from.max(body.not_before)),
        until: above.map_or(body.not_after, |above| above.until.min(body.not_after)),
        further: further.min(body.further),
        queues,
        max_limits,
        labels,
    };
    let volumes = body.volumes.iter().filter_map(|(name, access)| {
        let given = giver.volumes.get(name)?;
        Some((name.clone(), *given.min(access)))
    });
    let any = giver.any_network;
    Some(Principal {
        name: body.name.clone(),
        key: body.delegate,
        tenant: body.tenant.clone(),
        volumes: volumes.collect(),
        any_directory: false,
        any_network: false,
        connect: if any {
            body.connect.clone()
        } else {
            rules(&giver.connect, &body.connect, Destination::covers)
        },
        listen: body.listen.iter().filter(|at| any || giver.listen.contains(at)).copied().collect(),
        http: if any { body.http.clone() } else { rules(&giver.http, &body.http, HttpRule::covers) },
        secrets: body.secrets.iter().filter(|secret| giver.secrets.contains(*secret)).cloned().collect(),
        roles,
        narrowed: Some(Box::new(narrowed)),
    })
}

/// The labels of both; none when they ask for two values of one.
fn labels(above: Option<&Narrowed>, body: &DelegationBody) -> Option<BTreeMap<String, String>> {
    let mut labels = above.map_or_else(BTreeMap::new, |above| above.labels.clone());
    for (label, value) in &body.labels {
        if labels.insert(label.clone(), value.clone()).is_some_and(|other| other != *value) {
            return None;
        }
    }
    Some(labels)
}

/// Rules of the grant that one of the giver's covers, and else the giver's that one of the grant's covers. No more than both lists have
/// together, since each is one of them.
fn rules<T: Clone + PartialEq>(giver: &[T], grant: &[T], covers: impl Fn(&T, &T) -> bool) -> Vec<T> {
    let mut met: Vec<T> = Vec::new();
    for own in grant {
        if giver.iter().any(|given| covers(given, own)) {
            met.push(own.clone());
            continue;
        }
        let narrower = giver.iter().filter(|given| covers(own, given));
        let new: Vec<T> = narrower.filter(|given| !met.contains(given)).cloned().collect();
        met.extend(new);
    }
    met
}
