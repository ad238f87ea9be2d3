//! When the system's clock was set: how far it has moved is held against how much time has passed.
//!
//! *Never:* reads a clock. *Bound:* one step is told in [`APART`], with all others since the one before it.
//! *Spec:* `docs/formats/record.md`, "Steps of the clock".

use std::time::Duration;

use strongroom_job::Timestamp;

use super::Reading;

/// A difference from which on it is a step, microseconds. What sets a clock right bit by bit takes care not to step so far.
const STEP_US: i64 = 1_000_000;
/// The part of the time that has passed by which a clock may go wrong, or be brought right, without having been set: 1 in so many.
/// Systems do it by at most half of that.
const SLEW: i64 = 1000;
/// Shortest time between two steps that are told.
const APART: Duration = Duration::from_secs(60);

/// A step, or several that are told together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What the clock would show by the time that has passed.
    pub from: Timestamp,
    /// What it shows.
    pub to: Timestamp,
    /// How many; at least 1.
    pub steps: u64,
}

/// Looks for steps.
#[derive(Debug)]
pub struct Steps {
    last: Reading,
    /// By how much the clock is ahead of the time that has passed, as far as that is no step yet; negative: behind it.
    off_us: i64,
    /// The sum of the steps that were not told yet.
    sum_us: i64,
    untold: u64,
    /// When the latest one was told.
    told: Option<Duration>,
}

impl Steps {
    /// Begins. A clock that is well before `latest`, when the clock was looked at the last time by an earlier host, was set back meanwhile.
    #[must_use]
    pub fn since(latest: Timestamp, now: Reading) -> Self {
        let behind = us(now.wall_ms).saturating_sub(us(latest.as_millis()));
        let set_back = behind <= -STEP_US;
        let (sum_us, untold) = if set_back { (behind, 1) } else { (0, 0) };
        Self { last: now, off_us: 0, sum_us, untold, told: None }
    }

    /// Looks once more; says what is to be told now.
    pub fn look(&mut self, now: Reading) -> Option<Step> {
        let moved = us(now.wall_ms).saturating_sub(us(self.last.wall_ms));
        let passed = now.passed.saturating_sub(self.last.passed).as_micros();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        self.last = now;
        let off = self.off_us.saturating_add(moved).saturating_sub(passed);
        let slew = (passed / SLEW).min(off.saturating_abs());
        self.off_us = off - slew * off.signum();
        if self.off_us.saturating_abs() >= STEP_US {
            // Other than the slew, all of it was somebody's doing.
            self.sum_us = self.sum_us.saturating_add(off);
            (self.off_us, self.untold) = (0, self.untold.saturating_add(1));
        }
        let too_early = self.told.is_some_and(|told| now.passed.saturating_sub(told) < APART);
        if self.untold == 0 || too_early {
            return None;
        }
        let from = us(now.wall_ms).saturating_sub(self.sum_us).max(0) / 1000;
        let from = Timestamp::from_millis(u64::try_from(from).unwrap_or_default());
        let step = Step { from, to: Timestamp::from_millis(now.wall_ms), steps: self.untold };
        (self.sum_us, self.untold, self.told) = (0, 0, Some(now.passed));
        Some(step)
    }
}

/// Microseconds, with a sign.
fn us(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: u64 = 1_800_000_000_000;

    /// A look `at_s` seconds after the first one, at a clock that is `off_ms` ahead.
    fn at(at_s: u64, off_ms: i64) -> Reading {
        Reading {
            wall_ms: (THEN + at_s * 1000).strict_add_signed(off_ms),
            passed: Duration::from_secs(7 + at_s),
        }
    }

    fn step(at_s: u64, from_ms: i64, to_ms: i64, steps: u64) -> Step {
        let time = |off| Timestamp::from_millis((THEN + at_s * 1000).strict_add_signed(off));
        Step { from: time(from_ms), to: time(to_ms), steps }
    }

    fn steps() -> Steps {
        Steps::since(Timestamp::from_millis(THEN), at(0, 0))
    }

    // Red with `off_us` kept after a step: it is told again a minute later.
    #[test]
    fn a_clock_that_is_set_is_told_once_with_both_times() {
        for off in [-3_600_000, -1001, 1002, 86_400_000] {
            let mut steps = steps();
            assert_eq!(steps.look(at(1, 0)), None);
            assert_eq!(steps.look(at(2, off)), Some(step(2, 0, off, 1)));
            for later in 3..200 {
                assert_eq!(steps.look(at(later, off)), None);
            }
        }
    }

    // Red without the slew: 0.5 ms in each second are a step after 2,000 s; and with a slew of 1 in 100, for the second half.
    #[test]
    fn a_clock_that_is_brought_right_is_not_set_and_one_that_is_set_bit_by_bit_is() {
        let mut slewed = steps();
        for second in 1..100_000 {
            assert_eq!(slewed.look(at(second, i64::try_from(second / 2).unwrap_or(0))), None, "{second}");
        }
        let mut set = steps();
        let told: Vec<Step> = (1..=1000)
            .filter_map(|second| set.look(at(second, i64::try_from(second).unwrap_or(0) * 9)))
            .collect();
        let sum: u64 = told.iter().map(|step| step.to.as_millis() - step.from.as_millis()).sum();
        assert!(told.len() >= 6 && sum > 7000, "{told:?}");
    }

    // Red without `too_early`.
    #[test]
    fn a_clock_that_flaps_is_told_once_a_minute_with_what_came_of_it() {
        let mut steps = steps();
        let told: Vec<Step> = (1..=3600)
            .filter_map(|second| steps.look(at(second, if second % 2 == 1 { 5000 } else { 0 })))
            .collect();
        assert_eq!(told.len(), 60);
        assert_eq!(told.first(), Some(&step(1, 0, 5000, 1)));
        // Set back, then forth and back again, 29 times; and forth.
        assert_eq!(told.get(1), Some(&step(61, 5000, 5000, 60)));
        assert_eq!(told.iter().map(|step| step.steps).sum::<u64>(), 3541);
    }

    // Red without `set_back`.
    #[test]
    fn a_clock_that_was_set_back_while_no_host_ran_is_told_at_the_start() {
        let latest = Timestamp::from_millis(THEN + 5000);
        assert_eq!(Steps::since(latest, at(0, 0)).look(at(1, 0)), Some(step(1, 5000, 0, 1)));
        assert_eq!(Steps::since(latest, at(4, 500)).look(at(5, 500)), None, "as far off as records may be");
        assert_eq!(Steps::since(Timestamp::default(), at(0, 0)).look(at(1, 0)), None, "a new host");
    }
}
