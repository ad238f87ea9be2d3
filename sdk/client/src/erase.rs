//! Erasing what is private of a job.

use strongroom_job::{JobId, Request, Response};

use crate::{Client, Error};

/// What a host has erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// How many jobs went: the one that was named, and with it those that came in its envelope. 0 when it was erased before.
    pub jobs: u32,
    /// The index of the last record of the audit log that says so.
    pub log_index: u64,
    /// Files that go a little later: the host cannot tell yet whether another job names them, or is about to.
    pub files_waiting: u32,
    /// Whether a checkpoint covers the record. Before one does, the host's evidence may still hold what was erased: ask again, which
    /// waits once more.
    pub published: bool,
    /// Jobs that ended under an earlier version, which logged what they left without a salt: that stays in clear.
    pub in_clear: u32,
    /// Files of the host's evidence that are damaged: what stands behind the damage could not be looked at, and stays.
    pub damaged: u32,
    /// Jobs that were not run because one of these had their unique key. Each came in an envelope of its own, which the host still has:
    /// erase those, too.
    pub merged: Vec<JobId>,
}

impl Client {
    /// Erases what is private of a job that is over, of any tenant, for good: what it was asked to do, what it left, and what hides
    /// that in the log. Its records stay, and every proof over them still verifies. With `batch`, so are all jobs that came in its
    /// envelope; without it, a job that came with others is refused. Asked for again, the answer says when it was.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) when there is no such job, it is not over, it came with others and they were not asked for, or our key is not one of the host's operators.
    pub async fn erase(&self, job: JobId, batch: bool) -> Result<Erased, Error> {
        let request = Request::Erase { job, batch };
        self.call(&request, Some(self.link.options.timeouts.answer), |response| match response {
            Response::Erased { jobs, log_index, files_waiting, published, in_clear, damaged, merged } => {
                Some(Erased { jobs, log_index, files_waiting, published, in_clear, damaged, merged })
            }
            _ => None,
        })
        .await
    }
}
