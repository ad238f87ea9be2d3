//! The life of a job: each transition that exists, and those that must not.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use strongroom::lifecycle::{Event, Finished, Illegal, Life, MAX_CRASHES, Stage, step};
use strongroom_job::{
    DeadReason, Event as Said, JobId, JobState, Outcome, Plan, PublicKey, RetryOn, RetryPolicy, SecretKey,
    Task, Timestamp, Usage,
};

const JOB: JobId = JobId::from_bytes([7; 16]);
const OTHER: JobId = JobId::from_bytes([8; 16]);
const NOW: Timestamp = at(1_000);

const fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn key() -> PublicKey {
    SecretKey::from_seed(&[1; 32].into()).public()
}

fn task(idempotent: bool, plan: Plan) -> Task {
    Task { idempotent, plan, ..common::task() }
}

fn accepted(plan: Plan, waits_for: u32) -> Life {
    Life::accepted(&task(false, plan), waits_for, NOW)
}

fn queued(idempotent: bool) -> Life {
    Life::accepted(&task(idempotent, Plan::default()), 0, NOW)
}

fn go_at(life: &Life, event: Event, now: Timestamp) -> Result<Life, Illegal> {
    step(JOB, life, event, now).map(|(life, _)| life)
}

fn go(life: &Life, event: Event) -> Result<Life, Illegal> {
    go_at(life, event, NOW)
}

fn finish_event(fence: u32, code: i32) -> Event {
    Event::Finish { fence, end: Box::new(Finished::without_run(Outcome::Exited { code })) }
}

fn running(idempotent: bool) -> Life {
    go(&queued(idempotent), Event::Start).unwrap()
}

fn every_event() -> [Event; 9] {
    [
        Event::Met,
        Event::Unmet { job: OTHER },
        Event::Start,
        finish_event(1, 0),
        finish_event(0, 0),
        Event::Cancel { by: key() },
        Event::Expire,
        Event::Replace { by: OTHER },
        Event::Recover,
    ]
}

fn retrying(attempts: u32, max_age_ms: Option<u64>, expires: Option<Timestamp>) -> Plan {
    let on = vec![RetryOn::Failed];
    let policy = RetryPolicy { attempts, on, pause_ms: 100, max_pause_ms: 100, max_age_ms };
    Plan { retry: Some(policy), expires, ..Plan::default() }
}

#[test]
fn an_ordinary_life() {
    let life = running(false);
    assert_eq!((life.state(NOW), life.attempt, life.started_at), (JobState::Running, 1, Some(NOW)));
    let (life, said) = step(JOB, &life, finish_event(1, 0), NOW).unwrap();
    assert_eq!(life.state(NOW), JobState::Succeeded);
    assert!(matches!(said, Some(Said::Finished { attempt: 1, dead: None, .. })));
}

#[test]
fn what_is_over_stays_as_it_is() {
    let over = go(&running(true), finish_event(1, 3)).unwrap();
    for event in every_event() {
        assert_eq!(go(&over, event), Err(Illegal::Over(JobState::Failed)));
    }
}

// Red without the guard `fence == life.attempt`.
#[test]
fn a_result_counts_under_its_own_fence_only() {
    let again = go(&go(&running(true), Event::Recover).unwrap(), Event::Start).unwrap();
    assert_eq!(go(&again, finish_event(1, 0)), Err(Illegal::Fenced { fence: 1, attempt: 2 }));
    assert_eq!(go(&again, finish_event(2, 0)).unwrap().state(NOW), JobState::Succeeded);
}

#[test]
fn after_a_crash_only_idempotent_jobs_run_again_and_not_for_ever() {
    assert_eq!(go(&running(false), Event::Recover).unwrap().state(NOW), JobState::Interrupted);
    let mut life = queued(true);
    for attempt in 1..=MAX_CRASHES {
        life = go(&life, Event::Start).unwrap();
        assert_eq!(life.attempt, attempt);
        life = go(&life, Event::Recover).unwrap();
    }
    assert_eq!(life.state(NOW), JobState::Interrupted);
}

#[test]
fn a_cancel_ends_what_waits_and_stops_what_runs() {
    let cancel = || Event::Cancel { by: key() };
    let later = accepted(Plan { at: Some(at(5_000)), ..Plan::default() }, 0);
    for waiting in [queued(false), later, accepted(Plan::default(), 2)] {
        assert_eq!(go(&waiting, cancel()).unwrap().state(NOW), JobState::Cancelled);
    }
    let asked = go(&running(true), cancel()).unwrap();
    assert_eq!(asked.state(NOW), JobState::Running);
    assert_eq!(go(&asked, cancel()), Err(Illegal::WrongState(JobState::Running)));
    assert_eq!(go(&asked, Event::Recover).unwrap().state(NOW), JobState::Cancelled);
    assert_eq!(go(&asked, finish_event(1, 0)).unwrap().state(NOW), JobState::Succeeded);
}

#[test]
fn what_never_ran_cannot_finish() {
    for event in [finish_event(0, 0), Event::Recover, Event::Met, Event::Unmet { job: OTHER }] {
        assert_eq!(go(&queued(true), event), Err(Illegal::WrongState(JobState::Queued)));
    }
    for event in [Event::Start, Event::Recover, finish_event(0, 0)] {
        let waits = accepted(Plan::default(), 1);
        assert_eq!(go(&waits, event), Err(Illegal::WrongState(JobState::Accepted)));
    }
    for event in [Event::Met, Event::Expire, Event::Replace { by: OTHER }, Event::Start] {
        assert_eq!(go(&running(true), event), Err(Illegal::WrongState(JobState::Running)));
    }
}

// Red without the arm of `TooEarly`.
#[test]
fn the_clock_alone_makes_a_scheduled_job_ready() {
    let life = accepted(Plan { at: Some(at(5_000)), ..Plan::default() }, 0);
    assert_eq!((life.state(at(4_999)), life.state(at(5_000))), (JobState::Scheduled, JobState::Queued));
    assert_eq!(go_at(&life, Event::Start, at(4_999)), Err(Illegal::TooEarly(at(5_000))));
    assert_eq!(go_at(&life, Event::Start, at(5_000)).unwrap().state(NOW), JobState::Running);
    // A time in the past is no error: it is ready at once.
    let past = accepted(Plan { at: Some(at(999)), ..Plan::default() }, 0);
    assert_eq!(past.stage, Stage::Queued);
}

// Red without the arm of a start that came too late, and without the test in the arm of `Expire`.
#[test]
fn what_expires_does_not_start_and_what_started_does_not_expire() {
    let life = accepted(Plan { expires: Some(at(2_000)), ..Plan::default() }, 0);
    assert_eq!(go_at(&life, Event::Expire, at(1_999)), Err(Illegal::NotExpired));
    assert_eq!(go_at(&life, Event::Expire, at(2_000)).unwrap().state(NOW), JobState::Expired);
    let (late, said) = step(JOB, &life, Event::Start, at(2_000)).unwrap();
    assert_eq!((late.state(NOW), late.attempt), (JobState::Expired, 0));
    assert!(matches!(said, Some(Said::Finished { outcome: Outcome::Expired, attempt: 0, .. })));
    assert_eq!(go_at(&life, Event::Start, at(1_999)).unwrap().state(NOW), JobState::Running);
    let waits = accepted(Plan { expires: Some(at(2_000)), ..Plan::default() }, 3);
    assert_eq!(go_at(&waits, Event::Expire, at(2_000)).unwrap().state(NOW), JobState::Expired);
}

#[test]
fn a_job_is_ready_when_the_last_that_it_waits_for_is_over() {
    let life = accepted(Plan { at: Some(at(5_000)), ..Plan::default() }, 2);
    let (life, said) = step(JOB, &life, Event::Met, NOW).unwrap();
    assert_eq!((&life.stage, said), (&Stage::Accepted { waits_for: 1 }, None));
    let (ready, said) = step(JOB, &life, Event::Met, NOW).unwrap();
    assert_eq!(
        (ready.stage, said),
        (Stage::Scheduled { ready_at: at(5_000) }, Some(Said::Released { job: JOB }))
    );
    let (late, _) = step(JOB, &life, Event::Met, at(6_000)).unwrap();
    assert_eq!(late.stage, Stage::Queued);
    let unmet = go(&life, Event::Unmet { job: OTHER }).unwrap();
    assert_eq!(unmet.end().unwrap().outcome, Outcome::Unmet { job: OTHER });
    assert_eq!(unmet.state(NOW), JobState::Cancelled);
}

#[test]
fn a_job_that_waits_can_be_replaced() {
    let replaced = go(&queued(false), Event::Replace { by: OTHER }).unwrap();
    assert_eq!(replaced.end().unwrap().outcome, Outcome::Replaced { by: OTHER });
    assert_eq!(replaced.state(NOW), JobState::Cancelled);
}

// Red without `attempt` in `Life::has_not_begun`: what half a job has done would be left as it is.
#[test]
fn a_job_that_has_begun_keeps_its_place_also_between_two_attempts() {
    let runs = go(&accepted(retrying(3, None, None), 0), Event::Start).unwrap();
    let pauses = go(&runs, finish_event(1, 7)).unwrap();
    assert_eq!(pauses.state(NOW), JobState::Scheduled);
    let (refused, state) = (go(&pauses, Event::Replace { by: OTHER }), JobState::Scheduled);
    assert_eq!(refused, Err(Illegal::WrongState(state)));
    let again = go(&go(&queued(true), Event::Start).unwrap(), Event::Recover).unwrap();
    assert_eq!(go(&again, Event::Replace { by: OTHER }), Err(Illegal::WrongState(JobState::Queued)));
}

#[test]
fn a_named_end_is_tried_again_until_the_attempts_are_used_up() {
    let mut life = accepted(retrying(3, None, None), 0);
    let mut now = NOW;
    for attempt in 1..3 {
        assert!(!life.is_last_attempt());
        life = go_at(&life, Event::Start, now).unwrap();
        let (next, said) = step(JOB, &life, finish_event(attempt, 7), now).unwrap();
        let Stage::Scheduled { ready_at } = next.stage else { panic!("{next:?}") };
        assert!((50..=100).contains(&ready_at.since(now).as_millis()));
        let outcome = Outcome::Exited { code: 7 };
        let usage = Usage::default();
        assert_eq!(said, Some(Said::Retried { job: JOB, attempt, outcome, usage, ready_at }));
        (life, now) = (next, ready_at);
    }
    life = go_at(&life, Event::Start, now).unwrap();
    assert!(life.is_last_attempt());
    let dead = go_at(&life, finish_event(3, 7), now).unwrap();
    assert_eq!(dead.state(now), JobState::Dead);
    let end = dead.end().unwrap();
    assert_eq!((end.dead, &end.outcome), (Some(DeadReason::Attempts), &Outcome::Exited { code: 7 }));
}

#[test]
fn only_what_the_plan_names_is_tried_again() {
    let life = go(&accepted(retrying(3, None, None), 0), Event::Start).unwrap();
    assert_eq!(go(&life, finish_event(1, 0)).unwrap().state(NOW), JobState::Succeeded);
    let end = |outcome| Event::Finish { fence: 1, end: Box::new(Finished::without_run(outcome)) };
    let trapped = Outcome::Trapped { reason: String::new() };
    assert_eq!(go(&life, end(trapped)).unwrap().state(NOW), JobState::Trapped);
    // Red without the test of `cancelling` in `again`: whoever asked for a stop would see it start once more.
    let asked = go(&life, Event::Cancel { by: key() }).unwrap();
    assert_eq!(go(&asked, finish_event(1, 7)).unwrap().state(NOW), JobState::Failed);
}

// Red without the test of `until` in `again`, and without `last` in `Life::accepted`.
#[test]
fn no_attempt_begins_later_than_the_plan_allows() {
    let until = [retrying(9, Some(40), None), retrying(9, None, Some(at(1_040)))];
    for plan in until {
        let life = go(&accepted(plan, 0), Event::Start).unwrap();
        let dead = go(&life, finish_event(1, 7)).unwrap();
        assert_eq!(dead.end().unwrap().dead, Some(DeadReason::Age));
    }
    let life = go(&accepted(retrying(9, Some(100), None), 0), Event::Start).unwrap();
    assert_eq!(go(&life, finish_event(1, 7)).unwrap().state(NOW), JobState::Scheduled);
}

// Red without `too_old` in `Life::expires_at`: a paused queue, or a long one, would make any attempt too late.
#[test]
fn a_job_that_is_older_than_its_plan_allows_begins_no_attempt_whatever_held_it_back() {
    let waits = accepted(retrying(9, Some(100), None), 0);
    let runs = go(&waits, Event::Start).unwrap();
    let pauses = go(&runs, finish_event(1, 7)).unwrap();
    for life in [&waits, &pauses] {
        assert_eq!(life.expires_at(), Some(at(1_101)));
        assert_eq!(go_at(life, Event::Start, at(1_100)).unwrap().state(NOW), JobState::Running);
        assert_eq!(go_at(life, Event::Expire, at(1_100)), Err(Illegal::NotExpired));
        for event in [Event::Start, Event::Expire] {
            let late = go_at(life, event, at(1_101)).unwrap();
            assert_eq!((late.state(NOW), late.attempt), (JobState::Expired, life.attempt));
        }
    }
    // What runs may go on.
    assert_eq!(go_at(&runs, finish_event(1, 0), at(9_000)).unwrap().state(NOW), JobState::Succeeded);
    let expires = accepted(retrying(9, None, Some(at(1_040))), 0).expires_at();
    assert_eq!(expires, Some(at(1_040)));
}

#[test]
fn a_row_of_an_earlier_version_is_read() {
    let old = r#"{"idempotent":true,"attempt":1,"started_at":5,"stage":{"running":{"cancelling":false}}}"#;
    let life: Life = serde_json::from_str(old).unwrap();
    assert_eq!((life.state(NOW), life.attempt, &life.retry), (JobState::Running, 1, &None));
    assert_eq!(serde_json::to_string(&life).unwrap(), old);
}
