//! Memory of the store: what waiting jobs cost, and that large groups leave no garbage behind.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::heap::{Counting, live};
use common::{admitted_batch, client_key};
use strongroom::admission::AdmittedJob;
use strongroom::clock::Clock;
use strongroom::store::{NoFault, Store, Transition};
use strongroom_job::{Digest, JobId, Name, QueueMode, Variation};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Jobs that share a signature and a group.
const BATCH: u64 = 10_000;
const JOBS: u64 = 40_000;
/// What sled has at once, whatever is in it, and 1 KiB for each job.
const MOST: isize = (128 << 20) + (JOBS.cast_signed() as isize) * 1024;

fn batch(number: u64) -> Vec<AdmittedJob> {
    // As good as random: neighbours are far apart.
    let id =
        |number: u64| JobId::from_bytes(*Digest::of(&number.to_be_bytes()).as_bytes().first_chunk().unwrap());
    let variations = (number..number + BATCH).map(|number| {
        let mut variation = Variation::of(id(number));
        variation.args = Some(vec![number.to_string()]);
        variation
    });
    admitted_batch(variations.collect())
}

// One test, since the allocator counts for all threads. Red without `garbage::free`: 378 million bytes, where 127 are right.
#[tokio::test]
async fn a_waiting_job_costs_the_store_less_than_a_kilobyte_and_a_large_group_leaves_no_garbage() {
    let dir = tempfile::tempdir().unwrap();
    let by = client_key().public();
    let before = live();
    let opened = Store::open(&dir.path().join("state")).unwrap();
    let (store, closing) = opened.start(Arc::new(Clock::default()), Box::new(NoFault)).unwrap();
    for number in (0..JOBS).step_by(BATCH as usize) {
        let jobs = batch(number);
        let envelope = Arc::from(vec![7; 400_000]);
        let admit =
            Transition::Admit { jobs, envelope, alone: false, max_active: usize::MAX, rules: Box::default() };
        store.commit(admit).await.unwrap();
        // Two groups, of which the first is a long one.
        store
            .commit(Transition::SetQueue { queue: Name::default_name(), mode: QueueMode::Open, by })
            .await
            .unwrap();
    }
    // Sled gets the rows behind the answers, and what that takes goes with it. What nobody frees would stay.
    for _ in 0..600 {
        if live() - before < MOST {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let held = live() - before;
    assert!(held < MOST, "{held} bytes, at most {MOST}");
    drop(store);
    closing.wait();
}
