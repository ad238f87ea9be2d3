//! Watching a job: how far it is while it runs, and what it gave as its result.

use std::time::Duration;

use strongroom_job::{AcceptedJob, JobId, JobView, MAX_RESULT_BYTES, OutputStream};
use tokio::time::{MissedTickBehavior, interval};

use crate::{Client, Error, Finished};

/// Nobody asks a host more often how a job stands.
const MIN_PERIOD: Duration = Duration::from_millis(100);

/// The job whose end is the answer to what was submitted: the one that already had its unique key, or else the new one.
#[must_use]
pub fn runs_as(accepted: &AcceptedJob) -> JobId {
    accepted.existing.unwrap_or(accepted.job)
}

impl Client {
    /// Waits until a job is over, and meanwhile asks each `period` (100 ms at least) how it stands. `seen` gets each view that
    /// differs from the one before: state, attempt, and [`progress`](JobView::progress) while it runs. The end is what is returned;
    /// whether `seen` gets it, too, is up to chance, and so is a state that is short.
    ///
    /// ```no_run
    /// # async fn example(client: &strongroom_sdk::Client, job: strongroom_sdk::JobId) -> Result<(), strongroom_sdk::Error> {
    /// let period = std::time::Duration::from_millis(500);
    /// let finished = client
    ///     .watch(job, period, |view| match &view.progress {
    ///         Some(progress) => println!("{} % {}", progress.percent, progress.text),
    ///         None => println!("{}", view.state),
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub async fn watch(
        &self,
        job: JobId,
        period: Duration,
        mut seen: impl FnMut(&JobView),
    ) -> Result<Finished, Error> {
        let mut ticks = interval(period.max(MIN_PERIOD));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = None;
        let look = async {
            loop {
                ticks.tick().await;
                let view = match self.show(job).await {
                    Ok(view) => view,
                    Err(error) => break error,
                };
                if last.as_ref() != Some(&view) {
                    seen(&view);
                    last = Some(view);
                }
            }
        };
        tokio::select! {
            finished = self.wait(job) => finished,
            error = look => Err(error),
        }
    }

    /// What a job that is over gave as its result, at most 64 KiB; none if it gave none. Its bytes were compared with the SHA-256
    /// that the host recorded.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) when there is no such job of our tenant; [`OutputMismatch`](Error::OutputMismatch).
    /// [`NotOver`](Error::NotOver) when the job is not over.
    pub async fn result(&self, job: JobId) -> Result<Option<Vec<u8>>, Error> {
        let view = self.show(job).await?;
        let Some(end) = view.end else { return Err(Error::NotOver { job, state: view.state }) };
        let Some(result) = end.result else { return Ok(None) };
        if result.length > MAX_RESULT_BYTES as u64 {
            return Err(self.protocol("it recorded a longer result than a guest can give"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(result.length).unwrap_or_default());
        self.output(job, OutputStream::Result, 0, false).await?.copy_to(&mut bytes).await?;
        Ok(Some(bytes))
    }
}
