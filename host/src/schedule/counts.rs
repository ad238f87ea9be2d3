//! What is told of the schedule: how many jobs are where.

use strongroom_job::{Name, QueueMode, Timestamp};

/// Jobs of one queue or tenant, by where they are. A job that has expired is in none, from the moment that it is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Ready, waiting for their turn or for a limit.
    pub queued: u32,
    /// Their time has not come.
    pub scheduled: u32,
    /// Their time is not known yet ([`NOT_YET`](super::NOT_YET)).
    pub held: u32,
    /// Taken, not ended.
    pub running: u32,
}

/// How one queue stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueCounts {
    /// Its name.
    pub queue: Name,
    /// What it does.
    pub mode: QueueMode,
    /// Its jobs.
    pub jobs: Tally,
    /// Since when the one of its queued jobs waits that has waited longest: its `ready_at`.
    pub oldest: Option<Timestamp>,
    /// When the next of its scheduled jobs is ready.
    pub next: Option<Timestamp>,
}

/// How one tenant stands in one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneView {
    /// The tenant's name.
    pub tenant: Name,
    /// The queue's.
    pub queue: Name,
    /// Its jobs.
    pub jobs: Tally,
}

/// How one tenant stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantCounts {
    /// Its name.
    pub tenant: Name,
    /// Its jobs, over all queues.
    pub jobs: Tally,
}
