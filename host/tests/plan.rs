//! Plans through the SDK and a real host: when a job runs, how often, with what else, and once more.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::time::Duration;

use common::live::{Live, SPINS, finish, push_wat, run, says};
use strongroom::config::{QueueRules, Rate};
use strongroom_job::{DeadReason, JobState, Outcome, QueueMode, RefusalCode};
use strongroom_sdk::{Batch, BatchJob, Client, Error, Job, JobId, ListFilter, Retries, Taken, runs_as};

const HOUR: Duration = Duration::from_secs(3600);
const MOMENT: Duration = Duration::from_millis(1);

fn refused(error: &Error) -> RefusalCode {
    match error {
        Error::Refused(refusal) => refusal.code,
        error => panic!("{error}"),
    }
}

/// Waits until the job runs.
async fn running(client: &Client, job: JobId) {
    while client.show(job).await.unwrap().state != JobState::Running {
        tokio::time::sleep(MOMENT).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_never_succeeds_is_dead_and_runs_again_as_a_new_job() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, &says("no", 3)).await;
    let job = Job::new(module).arg("kept").retries(Retries::new(2).pause(MOMENT));
    let dead = run(&client, &job).await.view;
    let end = dead.end.clone().unwrap();
    assert_eq!((dead.state, dead.attempt), (JobState::Dead, 3));
    assert_eq!((end.outcome, end.dead), (Outcome::Exited { code: 3 }, Some(DeadReason::Attempts)));

    let task = client.task(dead.job).await.unwrap();
    assert_eq!((task.args.as_slice(), task.module), (["kept".to_owned()].as_slice(), module));
    let again = client.retry(dead.job).await.unwrap();
    assert_ne!(again.job, dead.job);
    let second = finish(&client, again.job).await;
    assert_eq!(
        (second.view.state, second.view.attempt, second.stdout.as_slice()),
        (JobState::Dead, 3, &b"no"[..])
    );
    assert_eq!(client.show(dead.job).await.unwrap(), dead, "one job has one end");

    // What is not over cannot be run again.
    let spins = client.submit(&Job::new(push_wat(&client, SPINS).await)).await.unwrap().job;
    let error = client.retry(spins).await.unwrap_err();
    assert!(matches!(error, Error::NotAgain { job, .. } if job == spins), "{error}");
    client.cancel(spins).await.unwrap();
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_ends_that_were_named_are_tried_again() {
    let live = Live::new().await;
    let client = live.client().await;
    let module =
        push_wat(&client, r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#)
            .await;
    let trapped = run(&client, &Job::new(module).retries(Retries::new(2).pause(MOMENT))).await.view;
    assert_eq!(
        (trapped.attempt, trapped.end.unwrap().dead),
        (1, None),
        "traps are not tried again by default"
    );
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unique_job_runs_once_and_whoever_asks_again_is_told_of_it() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, SPINS).await;
    let unique = |taken| Job::new(module).unique("report of today", HOUR, taken);
    let first = client.submit(&unique(Taken::Refuse)).await.unwrap();
    assert_eq!((first.existing, runs_as(&first)), (None, first.job));
    let second = client.submit(&unique(Taken::Existing)).await.unwrap();
    assert_eq!((second.existing, runs_as(&second)), (Some(first.job), first.job));
    let third = client.submit(&unique(Taken::Refuse)).await.unwrap_err();
    assert_eq!(refused(&third), RefusalCode::NotUnique);
    // The id that was not run is nobody's.
    assert_eq!(refused(&client.show(second.job).await.unwrap_err()), RefusalCode::UnknownJob);

    // Over, the key is still taken in its window: also by the job itself.
    client.cancel(first.job).await.unwrap();
    client.wait(runs_as(&second)).await.unwrap();
    assert_eq!(refused(&client.retry(first.job).await.unwrap_err()), RefusalCode::NotUnique);
    let without = client.resubmit(first.job, |task| task.plan.unique = None).await.unwrap();
    client.cancel(without.job).await.unwrap();
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_sees_what_a_job_waits_for_and_its_end() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, &says("hi", 0)).await;
    let accepted = client.submit(&Job::new(module).delay(Duration::from_millis(700))).await.unwrap();
    let mut seen = Vec::new();
    let finished = client
        .watch(accepted.job, Duration::ZERO, |view| seen.push((view.state, view.ready_at.is_some())))
        .await
        .unwrap();
    assert_eq!(seen[0], (JobState::Scheduled, true), "{seen:?}");
    assert!(seen.windows(2).all(|two| two[0] != two[1]), "only what changed: {seen:?}");
    let view = finished.view;
    assert_eq!(view.state, JobState::Succeeded);
    assert!(view.started_at.unwrap().since(view.accepted_at) >= Duration::from_millis(690), "{view:?}");
    assert_eq!(client.result(accepted.job).await.unwrap(), None, "it gave none");
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_ends_so_and_what_runs_is_left_alone() {
    let live = Live::with(|config| config.bounds.max_running = 1).await;
    let client = live.client().await;
    let module = push_wat(&client, SPINS).await;
    let runs = client.submit(&Job::new(module).expires_in(Duration::from_millis(600))).await.unwrap().job;
    running(&client, runs).await;
    let waits = client.submit(&Job::new(module).expires_in(Duration::from_millis(300))).await.unwrap().job;
    let end = client.wait(waits).await.unwrap();
    assert_eq!((end.view.state, end.end.outcome), (JobState::Expired, Outcome::Expired));
    tokio::time::sleep(Duration::from_millis(400)).await;
    let error = client.result(runs).await.unwrap_err();
    assert!(matches!(error, Error::NotOver { state: JobState::Running, .. }), "{error}");
    client.cancel(runs).await.unwrap();
    live.stop().await;
}

// Red when the client's `unless_full` is left out: the SDK then waits for room, which here never comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_wants_to_know_sees_a_full_queue_at_once() {
    let live = Live::with(|config| config.bounds.max_queued = 1).await;
    let client = live.client_with(|options| options.retry = options.retry.unless_full()).await;
    let queue = "default".parse().unwrap();
    assert_eq!(client.set_queue(&queue, QueueMode::Paused).await.unwrap().mode, QueueMode::Paused);
    let module = push_wat(&client, &says("hi", 0)).await;
    let first = client.submit(&Job::new(module)).await.unwrap().job;
    let second = Job::new(module);
    let full = client.submit(&second);
    let error = tokio::time::timeout(Duration::from_secs(5), full).await.expect("at once").unwrap_err();
    assert_eq!(refused(&error), RefusalCode::QueueFull);
    let queues = client.queues().await.unwrap();
    assert_eq!((queues[0].queued, queues[0].running, queues[0].oldest.is_some()), (1, 0, true), "{queues:?}");
    client.set_queue(&queue, QueueMode::Open).await.unwrap();
    assert_eq!(client.wait(first).await.unwrap().view.state, JobState::Succeeded);
    live.stop().await;
}

// Red with 10,000 jobs looked at and no `next`: the host said that there are no older jobs, and a dead letter was never found again.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_without_a_job_that_was_asked_for_says_where_the_search_goes_on() {
    let live = Live::new().await;
    let client = live.client().await;
    client.set_queue(&"default".parse().unwrap(), QueueMode::Paused).await.unwrap();
    let module = push_wat(&client, &says("hi", 0)).await;
    let old = client.submit(&Job::new(module)).await.unwrap().job;
    client.cancel(old).await.unwrap();
    let newer = Batch::new(Job::new(module)).jobs((0..10_000).map(|_| BatchJob::new()));
    let newer = client.submit_batch(&newer).await.unwrap();
    let cancelled = ListFilter { state: Some(JobState::Cancelled), ..ListFilter::default() };
    let page = client.list(cancelled).await.unwrap();
    assert_eq!((page.jobs.len(), page.next), (0, Some(newer[0].job)));
    let page = client.list(ListFilter { before: page.next, ..cancelled }).await.unwrap();
    assert_eq!(page.jobs.iter().map(|view| view.job).collect::<Vec<_>>(), [old]);
    assert_eq!(page.next, None);
    live.stop().await;
}

// Red without `changes` in `Dispatcher::until`: only the end of an attempt would be noticed, and there is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_idle_when_the_last_job_that_waits_is_cancelled() {
    let live = Live::with(|config| {
        let rate = Some(Rate { starts: 1, per: 24 * HOUR, burst: 1 });
        let rules = QueueRules { rate, ..QueueRules::default() };
        config.queue_rules.insert("default".parse().unwrap(), rules);
    })
    .await;
    let client = live.client().await;
    let module = push_wat(&client, &says("hi", 0)).await;
    run(&client, &Job::new(module)).await;
    let waits = client.submit(&Job::new(module)).await.unwrap().job;
    let idle = tokio::time::timeout(Duration::from_secs(60), live.host.idle());
    let (idle, _) = tokio::join!(idle, async {
        // Not before it is waited for.
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.cancel(waits).await.unwrap()
    });
    idle.expect("nothing is left to do");
    live.stop().await;
}
