//! The one place that asks what time it is.
//!
//! *Owns:* the wall clock as the rest of the host sees it: it never runs backwards, so that a step back of the system's
//! clock cannot make an expired envelope good again. *Never:* policy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use strongroom_job::Timestamp;

/// A wall clock that never goes back.
#[derive(Debug, Default)]
pub struct Clock {
    /// The latest time that anybody was told, milliseconds.
    latest: AtomicU64,
}

impl Clock {
    /// A clock that never shows less than `floor`: the time of the last record before this start.
    #[must_use]
    pub const fn not_before(floor: Timestamp) -> Self {
        Self { latest: AtomicU64::new(floor.as_millis()) }
    }

    /// The time now, or the latest time told if the system's clock was set back.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the room for it")]
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let system = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        let before = self.latest.fetch_max(system, Ordering::Relaxed);
        Timestamp::from_millis(before.max(system))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Red with `system` returned in place of the maximum.
    #[test]
    fn a_clock_set_back_stands_still() {
        let future = Timestamp::from_millis(u64::MAX - 1);
        assert_eq!(Clock::not_before(future).now(), future);
        assert!(Clock::default().now() > Timestamp::from_millis(1_700_000_000_000));
    }
}
