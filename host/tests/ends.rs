//! The ends of many jobs with one request, from a real host: as they come, each with its receipt.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::HashSet;
use std::time::Duration;

use common::live::{Live, SPINS, push_wat, says};
use common::patience::soon;
use strongroom_job::{JobState, Outcome, RefusalCode};
use strongroom_sdk::{Batch, BatchJob, Error, Job, runs_as};

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_ends_job_by_job_and_each_end_has_its_receipt() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, &says("done", 3)).await;
    let batch = Batch::new(Job::new(module)).jobs((0..60).map(|n| BatchJob::new().args([n.to_string()])));
    let accepted = client.submit_batch(&batch).await.unwrap();
    // The second time all of them are over before it is asked.
    for _ in 0..2 {
        let (mut ends, mut over) = (client.ends(accepted.iter().map(runs_as)), HashSet::new());
        while let Some(finished) = soon(ends.next()).await.unwrap() {
            assert_eq!(finished.end.outcome, Outcome::Exited { code: 3 });
            assert!(finished.receipt.is_some());
            assert!(over.insert(finished.view.job));
        }
        assert_eq!(over, accepted.iter().map(|accepted| accepted.job).collect());
    }
    live.stop().await;
}

// Red without `listeners.over` in `Board::tell`.
#[tokio::test(flavor = "multi_thread")]
async fn what_ends_later_is_told_of_later() {
    let live = Live::new().await;
    let client = live.client().await;
    let (quick, spins) = (push_wat(&client, &says("", 0)).await, push_wat(&client, SPINS).await);
    let long = client.submit(&Job::new(spins)).await.unwrap().job;
    let short = client.submit(&Job::new(quick)).await.unwrap().job;
    let mut ends = client.ends([long, short]);
    assert_eq!(soon(ends.next()).await.unwrap().unwrap().view.job, short);
    let waiting = tokio::time::timeout(Duration::from_millis(300), ends.next()).await;
    assert!(waiting.is_err(), "{waiting:?}");
    client.cancel(long).await.unwrap();
    let finished = soon(ends.next()).await.unwrap().unwrap();
    assert_eq!((finished.view.job, finished.view.state), (long, JobState::Cancelled));
    assert!(soon(ends.next()).await.unwrap().is_none());

    let nobodys = strongroom_job::JobId::from_bytes([7; 16]);
    let error = soon(client.ends([short, nobodys]).next()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Refused(refusal) if refusal.code == RefusalCode::UnknownJob),
        "{error:?}"
    );
    live.stop().await;
}
