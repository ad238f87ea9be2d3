//! Cancel: whatever moment it comes at, the job reaches one end, is gone, and writes nothing afterwards (hostile 32).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use common::guests::{appends_to, counts_to, floods};
use common::live::{Live, SPINS, assert_succeeded, push_wat, run, says};
use common::patience::bounded;
use common::random::Random;
use common::records::{records, retell};
use strongroom::audit::verify::{Options, verify_dir};
use strongroom_job::{Event, JobId, JobState, JobView, ModuleRef, RefusalCode};
use strongroom_sdk::{Client, Error, Job};
use tokio::task::JoinSet;

/// Cancels in all, and how many are under way at once; there are half as many slots, so that some find their job queued.
const CANCELS: u64 = 1000;
const WORKERS: u64 = 8;
const SLOTS: usize = 4;
/// A cancel comes at most so long after the submit, in microseconds: most guests run by then, some are over.
const LATEST_US: u64 = 25_000;
const SEED: u64 = 32;
/// Far longer than a cancelled job takes to end, on a busy machine too; one that is not stopped goes on for minutes.
const AT_ONCE: Duration = Duration::from_secs(60);

/// Sleeps for an hour.
const SLEEPS: &str = r#"(module
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const 3600000000000))
        (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#;

/// Fills its memory over and over: long instructions.
const FILLS: &str = r#"(module
    (memory (export "memory") 256)
    (func (export "_start")
        (loop $more (memory.fill (i32.const 0) (i32.const 1) (i32.const 16777216)) (br $more))))"#;

/// What a job left at its end.
struct Left {
    view: JobView,
    /// The file that it appended to, and its length when the job's end was known.
    file: Option<(PathBuf, u64)>,
}

// Red with a cancel that does not reach the token, and with a slot that is not given back.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_cancels_at_random_moments_end_each_job_once() {
    bounded(async {
        let live = Live::with(|config| config.bounds.max_running = SLOTS).await;
        let client = live.client().await;
        let out = tempfile::tempdir().unwrap();
        let mut guests = Vec::new();
        // About as long as a late cancel: some end by themselves, at about the same moment.
        for wat in [SPINS, SLEEPS, FILLS, &counts_to(3_000_000), &floods(1), &appends_to("line")] {
            guests.push(push_wat(&client, wat).await);
        }

        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            let (client, guests, out) = (client.clone(), guests.clone(), out.path().join(worker.to_string()));
            std::fs::create_dir(&out).unwrap();
            workers.spawn(async move { cancels(&client, &guests, &out, Random::new(SEED + worker)).await });
        }
        let mut ends = BTreeMap::new();
        while let Some(left) = workers.join_next().await {
            ends.extend(left.unwrap());
        }
        assert_eq!(ends.len() as u64, CANCELS);

        // What went on would have written by now.
        tokio::time::sleep(Duration::from_millis(200)).await;
        for (job, left) in &ends {
            assert_eq!(client.show(*job).await.unwrap(), left.view, "its end, and its outputs, stand");
            if let Some((file, length)) = &left.file {
                assert_eq!(length_of(file), *length, "{job} wrote after its end");
            }
        }
        // All slots are free: as many guests run at once, and there is nothing else.
        let spinning =
            tokio::time::timeout(AT_ONCE, all_run(&client, guests[0])).await.expect("a slot is taken");
        for job in spinning {
            client.cancel(job).await.unwrap();
            client.wait(job).await.unwrap();
        }
        let says = push_wat(&client, &says("fine", 0)).await;
        assert_succeeded(&run(&client, &Job::new(says)).await);
        client.close().await;
        let dir = live.stop().await;

        verify_dir(&dir.path().join("audit"), &Options { key: None, known: None, live: false }, &mut ())
            .unwrap_or_else(|error| panic!("the log does not verify: {error}"));
        hold(&ends, &dir);
    })
    .await;
}

/// Submits and cancels, one job at a time.
async fn cancels(
    client: &Client,
    guests: &[ModuleRef],
    out: &std::path::Path,
    mut random: Random,
) -> BTreeMap<JobId, Left> {
    let mut ends = BTreeMap::new();
    for round in 0..CANCELS / WORKERS {
        let guest = usize::try_from(random.below(guests.len() as u64)).unwrap();
        let appends = guest + 1 == guests.len();
        let dir = out.join(round.to_string());
        let mut job = Job::new(guests[guest]).stdout_limit(1 << 30);
        if appends {
            std::fs::create_dir(&dir).unwrap();
            job = job.write_dir(dir.to_str().unwrap(), "/out");
        }
        let id = client.submit(&job).await.unwrap().job;
        tokio::time::sleep(Duration::from_micros(random.below(LATEST_US))).await;
        match client.cancel(id).await {
            Ok(view) => {
                assert!(matches!(view.state, JobState::Running | JobState::Cancelled), "{view:?}");
            }
            Err(Error::Refused(refusal)) => assert_eq!(refusal.code, RefusalCode::WrongState, "{refusal}"),
            Err(error) => panic!("round {round}: {error}"),
        }
        let end = tokio::time::timeout(AT_ONCE, client.wait(id)).await;
        let view = end.unwrap_or_else(|_| panic!("round {round}: guest {guest} goes on")).unwrap().view;
        assert!(matches!(view.state, JobState::Cancelled | JobState::Succeeded), "{view:?}");
        let file = appends.then(|| dir.join("line")).map(|file| (file.clone(), length_of(&file)));
        ends.insert(id, Left { view, file });
    }
    ends
}

/// None of it is there before the guest has opened it.
fn length_of(file: &std::path::Path) -> u64 {
    std::fs::metadata(file).map_or(0, |meta| meta.len())
}

/// As many jobs as there are slots, all of them running.
async fn all_run(client: &Client, spins: ModuleRef) -> Vec<JobId> {
    let mut jobs = Vec::new();
    for _ in 0..SLOTS {
        jobs.push(client.submit(&Job::new(spins)).await.unwrap().job);
    }
    for job in &jobs {
        while client.show(*job).await.unwrap().state != JobState::Running {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    jobs
}

/// Holds what clients were told against what the log says.
fn hold(ends: &BTreeMap<JobId, Left>, dir: &tempfile::TempDir) {
    let records = records(dir.path());
    // Panics when a job ends twice, or goes on after its end.
    let told = retell(&records);
    let mut last = BTreeMap::new();
    for record in &records {
        if let Some(job) = record.job() {
            last.insert(*job, &record.event);
        }
    }
    for (job, left) in ends {
        assert_eq!(told[job].state, left.view.state);
        assert!(matches!(last[job], Event::Finished { .. }), "{job}: {:?} after the end", last[job]);
    }
    let in_state = |state| ends.values().filter(|left| left.view.state == state).count();
    let (cancelled, ran) =
        (in_state(JobState::Cancelled), ends.keys().filter(|job| told[job].attempts > 0).count());
    println!("{cancelled} of {} were cancelled, {ran} had begun to run", ends.len());
    assert!(
        cancelled > ends.len() / 2 && ran > ends.len() / 2,
        "moments at which nothing happens show nothing"
    );
    assert!(ends.values().any(|left| left.file.as_ref().is_some_and(|(_, length)| *length > 0)));
}
