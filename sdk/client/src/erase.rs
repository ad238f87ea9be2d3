//! Erasing what is private of a job.

use strongroom_job::{JobId, Request, Response};

use crate::{Client, Error};

/// What a host has erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erased {
    /// How many jobs: the one that was named, and with it those that came in its envelope.
    pub jobs: u32,
    /// The index of the last record of the audit log that says so.
    pub log_index: u64,
    /// Files that go a little later: they were kept so short a time ago that another job may be about to name them.
    pub files_waiting: u32,
}

impl Client {
    /// Erases what is private of a job that is over, of any tenant, for good: what it was asked to do, what it left, and what hides
    /// that in the log. Its records stay, and every proof over them still verifies. With `batch`, so are all jobs that came in its
    /// envelope; without it, a job that came with others is refused.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) when there is no such job, it is not over, or was erased before, it came with others and they were
    /// not asked for, or our key is not one of the host's operators.
    pub async fn erase(&self, job: JobId, batch: bool) -> Result<Erased, Error> {
        let request = Request::Erase { job, batch };
        self.call(&request, Some(self.link.options.timeouts.answer), |response| match response {
            Response::Erased { jobs, log_index, files_waiting } => {
                Some(Erased { jobs, log_index, files_waiting })
            }
            _ => None,
        })
        .await
    }
}
