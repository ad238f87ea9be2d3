//! How workers end, and what that does to whom.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use strongroom::config::Isolation;
use strongroom_job::{Event, JobState, Outcome};
use strongroom_sdk::{Job, Retries};
use tokio::task::JoinSet;

use super::common::guests::appends_to;
use super::common::live::{SPINS, assert_succeeded, finish, push_wat, run, says};
use super::common::patience::bounded;
use super::common::records::records;
use super::{fault, outcome, site, until, until_running, workers};

const LONG: Duration = Duration::from_secs(600);

/// A worker that somebody kills costs its own tenant's running jobs, each of which ends once, or is tried again if its plan says so.
// Red when `State::take` does not ask whose worker it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_takes_the_running_jobs_of_its_tenant_and_no_others() {
    let _alone = super::ALONE.lock().await;
    bounded(Box::pin(async {
        let live = site(Isolation::Process, |_| {}).await;
        let (ours, theirs) = (live.ours().await, live.theirs().await);
        let spins = push_wat(&ours, SPINS).await;
        let mut running = Vec::new();
        for _ in 0..3 {
            running.push(ours.submit(&Job::new(spins).timeout(LONG)).await.unwrap().job);
        }
        // Its second attempt says so and ends.
        let again = r#"(module
            (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
            (memory (export "memory") 1) (data (i32.const 0) "mark")
            (func (export "_start")
                (if (call $mkdir (i32.const 3) (i32.const 0) (i32.const 4)) (then (return)))
                (loop $l (br $l))))"#;
        let again = push_wat(&ours, again).await;
        let retries = Retries::new(1).pause(Duration::from_millis(1));
        let again = Job::new(again).write_volume("ours", "/v").timeout(LONG).retries(retries);
        let again = ours.submit(&again).await.unwrap().job;
        for job in running.iter().chain([&again]) {
            until_running(&ours, *job).await;
        }
        until("its directory is made", || live.dir.path().join("ours/mark").exists()).await;
        let first = workers();
        assert_eq!(first.len(), 1, "one worker for all of a tenant's jobs");

        let spins = push_wat(&theirs, SPINS).await;
        let other = theirs.submit(&Job::new(spins).timeout(LONG)).await.unwrap().job;
        until_running(&theirs, other).await;
        until("the other tenant has a worker of its own", || workers().len() == 2).await;

        super::signal(*first.first().unwrap(), Signal::KILL);
        for job in &running {
            let reason = fault(&ours, *job).await;
            assert!(reason.contains("signal 9") && reason.contains("tenant default"), "{reason}");
        }
        assert_eq!(outcome(&ours, again).await, Outcome::Exited { code: 0 }, "its plan tries a fault again");
        assert_eq!(theirs.show(other).await.unwrap().state, JobState::Running, "another tenant's goes on");
        // A new one takes its place.
        let module = push_wat(&ours, &says("here", 0)).await;
        assert_succeeded(&run(&ours, &Job::new(module)).await);
        theirs.cancel(other).await.unwrap();
        assert_eq!(outcome(&theirs, other).await, Outcome::Cancelled);

        let dir = live.stop().await;
        let mut ends = BTreeMap::new();
        for record in records(&dir.path().join("data")) {
            if let Event::Finished { job, .. } = record.event {
                *ends.entry(job).or_insert(0) += 1;
            }
        }
        assert!(running.iter().chain([&again, &other]).all(|job| ends[job] == 1), "{ends:?}");
        assert_eq!(workers().len(), 0, "none outlives its host");
    }))
    .await;
}

/// One that does not answer any more is killed at the job's deadline, or after a cancel; what a guest wrote is not written on.
// Red without the `timeout` around `talk` in `converse`: the job goes on for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hangs_is_killed_when_its_jobs_time_is_up() {
    let _alone = super::ALONE.lock().await;
    bounded(Box::pin(async {
        let live = site(Isolation::Process, |_| {}).await;
        let client = live.ours().await;
        let module = push_wat(&client, &appends_to("file")).await;
        let job = Job::new(module).write_volume("ours", "/v");
        let job = client.submit(&job.timeout(Duration::from_secs(3))).await.unwrap().job;
        until_running(&client, job).await;
        until("it writes", || live.dir.path().join("ours/file").metadata().unwrap().len() > 100).await;
        let hung = *workers().first().unwrap();
        super::signal(hung, Signal::STOP);
        let reason = fault(&client, job).await;
        assert!(reason.contains("did not say in time") && reason.contains("was killed"), "{reason}");
        until("it is gone", || !workers().contains(&hung)).await;

        let spins = push_wat(&client, SPINS).await;
        let job = client.submit(&Job::new(spins).timeout(LONG)).await.unwrap().job;
        until_running(&client, job).await;
        until("it has a worker", || workers().len() == 1).await;
        let hung = *workers().first().unwrap();
        // The guest is in there by now.
        tokio::time::sleep(Duration::from_millis(300)).await;
        super::signal(hung, Signal::STOP);
        client.cancel(job).await.unwrap();
        assert_eq!(outcome(&client, job).await, Outcome::Cancelled);
        until("it is gone", || !workers().contains(&hung)).await;
        live.stop().await;
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_jobs_of_two_tenants_at_once_run_in_two_workers() {
    let _alone = super::ALONE.lock().await;
    bounded(Box::pin(async {
        let live = site(Isolation::Process, |_| {}).await;
        let clients = [live.ours().await, live.theirs().await];
        let mut modules = Vec::new();
        for client in &clients {
            modules.push([push_wat(client, SPINS).await, push_wat(client, &says("mine", 0)).await]);
        }
        let mut spinning = Vec::new();
        for at in 0..64 {
            let (client, [spins, _]) = (&clients[at % 2], modules[at % 2]);
            spinning.push((at % 2, client.submit(&Job::new(spins).timeout(LONG)).await.unwrap().job));
        }
        for (whose, job) in &spinning {
            until_running(&clients[*whose], *job).await;
        }
        until("both have a worker", || workers().len() == 2).await;
        for (whose, job) in &spinning {
            clients[*whose].cancel(*job).await.unwrap();
        }
        for (whose, job) in &spinning {
            assert_eq!(outcome(&clients[*whose], *job).await, Outcome::Cancelled);
        }
        let mut said = JoinSet::new();
        for at in 0..64 {
            let (client, [_, says]) = (clients[at % 2].clone(), modules[at % 2]);
            said.spawn(async move {
                let job = client.submit(&Job::new(says)).await.unwrap().job;
                finish(&client, job).await
            });
        }
        while let Some(done) = said.join_next().await {
            let done = done.unwrap();
            assert_succeeded(&done);
            assert_eq!(done.stdout, b"mine");
        }
        assert_eq!(workers().len(), 2);
        live.stop().await;
    }))
    .await;
}

/// An idle one goes when another tenant needs its place; while all are busy, a job waits.
// Red without the search for the idle one in `State::take`: the second tenant's job waits for ever.
#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_more_workers_than_the_configuration_says() {
    let _alone = super::ALONE.lock().await;
    bounded(Box::pin(async {
        let few = |config: &mut strongroom::config::Config| {
            config.bounds.max_workers = 1;
            config.bounds.worker_idle = LONG;
        };
        let live = site(Isolation::Process, few).await;
        let (ours, theirs) = (live.ours().await, live.theirs().await);
        assert_eq!(workers().len(), 0, "none before there is work");
        let says_it = push_wat(&ours, &says("x", 0)).await;
        assert_succeeded(&run(&ours, &Job::new(says_it)).await);
        let first = workers();
        let theirs_says = push_wat(&theirs, &says("y", 0)).await;
        assert_succeeded(&run(&theirs, &Job::new(theirs_says)).await);
        until("the first made place", || workers().is_disjoint(&first)).await;

        let spins = push_wat(&ours, SPINS).await;
        let busy = ours.submit(&Job::new(spins).timeout(LONG)).await.unwrap().job;
        until_running(&ours, busy).await;
        until("it has a worker", || workers().len() == 1).await;
        let waiting = theirs.submit(&Job::new(theirs_says)).await.unwrap().job;
        // It waits for a worker, and can be cancelled there like anywhere.
        let cancelled = theirs.submit(&Job::new(theirs_says)).await.unwrap().job;
        until_running(&theirs, cancelled).await;
        theirs.cancel(cancelled).await.unwrap();
        assert_eq!(outcome(&theirs, cancelled).await, Outcome::Cancelled);
        assert_eq!(workers().len(), 1);
        assert!(theirs.show(waiting).await.unwrap().end.is_none());
        ours.cancel(busy).await.unwrap();
        assert_eq!(outcome(&theirs, waiting).await, Outcome::Exited { code: 0 });
        live.stop().await;
    }))
    .await;
}

/// Memory that nobody uses is given back.
// Red without `sweep`.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_work_ends() {
    let _alone = super::ALONE.lock().await;
    bounded(Box::pin(async {
        let live =
            site(Isolation::Process, |config| config.bounds.worker_idle = Duration::from_secs(1)).await;
        let client = live.ours().await;
        let module = push_wat(&client, &says("x", 0)).await;
        for _ in 0..2 {
            assert_succeeded(&run(&client, &Job::new(module)).await);
            until("nobody has work", || workers().is_empty()).await;
        }
        live.stop().await;
    }))
    .await;
}
