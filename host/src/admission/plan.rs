//! The times of a plan: whether a job could run at all, and whether this host waits that long.

use std::time::Duration;

use strongroom_job::{Plan, Refusal, RefusalCode, Repeat, Timestamp};

use crate::config::Bounds;
use crate::schedule::Cron;

/// Whether the job can still start, and not too far ahead. A start in the past is no fault: the job is ready at once.
///
/// No skew is granted here: what counts is the host's own clock, by which the job would wait and expire.
///
/// # Errors
/// Says by how much, since a wrong clock is the usual reason.
pub(super) fn check(plan: &Plan, bounds: &Bounds, now: Timestamp) -> Result<(), Refusal> {
    if let Some(expires) = plan.expires.filter(|expires| *expires <= now) {
        let text = format!(
            "the job would never run: plan.expires was {} s ago; sign it again with a later time, or set the clock that signed it",
            now.since(expires).as_secs()
        );
        return Err(Refusal::new(RefusalCode::NeverRuns, text));
    }
    let ahead = plan.at.map(|at| at.since(now)).unwrap_or_default();
    if ahead > bounds.max_schedule_ahead {
        let text = format!(
            "plan.at is {} s ahead, and this host takes jobs at most {} s before they start: submit it later, or ask this host's \
             operator for more",
            ahead.as_secs(),
            bounds.max_schedule_ahead.as_secs()
        );
        return Err(Refusal::new(RefusalCode::LimitTooHigh, text));
    }
    plan.repeat.as_ref().map_or(Ok(()), |repeat| series(repeat, bounds.max_schedule_ahead, now))
}

/// Whether a series is due at all, and ends before this host stops looking ahead.
fn series(repeat: &Repeat, max_ahead: Duration, now: Timestamp) -> Result<(), Refusal> {
    let never = |why: String| {
        Refusal::new(RefusalCode::NeverRuns, format!("the job would never run: plan.repeat: {why}"))
    };
    let ahead = repeat.until.since(now);
    if ahead > max_ahead {
        let text = format!(
            "plan.repeat.until is {} s ahead, and this host takes a series for at most {} s: sign it for a shorter time and again \
             before it ends, or ask this host's operator for more",
            ahead.as_secs(),
            max_ahead.as_secs()
        );
        return Err(Refusal::new(RefusalCode::LimitTooHigh, text));
    }
    let cron = Cron::parse(&repeat.cron, &repeat.zone).map_err(|error| never(error.to_string()))?;
    match cron.next(now) {
        Some(first) if first < repeat.until => Ok(()),
        _ => Err(never(format!(
            "{:?} is not due before plan.repeat.until; sign it with a later end",
            repeat.cron
        ))),
    }
}
