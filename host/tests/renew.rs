//! The state's file is written anew under who reads and writes it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{admitted, body, envelope, id};
use strongroom::clock::Clock;
use strongroom::lifecycle::{Event, Finished};
use strongroom::store::{NoFault, Outputs, Store, Transition};
use strongroom_job::{JobState, Outcome, Timestamp};

/// Jobs that live while it happens, at least.
const JOBS: u64 = 40;

fn admit(number: u64) -> Transition {
    let mut body = body(number);
    body.task.args = vec!["x".repeat(2000)];
    let (jobs, envelope) = (vec![admitted(&body)], envelope(&body));
    Transition::Admit { jobs, envelope, alone: true, max_active: 1000, rules: Box::default() }
}

fn start(number: u64) -> Transition {
    Transition::Step { job: id(number), event: Event::Start }
}

fn finish(number: u64) -> Transition {
    let end = Box::new(Finished::without_run(Outcome::Exited { code: 0 }));
    let outputs = Outputs { stdout: Some(vec![b'o'; 9000]), ..Outputs::default() };
    Transition::Finish { job: id(number), event: Event::Finish { fence: 1, end }, outputs }
}

async fn state(store: &Store, number: u64) -> Option<JobState> {
    store.row(&id(number)).await.unwrap().map(|row| row.life.state(Timestamp::default()))
}

/// Lives so many jobs, each of which is seen at once wherever it is brought to; gives how often the file was another one.
async fn live(store: &Store, path: &Path, jobs: std::ops::Range<u64>) -> usize {
    let (mut file, mut changed) = (inode(path), 0);
    for number in jobs {
        for (step, expected) in [
            (admit(number), JobState::Queued),
            (start(number), JobState::Running),
            (finish(number), JobState::Succeeded),
        ] {
            store.commit(step).await.unwrap();
            assert_eq!(state(store, number).await, Some(expected), "job {number}");
        }
        let now = inode(path);
        // Between two names there is none.
        if now.is_some() && now != file {
            (file, changed) = (now, changed + 1);
        }
        // While nobody waits, the writer goes on with what it does beside.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    changed
}

fn inode(path: &Path) -> Option<u64> {
    path.join("db").metadata().ok().map(|file| file.ino())
}

// Red without `count` in `Worker::lower`: nobody knows how much is in it. Red without `link_into` in `Copying::make_whole`, without `put` in `Worker::work`, and with a worker that goes on in the old file.
#[tokio::test(flavor = "multi_thread")]
async fn readers_and_writers_go_on_while_the_state_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let open = |above: u64| {
        let opened = Store::open(&path).unwrap().renewed_above(above).journal_files(16 << 10);
        opened.start(Arc::new(Clock::default()), Box::new(NoFault)).unwrap()
    };
    let (store, closing) = open(u64::MAX);
    assert_eq!(live(&store, &path, 0..JOBS).await, 0, "the file is short");
    drop(store);
    closing.wait();

    let (store, closing) = open(0);
    let done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let (store, done) = (store.clone(), Arc::clone(&done));
        async move {
            let mut reads = 0;
            while !done.load(Ordering::Relaxed) {
                for number in 0..JOBS {
                    assert_eq!(state(&store, number).await, Some(JobState::Succeeded), "job {number}");
                    assert!(store.spec(&id(number)).unwrap().is_some());
                    reads += 1;
                }
                tokio::task::yield_now().await;
            }
            reads
        }
    });
    let changed = live(&store, &path, JOBS..4 * JOBS).await;
    done.store(true, Ordering::Relaxed);
    assert!(reader.await.unwrap() > 0);
    assert!(changed > 0, "it was not written anew");
    drop(store);
    assert_eq!(closing.wait(), None);
    assert!(!path.with_extension("making").exists() && !path.with_extension("stale").exists());

    let (store, closing) = open(u64::MAX);
    for number in 0..4 * JOBS {
        assert_eq!(state(&store, number).await, Some(JobState::Succeeded), "job {number}");
    }
    drop(store);
    closing.wait();
    is_counted(&path);
}

/// What the state says of the bytes in it is true, but for some tens in rows about its file.
fn is_counted(path: &Path) {
    let db = sled::Config::new().path(path).segment_size(8 << 20).open().unwrap();
    let rows = db.iter().map(|row| row.unwrap());
    let bytes: u64 = rows.map(|(key, value)| (key.len() + value.len()) as u64).sum();
    let said = db.get(b"m/bytes").unwrap().unwrap();
    let said = u64::from_be_bytes(said[..8].try_into().unwrap());
    assert!(said.abs_diff(bytes) < 500, "{said} and {bytes}");
}
