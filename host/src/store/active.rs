//! What the row of a job that is not over says to the schedule, so that a start reads one range of rows and nothing else.

use std::fmt;

use super::row::{JobRow, Slot};
use crate::lifecycle::Stage;
use crate::schedule::{Entry, NOT_YET};

/// Jobs of one piece of [`ActiveJobs`].
const PIECE: usize = 1 << 12;

/// The jobs that were not over when a store was opened, in the order of admission. In pieces: what was gone through is given back
/// while the schedule, which takes it over, grows.
#[derive(Default)]
pub struct ActiveJobs {
    pieces: Vec<Vec<Active>>,
}

impl ActiveJobs {
    pub(super) fn push(&mut self, job: Active) {
        if self.pieces.last().is_none_or(|piece| piece.len() == PIECE) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        self.pieces.last_mut().expect("one was just made if there was none").push(job);
    }
}

impl IntoIterator for ActiveJobs {
    type Item = Active;
    type IntoIter = std::iter::Flatten<std::vec::IntoIter<Vec<Active>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.pieces.into_iter().flatten()
    }
}

// By hand: there may be a million.
impl fmt::Debug for ActiveJobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActiveJobs").field("pieces", &self.pieces.len()).finish_non_exhaustive()
    }
}

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
