//! Within a tenant: the order, and what a limit holds back, which is never another job.

use strongroom::config::{QueueRules, TenantRules};
use strongroom::schedule::{Entry, Schedule, Tally};
use strongroom_job::QueueMode;

use crate::support::{
    T0, add_all, entry, id, keyed, ms, name, plain, queued, take_all, with_queue, with_tenants,
};

fn per_key(max: u32) -> QueueRules {
    QueueRules { max_running_per_group: Some(max), ..QueueRules::default() }
}

#[test]
fn the_highest_priority_goes_first_and_equals_in_order_of_admission() {
    let mut schedule = plain();
    let of = |number, priority, admitted, queue| Entry { priority, admitted, ..queued(number, "a", queue) };
    add_all(
        &mut schedule,
        [
            of(1, 0, 10, "x"),
            of(2, 0, 9, "y"),
            of(3, 127, 12, "x"),
            of(4, -128, 1, "y"),
            of(5, 1, u64::MAX, "z"),
            of(6, -1, 0, "x"),
        ],
    );
    assert_eq!(take_all(&mut schedule), [3, 5, 2, 1, 6, 4]);
}

// Red without `max_running` in `Queue::has_room`.
#[test]
fn a_full_queue_holds_back_its_own_jobs_only() {
    let rules = QueueRules { max_running: Some(2), ..QueueRules::default() };
    let mut schedule = with_queue(rules);
    add_all(&mut schedule, (0..4).map(|n| entry(n, if n % 2 == 0 { "a" } else { "b" })));
    add_all(&mut schedule, [queued(9, "a", "other")]);
    let taken = take_all(&mut schedule);
    assert_eq!(taken, [0, 1, 9]);
    assert!(schedule.ended(&id(9), ms(1)));
    assert!(take_all(&mut schedule).is_empty());
    assert!(schedule.ended(&id(0), ms(1)));
    assert_eq!(take_all(&mut schedule).len(), 1);
}

// Red without `max_running_per_tenant` in `Schedule::may_start`.
#[test]
fn a_tenants_places_in_a_queue_are_its_own() {
    let rules = QueueRules { max_running_per_tenant: Some(1), ..QueueRules::default() };
    let mut schedule = with_queue(rules);
    add_all(&mut schedule, [entry(0, "a"), entry(1, "a"), entry(2, "b"), queued(3, "a", "other")]);
    assert_eq!(take_all(&mut schedule), [0, 2, 3]);
    assert!(schedule.ended(&id(0), ms(1)));
    assert_eq!(take_all(&mut schedule), [1]);
}

// Red without the first lines of `Schedule::best_of`.
#[test]
fn a_tenants_places_count_over_all_queues() {
    let two = TenantRules { max_running: Some(2), ..TenantRules::default() };
    let mut schedule = with_tenants([("a", two)]);
    add_all(
        &mut schedule,
        [queued(0, "a", "x"), queued(1, "a", "y"), queued(2, "a", "z"), queued(3, "b", "x")],
    );
    assert_eq!(take_all(&mut schedule), [0, 3, 1]);
    assert!(schedule.ended(&id(1), ms(1)));
    assert_eq!(take_all(&mut schedule), [2]);
}

// Red when `Backlog::show` takes no key for full.
#[test]
fn a_full_key_holds_back_its_own_jobs_only() {
    let mut schedule = with_queue(per_key(1));
    add_all(&mut schedule, (0..1000).map(|n| keyed(n, "a", "customer-17")));
    add_all(&mut schedule, [keyed(1000, "a", "customer-18"), entry(1001, "a"), entry(1002, "a")]);
    // The same key of another tenant, and in another queue, is another key.
    add_all(&mut schedule, [keyed(1003, "b", "customer-17")]);
    add_all(&mut schedule, [Entry { queue: name("other"), ..keyed(1004, "a", "customer-17") }]);
    let mut taken = take_all(&mut schedule);
    taken.sort_unstable();
    assert_eq!(taken, [0, 1000, 1001, 1002, 1003, 1004]);
    assert_eq!(schedule.next_change(T0), None);
    // Red when `Backlog::end` does not show the group again.
    assert!(schedule.ended(&id(0), ms(1)));
    assert_eq!(take_all(&mut schedule), [1]);
}

#[test]
fn a_better_job_of_a_key_goes_first_also_when_it_comes_while_the_key_is_full() {
    let mut schedule = with_queue(per_key(2));
    add_all(&mut schedule, (0..4).map(|n| keyed(n, "a", "k")));
    assert_eq!(take_all(&mut schedule), [0, 1]);
    add_all(&mut schedule, [Entry { priority: 1, ..keyed(9, "a", "k") }]);
    assert!(take_all(&mut schedule).is_empty());
    assert!(schedule.ended(&id(1), ms(1)));
    assert_eq!(take_all(&mut schedule), [9]);
    // Red when `Backlog::withdraw` forgets who is next.
    assert!(schedule.remove(&id(2)));
    assert!(schedule.ended(&id(0), ms(1)));
    assert_eq!(take_all(&mut schedule), [3]);
}

#[test]
fn a_key_means_nothing_where_no_limit_is_set() {
    let mut schedule = plain();
    add_all(&mut schedule, (0..3).map(|n| keyed(n, "a", "k")));
    assert_eq!(take_all(&mut schedule), [0, 1, 2]);
}

// Red without `mode` in `Queue::has_room`.
#[test]
fn nothing_of_a_paused_queue_starts() {
    let mut schedule = plain();
    add_all(&mut schedule, [queued(0, "a", "x"), queued(1, "a", "y"), queued(2, "a", "x")]);
    schedule.set_mode(&name("x"), QueueMode::Paused);
    let modes: Vec<_> = schedule.queues(T0).into_iter().map(|it| (it.queue.to_string(), it.mode)).collect();
    let open = |queue: &str| (queue.to_owned(), QueueMode::Open);
    assert_eq!(modes, [open("default"), ("x".into(), QueueMode::Paused), open("y")]);
    assert_eq!(take_all(&mut schedule), [1]);
    // What a queue has that drains, starts.
    schedule.set_mode(&name("x"), QueueMode::Draining);
    assert_eq!(take_all(&mut schedule), [0, 2]);
}

// Without a set for each lane this takes some ten thousand million steps, and did not end in minutes, under the lock that every commit
// needs.
#[test]
fn whoever_asks_for_his_oldest_job_does_not_look_at_those_of_others() {
    let mut schedule = plain();
    add_all(&mut schedule, (0..50_000).map(|n| entry(n, "b")));
    let mine = Entry { ready_at: crate::support::at(1), ..entry(50_000, "a") };
    add_all(&mut schedule, [mine]);
    for _ in 0..200_000 {
        let queues = schedule.queues_of(&name("a"), crate::support::at(2));
        assert_eq!((queues[0].jobs.queued, queues[0].oldest), (1, Some(crate::support::at(1))));
    }
}

// Red without the guard of `add`.
#[test]
fn a_job_is_in_the_schedule_once() {
    let mut schedule = plain();
    assert!(schedule.add(entry(1, "a")));
    assert!(!schedule.add(entry(1, "b")), "waits");
    assert_eq!(take_all(&mut schedule), [1]);
    assert!(!schedule.add(entry(1, "a")), "runs");
    assert!(schedule.ended(&id(1), ms(5)));
    assert!(!schedule.ended(&id(1), ms(5)), "ended once");
    assert!(schedule.add(entry(1, "a")), "a retry");
    assert!(schedule.remove(&id(1)));
    assert!(!schedule.remove(&id(1)), "removed once");
    assert_eq!((schedule.waiting(), schedule.running()), (0, 0));
}

#[test]
fn what_runs_cannot_be_removed_and_what_waits_cannot_end() {
    let mut schedule = plain();
    add_all(&mut schedule, [entry(0, "a"), entry(1, "a")]);
    assert_eq!(schedule.take(T0), Some(id(0)));
    assert!(!schedule.remove(&id(0)));
    assert!(!schedule.ended(&id(1), ms(1)));
    assert_eq!((schedule.waiting(), schedule.running()), (1, 1));
}

#[test]
fn the_counts_say_where_everything_is() {
    let mut schedule = Schedule::new([(name("known"), per_key(1))].into(), [].into(), T0);
    let later = crate::support::at(500);
    add_all(
        &mut schedule,
        [
            queued(0, "a", "x"),
            Entry { ready_at: crate::support::at(1), ..queued(1, "b", "x") },
            Entry { ready_at: later, ..queued(2, "b", "x") },
        ],
    );
    assert_eq!(schedule.take(T0), Some(id(0)));
    schedule.set_mode(&name("x"), QueueMode::Paused);
    let now = crate::support::at(7);
    let queues = schedule.queues(now);
    assert_eq!(queues.iter().map(|queue| queue.queue.as_str()).collect::<Vec<_>>(), ["known", "x"]);
    assert_eq!((queues[0].jobs, queues[0].mode, queues[0].oldest), (Tally::default(), QueueMode::Open, None));
    assert_eq!(queues[1].jobs, Tally { queued: 1, scheduled: 1, held: 0, running: 1 });
    assert_eq!(
        (queues[1].mode, queues[1].oldest, queues[1].next),
        (QueueMode::Paused, Some(crate::support::at(1)), Some(later))
    );
    let tenants: Vec<_> =
        schedule.tenants(now).into_iter().map(|it| (it.tenant.to_string(), it.jobs)).collect();
    assert_eq!(
        tenants,
        [
            ("a".into(), Tally { running: 1, ..Tally::default() }),
            ("b".into(), Tally { queued: 1, scheduled: 1, held: 0, running: 0 })
        ]
    );
}
