//! How fast the publisher works: spread over much of the time until it begins again, unless somebody waits for it.
//!
//! What is written down for some hundred jobs takes a processor for ten milliseconds and more. With few processors the commits of that moment wait
//! for one: their jobs took twice as long as others. So it rests behind each piece of work, up to three times as long as that, as long as it is not late, and
//! lets others have turns in between ([`turns`](crate::turns)).
//!
//! *Never:* rests while somebody waits: the bell ends a rest, and there is none after it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::turns::Turns;

/// Work between two rests, at least.
const SPELL: Duration = Duration::from_millis(1);
/// A rest is at most so many times what the work before it took.
const RESTS: u32 = 3;
/// No rest is longer, however long the work before it took: that was a disk.
const LONGEST: Duration = Duration::from_millis(20);

/// A piece of work, and how much time there is for it.
pub(super) struct Ease<'a> {
    /// None when somebody waits.
    bell: Option<&'a Receiver<()>>,
    /// Whether the bell rang meanwhile.
    heard: bool,
    /// No rest goes beyond it.
    time: Duration,
    begun: Stopwatch,
    /// Since the last rest.
    work: Turns,
    /// Of how many steps.
    steps: u64,
    done: u64,
}

impl<'a> Ease<'a> {
    /// Without a rest.
    pub(super) fn none() -> Self {
        Self::within(Duration::ZERO, None)
    }

    /// With rests, but none beyond this time, until the bell rings.
    pub(super) fn over(time: Duration, bell: &'a Receiver<()>) -> Self {
        Self::within(time, Some(bell))
    }

    fn within(time: Duration, bell: Option<&'a Receiver<()>>) -> Self {
        let (begun, work) = (Stopwatch::start(), Turns::new());
        Self { bell, heard: false, time, begun, work, steps: 0, done: 0 }
    }

    /// The work has so many steps.
    pub(super) const fn expect(&mut self, steps: u64) {
        self.steps = steps;
    }

    /// Between two steps of the work, which are short, where it must not rest: others may have a turn, unless somebody waits or it is late.
    pub(super) fn turn(&mut self) {
        let Some(bell) = self.bell else { return };
        if !self.work.are_due() {
            return;
        }
        if bell.try_recv() != Err(TryRecvError::Empty) {
            self.hears();
        } else if self.begun.passed() < self.time {
            self.work.pass(RESTS);
        }
    }

    /// Between two steps of the work, which are short.
    pub(super) fn breathe(&mut self) {
        self.done += 1;
        self.turn();
        let Some(bell) = self.bell else { return };
        if self.work.worked() < SPELL {
            return;
        }
        let pause = rest(self.work.rest(RESTS), self.begun.passed(), self.due());
        if !pause.is_zero() && rings_within(bell, pause) {
            self.hears();
        }
        self.work.begin();
    }

    const fn hears(&mut self) {
        self.heard = true;
        self.bell = None;
    }

    /// Whether somebody rang, or went away, meanwhile: nobody else hears of it.
    pub(super) const fn heard(&self) -> bool {
        self.heard
    }

    /// When as many steps as are done should be, counted from the beginning.
    fn due(&self) -> Duration {
        // Steps are records, some thousands at a time; a share of the time is all that is asked.
        self.time.mul_f64(self.done.min(self.steps) as f64 / self.steps.max(1) as f64)
    }
}

/// How long the rest may be, when so much is due for the work before it, so much time has passed and the steps that are done are due then.
fn rest(wanted: Duration, passed: Duration, due: Duration) -> Duration {
    wanted.min(LONGEST).min(due.saturating_sub(passed))
}

/// Rests so long, or until the bell rings, or nobody has it any more. Says whether it ended that way.
fn rings_within(bell: &Receiver<()>, pause: Duration) -> bool {
    bell.recv_timeout(pause) != Err(RecvTimeoutError::Timeout)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_rest_is_bounded_and_none_when_it_is_late() {
        assert_eq!(rest(6 * MS, 2 * MS, 100 * MS), 6 * MS);
        assert_eq!(rest(6 * MS, 96 * MS, 100 * MS), 4 * MS);
        assert_eq!(rest(6 * MS, 101 * MS, 100 * MS), Duration::ZERO);
        assert_eq!(rest(900 * MS, 900 * MS, 9000 * MS), LONGEST);
    }

    #[test]
    fn half_of_the_steps_are_due_at_half_of_the_time() {
        let (_ring, bell) = sync_channel(1);
        let mut ease = Ease::over(100 * MS, &bell);
        ease.expect(8);
        (0..4).for_each(|_| ease.breathe());
        assert_eq!(ease.due(), 50 * MS);
        // More than was expected: nothing is due later than the end.
        (0..40).for_each(|_| ease.breathe());
        assert_eq!(ease.due(), 100 * MS);
    }

    // Red with a sleep: it would take twelve days.
    #[test]
    fn the_bell_ends_a_rest() {
        let (ring, bell) = sync_channel(1);
        ring.send(()).unwrap();
        assert!(rings_within(&bell, Duration::from_secs(1 << 20)));
        drop(ring);
        assert!(rings_within(&bell, Duration::from_secs(1 << 20)));
    }

    // Red when there are rests behind the bell.
    #[test]
    fn there_is_no_rest_behind_the_bell() {
        let (ring, bell) = sync_channel(1);
        ring.send(()).unwrap();
        let mut ease = Ease::over(Duration::from_secs(1 << 20), &bell);
        ease.expect(1);
        std::thread::sleep(SPELL);
        ease.breathe();
        assert!(ease.heard());
        assert!(ease.bell.is_none());
    }

    // Red when `turn` does not ask for the bell: what is between two rests can be long, and there are none when it is late.
    #[test]
    fn the_bell_is_heard_between_two_rests() {
        let (ring, bell) = sync_channel(1);
        let mut ease = Ease::over(Duration::ZERO, &bell);
        std::thread::sleep(MS);
        ease.turn();
        assert!(!ease.heard());
        ring.send(()).unwrap();
        std::thread::sleep(MS);
        ease.turn();
        assert!(ease.heard());
    }

    // Red without the time in `turn`: one that is late would come later still.
    #[test]
    fn others_have_a_turn_while_it_is_not_late() {
        let (_ring, bell) = sync_channel(1);
        for (time, has) in [(Duration::ZERO, false), (Duration::from_secs(1 << 20), true)] {
            let mut ease = Ease::over(time, &bell);
            std::thread::sleep(MS);
            ease.turn();
            assert_eq!(!ease.work.given().is_zero(), has);
        }
    }
}
