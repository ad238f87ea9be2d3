//! Erasing what is private of a job.

use strongroom_job::{ErasedView, JobId, Request, Response};

use crate::{Client, Error};

impl Client {
    /// Erases what is private of a job that is over, of any tenant, for good: what it was asked to do, what it left, and what hides
    /// that in the log. Its records stay, and every proof over them still verifies. With `batch`, so are all jobs that came in its
    /// envelope; without it, a job that came with others is refused. Asked for again, the answer says when it was.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) when there is no such job, it is not over, it came with others and they were not asked for, or our key is not one of the host's operators.
    pub async fn erase(&self, job: JobId, batch: bool) -> Result<ErasedView, Error> {
        let request = Request::Erase { job, batch };
        self.call(&request, Some(self.link.options.timeouts.answer), |response| match response {
            Response::Erased(erased) => Some(erased),
            _ => None,
        })
        .await
    }
}
