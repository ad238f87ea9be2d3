//! Memory of the schedule: what a waiting job costs at most, and that all of it comes back.
//!
//! The figures are the same in every build.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::heap::{Counting, live};
use strongroom::config::QueueRules;
use strongroom::schedule::{Entry, Schedule};
use strongroom_job::{JobId, Name, Timestamp};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Enough that nothing but the jobs counts.
const JOBS: u64 = 50_000;
const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn job(number: u64) -> JobId {
    // As good as random: neighbours are far apart.
    let mixed = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    JobId::from_bytes(mixed.to_be_bytes())
}

/// One measurement: bytes per waiting job, once all of them wait, and once they are ready.
fn cost(what: &str, keys: u64, expires: bool, later: bool) -> isize {
    let name = Name::default_name();
    let rules = QueueRules { max_running_per_group: Some(1), ..QueueRules::default() };
    let before = live();
    let mut schedule = Schedule::new([(name.clone(), rules)].into(), BTreeMap::new(), NOW);
    for number in 0..JOBS {
        let time = NOW.saturating_add(Duration::from_millis(number));
        assert!(schedule.add(Entry {
            job: job(number),
            tenant: name.clone(),
            queue: name.clone(),
            key: (keys > 0).then(|| format!("cust-{:07}", number % keys)),
            priority: 0,
            admitted: number,
            ready_at: if later { time.saturating_add(Duration::from_millis(1)) } else { NOW },
            expires_at: expires.then(|| time.saturating_add(Duration::from_secs(86400))),
        }));
    }
    let per_job = (live() - before) / JOBS.cast_signed() as isize;
    println!("{what}: {per_job} bytes");
    for number in 0..JOBS {
        assert!(schedule.remove(&job(number)));
    }
    // Red without `Backlog::release`, and without the shrinking in `Slab::remove`.
    let left = live() - before;
    assert!(left < 64 << 10, "{what}: {left} bytes are left of a schedule without jobs");
    per_job
}

// One test, since the allocator counts for all threads.
#[test]
fn a_waiting_job_costs_a_few_hundred_bytes_at_most_and_nothing_once_it_is_gone() {
    assert!(cost("no key", 0, false, false) < 200);
    assert!(cost("no key, expires", 0, true, false) < 240);
    assert!(cost("scheduled, expires", 0, true, true) < 200);
    assert!(cost("1000 keys, expires", 1000, true, false) < 240);
    assert!(cost("a key each", JOBS, false, false) < 300);
    assert!(cost("a key each, expires", JOBS, true, false) < 340);
}
