//! What the row of a job that is not over says to the schedule, so that a start reads one range of rows and nothing else.

use super::row::{JobRow, Slot};
use crate::lifecycle::Stage;
use crate::schedule::{Entry, NOT_YET};

/// A job that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    /// As the schedule takes it.
    pub entry: Entry,
    /// Whether an attempt runs, or ran when the host went down.
    pub running: bool,
}

impl Active {
    /// None for a job that is over.
    pub(super) fn of(row: &JobRow) -> Option<Self> {
        let Slot { tenant, queue, group, priority, .. } = row.slot.as_deref()?;
        let ready_at = match row.life.stage {
            Stage::Accepted { .. } => NOT_YET,
            Stage::Scheduled { ready_at } => ready_at,
            Stage::Queued | Stage::Running { .. } => row.admitted_at,
            Stage::Over(_) => return None,
        };
        let entry = Entry {
            job: row.job,
            tenant: tenant.clone(),
            queue: queue.clone(),
            key: group.clone(),
            priority: *priority,
            admitted: row.admitted,
            ready_at,
            expires_at: row.life.expires_at(),
        };
        Some(Self { entry, running: matches!(row.life.stage, Stage::Running { .. }) })
    }
}
