//! The times of a plan: whether a job could run at all, and whether this host waits that long.

use strongroom_job::{Plan, Refusal, RefusalCode, Timestamp};

use crate::config::Bounds;

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
    Ok(())
}
