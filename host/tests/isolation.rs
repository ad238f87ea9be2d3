//! Isolation: what one job does, however bad, is not seen, felt or paid for by another.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::guests::{LEAVES_SECRETS, appends_to, counts_to};
use common::live::{Live, SPINS, assert_succeeded, push_wat, run, says};
use common::patience::bounded;
use common::random::Random;
use common::records::{records, retell};
use common::secret;
use strongroom::config::{Principal, Roles};
use strongroom_job::{Event, JobId, JobState, Outcome, RefusalCode};
use strongroom_sdk::{Client, Error, Identity, Job};

/// Moments of a cancel, and how long after the submit the latest of them is.
const CANCELS: usize = 100;
const LATEST_CANCEL_US: u64 = 20_000;
const SEED: u64 = 32;

fn visitor() -> Principal {
    Principal {
        name: "visitor".parse().unwrap(),
        key: secret(2).public(),
        tenant: "visitors".parse().unwrap(),
        volumes: BTreeMap::new(),
        any_directory: false,
        any_network: false,
        roles: Roles::USUAL,
        connect: Vec::new(),
        listen: Vec::new(),
        http: Vec::new(),
        secrets: std::collections::BTreeSet::new(),
        narrowed: None,
    }
}

async fn until_running(client: &Client, job: JobId) {
    while client.show(job).await.unwrap().state != JobState::Running {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

// The guard is the engine's own: nothing of ours can be taken out.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_finds_zeros_where_another_left_its_secrets() {
    bounded(async {
        // One slot: every job gets the memory of the one before it.
        let live = Live::with(|config| {
            config.bounds.max_running = 1;
            config.principals.push(visitor());
        })
        .await;
        let owner = live.client().await;
        let visitor = live.client_with(|options| options.identity = Identity::from(secret(2))).await;
        for round in 0..20 {
            let client = if round % 2 == 0 { &owner } else { &visitor };
            let module = push_wat(client, LEAVES_SECRETS).await;
            let done = run(client, &Job::new(module)).await;
            assert_eq!(done.view.end.unwrap().outcome, Outcome::Exited { code: 0 }, "round {round}");
        }
        live.stop().await;
    })
    .await;
}

// Red with the yield at each tick taken out of the runtime's sandbox. (Guests that yield would also do on the threads that
// serve the network; that they have their own is the second guard.)
#[tokio::test(flavor = "multi_thread")]
async fn guests_that_spin_keep_neither_another_tenant_nor_the_host_waiting() {
    bounded(Box::pin(async {
        let live = Live::with(|config| {
            config.bounds.max_running = 16;
            config.principals.push(visitor());
        })
        .await;
        let owner = live.client().await;
        let visitor = live.client_with(|options| options.identity = Identity::from(secret(2))).await;
        let spins = push_wat(&owner, SPINS).await;
        let cores = std::thread::available_parallelism().unwrap().get();
        let mut spinning = Vec::new();
        for _ in 0..(2 * cores).min(12) {
            spinning
                .push(owner.submit(&Job::new(spins).timeout(Duration::from_secs(600))).await.unwrap().job);
        }
        for job in &spinning {
            until_running(&owner, *job).await;
        }
        let module = push_wat(&visitor, &says("mine", 0)).await;
        for _ in 0..10 {
            let done = run(&visitor, &Job::new(module)).await;
            assert_succeeded(&done);
            assert_eq!(done.stdout, b"mine");
            assert_eq!(visitor.host().await.unwrap().tenant.as_str(), "visitors");
        }
        for job in spinning {
            assert_eq!(
                owner.show(job).await.unwrap().state,
                JobState::Running,
                "it spun through all of that"
            );
            owner.cancel(job).await.unwrap();
            assert_eq!(owner.wait(job).await.unwrap().end.outcome, Outcome::Cancelled);
        }
        live.stop().await;
    }))
    .await;
}

/// Set while the host is to panic when it logs something.
static PANICS: AtomicBool = AtomicBool::new(false);
/// The word by which the log line is known.
const BAD_NEWS: &str = "the attempt failed at the host";

/// A log that panics on one line: the one place where a test can put its own code under a job's attempt.
struct PanickingLog;

impl tracing::Subscriber for PanickingLog {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Words(bool);
        impl tracing::field::Visit for Words {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 |= field.name() == "message" && format!("{value:?}").contains(BAD_NEWS);
            }
        }
        let mut words = Words(false);
        event.record(&mut words);
        assert!(!(words.0 && PANICS.load(Ordering::Relaxed)), "on purpose, under a job");
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

// Red with `catch_unwind` taken out of `Shared::run_started`: the job then stays `running` for ever (hostile 31).
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_host_under_one_job_fails_that_job_only() {
    bounded(async {
        tracing::subscriber::set_global_default(PanickingLog).expect("no other test of this file sets one");
        let live = Live::with(|config| config.bounds.max_running = 2).await;
        let client = live.client().await;
        let spins = push_wat(&client, SPINS).await;
        let module = push_wat(&client, &says("x", 0)).await;
        let beside = client.submit(&Job::new(spins).timeout(Duration::from_secs(600))).await.unwrap().job;
        until_running(&client, beside).await;

        let gone = tempfile::tempdir().unwrap();
        let path = gone.path().to_str().unwrap().to_owned();
        drop(gone);
        // A directory that is not there is the host's trouble, which it logs, which panics.
        PANICS.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            let job = client.submit(&Job::new(module).read_dir(&path, "/gone")).await.unwrap().job;
            let end = client.wait(job).await.unwrap().end;
            let Outcome::Faulted { reason } = end.outcome else { panic!("{end:?}") };
            assert_eq!(reason, "the host panicked while it ran the job; its log has the details");
        }
        PANICS.store(false, Ordering::Relaxed);
        assert_eq!(
            client.show(beside).await.unwrap().state,
            JobState::Running,
            "its neighbour noticed nothing"
        );
        assert_succeeded(&run(&client, &Job::new(module)).await);
        client.cancel(beside).await.unwrap();
        client.close().await;
        let dir = live.stop().await;
        assert!(retell(&records(dir.path())).values().all(|told| told.state.is_terminal()));
    })
    .await;
}

// Red with a cancel that does not reach the token, with a slot that is not given back, and with a guest that goes on when
// its attempt is cancelled (hostile 32).
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_cancels_at_random_moments_end_each_job_once() {
    bounded(async {
        let live = Live::with(|config| config.bounds.max_running = 2).await;
        let client = live.client().await;
        // About as long as the latest cancel: some end by themselves, at about the same moment.
        let counts = push_wat(&client, &counts_to(30_000_000)).await;
        let spins = push_wat(&client, SPINS).await;
        let mut random = Random::new(SEED);
        let mut ends = BTreeMap::new();
        for round in 0..CANCELS {
            let job = client.submit(&Job::new(counts)).await.unwrap().job;
            let other = client.submit(&Job::new(spins)).await.unwrap().job;
            tokio::time::sleep(Duration::from_micros(random.below(LATEST_CANCEL_US))).await;
            for job in [job, other] {
                match client.cancel(job).await {
                    Ok(view) => {
                        assert!(matches!(view.state, JobState::Running | JobState::Cancelled), "{view:?}")
                    }
                    Err(Error::Refused(refusal)) => {
                        assert_eq!(refusal.code, RefusalCode::WrongState, "{refusal}")
                    }
                    Err(error) => panic!("round {round}: {error}"),
                }
                let view = client.wait(job).await.unwrap().view;
                assert!(matches!(view.state, JobState::Cancelled | JobState::Succeeded), "{view:?}");
                ends.insert(job, view);
            }
        }
        // What they said at their end, they say now.
        for (job, view) in &ends {
            assert_eq!(client.show(*job).await.unwrap(), *view);
        }
        // Both slots are free.
        for job in [
            client.submit(&Job::new(spins)).await.unwrap().job,
            client.submit(&Job::new(spins)).await.unwrap().job,
        ] {
            until_running(&client, job).await;
            client.cancel(job).await.unwrap();
        }
        client.close().await;
        let dir = live.stop().await;
        let records = records(dir.path());
        let told = retell(&records);
        for (job, view) in &ends {
            assert_eq!(told[job].state, view.state);
            let last = records.iter().rposition(|record| record.job() == Some(job)).unwrap();
            assert!(
                matches!(records[last].event, Event::Finished { .. }),
                "something was logged after the end"
            );
        }
        let cancelled = ends.values().filter(|view| view.state == JobState::Cancelled).count();
        assert!(cancelled >= CANCELS, "every guest that spins was cancelled, and {cancelled} in all");
    })
    .await;
}

// Red when the guest's future is not dropped at the cancel.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_writes_nothing_afterwards() {
    bounded(async {
        let live = Live::new().await;
        let client = live.client().await;
        let out = tempfile::tempdir().unwrap();
        let file = out.path().join("line");
        let module = push_wat(&client, &appends_to("line")).await;
        for _ in 0..10 {
            let job = Job::new(module).write_dir(out.path().to_str().unwrap(), "/out");
            let job = client.submit(&job).await.unwrap().job;
            until_running(&client, job).await;
            while std::fs::metadata(&file).map_or(0, |meta| meta.len()) == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            client.cancel(job).await.unwrap();
            assert_eq!(client.wait(job).await.unwrap().end.outcome, Outcome::Cancelled);
            let length = || std::fs::metadata(&file).unwrap().len();
            let at_the_end = length();
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(length(), at_the_end);
            std::fs::remove_file(&file).unwrap();
        }
        live.stop().await;
    })
    .await;
}
