//! How a thread whose work nobody waits for lets others have its processor: behind each short turn of its own, and not only when the kernel takes it away.
//!
//! A kernel with 250 ticks a second may look every 4 ms only who is to have a processor next, however little whoever became ready meanwhile would need.
//! With two processors, and a thread at work on each that gives sled its rows or publishes the log, a commit could stand still for as long, and a job has two.
//! Niceness says how much of a processor a thread has, and not when. The idle policy would say that, but a process without `CAP_SYS_NICE` or a limit
//! that allows it cannot leave it again, and the writer must wait for such a thread now and then.
//!
//! *Never:* with a lock, for which others would then wait. *Bound:* others are given another turn of a stretch of work only while they had less than the rest that is due for it.

use std::thread;
use std::time::Duration;

use crate::clock::Stopwatch;

/// Work between two turns of others.
const TURN: Duration = Duration::from_micros(100);

/// A stretch of work of one thread, up to its next rest.
#[derive(Debug)]
pub(crate) struct Turns {
    begun: Stopwatch,
    /// This thread's own turn began then.
    since: Stopwatch,
    /// What others had of the time: no work, and as good as a rest.
    given: Duration,
}

impl Turns {
    /// A stretch begins.
    pub(crate) fn new() -> Self {
        let now = Stopwatch::start();
        Self { begun: now, since: now, given: Duration::ZERO }
    }

    /// Another stretch begins.
    pub(crate) fn begin(&mut self) {
        *self = Self::new();
    }

    /// Whether others should have a turn now.
    pub(crate) fn are_due(&self) -> bool {
        self.since.passed() >= TURN
    }

    /// Between two steps of work: lets others have a turn, if this thread has had its own, and if they have not had `rests` times as much already.
    pub(crate) fn pass(&mut self, rests: u32) {
        if self.are_due() && self.given < self.worked() * rests {
            let asked = Stopwatch::start();
            thread::yield_now();
            self.since = Stopwatch::start();
            self.given += asked.passed();
        }
    }

    /// How long this thread has worked.
    pub(crate) fn worked(&self) -> Duration {
        self.begun.passed().saturating_sub(self.given)
    }

    /// The rest that is due: so many times the work, less what others have had of it.
    pub(crate) fn rest(&self, rests: u32) -> Duration {
        rest(self.worked(), rests, self.given)
    }

    #[cfg(test)]
    pub(crate) const fn given(&self) -> Duration {
        self.given
    }
}

fn rest(worked: Duration, rests: u32, given: Duration) -> Duration {
    (worked * rests).saturating_sub(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stretch of work whose own turn is over.
    fn due() -> Turns {
        let turns = Turns::new();
        while !turns.are_due() {
            thread::sleep(TURN / 4);
        }
        turns
    }

    #[test]
    fn others_have_a_turn_behind_each_own() {
        let mut turns = due();
        let before = turns.since;
        turns.pass(1);
        assert_ne!(turns.since, before);
        assert!(!turns.given.is_zero());
        turns.begin();
        let before = turns.since;
        turns.pass(1);
        // Else this thread was held up for a turn in between.
        assert!(turns.since == before || turns.begun.passed() > TURN);
    }

    // Red without the bound in `pass`: on a host without a processor to spare a layer would take many times as long as its rests allow.
    #[test]
    fn others_have_no_more_than_the_rest_that_is_due() {
        let mut turns = due();
        turns.given = turns.begun.passed() * 3 / 4;
        let before = (turns.since, turns.given);
        turns.pass(0);
        assert_eq!((turns.since, turns.given), before, "there is no rest");
        turns.given = turns.begun.passed();
        let before = (turns.since, turns.given);
        // It has worked for the time between these two lines, and others had more than three times that.
        turns.pass(3);
        assert!((turns.since, turns.given) == before || turns.worked() * 3 > before.1);
    }

    #[test]
    fn what_others_had_was_rest() {
        const MS: Duration = Duration::from_millis(1);
        assert_eq!(rest(2 * MS, 3, Duration::ZERO), 6 * MS);
        assert_eq!(rest(2 * MS, 3, MS), 5 * MS);
        assert_eq!(rest(2 * MS, 3, 7 * MS), Duration::ZERO);
        assert_eq!(rest(2 * MS, 0, MS), Duration::ZERO);
    }
}
