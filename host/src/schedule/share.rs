//! Which tenant is next: weighted fair sharing by virtual time.
//!
//! A tenant's virtual time is the time that its jobs have taken, divided by its weight. Whoever has the least goes first. What
//! keeps that fair over days is one more number, the virtual time of the last start, which only grows:
//!
//! - nobody starts below it. Who was idle or held back by a limit has saved nothing up, and is next at once;
//! - it moves on with whoever uses the host alone, so that this costs them nothing when others come.
//!
//! *Owns:* the order of the tenants. *Never:* which of a tenant's jobs, limits, clocks.

use std::collections::BTreeSet;
use std::time::Duration;

use super::TenantId;

/// What a start costs before anybody knows how long the job runs: enough to take turns.
const START: Duration = Duration::from_millis(1);

/// How far ahead of the others a tenant is at most, in slot time of weight 1. It bounds how long the others go first when
/// very long jobs of one tenant have ended. Between tenants whose jobs at once add up to more than this, those with the longer
/// jobs get more than their share.
const MAX_LEAD: Duration = Duration::from_secs(3600);

/// Parts of a nanosecond: divisible by every weight up to 16, so that usual shares are exact.
const PARTS: u128 = 720_720;

/// Virtual time. 128 bits, since a thousand slots fill 64 in some months.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Virtual(u128);

impl Virtual {
    fn plus(self, used: Duration, weight: u32) -> Self {
        let parts = used.as_nanos().saturating_mul(PARTS) / u128::from(weight.max(1));
        Self(self.0.saturating_add(parts))
    }
}

#[derive(Clone, Debug)]
struct Share {
    at: Virtual,
    weight: u32,
}

/// All tenants, and those of them that have ready jobs in their order.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// Virtual time of the last start.
    now: Virtual,
    /// By [`TenantId`].
    of: Vec<Share>,
    contenders: BTreeSet<(Virtual, TenantId)>,
}

impl Shares {
    /// One more tenant, whose id is the next number.
    pub(super) fn push(&mut self, weight: u32) {
        self.of.push(Share { at: Virtual::default(), weight });
    }

    /// The tenant has ready jobs.
    pub(super) fn join(&mut self, tenant: TenantId) {
        self.contenders.insert((self.of[tenant.index()].at, tenant));
    }

    /// The tenant has no ready job any more.
    pub(super) fn leave(&mut self, tenant: TenantId) {
        self.contenders.remove(&(self.of[tenant.index()].at, tenant));
    }

    /// Those with ready jobs, whose turn it is first. Between equals, the one that was known first.
    pub(super) fn in_order(&self) -> impl Iterator<Item = TenantId> {
        self.contenders.iter().map(|(_, tenant)| *tenant)
    }

    /// A job of the tenant starts.
    pub(super) fn start(&mut self, tenant: TenantId) {
        let share = &self.of[tenant.index()];
        self.now = self.now.max(share.at);
        let next = self.now.plus(START, share.weight);
        self.set(tenant, next);
    }

    /// A job of the tenant has ended that ran for so long.
    pub(super) fn charge(&mut self, tenant: TenantId, ran: Duration) {
        let share = &self.of[tenant.index()];
        let furthest = self.now.plus(MAX_LEAD, 1).max(share.at);
        let next = share.at.plus(ran, share.weight).min(furthest);
        let contends = self.set(tenant, next);
        if self.contenders.len() == usize::from(contends) {
            self.now = self.now.max(next);
        }
    }

    /// Whether the tenant has ready jobs.
    fn set(&mut self, tenant: TenantId, at: Virtual) -> bool {
        let share = &mut self.of[tenant.index()];
        let contends = self.contenders.remove(&(share.at, tenant));
        share.at = at;
        if contends {
            self.contenders.insert((at, tenant));
        }
        contends
    }
}
