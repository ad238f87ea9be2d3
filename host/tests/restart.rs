//! SIGTERM: a host that is told to stop while it is given work finishes what runs, keeps what waits, and has forgotten nothing at its next start.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod cli_support;
#[allow(dead_code, unreachable_pub, reason = "what is told, and not what stands in each leaf")]
#[path = "common/records.rs"]
mod records;

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cli_support::{LOOP, Place, Serving, wait_for};
use records::{records, retell};
use strongroom::home::Home;
use strongroom_job::{JobId, JobState, ModuleRef};
use strongroom_sdk::{Client, ConnectOptions, Job, Retry, Signed};
use tokio::task::JoinSet;

/// Starts of the host that are ended in the middle of work, and jobs that are acknowledged in each before it is told to.
const ROUNDS: usize = 4;
const JOBS: usize = 60;
/// Submits in flight.
const WORKERS: usize = 12;
/// Longer than any of it takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long jobs sleep, in nanoseconds: the first of each worker so long that it runs when the host is told to stop, and longer than a stop takes
/// that waits for nothing.
const LONG: u64 = 2_000_000_000;
const SHORT: u64 = 20_000_000;

/// Sleeps for so many nanoseconds.
fn nap(length: u64) -> Vec<u8> {
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (func (export "_start")
                (i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const {length}))
                (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#
    );
    wat::parse_str(text).unwrap()
}

/// What was sent: answered, with the place of its record, or not.
#[derive(Default)]
struct Sent {
    answered: Mutex<BTreeMap<JobId, u64>>,
    unanswered: Mutex<BTreeMap<JobId, Signed>>,
}

impl Sent {
    /// False when the host takes no more.
    async fn submit(&self, client: &Client, signed: Signed) -> bool {
        let job = signed.jobs[0];
        self.unanswered.lock().unwrap().insert(job, signed.clone());
        let Ok(accepted) = client.submit_signed(&signed).await else { return false };
        self.unanswered.lock().unwrap().remove(&job);
        let before = self.answered.lock().unwrap().insert(job, accepted[0].log_index);
        assert!(before.is_none_or(|before| before == accepted[0].log_index), "{job} was accepted twice");
        true
    }

    fn count(&self) -> usize {
        self.answered.lock().unwrap().len()
    }
}

/// It repeats nothing by itself: what it was not told, it does not know.
async fn client(place: &Place, host: &Serving) -> Client {
    let key = Home::open(&place.data()).unwrap().client_key().unwrap();
    let mut options = ConnectOptions::new(&host.address, host.host_key.parse().unwrap(), key);
    options.retry = Retry::none();
    Client::connect(options).await.expect("the host knows this key")
}

/// Gives the host work until it takes no more.
fn work(client: &Client, [long, short]: [ModuleRef; 2], sent: &Arc<Sent>) -> JoinSet<()> {
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let (client, sent) = (client.clone(), Arc::clone(sent));
        workers.spawn(async move {
            for module in std::iter::once(long).chain(std::iter::repeat(short)) {
                let signed = client.sign(&Job::new(module)).await.expect("signing asks nobody");
                if !sent.submit(&client, signed).await {
                    return;
                }
            }
        });
    }
    workers
}

// Red with `Ending::Running(Duration::ZERO)` in place of the drain in `until_stopped`: what ran is interrupted; red without `recover` in `Host::open`:
// what waited never ends.
#[tokio::test(flavor = "multi_thread")]
async fn restarts_under_load_lose_no_job_and_cut_none_off() {
    let place = Place::new();
    let sent = Arc::new(Sent::default());
    let all = async {
        for round in 1..=ROUNDS {
            let host = place.serve();
            let client = client(&place, &host).await;
            let long = client.push_module(nap(LONG)).await.unwrap();
            let short = client.push_module(nap(SHORT)).await.unwrap();
            // A job that was not answered is sent again, and is the same one.
            let unanswered = std::mem::take(&mut *sent.unanswered.lock().unwrap());
            for signed in unanswered.into_values() {
                assert!(sent.submit(&client, signed).await);
            }
            let mut workers = work(&client, [long, short], &sent);
            while sent.count() < round * JOBS {
                assert!(
                    workers.try_join_next().is_none(),
                    "the host takes nothing before it was told to stop"
                );
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            host.ask_to_stop();
            while workers.join_next().await.is_some() {}
            drop(client);
            let said = tokio::task::spawn_blocking(|| host.finish()).await.unwrap();
            assert_eq!(said.code, 0, "{said:?}");
        }
        let host = place.serve();
        let client = client(&place, &host).await;
        let jobs: Vec<JobId> = sent.answered.lock().unwrap().keys().copied().collect();
        for job in jobs {
            assert_eq!(client.wait(job).await.unwrap().view.state, JobState::Succeeded, "{job}");
        }
        client.close().await;
        host.stop().exits(0);
    };
    tokio::time::timeout(PATIENCE, all).await.expect("the jobs end");

    place.run(&["audit", "verify"]).exits(0);
    let told = retell(&records(&place.data()));
    println!("{} jobs acknowledged over {ROUNDS} restarts", sent.count());
    for (job, index) in sent.answered.lock().unwrap().iter() {
        let told = told.get(job).unwrap_or_else(|| panic!("{job} was acknowledged and is gone"));
        assert_eq!((told.state, told.attempts, told.admitted), (JobState::Succeeded, 1, *index), "{job}");
    }
    let unanswered = sent.unanswered.lock().unwrap().len();
    assert!(told.len() <= sent.count() + unanswered, "jobs that nobody signed");
}

#[test]
fn a_guest_that_does_not_end_is_cut_off_at_the_deadline_and_judged_at_the_next_start() {
    let place = Place::new();
    let module = place.module("loop.wasm", LOOP);
    let module = module.to_str().unwrap();
    place.run(&["init"]).exits(0);
    let path = place.data().join("strongroom.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("[bounds]\n", "[bounds]\ndrain_ms = 300\n")).unwrap();
    let host = place.serve_with(&["--log", "info"]);
    let once = place.run(&["submit", module]).exits(0).out().trim().to_owned();
    let again = place.run(&["submit", module, "--idempotent"]).exits(0).out().trim().to_owned();
    let state = |job: &str| {
        let view = place.run(&["job", "show", job, "--json"]).exits(0).json();
        view["state"].as_str().unwrap().to_owned()
    };
    for job in [&once, &again] {
        wait_for("the jobs to run", || (state(job) == "running").then_some(()));
    }
    let said = host.stop().exits(0);
    assert!(said.stderr.contains("300ms") && said.stderr.contains("stopped"), "{said:?}");
    let host = place.serve();
    assert_eq!(state(&once), "interrupted", "never silently run again");
    wait_for("the one that may run again", || (state(&again) == "running").then_some(()));
    place.run(&["job", "cancel", &again]).exits(0);
    host.stop().exits(0);
    place.run(&["audit", "verify"]).exits(0);
}
