//! What a job is, as the store gives it back: of a batch, each job its own.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::sync::Arc;

use common::{admitted, admitted_batch, body, id};
use strongroom::admission::AdmittedJob;
use strongroom::clock::Clock;
use strongroom::store::{NoFault, Store, Transition};
use strongroom_job::Variation;

/// Commits these envelopes, and asks for each of their jobs: while the process that took them runs, and after the next start.
async fn are_given_back(envelopes: Vec<Vec<AdmittedJob>>) {
    let dir = tempfile::tempdir().unwrap();
    let open =
        || Store::open(dir.path()).unwrap().start(Arc::new(Clock::default()), Box::new(NoFault)).unwrap();
    let (mut store, mut closing) = open();
    for (number, jobs) in (0u8..).zip(&envelopes) {
        let (jobs, envelope) = (jobs.clone(), [number].as_slice().into());
        let admit = Transition::Admit { jobs, envelope, max_active: 9, rules: Box::default() };
        store.commit(admit).await.unwrap();
    }
    for start in 0..2 {
        for job in envelopes.iter().flatten() {
            assert_eq!(store.spec(&job.id()).unwrap().as_ref(), Some(job), "start {start}");
        }
        drop(store);
        closing.wait();
        (store, closing) = open();
    }
    drop(store);
    closing.wait();
}

// Red without `standing_for`: the job would be told as the first of its envelope.
#[tokio::test]
async fn each_job_of_a_batch_is_given_back_as_itself() {
    let other = Variation { args: Some(vec!["other".into()]), ..Variation::of(id(3)) };
    let jobs = vec![Variation::of(id(1)), Variation::of(id(2)), other, Variation::of(id(4))];
    are_given_back(vec![admitted_batch(jobs)]).await;
}

// Red when all that came alone are remembered at one place.
#[tokio::test]
async fn a_job_that_came_alone_is_given_back_as_itself() {
    are_given_back((1..9).map(|number| vec![admitted(&body(number))]).collect()).await;
}
