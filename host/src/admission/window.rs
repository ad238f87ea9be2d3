//! The time window of an envelope.

use strongroom_job::{Context, Refusal, RefusalCode, Timestamp};

use crate::config::Bounds;

/// Whether `now` lies inside the signed window, give or take the clocks' skew, and the window is not too long.
///
/// # Errors
/// Says which end was missed and by how much, since a wrong clock is the usual reason.
pub(super) fn check(context: &Context, bounds: &Bounds, now: Timestamp) -> Result<(), Refusal> {
    let skew = bounds.clock_skew;
    let lifetime = context.not_after.since(context.issued_at);
    if lifetime > bounds.max_lifetime {
        let text = format!(
            "the job is signed for {} s, and this host takes at most {} s: sign it for a shorter time",
            lifetime.as_secs(),
            bounds.max_lifetime.as_secs()
        );
        return Err(Refusal::new(RefusalCode::TooLongLived, text));
    }
    if context.not_after.saturating_add(skew) < now {
        let text = format!(
            "the job expired {} s ago: sign it again, or set the clock that signed it",
            now.since(context.not_after).as_secs()
        );
        return Err(Refusal::new(RefusalCode::Expired, text));
    }
    let begin = context.not_before.max(context.issued_at);
    if now.saturating_add(skew) < begin {
        let text = format!(
            "the job is not valid for another {} s: wait, or set the clock that signed it",
            begin.since(now).as_secs()
        );
        return Err(Refusal::new(RefusalCode::NotYetValid, text));
    }
    Ok(())
}
