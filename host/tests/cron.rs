//! Recurring jobs: when they are due, in any time zone, over changes of summer time, and after the host was away.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::Duration;

use proptest::prelude::*;
use strongroom::schedule::{Cron, CronError, MAX_CRON_BYTES};
use strongroom_job::{Missed, Timestamp};

const VIENNA: &str = "Europe/Vienna";
const HOUR: u64 = 3_600_000;

/// Of `2026-10-25T00:30:00Z`, in short.
fn utc(text: &str) -> Timestamp {
    let time: jiff::Timestamp = text.parse().unwrap();
    Timestamp::from_millis(time.as_millisecond().try_into().unwrap())
}

fn said(time: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(time.as_millis().try_into().unwrap()).unwrap().to_string()
}

fn cron(expression: &str, zone: &str) -> Cron {
    Cron::parse(expression, zone).unwrap()
}

/// The next `count` due times after `after`.
fn due(cron: &Cron, after: &str, count: usize) -> Vec<String> {
    let first = cron.next(utc(after));
    std::iter::successors(first, |time| cron.next(*time)).take(count).map(said).collect()
}

#[test]
fn the_next_due_time_is_strictly_later() {
    let daily = cron("30 4 * * *", "UTC");
    let next = |after: Timestamp| said(daily.next(after).unwrap());
    let due = utc("2026-03-01T04:30:00Z");
    let a_milli =
        |up: bool| Timestamp::from_millis(if up { due.as_millis() + 1 } else { due.as_millis() - 1 });
    assert_eq!(next(a_milli(false)), "2026-03-01T04:30:00Z");
    assert_eq!(next(due), "2026-03-02T04:30:00Z");
    assert_eq!(next(a_milli(true)), "2026-03-02T04:30:00Z");
}

#[test]
fn it_goes_by_the_wall_clock_of_its_zone() {
    assert_eq!(
        due(&cron("0 9 * * MON-FRI", VIENNA), "2026-03-27T00:00:00Z", 2),
        ["2026-03-27T08:00:00Z", "2026-03-30T07:00:00Z"]
    );
    assert_eq!(
        due(&cron("0 9 * * *", "Asia/Kathmandu"), "2026-03-27T00:00:00Z", 1),
        ["2026-03-27T03:15:00Z"]
    );
}

// On 2026-10-25 Vienna's clocks go from 3:00 back to 2:00, at 1:00 UTC.
#[test]
fn a_fixed_time_is_due_once_when_its_hour_comes_twice() {
    assert_eq!(
        due(&cron("30 2 * * *", VIENNA), "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    // Also when it is asked between the two passes, or in the second.
    for after in ["2026-10-25T00:45:00Z", "2026-10-25T01:15:00Z", "2026-10-25T01:45:00Z"] {
        assert_eq!(due(&cron("30 2 * * *", VIENNA), after, 1), ["2026-10-26T01:30:00Z"], "{after}");
    }
}

#[test]
fn what_repeats_goes_on_in_the_hour_that_comes_twice() {
    assert_eq!(
        due(&cron("*/30 * * * *", VIENNA), "2026-10-24T23:59:00Z", 5),
        [
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z",
            "2026-10-25T02:00:00Z"
        ]
    );
}

// On 2026-03-29 Vienna's clocks go from 2:00 to 3:00, at 1:00 UTC.
#[test]
fn a_fixed_time_in_the_gap_is_due_at_its_end() {
    assert_eq!(
        due(&cron("30 2 * * *", VIENNA), "2026-03-28T12:00:00Z", 2),
        ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    );
    assert_eq!(
        due(&cron("*/30 * * * *", VIENNA), "2026-03-29T00:29:00Z", 3),
        ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"]
    );
}

// Red without the search in `parse`.
#[test]
fn an_expression_that_never_fires_is_refused() {
    for never in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "59 23 31 2 +MON"] {
        assert_eq!(Cron::parse(never, VIENNA), Err(CronError::NeverFires(never.into())));
    }
    assert_eq!(due(&cron("0 0 29 2 *", "UTC"), "2096-03-01T00:00:00Z", 1), ["2104-02-29T00:00:00Z"]);
    assert_eq!(due(&cron("0 0 29 2 +MON", "UTC"), "2026-01-01T00:00:00Z", 1), ["2044-02-29T00:00:00Z"]);
}

#[test]
fn what_is_no_schedule_is_refused_in_words() {
    for (expression, zone, words) in [
        ("", "UTC", "is not a cron expression"),
        ("* * * *", "UTC", "is not a cron expression"),
        ("60 * * * *", "UTC", "is not a cron expression"),
        ("*/0 * * * *", "UTC", "is not a cron expression"),
        ("0 0 0 1 1 *", "UTC", "seconds"),
        ("0 0 1 1 * 2030", "UTC", "is not a cron expression"),
        ("0 0 * * *", "Europe/Atlantis", "is not a time zone"),
        ("0 0 * * *", "", "is not a time zone"),
        ("0 0 * * *", "../../etc/passwd", "is not a time zone"),
    ] {
        let error = Cron::parse(expression, zone).unwrap_err().to_string();
        assert!(error.contains(words), "{expression} {zone}: {error}");
    }
    // Red without the bound in `parse`.
    let long = "0,".repeat(MAX_CRON_BYTES) + " * * * *";
    assert_eq!(Cron::parse(&long, "UTC"), Err(CronError::TooLong(long.len())));
}

#[test]
fn what_was_missed_is_made_up_for_as_the_policy_says() {
    let hourly = cron("0 * * * *", "UTC");
    let (last, now) = (utc("2026-05-01T10:00:00Z"), utc("2026-05-01T13:00:00.500Z"));
    let missed = |policy| hourly.missed(policy, last, now).into_iter().map(said).collect::<Vec<_>>();
    let all = ["2026-05-01T11:00:00Z", "2026-05-01T12:00:00Z", "2026-05-01T13:00:00Z"];
    assert_eq!(missed(Missed::Skip), [""; 0]);
    assert_eq!(missed(Missed::Once), all[2..]);
    assert_eq!(missed(Missed::All(9)), all);
    assert_eq!(missed(Missed::All(2)), all[1..]);
    assert_eq!(missed(Missed::All(0)), [""; 0]);
}

// Red when what is at `last` counts again.
#[test]
fn nothing_is_due_twice_when_the_clock_steps() {
    let hourly = cron("0 * * * *", "UTC");
    let (last, earlier) = (utc("2026-05-01T10:00:00Z"), utc("2026-05-01T09:30:00Z"));
    assert_eq!(hourly.missed(Missed::All(9), last, earlier), []);
    assert_eq!(hourly.missed(Missed::All(9), last, last), []);
    assert_eq!(hourly.missed(Missed::All(9), last, utc("2026-05-01T10:59:59.999Z")), []);
    assert_eq!(hourly.missed(Missed::All(9), last, utc("2026-05-01T11:00:00Z")).len(), 1);
}

#[test]
fn the_ends_of_time_are_no_trap() {
    let minutely = cron("* * * * *", VIENNA);
    let (start, end) = (Timestamp::from_millis(0), Timestamp::from_millis(u64::MAX));
    assert_eq!(minutely.next(start).map(said).as_deref(), Some("1970-01-01T00:01:00Z"));
    assert_eq!(minutely.next(end), None);
    assert_eq!(minutely.missed(Missed::All(3), start, end), []);
    // Thirty years of minutes cost no more than those that are made up for.
    assert_eq!(minutely.missed(Missed::All(3), start, utc("2000-01-01T00:00:00Z")).len(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Backwards it finds what it finds forwards, around every change of summer time.
    #[test]
    fn what_is_missed_is_what_was_due(
        expression in prop::sample::select(vec![
            "30 2 * * *", "*/20 * * * *", "15 1-3 * * *", "0 0 * * *", "45 23 * * *", "5 */2 * * *", "0 2 * * SUN", "30 2 L * *",
        ]),
        zone in prop::sample::select(vec![
            VIENNA, "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kolkata", "Africa/Cairo", "UTC",
        ]),
        start in 0..3 * 365 * 24_u64,
        hours in 1..72_u64,
    ) {
        let cron = cron(expression, zone);
        let last = Timestamp::from_millis(utc("2025-01-01T00:10:00Z").as_millis() + start * HOUR);
        let now = last.saturating_add(Duration::from_millis(hours * HOUR));
        let forwards = std::iter::successors(cron.next(last), |time| cron.next(*time));
        let forwards: Vec<_> = forwards.take_while(|time| *time <= now).collect();
        prop_assert!(forwards.is_sorted_by(|one, other| one < other));
        prop_assert_eq!(cron.missed(Missed::All(1000), last, now), forwards);
    }
}
