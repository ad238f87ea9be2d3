//! As many jobs as the host takes: each signed for itself, or many under one signature.

use std::time::Duration;

use serde::Serialize;
use strongroom_sdk::{Batch, BatchJob, Client};
use tokio::task::JoinSet;

use super::super::exit::Failure;
use super::Work;
use super::stages::percentile;
use crate::clock::Stopwatch;

/// Jobs of one batch.
const BATCH: usize = 500;
/// Batches in flight.
const BATCHES: usize = 2;

/// How many jobs were done, and how long each took.
#[derive(Debug, Serialize)]
pub(super) struct Rate {
    what: String,
    jobs: usize,
    jobs_per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

impl Rate {
    fn of(what: String, mut times: Vec<Duration>, wall: Duration) -> Self {
        Self {
            what,
            jobs: times.len(),
            jobs_per_second: times.len() as f64 / wall.as_secs_f64(),
            p50_us: percentile(&mut times, 50),
            p99_us: percentile(&mut times, 99),
        }
    }

    pub(super) fn words(&self) -> String {
        format!(
            "{:<44} {:>9.0} jobs/s   p50 {:>8.2} ms   p99 {:>8.2} ms\n",
            self.what,
            self.jobs_per_second,
            self.p50_us / 1e3,
            self.p99_us / 1e3
        )
    }
}

/// Jobs with a signature each, so many in flight on one connection.
#[derive(Debug)]
pub(super) struct Singles {
    pub(super) in_flight: usize,
}

impl Singles {
    pub(super) async fn run(&self, client: &Client, work: &Work, time: Duration) -> Result<Rate, Failure> {
        let clock = Stopwatch::start();
        let mut workers = JoinSet::new();
        for _ in 0..self.in_flight {
            let (client, work) = (client.clone(), work.clone());
            workers.spawn(async move {
                let mut times = Vec::new();
                while clock.passed() < time {
                    let one = Stopwatch::start();
                    work.once(&client).await?;
                    times.push(one.passed());
                }
                Ok(times)
            });
        }
        let times = gather(workers).await?;
        Ok(Rate::of(format!("each job signed, {} in flight", self.in_flight), times, clock.passed()))
    }
}

/// Jobs of which [`BATCH`] share a signature.
#[derive(Debug)]
pub(super) struct Batches;

impl Batches {
    pub(super) async fn run(client: &Client, work: &Work, time: Duration) -> Result<Rate, Failure> {
        let clock = Stopwatch::start();
        let mut workers = JoinSet::new();
        for _ in 0..BATCHES {
            let (client, work) = (client.clone(), work.clone());
            workers.spawn(async move {
                let mut times = Vec::new();
                while clock.passed() < time {
                    times.extend(batch(&client, &work).await?);
                }
                Ok(times)
            });
        }
        let times = gather(workers).await?;
        Ok(Rate::of(format!("signed batches of {BATCH}, {BATCHES} in flight"), times, clock.passed()))
    }
}

async fn batch(client: &Client, work: &Work) -> Result<Vec<Duration>, Failure> {
    let one = Stopwatch::start();
    let variations = (0..BATCH).map(|number| BatchJob::new().args([number.to_string()]));
    let accepted = client.submit_batch(&Batch::new(work.job.clone()).jobs(variations)).await?;
    let mut waiting = JoinSet::new();
    for accepted in accepted {
        let (client, work) = (client.clone(), work.clone());
        waiting.spawn(async move {
            work.end(&client, accepted.job).await?;
            Ok(vec![one.passed()])
        });
    }
    gather(waiting).await
}

async fn gather(mut workers: JoinSet<Result<Vec<Duration>, Failure>>) -> Result<Vec<Duration>, Failure> {
    let mut times = Vec::new();
    while let Some(done) = workers.join_next().await {
        let done =
            done.map_err(|error| Failure::fault(format_args!("a part of this program failed: {error}")))?;
        times.extend(done?);
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_jobs_by_wall_time() {
        let times = (1..=100).map(Duration::from_millis).collect();
        let rate = Rate::of("x".into(), times, Duration::from_secs(2));
        assert_eq!((rate.jobs, rate.jobs_per_second), (100, 50.0));
        assert_eq!((rate.p50_us, rate.p99_us), (51_000.0, 100_000.0));
    }
}
