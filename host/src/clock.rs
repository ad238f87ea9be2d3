//! The one place that asks what time it is.
//!
//! *Owns:* the wall clock as the rest of the host sees it: it never runs backwards, so that a step back of the system's
//! clock cannot make an expired envelope good again; and when that clock was set (`steps`). *Never:* policy.

mod steps;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use strongroom_job::Timestamp;

pub use steps::{Step, Steps};

/// What counts the time that has passed, whoever sets the clock. On Linux it counts on while the machine sleeps.
#[cfg(target_os = "linux")]
const PASSED: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const PASSED: ClockId = ClockId::Monotonic;
/// Between the two looks at `PASSED` around one at the wall clock: a process that was held up longer looks again.
const HELD_UP: Duration = Duration::from_millis(50);
/// Looks, before one that was held up is taken all the same.
const LOOKS: u32 = 8;

/// Where the time comes from.
pub trait Hands: Debug + Send + Sync {
    /// What the system's clock shows, which anybody may set: milliseconds since 1970.
    fn wall_ms(&self) -> u64;

    /// How much time has passed since some moment that stays the same while this process runs.
    fn passed(&self) -> Duration;
}

/// Both of them, as of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// [`Hands::wall_ms`].
    pub wall_ms: u64,
    /// [`Hands::passed`].
    pub passed: Duration,
}

/// Those of the operating system.
#[derive(Debug)]
struct System;

impl Hands for System {
    fn wall_ms(&self) -> u64 {
        #[expect(clippy::disallowed_methods, reason = "this is the room for it")]
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }

    fn passed(&self) -> Duration {
        let passed = clock_gettime(PASSED);
        let (seconds, nanos) = (u64::try_from(passed.tv_sec), u32::try_from(passed.tv_nsec));
        Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
    }
}

/// Measures how long something takes, whoever sets the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopwatch(Duration);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(System.passed())
    }

    pub(crate) fn passed(self) -> Duration {
        System.passed().saturating_sub(self.0)
    }
}

/// A wall clock that never goes back.
#[derive(Debug, Default)]
pub struct Clock {
    /// The latest time that anybody was told, milliseconds.
    latest: AtomicU64,
    /// In place of those of the operating system.
    hands: Option<Arc<dyn Hands>>,
}

impl Clock {
    /// A clock that never shows less than `floor`: the time of the last record before this start.
    #[must_use]
    pub const fn not_before(floor: Timestamp) -> Self {
        Self { latest: AtomicU64::new(floor.as_millis()), hands: None }
    }

    /// The same with other hands, for tests that set a clock.
    #[must_use]
    pub const fn with_hands(floor: Timestamp, hands: Option<Arc<dyn Hands>>) -> Self {
        Self { latest: AtomicU64::new(floor.as_millis()), hands }
    }

    /// The time now, or the latest time told if the system's clock was set back.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let system = self.hands().wall_ms();
        let before = self.latest.fetch_max(system, Ordering::Relaxed);
        Timestamp::from_millis(before.max(system))
    }

    /// What the system's clock shows, set back or not, and how much time has passed.
    #[must_use]
    pub fn reading(&self) -> Reading {
        let hands = self.hands();
        let mut passed = hands.passed();
        let mut looks = 1;
        loop {
            let wall_ms = hands.wall_ms();
            let after = hands.passed();
            // Else a process that was stopped between the two would take its own pause for a step.
            if after.saturating_sub(passed) < HELD_UP || looks == LOOKS {
                return Reading { wall_ms, passed };
            }
            (passed, looks) = (after, looks + 1);
        }
    }

    fn hands(&self) -> &dyn Hands {
        self.hands.as_deref().unwrap_or(&System)
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
