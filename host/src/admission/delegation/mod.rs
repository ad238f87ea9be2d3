//! Grants: what principals have given to other keys, and what each of those may do by it.
//!
//! [`Grants`] is every grant that a host keeps; [`Grants::delegates`] holds all chains against the configuration in force and gives each
//! delegate as the [`Principal`] that it is now (`meet`); [`Grants::judge`] says whether a new one is taken (`judge`).
//!
//! *Owns:* the intersection, and every no to a grant. *Never:* time but where it is passed in; the store, which keeps them.
//! *Bound:* [`MAX_GRANTS`] of at most 16 KiB. *Spec:* `docs/formats/delegation.md`.

mod judge;
mod meet;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use strongroom_job::delegation::{GrantId, MAX_DELEGATION_DEPTH, SignedDelegation};
use strongroom_job::{Digest, Name, PublicKey, Timestamp};

use crate::config::Principal;

pub use judge::{Asking, Taken, not_locked};
pub use meet::meet;

/// Grants that a host keeps at most, those among them that were revoked and whose time is not up.
pub const MAX_GRANTS: usize = 1024;
/// Those of one delegator.
pub const MAX_GRANTS_PER_DELEGATOR: usize = 64;
/// Those of one tenant.
pub const MAX_GRANTS_PER_TENANT: usize = 256;
/// During this time no more grants are taken than may be kept, however soon they end: each is a record for ever.
pub const LATELY: Duration = Duration::from_secs(600);

/// A grant that a host keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What was signed.
    pub signed: SignedDelegation,
    /// Index of its `grant-added` record.
    pub log_index: u64,
    /// Whether it was revoked, or another one took its place: then only its id counts.
    pub ended: bool,
}

/// Every grant that a host keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    kept: BTreeMap<GrantId, Arc<Kept>>,
    /// The grants that stand, by who got them: one for each key.
    by_delegate: HashMap<PublicKey, GrantId>,
    /// Those that were taken during the last [`LATELY`], the oldest first: who gave, of which tenant, when.
    lately: VecDeque<(PublicKey, Name, Timestamp)>,
}

impl Grants {
    /// These grants. Of two that stand for one delegate, the one with the later record counts.
    #[must_use]
    pub fn of(kept: impl IntoIterator<Item = Kept>) -> Self {
        let mut kept: Vec<Kept> = kept.into_iter().collect();
        kept.sort_by_key(|one| one.log_index);
        let mut grants = Self::default();
        for one in kept {
            let body = one.signed.body();
            if !one.ended {
                grants.by_delegate.insert(body.delegate, body.id);
            }
            grants.kept.insert(body.id, Arc::new(one));
        }
        grants
    }

    /// These, and one more, which takes the place of another one.
    #[must_use]
    pub fn with(
        &self,
        signed: SignedDelegation,
        log_index: u64,
        replaces: Option<GrantId>,
        now: Timestamp,
    ) -> Self {
        let mut next = self.clone();
        next.lately.retain(|(.., taken)| now.since(*taken) < LATELY);
        next.lately.push_back((signed.body().delegator, signed.body().tenant.clone(), now));
        if let Some(replaced) = replaces {
            next.end(&replaced);
        }
        let (id, delegate) = (signed.body().id, signed.body().delegate);
        next.kept.insert(id, Arc::new(Kept { signed, log_index, ended: false }));
        next.by_delegate.insert(delegate, id);
        next
    }

    /// Without the right of these, whose ids stay known.
    #[must_use]
    pub fn revoked(&self, grants: &[GrantId]) -> Self {
        let mut next = self.clone();
        for grant in grants {
            next.end(grant);
        }
        next
    }

    /// Without anything of these.
    #[must_use]
    pub fn without(&self, grants: &[GrantId]) -> Self {
        let mut next = self.revoked(grants);
        for grant in grants {
            next.kept.remove(grant);
        }
        next
    }

    fn end(&mut self, grant: &GrantId) {
        let Some(kept) = self.kept.get_mut(grant) else { return };
        let delegate = kept.signed.body().delegate;
        Arc::make_mut(kept).ended = true;
        if self.by_delegate.get(&delegate) == Some(grant) {
            self.by_delegate.remove(&delegate);
        }
    }

    /// Whose a grant is, also one that has ended.
    #[must_use]
    pub fn tenant(&self, grant: &GrantId) -> Option<&Name> {
        self.kept.get(grant).map(|kept| &kept.signed.body().tenant)
    }

    /// A grant that stands.
    #[must_use]
    pub fn standing(&self, grant: &GrantId) -> Option<&Kept> {
        self.kept.get(grant).map(AsRef::as_ref).filter(|kept| !kept.ended)
    }

    /// Whether a grant that stands is for this key.
    #[must_use]
    pub fn is_delegate(&self, key: &PublicKey) -> bool {
        self.by_delegate.contains_key(key)
    }

    /// Whether a grant that stands calls somebody this.
    #[must_use]
    pub fn is_called(&self, name: &Name) -> bool {
        self.kept.values().any(|kept| !kept.ended && kept.signed.body().name == *name)
    }

    /// The grants of a tenant that stand, behind `after`, in the order of their ids.
    pub fn of_tenant<'g>(
        &'g self,
        tenant: &'g Name,
        after: Option<GrantId>,
    ) -> impl Iterator<Item = &'g Kept> {
        use std::ops::Bound;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let kept = self.kept.range((from, Bound::Unbounded)).map(|(_, kept)| kept.as_ref());
        kept.filter(move |kept| !kept.ended && kept.signed.body().tenant == *tenant)
    }

    /// Those whose time is up, at most so many.
    #[must_use]
    pub fn expired(&self, now: Timestamp, most: usize) -> Vec<GrantId> {
        let up = self.kept.iter().filter(|(_, kept)| kept.signed.body().not_after <= now);
        up.map(|(id, _)| *id).take(most).collect()
    }

    /// A grant that stands, and every one below it.
    #[must_use]
    pub fn below(&self, grant: &GrantId) -> Vec<GrantId> {
        let Some(top) = self.standing(grant) else { return Vec::new() };
        let mut found = vec![*grant];
        let mut givers = vec![top.signed.body().delegate];
        // One level deeper each time. No chain is longer, and who stands in two of them is found once.
        for _ in 0..MAX_DELEGATION_DEPTH {
            let mut next = Vec::new();
            for (id, kept) in self.kept.iter().filter(|(_, kept)| !kept.ended) {
                let body = kept.signed.body();
                if givers.contains(&body.delegator) && !found.contains(id) {
                    found.push(*id);
                    next.push(body.delegate);
                }
            }
            givers = next;
        }
        found
    }

    /// The grants that stand and that one of these keys gave or got, and every one below them.
    #[must_use]
    pub fn of_keys(&self, is_one: impl Fn(&PublicKey) -> bool) -> Vec<GrantId> {
        let is_theirs = |kept: &&Arc<Kept>| {
            let body = kept.signed.body();
            !kept.ended && (is_one(&body.delegator) || is_one(&body.delegate))
        };
        let mut found: BTreeSet<GrantId> = BTreeSet::new();
        for kept in self.kept.values().filter(is_theirs) {
            let id = kept.signed.body().id;
            if !found.contains(&id) {
                found.extend(self.below(&id));
            }
        }
        found.into_iter().collect()
    }

    /// Whether `key` stands above this grant: it gave it, or what the one who gave it has.
    #[must_use]
    pub fn is_above(&self, key: &PublicKey, grant: &GrantId) -> bool {
        let mut at = self.standing(grant);
        for _ in 0..MAX_DELEGATION_DEPTH {
            let Some(kept) = at else { return false };
            let giver = &kept.signed.body().delegator;
            if giver == key {
                return true;
            }
            at = self.by_delegate.get(giver).and_then(|above| self.standing(above));
        }
        false
    }

    /// Each delegate as the principal that it is by its whole chain, under these principals of a configuration. When its time has come
    /// is for who asks: it stands in the principal.
    #[must_use]
    pub fn delegates(
        &self,
        roots: &HashMap<PublicKey, Arc<Principal>>,
    ) -> HashMap<PublicKey, Arc<Principal>> {
        let mut known: HashMap<PublicKey, Arc<Principal>> = HashMap::new();
        let standing = || self.by_delegate.values().filter_map(|id| self.standing(id));
        // From the roots down, a level each time: whoever gives is known before those who get.
        for _ in 0..MAX_DELEGATION_DEPTH {
            let mut next = Vec::new();
            for kept in standing() {
                let body = kept.signed.body();
                // What the configuration says of a key is all that counts for it.
                if roots.contains_key(&body.delegate) || known.contains_key(&body.delegate) {
                    continue;
                }
                let giver = roots.get(&body.delegator).or_else(|| known.get(&body.delegator));
                if let Some(who) = giver.and_then(|giver| meet(giver, body)) {
                    next.push((body.delegate, Arc::new(who)));
                }
            }
            if next.is_empty() {
                break;
            }
            known.extend(next);
        }
        known
    }

    fn digest(&self, grant: &GrantId) -> Option<(Digest, &Kept)> {
        self.kept.get(grant).map(|kept| (kept.signed.digest(), kept.as_ref()))
    }
}
