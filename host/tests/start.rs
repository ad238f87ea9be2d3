//! When a job starts: in the commit that makes it ready, if there is a place for it, and never before that commit is on the disk.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::disallowed_methods, reason = "the disk is slow, and blocks who waits for it")]

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::guests::appends_to;
use common::live::{Live, SPINS, compiler, push_wat, says};
use common::patience::bounded;
use strongroom::config::Config;
use strongroom::home::Home;
use strongroom::host::{Ended, Host, Stop};
use strongroom::store::Step;
use strongroom_job::JobState;
use strongroom_sdk::{Flow, Job, Retries};

/// How long each commit takes at least: far more than the clock's step, a millisecond.
const SLOW: Duration = Duration::from_millis(20);

/// The time of one of so many comes in that moment.
const RETRIES: u32 = 99;

/// A host over such a disk.
async fn over(
    disk: impl FnMut(Step) -> io::Result<()> + Send + 'static,
    change: impl FnOnce(&mut Config),
) -> Live {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::create(dir.path()).unwrap().lock().unwrap();
    let mut config = Config::load(&home.config()).unwrap();
    config.listen = ([127, 0, 0, 1], 0).into();
    change(&mut config);
    let host = Box::pin(Host::start_with(home, config, compiler(), Box::new(disk))).await.unwrap();
    Live { host, dir }
}

fn slow(step: Step) -> io::Result<()> {
    if step == Step::BeforeApply {
        std::thread::sleep(SLOW);
    }
    Ok(())
}

// Red without `Starter`: each start has a commit of its own, and so another time.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_starts_in_the_commit_that_makes_it_ready() {
    bounded(Box::pin(async {
        let live = over(slow, |config| config.bounds.max_running = 1).await;
        let client = live.client().await;
        let module = push_wat(&client, &says("done", 0)).await;
        let alone = client.submit(&Job::new(module)).await.unwrap().job;
        let alone = client.wait(alone).await.unwrap().view;
        assert_eq!(alone.started_at, Some(alone.accepted_at));
        // An end makes ready who waits for it. The place of who ended is not free yet.
        live.stop().await;

        let live = over(slow, |_| {}).await;
        let client = live.client().await;
        let module = push_wat(&client, &says("done", 0)).await;
        let mut flow = Flow::new();
        let first = flow.add(Job::new(module));
        let second = flow.add(Job::new(module).after(first));
        let accepted = client.submit_flow(&flow).await.unwrap();
        let [first, second] = [first, second].map(|job| accepted[job.index()].job);
        let (first, second) =
            (client.wait(first).await.unwrap().view, client.wait(second).await.unwrap().view);
        assert_eq!(first.started_at, Some(first.accepted_at));
        assert!(
            first.finished_at.is_some() && second.started_at == first.finished_at,
            "{first:?} {second:?}"
        );
        live.stop().await;
    }))
    .await;
}

// Red when jobs start with their groups whatever is free.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_a_place_waits_for_one() {
    bounded(Box::pin(async {
        let live = over(slow, |config| config.bounds.max_running = 2).await;
        let client = live.client().await;
        let (spins, says) = (push_wat(&client, SPINS).await, push_wat(&client, &says("done", 0)).await);
        let spinning =
            [client.submit(&Job::new(spins)).await.unwrap(), client.submit(&Job::new(spins)).await.unwrap()];
        let waits = client.submit(&Job::new(says)).await.unwrap().job;
        assert_eq!(client.show(waits).await.unwrap().state, JobState::Queued);
        for job in &spinning {
            assert_eq!(client.show(job.job).await.unwrap().state, JobState::Running);
        }
        client.cancel(spinning[0].job).await.unwrap();
        let (ended, waited) =
            (client.wait(spinning[0].job).await.unwrap().view, client.wait(waits).await.unwrap().view);
        assert!(waited.started_at >= ended.finished_at && waited.started_at.is_some());
        client.cancel(spinning[1].job).await.unwrap();
        live.stop().await;
    }))
    .await;
}

// Red without `Drop` of a claim: the host waits for an attempt that never was. A start that is answered before its group is durable finds no row of
// its job, and ends it as the host's fault: the first two tests are red then.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_disk_did_not_take_does_not_run() {
    bounded(Box::pin(async {
        let gone = Arc::new(AtomicBool::new(false));
        let fails = Arc::clone(&gone);
        let disk = move |step: Step| {
            let fails = step == Step::Flushed && fails.load(Ordering::Relaxed);
            if fails { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
        };
        let out = tempfile::tempdir().unwrap();
        let live = over(disk, |_| {}).await;
        let client = live.client().await;
        let module = push_wat(&client, &appends_to("line")).await;
        gone.store(true, Ordering::Relaxed);
        client.submit(&Job::new(module).write_dir(out.path().to_str().unwrap(), "/out")).await.unwrap_err();
        live.host.failed().await;
        let ended = Box::pin(live.host.stop(Stop::Running(Duration::from_secs(100_000)))).await;
        assert!(matches!(&ended, Ended::Failed(reason) if reason.contains("the disk is gone")), "{ended:?}");
        assert!(!out.path().join("line").exists());
    }))
    .await;
}

// Red without `TooEarly` in `answer`: the schedule takes a job whose time has come since the group looked at the clock, and nobody starts it.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_comes_while_a_group_is_judged_is_not_missed() {
    bounded(Box::pin(async {
        let live = Live::new().await;
        let client = live.client().await;
        let module = push_wat(&client, &says("no", 3)).await;
        let pause = Duration::from_millis(1);
        let job = Job::new(module).retries(Retries::new(RETRIES).pause(pause).max_pause(pause));
        let view = client.submit(&job).await.unwrap();
        assert_eq!(client.wait(view.job).await.unwrap().view.attempt, RETRIES + 1);
        live.stop().await;
    }))
    .await;
}
