//! Kill: whatever moment `kill -9` hits the host at, what was acknowledged is there after the next start, reaches one end,
//! and the log tells it all, once (hostile 37).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::live::{SPINS, push_wat, says};
use common::patience::{bounded, bounded_times};
use common::process::{Process, Serving};
use common::proof::{is_long, seed};
use common::random::Random;
use common::records::{Told, records, retell};
use strongroom::audit::verify::{Options, verify_dir};
use strongroom_job::merkle::TreeHead;
use strongroom_job::{AcceptedJob, JobId, JobState, ModuleRef, Outcome};
use strongroom_sdk::{Batch, BatchJob, Client, Job, Signed};
use tokio::task::JoinSet;

/// Small jobs in the large run, and how many of them are acknowledged when the host is killed.
const SMALL_JOBS: usize = 2000;
const KILLED_AFTER: usize = 700;
/// Submits in flight in the large run.
const IN_FLIGHT: usize = 64;
/// Random moments, one start each, in the short version and in the long one.
const MOMENTS: (u64, u64) = (100, 1000);
/// Submits in flight at these moments, and jobs of their batches.
const FEW_IN_FLIGHT: usize = 12;
const BATCH_JOBS: usize = 25;
/// A moment lies at most so long after the start of the process, or after the first submit, in milliseconds.
const LONGEST_MS: u64 = 150;
/// Moments between two looks at the log of the killed host.
const LOOK_EVERY: u64 = 10;
/// Attempts after which even an idempotent job is left alone.
const MAX_ATTEMPTS: u32 = 3;
/// The seed of the moments.
const SEED: u64 = 37;

#[test]
fn host_process() {
    common::process::serve_here();
}

/// What the host has promised.
#[derive(Default)]
struct Promises {
    acknowledged: Mutex<BTreeMap<JobId, Promise>>,
    /// Sent, but not answered: there or not. By the first of their jobs.
    unanswered: Mutex<BTreeMap<JobId, (Signed, bool)>>,
}

#[derive(Clone, Copy)]
struct Promise {
    log_index: u64,
    idempotent: bool,
}

impl Promises {
    /// Submits what was signed, and remembers what came of it. False when the host is gone.
    async fn submit(&self, client: &Client, signed: Signed, idempotent: bool) -> bool {
        let first = signed.jobs[0];
        self.unanswered.lock().unwrap().insert(first, (signed.clone(), idempotent));
        let Ok(jobs) = client.submit_signed(&signed).await else { return false };
        let mut acknowledged = self.acknowledged.lock().unwrap();
        for AcceptedJob { job, log_index, .. } in jobs {
            let before = acknowledged.insert(job, Promise { log_index, idempotent });
            assert!(before.is_none_or(|before| before.log_index == log_index), "{job} moved");
        }
        self.unanswered.lock().unwrap().remove(&first);
        true
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    fn ids(&self) -> Vec<JobId> {
        self.acknowledged.lock().unwrap().keys().copied().collect()
    }

    /// Holds the promises against what the log tells.
    fn hold(&self, told: &BTreeMap<JobId, Told>) {
        for (job, promise) in self.acknowledged.lock().unwrap().iter() {
            let told = told.get(job).unwrap_or_else(|| panic!("job {job} was acknowledged and is gone"));
            assert_eq!(told.admitted, promise.log_index, "job {job} stands elsewhere in the log");
            match told.state {
                JobState::Succeeded => {}
                JobState::Interrupted if !promise.idempotent || told.attempts == MAX_ATTEMPTS => {}
                state => panic!("job {job} ended {state} after {} attempts", told.attempts),
            }
        }
        let unfinished: Vec<_> = told.iter().filter(|(_, told)| !told.state.is_terminal()).collect();
        assert!(unfinished.is_empty(), "never ended: {unfinished:?}");
    }
}

fn small(module: ModuleRef, number: usize) -> (Job, bool) {
    let idempotent = number.is_multiple_of(2);
    let job = Job::new(module).arg(number.to_string());
    (if idempotent { job.idempotent() } else { job }, idempotent)
}

/// The published log as it is on disk now; it must begin with what was published before.
fn look(dir: &Path, known: Option<TreeHead>, live: bool) -> TreeHead {
    let verified = verify_dir(&dir.join("audit"), &Options { key: None, known, live }, &mut ());
    *verified.unwrap_or_else(|error| panic!("the log does not verify: {error}")).checkpoint.head()
}

// Red with the answers of `Writer::commit` sent before `make_durable`, and with `recover` left out of `Host::start`
// (done-when 5).
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_jobs_survive_a_kill_in_their_middle() {
    bounded(async {
        let dir = tempfile::tempdir().unwrap();
        let host = Serving::start(dir.path());
        let client = host.client().await;
        let module = push_wat(&client, &says("done", 0)).await;
        let spins = push_wat(&client, SPINS).await;
        let spinning = Job::new(spins).timeout(Duration::from_secs(600));
        let lost = client.submit(&spinning).await.unwrap().job;
        let again = client.submit(&spinning.clone().idempotent()).await.unwrap().job;
        for job in [lost, again] {
            while client.show(job).await.unwrap().state != JobState::Running {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }

        let promises = Arc::new(Promises::default());
        let next = Arc::new(AtomicUsize::new(0));
        let mut workers = submit_until_it_breaks(&client, module, &promises, &next);
        while promises.count() < KILLED_AFTER {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(!workers.is_empty() && workers.try_join_next().is_none(), "the host is gone too early");
        }
        let known = look(dir.path(), None, true);
        host.kill();
        // Nobody answers any more; a client would find that out by its idle timeout.
        workers.shutdown().await;
        let (acknowledged, sent) = (promises.count(), next.load(Ordering::Relaxed));
        assert!(acknowledged < SMALL_JOBS, "the kill came too late to interrupt anything");

        let host = Serving::start(dir.path());
        let client = host.client().await;
        // What was not answered may be sent again, without running twice; then the rest.
        let unanswered = std::mem::take(&mut *promises.unanswered.lock().unwrap());
        for (signed, idempotent) in unanswered.into_values() {
            assert!(promises.submit(&client, signed, idempotent).await);
        }
        assert_eq!(promises.count(), sent.min(SMALL_JOBS), "every job that was signed is acknowledged now");
        let mut workers = submit_until_it_breaks(&client, module, &promises, &next);
        while workers.join_next().await.is_some() {}
        assert_eq!(promises.count(), SMALL_JOBS);

        assert_eq!(client.wait(lost).await.unwrap().end.outcome, Outcome::Interrupted);
        let view = client.show(again).await.unwrap();
        assert!(matches!(view.state, JobState::Queued | JobState::Running), "{view:?}");
        client.cancel(again).await.unwrap();
        assert_eq!(client.wait(again).await.unwrap().end.outcome, Outcome::Cancelled);
        for job in promises.ids() {
            assert!(client.wait(job).await.unwrap().view.state.is_terminal());
        }
        client.close().await;
        host.stop();

        look(dir.path(), Some(known), false);
        let told = retell(&records(dir.path()));
        assert_eq!(told.len(), SMALL_JOBS + 2, "the jobs that were submitted, and no other");
        promises.hold(&told);
    })
    .await;
}

fn submit_until_it_breaks(
    client: &Client,
    module: ModuleRef,
    promises: &Arc<Promises>,
    next: &Arc<AtomicUsize>,
) -> JoinSet<()> {
    let mut workers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (client, promises, next) = (client.clone(), Arc::clone(promises), Arc::clone(next));
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= SMALL_JOBS {
                    return;
                }
                let (job, idempotent) = small(module, number);
                let signed = client.sign(&job).await.expect("signing asks nobody");
                if !promises.submit(&client, signed, idempotent).await {
                    return;
                }
            }
        });
    }
    workers
}

// Red with the answers of `Writer::commit` sent before `make_durable`.
#[tokio::test(flavor = "multi_thread")]
async fn kills_at_random_moments_lose_nothing() {
    let seed = seed("kills at random moments", SEED);
    let moments = if is_long() { MOMENTS.1 } else { MOMENTS.0 };
    bounded_times(moments.div_ceil(MOMENTS.0), async {
        let dir = tempfile::tempdir().unwrap();
        let host = Serving::start(dir.path());
        let client = host.client().await;
        let module = push_wat(&client, &says("done", 0)).await;
        client.close().await;
        host.stop();

        let mut random = Random::new(seed);
        let promises = Arc::new(Promises::default());
        let mut known = look(dir.path(), None, false);
        for moment in 1..=moments {
            let process = Process::spawn(dir.path());
            let after = Duration::from_millis(random.below(LONGEST_MS));
            if random.one_in(4) {
                // In the middle of the start and its recovery.
                tokio::time::sleep(after).await;
                process.kill();
            } else {
                let host = tokio::task::spawn_blocking(|| process.serving()).await.unwrap();
                let client = host.client().await;
                let mut workers = JoinSet::new();
                for worker in 0..FEW_IN_FLIGHT {
                    workers.spawn(submit_many(client.clone(), module, Arc::clone(&promises), worker));
                }
                tokio::time::sleep(after).await;
                host.kill();
                workers.shutdown().await;
            }
            if moment % LOOK_EVERY == 0 {
                known = look(dir.path(), Some(known), true);
            }
        }

        let host = Serving::start(dir.path());
        let client = host.client().await;
        for job in promises.ids() {
            assert!(client.wait(job).await.unwrap().view.state.is_terminal());
        }
        client.close().await;
        host.stop();
        look(dir.path(), Some(known), false);
        let told = retell(&records(dir.path()));
        println!("{moments} kills, {} jobs acknowledged, {} in the log", promises.count(), told.len());
        assert!(promises.count() as u64 > moments, "a run in which nothing happened shows nothing");
        promises.hold(&told);
    })
    .await;
}

/// Submits jobs, and now and then a batch, until the host is gone.
async fn submit_many(client: Client, module: ModuleRef, promises: Arc<Promises>, worker: usize) {
    for number in worker.. {
        let (job, idempotent) = small(module, number);
        let signed = if number % 10 == 0 {
            let jobs = (0..BATCH_JOBS).map(|n| BatchJob::new().args([n.to_string()]));
            client.sign_batch(&Batch::new(job).jobs(jobs)).await
        } else {
            client.sign(&job).await
        };
        // Signing asks nobody; submitting fails once the host is gone.
        if !promises.submit(&client, signed.expect("signed"), idempotent).await {
            return;
        }
    }
}
