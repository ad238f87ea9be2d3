//! The ends of many jobs, as they come: one request for all of them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::{fmt, panic};

use bytes::BytesMut;
use strongroom_job::{JobId, JobView, MAX_BATCH_JOBS, Request, Response};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Sleep;

use crate::exchange::{Exchange, kind_of};
use crate::{Client, Error, Finished};

/// Receipts that are checked at a time.
const CHECKS: usize = 16;

/// The ends of some jobs, as they come; with receipts, as those are checked, up to 16 at a time. Dropped early, nothing becomes of the jobs.
#[derive(Debug)]
pub struct Ends {
    told: Told,
    checks: JoinSet<Result<Finished, Error>>,
    /// Whose receipt a check is about.
    checked: HashMap<task::Id, JobId>,
    /// What ended what the host tells, while what it has told is still being checked.
    failed: Option<Error>,
}

/// What the host tells.
#[derive(Debug)]
struct Told {
    client: Client,
    /// Those that the host was not asked about yet.
    later: VecDeque<JobId>,
    /// Those that it was asked about and has not told of.
    asked: HashSet<JobId>,
    answer: Option<Answer>,
    /// How often it was asked in vain since the last end.
    tried: u32,
    /// It is not asked again before this is over.
    pause: Option<Pin<Box<Sleep>>>,
}

struct Answer {
    exchange: Exchange,
    /// What has come and was not read yet.
    buffer: BytesMut,
}

impl Answer {
    /// The next end of one of those that were asked for.
    async fn view(&mut self, asked: &mut HashSet<JobId>) -> Result<JobView, Error> {
        let view = match self.exchange.next_answer(&mut self.buffer).await? {
            Some(Response::Job(view)) => *view,
            Some(other) => return Err(self.exchange.unexpected(kind_of(&other))),
            None => {
                let text = format!("it ended its answer before it had told of {} jobs", asked.len());
                return Err(self.exchange.protocol(text));
            }
        };
        if !asked.remove(&view.job) {
            let text = format!("it told of the end of job {}, which was not asked for", view.job);
            return Err(self.exchange.protocol(text));
        }
        Ok(view)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("buffer", &self.buffer.len()).finish_non_exhaustive()
    }
}

impl Client {
    /// Tells of each of these jobs when it is over, as [`wait`](Self::wait) does of one, with one request for all. A job that is named twice is told of once.
    ///
    /// A host takes the ends of 10,000 jobs at once: of more, the next are asked for when those are over.
    ///
    /// ```no_run
    /// # async fn example(client: &strongroom_sdk::Client, batch: &strongroom_sdk::Batch) -> Result<(), strongroom_sdk::Error> {
    /// let accepted = client.submit_batch(batch).await?;
    /// let mut ends = client.ends(accepted.iter().map(strongroom_sdk::runs_as));
    /// while let Some(finished) = ends.next().await? {
    ///     println!("{}: {}", finished.view.job, finished.end.outcome);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn ends(&self, jobs: impl IntoIterator<Item = JobId>) -> Ends {
        let mut seen = HashSet::new();
        let later = jobs.into_iter().filter(|job| seen.insert(*job)).collect();
        let told =
            Told { client: self.clone(), later, asked: HashSet::new(), answer: None, tried: 0, pause: None };
        Ends { told, checks: JoinSet::new(), checked: HashMap::new(), failed: None }
    }
}

impl Ends {
    /// The next end, its receipt checked as [`wait`](Client::wait) does; none when all were told of. Waits until there is one. Nothing is lost when
    /// its future is dropped before it is done.
    ///
    /// # Errors
    /// As [`wait`](Client::wait). [`Refused`](Error::Refused) when one of the jobs is none of our tenant's, or was forgotten before it was told of: then no more are
    /// told of. [`BadReceipt`](Error::BadReceipt) is about one job; the others can still be asked for, and so can all of them after
    /// trouble that is [temporary](Error::is_temporary).
    pub async fn next(&mut self) -> Result<Option<Finished>, Error> {
        loop {
            let can_ask = self.failed.is_none() && !self.told.is_done() && self.checks.len() < CHECKS;
            let told = tokio::select! {
                biased;
                checked = self.checks.join_next_with_id(), if !self.checks.is_empty() => {
                    match checked.map(|checked| self.end_of_check(checked)).transpose()?.flatten() {
                        Some(finished) => return Ok(Some(finished)),
                        None => continue,
                    }
                }
                told = self.told.next(), if can_ask => told,
                else => return self.failed.take().map_or(Ok(None), Err),
            };
            let (client, view) = match told {
                Ok(view) => (self.told.client.clone(), view),
                Err(error) => {
                    self.failed = Some(error);
                    continue;
                }
            };
            if !client.link.options.check_receipts {
                return client.finished(view).await.map(Some);
            }
            let job = view.job;
            let check = self.checks.spawn(async move { client.finished(view).await });
            self.checked.insert(check.id(), job);
        }
    }

    /// None, and it is asked for again, when a check was cut off.
    fn end_of_check(
        &mut self,
        check: Result<(task::Id, Result<Finished, Error>), JoinError>,
    ) -> Result<Option<Finished>, Error> {
        let (id, checked) = match check {
            Ok((id, checked)) => (id, checked.map(Some)),
            Err(error) => match (error.id(), error.try_into_panic()) {
                (_, Ok(panic)) => panic::resume_unwind(panic),
                (id, Err(_)) => (id, Ok(None)),
            },
        };
        let job = self.checked.remove(&id);
        let is_told = match &checked {
            Ok(finished) => finished.is_some(),
            Err(error) => !error.is_temporary(),
        };
        if !is_told {
            self.told.later.extend(job);
        }
        checked
    }
}

impl Told {
    fn is_done(&self) -> bool {
        self.later.is_empty() && self.asked.is_empty()
    }

    async fn next(&mut self) -> Result<JobView, Error> {
        loop {
            if let Some(pause) = &mut self.pause {
                pause.as_mut().await;
                self.pause = None;
            }
            match self.try_next().await {
                Err(error) if error.is_temporary() => {
                    self.tried += 1;
                    let pause = self.client.link.options.retry.before_next(self.tried, error);
                    let pause = pause.inspect_err(|_| self.tried = 0)?;
                    self.pause = Some(Box::pin(tokio::time::sleep(pause)));
                }
                Ok(view) => {
                    self.tried = 0;
                    return Ok(view);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_next(&mut self) -> Result<JobView, Error> {
        let answer = match self.answer.take() {
            Some(answer) => answer,
            None => self.ask().await?,
        };
        // What has come of it is kept also when this is dropped while it waits. After an error, those that were not told of are asked for again.
        let view = self.answer.insert(answer).view(&mut self.asked).await;
        if view.is_err() || self.asked.is_empty() {
            self.answer = None;
        }
        view
    }

    async fn ask(&mut self) -> Result<Answer, Error> {
        if self.asked.is_empty() {
            self.asked.extend(self.later.drain(..self.later.len().min(MAX_BATCH_JOBS)));
        }
        let request = Request::Ends { count: u32::try_from(self.asked.len()).unwrap_or(u32::MAX) };
        let link = &self.client.link;
        let session = link.session().await?;
        let mut exchange = Exchange::on(link, &session, &request).await?;
        let ids: Vec<u8> = self.asked.iter().flat_map(|job| *job.as_bytes()).collect();
        exchange.body(ids.into()).await?;
        exchange.end_request();
        Ok(Answer { exchange, buffer: BytesMut::new() })
    }
}
