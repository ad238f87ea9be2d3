//! What a job is, as the store gives it back: of a batch, each job its own.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{admitted, admitted_batch, body, context, envelope, id};
use strongroom::admission::AdmittedJob;
use strongroom::clock::Clock;
use strongroom::store::{Closing, NoFault, ReadError, Store, Transition};
use strongroom_job::{JobBody, Missed, Repeat, Variation};

/// What came in one envelope.
struct Came {
    jobs: Vec<AdmittedJob>,
    envelope: Arc<[u8]>,
    alone: bool,
}

impl Came {
    /// In an envelope of which nobody reads anything.
    fn together(jobs: Vec<AdmittedJob>) -> Self {
        Self { jobs, envelope: b"an envelope".as_slice().into(), alone: false }
    }

    /// As a host takes it.
    fn alone(body: &JobBody) -> Self {
        Self { jobs: vec![admitted(body)], envelope: envelope(body), alone: true }
    }
}

fn open(state: &Path) -> (Store, Closing) {
    Store::open(state).unwrap().start(Arc::new(Clock::default()), Box::new(NoFault)).unwrap()
}

/// Commits these envelopes, and asks for each of their jobs: while the process that took them runs, and after the next start. Leaves the state in `dir`.
async fn are_given_back(dir: &Path, envelopes: &[Came]) {
    let (mut store, mut closing) = open(dir);
    for came in envelopes {
        let (jobs, envelope, alone) = (came.jobs.clone(), Arc::clone(&came.envelope), came.alone);
        let admit = Transition::Admit { jobs, envelope, alone, max_active: 9, rules: Box::default() };
        store.commit(admit).await.unwrap();
    }
    for start in 0..2 {
        for job in envelopes.iter().flat_map(|came| &came.jobs) {
            assert_eq!(store.spec(&job.id()).unwrap().as_ref(), Some(job), "start {start}");
        }
        drop(store);
        closing.wait();
        (store, closing) = open(dir);
    }
    drop(store);
    closing.wait();
}

fn rows(state: &Path) -> sled::Db {
    sled::Config::new().path(state).segment_size(8 << 20).open().unwrap()
}

// Red without `standing_for`: the job would be told as the first of its envelope.
#[tokio::test]
async fn each_job_of_a_batch_is_given_back_as_itself() {
    let dir = tempfile::tempdir().unwrap();
    let other = Variation { args: Some(vec!["other".into()]), ..Variation::of(id(3)) };
    let jobs = vec![Variation::of(id(1)), Variation::of(id(2)), other, Variation::of(id(4))];
    are_given_back(dir.path(), &[Came::together(admitted_batch(jobs))]).await;
}

// Red when all that came alone are remembered at one place; and, for the rows, when `stand_for` writes it down once more.
#[tokio::test]
async fn a_job_that_came_alone_is_given_back_as_itself_from_its_envelope() {
    let dir = tempfile::tempdir().unwrap();
    let mut long = body(9);
    // In two pieces, and too long to be remembered.
    long.task.args = vec!["x".repeat(1000); 40];
    let mut came: Vec<Came> = (1..9).map(|number| Came::alone(&body(number))).collect();
    came.push(Came::alone(&long));
    are_given_back(dir.path(), &came).await;
    let rows = rows(dir.path());
    assert_eq!(rows.scan_prefix("w/").count(), 0, "it is in the envelope");
    assert_eq!(rows.scan_prefix("k/").count(), 10);
}

// Red without the comparison in `unpack_envelope`.
#[tokio::test]
async fn another_envelope_in_the_place_of_a_jobs_own_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    are_given_back(dir.path(), &[Came::alone(&body(1)), Came::alone(&body(2))]).await;
    let pieces: Vec<_> = {
        let rows = rows(dir.path());
        let pieces: Vec<_> = rows.scan_prefix("k/").map(Result::unwrap).collect();
        rows.insert(&pieces[0].0, &pieces[1].1).unwrap();
        rows.insert(&pieces[1].0, &pieces[1].1[1..]).unwrap();
        rows.flush().unwrap();
        pieces
    };
    assert_eq!(pieces.len(), 2);
    let (store, closing) = open(dir.path());
    for job in [1, 2] {
        let error = store.spec(&id(job)).unwrap_err();
        assert!(matches!(error, ReadError::Damaged("the envelope of a job")), "{job}: {error}");
    }
    drop(store);
    closing.wait();
}

// Red without the second half of `Envelopes::of`: nobody could read its runs, whose ids are in no envelope.
#[tokio::test]
async fn a_series_that_came_alone_is_written_down_as_its_runs_are() {
    let dir = tempfile::tempdir().unwrap();
    let (cron, zone, until) = ("*/5 * * * *".into(), "UTC".into(), context().not_after);
    let mut series = body(1);
    series.task.plan.repeat = Some(Box::new(Repeat { cron, zone, until, missed: Missed::Skip }));
    are_given_back(dir.path(), &[Came::alone(&series)]).await;
    assert_eq!(rows(dir.path()).scan_prefix("w/").count(), 1);
}

// Red without `MAX_READ_BYTES`: whoever looks at the job would read all of the space each time.
#[tokio::test]
async fn an_envelope_of_much_space_is_not_read_for_its_job() {
    let dir = tempfile::tempdir().unwrap();
    let mut padded = Came::alone(&body(1));
    padded.envelope = [&[b' '; 100_000], &padded.envelope[..]].concat().into();
    are_given_back(dir.path(), &[padded]).await;
    assert_eq!(rows(dir.path()).scan_prefix("w/").count(), 1);
}
