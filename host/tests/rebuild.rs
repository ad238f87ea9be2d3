//! A state that was lost, damaged or put back is noticed, moved aside and made anew from the log: with the same root, and with every job
//! as it was. Real work by a real host, then real damage to its files.
//!
//! `STRONGROOM_LONG=1 cargo test -p strongroom --test rebuild` flips bits at many more places.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;
#[path = "rebuild/damage.rs"]
mod damage;
#[path = "rebuild/evidence.rs"]
mod evidence;
#[path = "rebuild/forgotten.rs"]
mod forgotten;
#[path = "rebuild/past.rs"]
mod past;

use std::fs;
use std::path::Path;

use common::process::{Process, Serving, serve_here};
use common::random::Random;
use common::trees::copy;
use damage::Damage;
use past::{Past, Seen, look, records_of};
use strongroom::config::Config;
use strongroom::home::Home;
use strongroom::host::StartError;
use strongroom::mend::mend;
use strongroom_job::{Event, JobState, QueueMode, StateFault};
use strongroom_sdk::{Batch, BatchJob};

/// Bit flips in a short and in a long run.
const FLIPS: (u64, u64) = (6, 100);

fn long() -> bool {
    #[expect(clippy::disallowed_methods, reason = "a test asks how much of it is wanted")]
    std::env::var_os("STRONGROOM_LONG").is_some()
}

/// The `state-rebuilt` records of a log.
fn rebuilt(dir: &Path) -> Vec<(StateFault, u64, u64)> {
    let told = records_of(dir).into_iter().filter_map(|record| match record.event {
        Event::StateRebuilt { found, records, jobs, .. } => Some((found, records, jobs)),
        _ => None,
    });
    told.collect()
}

fn quarantined(dir: &Path) -> usize {
    fs::read_dir(dir.join("quarantine")).map_or(0, Iterator::count)
}

#[test]
fn host_process() {
    serve_here();
}

// Red without the arm for `StateBehind` in `mend::open_parts`, and with `Store::is_damage` false.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_the_state_it_comes_back_as_it_was() {
    let past = Past::new().await;
    for damage in Damage::ALL {
        let dir = past.copy();
        damage.to(&dir.path().join("state"), &past.earlier.path().join("state"));
        let seen = look(dir.path()).await.unwrap();
        past.holds(&seen, &format!("{damage:?}"));
        let told = rebuilt(dir.path());
        let expected = damage.found();
        let found: Vec<_> = told.iter().map(|(found, ..)| *found).collect();
        // What sled makes of half a file is its own affair; that something is missing is ours. The journal may have it still.
        assert!(
            found == expected || (damage == Damage::HalfLength && found.len() <= 1),
            "{damage:?}: {found:?}"
        );
        for (_, records, jobs) in told {
            assert_eq!((records, jobs), (past.size, past.seen.jobs.len() as u64), "{damage:?}");
        }
        let kept = usize::from(!found.is_empty() && damage.leaves_something());
        assert_eq!(quarantined(dir.path()), kept, "{damage:?}");
        // It is done once.
        past.holds(&look(dir.path()).await.unwrap(), &format!("{damage:?}, and a restart"));
        assert_eq!(rebuilt(dir.path()).len(), found.len(), "{damage:?}");
        past.goes_on(dir.path()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_noticed_or_does_no_harm() {
    let past = Past::new().await;
    let flips = if long() { FLIPS.1 } else { FLIPS.0 };
    let (mut noticed, mut by_hand) = (0, 0);
    for seed in 1..=flips {
        let dir = past.copy();
        let place = damage::flip(&dir.path().join("state"), &mut Random::new(seed));
        let what = format!("seed {seed}: {place}");
        let seen = match look(dir.path()).await {
            Ok(seen) => seen,
            // A row that nobody reads at a start: whoever asks for it is told so, and an operator has it made anew.
            Err(problem) => {
                by_hand += 1;
                given_up(dir.path(), &problem);
                look(dir.path()).await.unwrap_or_else(|problem| panic!("{what}: {problem}"))
            }
        };
        past.holds(&seen, &what);
        noticed += rebuilt(dir.path()).len();
        past.goes_on(dir.path()).await;
    }
    println!("{flips} flips, {noticed} states rebuilt, {by_hand} of them by hand");
}

fn given_up(dir: &Path, problem: &str) {
    let home = Home::open(dir).unwrap().lock().unwrap();
    let config = Config::load(&home.config()).unwrap();
    mend(&home, &config, StateFault::GivenUp, problem).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_killed_is_begun_again() {
    let past = Past::new().await;
    let dir = past.copy();
    Damage::Emptied.to(&dir.path().join("state"), Path::new("-"));
    let mut random = Random::new(9);
    for _ in 0..8 {
        let host = Process::spawn(dir.path());
        std::thread::sleep(std::time::Duration::from_millis(random.below(120)));
        host.kill();
    }
    // And between its two renames: what was there is aside, and the new one has no name yet.
    if dir.path().join("state").exists() {
        fs::create_dir_all(dir.path().join("quarantine")).unwrap();
        fs::rename(dir.path().join("state"), dir.path().join("quarantine/state-1")).unwrap();
    }
    copy(&past.earlier.path().join("state"), &dir.path().join("state.making"));
    let host = Serving::start(dir.path());
    host.stop();
    past.holds(&look(dir.path()).await.unwrap(), "killed");
    assert!(!rebuilt(dir.path()).is_empty());
}

// Red without `verify_dir` in `mend`.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_wrong_makes_no_state() {
    let past = Past::new().await;
    let dir = past.copy();
    Damage::Removed.to(&dir.path().join("state"), Path::new("-"));
    // In the first record, which no start reads.
    let bundle = past::some_bundle(dir.path());
    let good = fs::read(&bundle).unwrap();
    let mut bad = good.clone();
    bad[100] ^= 1;
    fs::write(&bundle, &bad).unwrap();
    let error = past::try_start(dir.path()).await.expect_err("no host starts");
    assert!(matches!(error, StartError::Rebuild { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("does not verify") || text.contains("altered"), "{text}");
    assert!(text.contains("Nothing was changed"), "{text}");
    assert_eq!(fs::read_dir(dir.path().join("state")).unwrap().count() + quarantined(dir.path()), 0);
    fs::write(&bundle, &good).unwrap();
    past.holds(&look(dir.path()).await.unwrap(), "the log is good again");
}

// Red when `Replay::done` does not ask who is gone.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_wait_are_not_given_up_for_lack_of_evidence() {
    let past = Past::new().await;
    let dir = past.copy();
    Damage::Removed.to(&dir.path().join("state"), Path::new("-"));
    let aside = tempfile::tempdir().unwrap();
    fs::rename(dir.path().join("evidence"), aside.path().join("evidence")).unwrap();
    let error = past::try_start(dir.path()).await.expect_err("no host starts");
    assert!(error.to_string().contains("are not over, and the evidence of what they are is gone"), "{error}");
    fs::rename(aside.path().join("evidence"), dir.path().join("evidence")).unwrap();
    past.holds(&look(dir.path()).await.unwrap(), "evidence is back");
}

// Red without `catch_up` in the publisher.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_an_earlier_version_gets_its_evidence_at_the_next_start() {
    let past = Past::new().await;
    let dir = past.copy();
    fs::remove_dir_all(dir.path().join("evidence")).unwrap();
    past.holds(&look(dir.path()).await.unwrap(), "without evidence");
    Damage::Removed.to(&dir.path().join("state"), Path::new("-"));
    past.holds(&look(dir.path()).await.unwrap(), "rebuilt from evidence that was made later");
    past.goes_on(dir.path()).await;
}

// Red without `bar` in `gone_ends`: the job runs a second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_evidence_is_gone_is_not_run_again() {
    let live = common::live::Live::new().await;
    let client = live.client().await;
    let module = common::live::push_wat(&client, &common::live::says("once", 0)).await;
    let signed = client.sign(&strongroom_sdk::Job::new(module)).await.unwrap();
    let first = client.submit_signed(&signed).await.unwrap();
    client.wait(first[0].job).await.unwrap();
    client.close().await;
    let dir = live.stop().await;
    fs::remove_dir_all(dir.path().join("evidence")).unwrap();
    Damage::Removed.to(&dir.path().join("state"), Path::new("-"));
    let live = common::live::Live { host: common::live::start(dir.path(), |_| {}).await, dir };
    let client = live.client().await;
    common::live::push_wat(&client, &common::live::says("once", 0)).await;
    assert_eq!(client.submit_signed(&signed).await.unwrap(), first, "the first answer again");
    assert!(client.show(first[0].job).await.is_err(), "and no more than that");
    client.close().await;
    let dir = live.stop().await;
    let started =
        records_of(dir.path()).iter().filter(|record| matches!(record.event, Event::Started { .. })).count();
    assert_eq!(started, 1);
}

// Red without `has_envelope_of`: the envelope stands in a segment of its own for each of its jobs.
#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_longer_than_a_segment_is_kept_once() {
    let live = common::live::Live::new().await;
    let client = live.client().await;
    let module = common::live::push_wat(&client, &common::live::says("much", 0)).await;
    let long = "x".repeat(50 << 10);
    let jobs = (0..65).map(|number| BatchJob::new().args([number.to_string(), long.clone()]));
    let signed = client.sign_batch(&Batch::new(strongroom_sdk::Job::new(module)).jobs(jobs)).await.unwrap();
    let accepted = client.submit_signed(&signed).await.unwrap();
    // With its receipt, so what it refers to is written.
    client.wait(accepted.last().unwrap().job).await.unwrap();
    client.close().await;
    let dir = live.stop().await;
    let files =
        fs::read_dir(dir.path().join("evidence")).unwrap().map(|file| file.unwrap().metadata().unwrap());
    let lengths: Vec<u64> = files.map(|file| file.len()).collect();
    let longest = *lengths.iter().max().unwrap();
    assert!(longest > 4 << 20, "as long as a segment: {lengths:?}");
    assert!(lengths.iter().sum::<u64>() < 2 * longest, "{lengths:?}");
}

/// What `Seen` says of a host that works.
fn queue_of(seen: &Seen) -> QueueMode {
    assert!(seen.jobs.values().any(|job| job.view.state == JobState::Queued), "some wait");
    seen.queue
}
