//! Evidence of a job that is erased: when it goes, what a crash leaves, and what damage hides.

use std::fs;
use std::sync::Arc;

use strongroom::audit::read::LogReader;
use strongroom::clock::Clock;
use strongroom::evidence::Evidence;
use strongroom::store::{Leaf, NoFault, Store};
use strongroom_job::Event;
use strongroom_job::merkle::LeafIndex;
use strongroom_sdk::Job;

use super::{WORDS, holding, log_is_whole};
use crate::common::guests::CAT;
use crate::common::live::{Live, finish, push_wat};

/// A host with one job that is over.
async fn with_a_job() -> (Live, strongroom_sdk::Client, strongroom_sdk::JobId) {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, CAT).await;
    let job = client.submit(&Job::new(module).stdin_bytes(WORDS)).await.unwrap().job;
    finish(&client, job).await;
    (live, client, job)
}

// Red without the `break` in `Evidence::append`. A crash behind the erasing and before the publication would leave a log in which a job
// came and did not end, and nothing that says what it was: no state can be made of that.
#[tokio::test(flavor = "multi_thread")]
async fn evidence_goes_only_when_all_records_before_that_are_published() {
    let (live, client, job) = with_a_job().await;
    client.erase(job, false).await.unwrap();
    let dir = live.stop().await;
    let size = log_is_whole(dir.path()).len() as u64;
    let log = LogReader::open(&dir.path().join("audit"), None).unwrap();
    let leaves =
        log.entries(LeafIndex::new(0), LeafIndex::new(size)).map(|entry| Leaf::from(entry.unwrap().1));
    let leaves: Vec<_> = leaves.collect();
    let opened = Store::open(&dir.path().join("state")).unwrap();
    let (store, closing) = opened.start(Arc::new(Clock::default()), Box::new(NoFault)).unwrap();
    let room = tempfile::tempdir().unwrap();
    let mut evidence = Evidence::open(&room.path().join("evidence"), 0).unwrap();
    let taken = evidence.append(0, &leaves, &store, &mut || ()).unwrap();
    let next = leaves[taken].record().unwrap();
    assert!(matches!(next.event, Event::Erased { .. }), "{next:?}");
    assert_eq!(evidence.covered(), taken as u64);
    let rest = evidence.append(taken as u64, &leaves[taken..], &store, &mut || ()).unwrap();
    assert_eq!(taken + rest, leaves.len());
    drop(store);
    closing.wait();
}

// Red without `clean`.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_leaves_of_a_segment_on_its_way_is_removed() {
    let (live, _, _) = with_a_job().await;
    let dir = live.stop().await;
    let left = dir.path().join("evidence/rewriting");
    fs::write(&left, WORDS).unwrap();
    drop(Evidence::open(&dir.path().join("evidence"), 1).unwrap());
    assert!(!left.exists());
}

// Red without `damage.add`.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_told_that_damage_may_hide_what_was_to_be_erased() {
    let (live, client, job) = with_a_job().await;
    let file = live.dir.path().join("evidence/00000000000000000000");
    let mut bytes = fs::read(&file).unwrap();
    // In the first entry.
    bytes[100] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let told = client.erase(job, false).await.unwrap();
    assert!(told.published && told.damaged == 1, "{told:?}");
    assert_eq!(holding(&live.dir.path().join("evidence"), WORDS.as_bytes()).len(), 1, "as it was told");
    log_is_whole(live.stop().await.path());
}
