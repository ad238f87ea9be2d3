//! With time: what is not yet ready, what has expired, tokens, clocks that step, and when there is something to do.

use std::time::Duration;

use strongroom::config::{QueueRules, Rate};
use strongroom::schedule::{Entry, Schedule};
use strongroom_job::{QueueMode, Timestamp};

use crate::support::{T0, add_all, at, entry, id, keyed, ms, name, plain, take_all, take_all_at, with_queue};

fn ready(number: u64, ready_at: u64) -> Entry {
    Entry { ready_at: at(ready_at), ..entry(number, "a") }
}

fn expiring(number: u64, expires_at: u64) -> Entry {
    Entry { expires_at: Some(at(expires_at)), ..entry(number, "a") }
}

fn rated(starts: u32, per: Duration, burst: u32) -> Schedule {
    let rate = Some(Rate { starts, per, burst });
    let mut schedule = with_queue(QueueRules { rate, ..QueueRules::default() });
    add_all(&mut schedule, (0..10_000).map(|n| entry(n, "a")));
    schedule
}

#[test]
fn nothing_starts_before_it_is_ready() {
    let mut schedule = plain();
    add_all(&mut schedule, [ready(0, 100), ready(1, 50)]);
    assert_eq!((schedule.take(T0), schedule.next_change(T0)), (None, Some(at(50))));
    assert_eq!((schedule.take(at(49)), schedule.next_change(at(49))), (None, Some(at(50))));
    assert_eq!(schedule.take(at(50)), Some(id(1)));
    assert_eq!((schedule.take(at(99)), schedule.next_change(at(99))), (None, Some(at(100))));
    assert_eq!((schedule.take(at(5000)), schedule.next_change(at(5000))), (Some(id(0)), None));
}

// Red when `settle` leaves expired jobs where they are.
#[test]
fn nothing_starts_when_it_has_expired() {
    let mut schedule = plain();
    add_all(&mut schedule, [expiring(0, 10), expiring(1, 20), expiring(2, 30)]);
    assert_eq!(schedule.next_change(T0), Some(at(10)));
    assert_eq!(schedule.take(at(20)), Some(id(2)));
    assert_eq!(schedule.waiting(), 2);
    assert_eq!((schedule.expired(at(20)), schedule.expired(at(20))), (Some(id(0)), Some(id(1))));
    assert_eq!((schedule.expired(at(999)), schedule.waiting()), (None, 0), "what runs does not expire");
}

#[test]
fn what_waits_for_its_time_a_pause_or_a_key_expires_too() {
    let rules = QueueRules { max_running_per_group: Some(1), ..QueueRules::default() };
    let mut schedule = with_queue(rules);
    add_all(&mut schedule, [keyed(0, "a", "k")]);
    assert_eq!(take_all(&mut schedule), [0]);
    add_all(
        &mut schedule,
        [
            Entry { expires_at: Some(at(10)), ..keyed(1, "a", "k") },
            Entry { ready_at: at(99), ..expiring(2, 20) },
            Entry { queue: name("held"), ..expiring(3, 30) },
        ],
    );
    schedule.set_mode(&name("held"), QueueMode::Paused);
    for (job, time) in [(1, 10), (2, 20), (3, 30)] {
        assert_eq!(schedule.next_change(at(time - 1)), Some(at(time)));
        assert_eq!((schedule.expired(at(time - 1)), schedule.expired(at(time))), (None, Some(id(job))));
    }
    assert_eq!((schedule.waiting(), schedule.next_change(at(30))), (0, None));
}

#[test]
fn an_expired_job_can_be_removed_before_anybody_is_told() {
    let mut schedule = plain();
    add_all(&mut schedule, [expiring(0, 10), expiring(1, 10)]);
    assert_eq!(schedule.take(at(10)), None);
    assert!(schedule.remove(&id(0)));
    assert_eq!((schedule.expired(at(10)), schedule.expired(at(10))), (Some(id(1)), None));
}

#[test]
fn a_clock_that_goes_back_undoes_nothing() {
    let mut schedule = plain();
    add_all(&mut schedule, [ready(0, 100), expiring(1, 100), ready(2, 200)]);
    schedule.set_mode(&name("default"), QueueMode::Paused);
    assert_eq!(schedule.take(at(150)), None);
    schedule.set_mode(&name("default"), QueueMode::Open);
    // Ready is ready and expired is expired; what comes later is held against the earlier time.
    assert_eq!(schedule.take(T0), Some(id(0)));
    add_all(&mut schedule, [ready(3, 50)]);
    assert_eq!((schedule.take(T0), schedule.next_change(T0)), (None, Some(at(50))));
    assert_eq!((schedule.expired(T0), schedule.expired(T0)), (Some(id(1)), None));
    assert_eq!(schedule.take(Timestamp::from_millis(0)), None);
    assert_eq!(take_all_at(&mut schedule, at(200)), [2, 3]);
}

// Red without the token in `Schedule::may_start`.
#[test]
fn a_rate_is_a_burst_and_then_a_steady_drip() {
    let mut schedule = rated(2, ms(100), 3);
    assert_eq!(take_all(&mut schedule), [0, 1, 2]);
    assert_eq!((schedule.next_change(T0), schedule.take(at(49))), (Some(at(50)), None));
    assert_eq!(take_all_at(&mut schedule, at(50)), [3]);
    assert_eq!(take_all_at(&mut schedule, at(199)), [4, 5]);
    assert_eq!(take_all_at(&mut schedule, at(200)), [6]);
}

// Red with a bucket that rounds what a millisecond brings.
#[test]
fn a_rate_does_not_drift_however_often_it_is_looked_at() {
    // One start each 142 6/7 ms. With a burst of 1, what comes before the next whole millisecond would be lost.
    let mut schedule = rated(7, ms(1000), 2);
    let mut started = 0;
    for now in 0..=1_000_000 {
        started += take_all_at(&mut schedule, at(now)).len();
        assert_eq!(started as u64, 2 + now * 7 / 1000, "after {now} ms");
    }
}

#[test]
fn a_bucket_holds_its_burst_after_any_time() {
    let mut schedule = rated(u32::MAX, Duration::from_nanos(1), 5);
    assert_eq!(take_all(&mut schedule).len(), 5);
    assert_eq!(take_all_at(&mut schedule, Timestamp::from_millis(u64::MAX)).len(), 5);
    let mut slow = rated(1, Duration::MAX, u32::MAX);
    assert_eq!(take_all_at(&mut slow, Timestamp::from_millis(u64::MAX)).len(), 10_000);
    let mut slowest = rated(1, Duration::MAX, 1);
    assert_eq!(take_all(&mut slowest), [0]);
    assert_eq!(slowest.take(Timestamp::from_millis(u64::MAX)), None);
}

#[test]
fn rates_of_nothing_give_nothing_and_say_so() {
    let mut no_burst = rated(1, ms(1), 0);
    assert_eq!((no_burst.take(at(99)), no_burst.next_change(at(99))), (None, None));
    let mut no_refill = rated(0, ms(1), 2);
    assert_eq!((take_all_at(&mut no_refill, at(99)).len(), no_refill.next_change(at(99))), (2, None));
    let mut no_time = rated(1, Duration::ZERO, 4);
    assert_eq!((take_all(&mut no_time).len(), take_all_at(&mut no_time, at(1)).len()), (4, 4));
}

// Red when `Bucket::advance` does not move its time back.
#[test]
fn a_bucket_does_not_wait_for_a_clock_that_was_ahead() {
    let mut schedule = rated(1, ms(10), 1);
    assert_eq!(take_all_at(&mut schedule, at(1_000_000)), [0]);
    assert_eq!((schedule.take(T0), schedule.next_change(T0)), (None, Some(at(10))));
    assert_eq!(take_all_at(&mut schedule, at(10)), [1]);
}

#[test]
fn a_queue_without_tokens_wakes_nobody_for_who_could_not_start_anyway() {
    let rate = Some(Rate { starts: 1, per: ms(10), burst: 1 });
    let rules = QueueRules { rate, max_running_per_tenant: Some(1), ..QueueRules::default() };
    let mut schedule = with_queue(rules);
    add_all(&mut schedule, [entry(0, "a"), entry(1, "a"), ready(2, 15)]);
    assert_eq!(take_all(&mut schedule), [0]);
    assert_eq!(schedule.next_change(T0), Some(at(15)));
    add_all(&mut schedule, [entry(3, "b")]);
    assert_eq!(schedule.next_change(T0), Some(at(10)));
    schedule.set_mode(&name("default"), QueueMode::Paused);
    assert_eq!(schedule.next_change(T0), None);
}
