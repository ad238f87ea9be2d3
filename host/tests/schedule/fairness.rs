//! Between tenants: equal shares of time by weight, whoever has more jobs, came first or was away.

use strongroom::config::{QueueRules, TenantRules};
use strongroom::schedule::Schedule;
use strongroom_job::{Name, QueueMode};

use crate::support::{T0, add_all, entry, id, ms, name, number, plain, take_all, with_queue, with_tenants};

/// Jobs of `b` have numbers from here on, all others are of `a`.
const B: u64 = 1_000_000;

fn weighing(weight: u32) -> TenantRules {
    TenantRules { weight, ..TenantRules::default() }
}

/// Takes one job, and ends it after the time that it takes. Whether it was one of `b`.
fn run_one(schedule: &mut Schedule, a_ms: u64, b_ms: u64) -> bool {
    let job = schedule.take(T0).expect("a job waits");
    let of_b = number(&job) >= B;
    assert!(schedule.ended(&job, ms(if of_b { b_ms } else { a_ms })));
    of_b
}

fn backlog(schedule: &mut Schedule, jobs: u64) {
    add_all(schedule, (0..jobs).map(|n| entry(n, "a")));
    add_all(schedule, (0..jobs).map(|n| entry(B + n, "b")));
}

#[test]
fn equal_tenants_get_equal_shares_at_every_moment() {
    let mut schedule = plain();
    backlog(&mut schedule, 1000);
    let mut of_b = 0;
    for started in 1..=2000 {
        of_b += i64::from(run_one(&mut schedule, 7, 7));
        assert!((started - 2 * of_b).abs() <= 1, "{of_b} of {started}");
    }
}

#[test]
fn equal_tenants_take_turns_also_when_nothing_ends() {
    let mut schedule = plain();
    backlog(&mut schedule, 3);
    assert_eq!(take_all(&mut schedule), [0, B, 1, B + 1, 2, B + 2]);
}

#[test]
fn three_times_the_weight_is_three_times_the_share() {
    let mut schedule = with_tenants([("a", weighing(3)), ("b", weighing(1))]);
    backlog(&mut schedule, 1000);
    let mut of_b = 0_i64;
    for started in 1..=1300 {
        of_b += i64::from(run_one(&mut schedule, 7, 7));
        assert!((started - 4 * of_b).abs() <= 4, "{of_b} of {started}");
    }
}

#[test]
fn shares_are_of_time_and_not_of_jobs() {
    let mut schedule = plain();
    backlog(&mut schedule, 1000);
    let (mut a, mut b) = (0_i64, 0_i64);
    for _ in 0..1000 {
        if run_one(&mut schedule, 500, 50) {
            b += 50
        } else {
            a += 500
        }
        // One long job, and what the starts of ten short ones are counted for.
        assert!((a - b).abs() <= 500 + 10 + (a + b) / 50, "{a} to {b} ms");
    }
}

// Red when the order is that of admission.
#[test]
fn a_flood_delays_another_tenants_first_job_by_one_start_at_most() {
    let mut schedule = plain();
    add_all(&mut schedule, (0..100_000).map(|n| entry(n, "a")));
    for _ in 0..10 {
        run_one(&mut schedule, 20, 20);
    }
    add_all(&mut schedule, [entry(B, "b")]);
    let next_two = [schedule.take(T0), schedule.take(T0)];
    assert!(next_two.contains(&Some(id(B))), "{next_two:?}");
}

// Red without the `max` in `Shares::start`: `b` then has a thousand starts in hand.
#[test]
fn who_was_away_has_saved_nothing_up() {
    let mut schedule = plain();
    add_all(&mut schedule, [entry(B, "b")]);
    assert_eq!(take_all(&mut schedule), [B]);
    assert!(schedule.ended(&id(B), ms(0)));
    add_all(&mut schedule, (0..2000).map(|n| entry(n, "a")));
    for _ in 0..1000 {
        assert!(!run_one(&mut schedule, 10, 10));
    }
    add_all(&mut schedule, (1..100).map(|n| entry(B + n, "b")));
    let of_b = (0..100).filter(|_| run_one(&mut schedule, 10, 10)).count();
    assert!((49..=51).contains(&of_b), "{of_b} of 100");
}

// Red without the `max` in `Shares::start`.
#[test]
fn who_was_held_back_has_saved_nothing_up() {
    let mut schedule = plain();
    add_all(&mut schedule, (0..2000).map(|n| entry(n, "a")));
    let held = |n| crate::support::queued(B + n, "b", "held");
    schedule.set_mode(&name("held"), QueueMode::Paused);
    add_all(&mut schedule, (0..100).map(held));
    for _ in 0..1000 {
        assert!(!run_one(&mut schedule, 10, 10));
    }
    schedule.set_mode(&name("held"), QueueMode::Open);
    let of_b = (0..100).filter(|_| run_one(&mut schedule, 10, 10)).count();
    assert!((49..=51).contains(&of_b), "{of_b} of 100");
}

// Red without the step of `now` in `Shares::charge`: `a` then waits until `b` has had half an hour too.
#[test]
fn what_a_tenant_used_alone_is_not_held_against_it() {
    let mut schedule = plain();
    add_all(&mut schedule, [entry(0, "a")]);
    assert_eq!(take_all(&mut schedule), [0]);
    assert!(schedule.ended(&id(0), ms(30 * 60_000)));
    add_all(&mut schedule, (0..100).map(|n| entry(B + n, "b")));
    add_all(&mut schedule, (1..100).map(|n| entry(n, "a")));
    let of_b = (0..100).filter(|_| run_one(&mut schedule, 10, 10)).count();
    assert!((49..=51).contains(&of_b), "{of_b} of 100");
}

// Red without `MAX_LEAD`: `b` then has 60,000 starts before `a` has one.
#[test]
fn nobody_waits_for_longer_than_an_hour_of_the_others_time() {
    let mut schedule = plain();
    backlog(&mut schedule, 1000);
    let mut first = true;
    let mut of_b = 0;
    loop {
        let was_b = run_one(&mut schedule, 1_000 * 3_600_000, 60_000);
        match (was_b, first) {
            (true, _) => of_b += 1,
            (false, true) => first = false,
            (false, false) => break,
        }
    }
    assert_eq!(of_b, 60);
}

#[test]
fn a_tenants_many_queues_are_one_share() {
    let mut schedule = with_queue(QueueRules::default());
    add_all(&mut schedule, (0..300).map(|n| crate::support::queued(n, "a", ["x", "y", "z"][n as usize % 3])));
    add_all(&mut schedule, (0..300).map(|n| entry(B + n, "b")));
    let of_b = (0..200).filter(|_| run_one(&mut schedule, 10, 10)).count();
    assert_eq!(of_b, 100);
}

#[test]
fn the_same_calls_have_the_same_answers() {
    let tenants = ["c", "a", "b", "stranger"];
    let run = || {
        let mut schedule =
            with_tenants([("b", weighing(2)), ("a", TenantRules::default()), ("c", weighing(2))]);
        add_all(&mut schedule, (0..40).map(|n| entry(n, tenants[n as usize % 4])));
        take_all(&mut schedule)
    };
    // Equals go by name, and tenants of the rules before others.
    assert_eq!(run()[..4], [1, 2, 0, 3]);
    assert_eq!(run(), run());
}

#[test]
fn a_weight_of_nothing_counts_as_one() {
    let mut schedule = with_tenants([("a", weighing(0)), ("b", weighing(1))]);
    backlog(&mut schedule, 10);
    assert_eq!((0..20).filter(|_| run_one(&mut schedule, 9, 9)).count(), 10);
    assert_eq!(schedule.queues(T0)[0].queue, Name::default_name());
}
