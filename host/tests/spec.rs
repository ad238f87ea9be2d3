//! What a job is, as the store gives it back: of a batch, each job its own.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::sync::Arc;

use common::{admitted, admitted_batch, body, id};
use strongroom::clock::Clock;
use strongroom::store::{NoFault, Store, Transition};
use strongroom_job::Variation;

// Red without `standing_for` where there is no variation, and where there is one: the job would be told as the first of its envelope.
#[tokio::test]
async fn each_job_of_a_batch_is_given_back_as_itself() {
    let dir = tempfile::tempdir().unwrap();
    let open =
        || Store::open(dir.path()).unwrap().start(Arc::new(Clock::default()), Box::new(NoFault)).unwrap();
    let other = Variation { args: Some(vec!["other".into()]), ..Variation::of(id(3)) };
    let jobs = admitted_batch(vec![Variation::of(id(1)), Variation::of(id(2)), other, Variation::of(id(4))]);
    let (store, closing) = open();
    let admit = Transition::Admit {
        jobs: jobs.clone(),
        envelope: b"an envelope".as_slice().into(),
        max_active: 9,
        rules: Box::default(),
    };
    store.commit(admit).await.unwrap();
    let given =
        |store: &Store| jobs.iter().map(|job| store.spec(&job.id()).unwrap().unwrap()).collect::<Vec<_>>();
    assert_eq!(given(&store), jobs);
    drop(store);
    closing.wait();
    let (store, closing) = open();
    assert_eq!(given(&store), jobs);
    drop(store);
    closing.wait();
}

// Red when a job is only known for as long as the process has it in memory, and when that is another one.
#[tokio::test]
async fn a_job_that_came_alone_is_given_back_as_itself() {
    let dir = tempfile::tempdir().unwrap();
    let open =
        || Store::open(dir.path()).unwrap().start(Arc::new(Clock::default()), Box::new(NoFault)).unwrap();
    let jobs: Vec<_> = (1..9).map(|number| admitted(&body(number))).collect();
    let (store, closing) = open();
    for (number, job) in (0u8..).zip(&jobs) {
        let admit = Transition::Admit {
            jobs: vec![job.clone()],
            envelope: [number].as_slice().into(),
            max_active: 9,
            rules: Box::default(),
        };
        store.commit(admit).await.unwrap();
    }
    let given =
        |store: &Store| jobs.iter().map(|job| store.spec(&job.id()).unwrap().unwrap()).collect::<Vec<_>>();
    assert_eq!(given(&store), jobs);
    drop(store);
    closing.wait();
    let (store, closing) = open();
    assert_eq!(given(&store), jobs);
    drop(store);
    closing.wait();
}
