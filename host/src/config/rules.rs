//! How the host's places are shared: the rules of a queue and of a tenant.
//!
//! *Owns:* what can be ruled. What the rules do is `schedule`'s.

use std::time::Duration;

/// How one queue may be used. The default sets no bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueRules {
    /// Jobs of this queue that run at once.
    pub max_running: Option<u32>,
    /// Jobs of this queue and one tenant that run at once.
    pub max_running_per_tenant: Option<u32>,
    /// Jobs of this queue, one tenant and one group (the `key` of an entry) that run at once.
    pub max_running_per_group: Option<u32>,
    /// How often a job of this queue may start.
    pub rate: Option<Rate>,
}

/// A token bucket: `starts` per `per` in the long run, at most `burst` at once. It is full when the host starts.
///
/// Where `starts` is 0 the bucket is never refilled; where `burst` is 0 nothing starts at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come in each `per`, evenly spread.
    pub starts: u32,
    /// The time in which `starts` tokens come.
    pub per: Duration,
    /// Most tokens that the bucket holds.
    pub burst: u32,
}

/// What one tenant gets of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRules {
    /// Its part of the host's time while others wait too: with 3, three times as much as a tenant with 1. 0 counts as 1.
    pub weight: u32,
    /// Jobs of this tenant, in all queues, that run at once.
    pub max_running: Option<u32>,
    /// Jobs of this tenant that are not over: those that wait and those that run.
    pub max_queued: Option<usize>,
    /// What the host keeps for this tenant, bytes: modules, inputs, outputs and artifacts.
    pub max_stored_bytes: Option<u64>,
    /// Modules that the host keeps for this tenant.
    pub max_modules: Option<usize>,
    /// Processor time of this tenant's jobs in one day, UTC.
    pub cpu_per_day: Option<Duration>,
}

impl Default for TenantRules {
    fn default() -> Self {
        Self {
            weight: 1,
            max_running: None,
            max_queued: None,
            max_stored_bytes: None,
            max_modules: None,
            cpu_per_day: None,
        }
    }
}
