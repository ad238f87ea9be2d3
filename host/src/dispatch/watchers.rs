//! Who waits for which job to move on.
//!
//! *Bound:* one entry per job that somebody waits for and that is not over.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use strongroom_job::JobId;
use tokio::sync::watch;

/// Tells waiters that a job has changed.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    jobs: Mutex<HashMap<JobId, watch::Sender<()>>>,
}

impl Watchers {
    /// Subscribe first, look at the job second: then no change is missed.
    pub(super) fn subscribe(&self, job: JobId) -> watch::Receiver<()> {
        self.lock().entry(job).or_default().subscribe()
    }

    /// The job has changed, durably.
    pub(super) fn changed(&self, job: &JobId) {
        if let Some(sender) = self.lock().get(job) {
            sender.send_replace(());
        }
    }

    /// The job is over, durably: nobody needs to wait for it again.
    pub(super) fn over(&self, job: &JobId) {
        // Dropping the sender wakes every receiver.
        self.lock().remove(job);
    }

    /// Nobody waits any more, or not yet: forget the job if so.
    pub(super) fn release(&self, job: &JobId) {
        let mut jobs = self.lock();
        if jobs.get(job).is_some_and(|sender| sender.receiver_count() == 0) {
            jobs.remove(job);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, watch::Sender<()>>> {
        // Each change is one operation of the map.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
