//! A whole host from one seed: clients that send, repeat and cancel; a schedule with rules; attempts that end well, badly or
//! never; a clock that runs, jumps and stands; a disk that forgets what was not synced. No thread, no file, no real time: the same
//! seed is the same history.
//!
//! What runs is the real store core, the real lifecycle and the real schedule. What judges them (`simulation/judge.rs`) reads only the
//! records and what clients were told, and knows the promises, not the code.
//!
//! `SEEDS=10000 cargo test --workspace --test simulation -- --nocapture` is the long proof, as with `STRONGROOM_LONG=1`;
//! `FIRST_SEED=17 SEEDS=1` has one history again, as a failed test says. Each is judged, and its log is replayed twice: whole, and up to
//! a record that the seed draws. How long that takes is in `docs/crash-safety.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;
#[path = "simulation/jobs.rs"]
mod jobs;
#[path = "simulation/judge.rs"]
mod judge;
#[path = "simulation/world.rs"]
mod world;

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use common::proof::is_long;
use world::World;

/// Seeds in a short and in a long run, each a history of its own.
const SEEDS: (u64, u64) = (200, 10_000);
/// Histories at a time, at most; otherwise one for each processor.
const MAX_THREADS: usize = 64;

fn from_environment(name: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test asks how much of it is wanted")]
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

// Red with any one of: the fence not compared in `lifecycle::step`; `has_expired` always false; `RetryPolicy::covers` true for every end
// but success; `tell_followers` not called in `Group::change_and_tell`, or without its worklist; `told` not asked in `Group::followers`; a job that is scheduled again not told
// to the schedule in `Group::change`; `max_running` not looked at in `Queue::has_room`; `next_transition` not called in
// `Group::take`; the envelope not kept of which no job is run (both: another order or row when replayed); `Replay::verdicts` that does
// not ask who has the key where the log ends (seed 57, and one history in seventy).
#[test]
fn any_history_keeps_the_promises() {
    let usual = if is_long() { SEEDS.1 } else { SEEDS.0 };
    let (first, seeds) = (from_environment("FIRST_SEED", 1), from_environment("SEEDS", usual));
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    let next = AtomicU64::new(first);
    let failed: Vec<u64> = thread::scope(|scope| {
        let worker = || {
            let mut failed = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + seeds {
                    return failed;
                }
                if std::panic::catch_unwind(|| World::new(seed).live()).is_err() {
                    // At once: a long run may be cut off before it ends.
                    println!("a broken promise: FIRST_SEED={seed} SEEDS=1");
                    failed.push(seed);
                }
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(
        failed.is_empty(),
        "{} of {seeds} histories broke a promise, such as those of FIRST_SEED={:?} SEEDS=1",
        failed.len(),
        &failed[..failed.len().min(10)]
    );
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in [3, 4, 5] {
        assert_eq!(World::new(seed).live(), World::new(seed).live(), "seed {seed}");
    }
}
