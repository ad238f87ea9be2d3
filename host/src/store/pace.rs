//! How fast sled is given a layer: slowly while there is time, as fast as it can be once somebody waits for it.
//!
//! sled writes four to ten bytes for each that it is given, and takes a processor for as long. A whole layer at once is a fifth of a second in which every
//! commit waits for a processor or for the disk: with two processors, a job in a hundred took 20 to 80 ms where others took 2. So there is a rest behind each piece, and others
//! have turns within it ([`turns`](crate::turns)).
//!
//! *Owns:* one word from the writer to the thread behind it. *Never:* delays by a rest what somebody waits for. The copying of sled's file
//! rests by the same word.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::turns::Turns;

/// No rest is longer than this.
const LONGEST: Duration = Duration::from_millis(50);

/// How much time there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    /// The next layer is not full yet.
    None,
    /// It is, and may become longer.
    Some,
    /// Somebody waits, or soon would.
    All,
}

impl Haste {
    /// A rest is so many times what the work before it took.
    const fn rests(self) -> u32 {
        match self {
            Self::None => 3,
            Self::Some => 1,
            Self::All => 0,
        }
    }
}

/// The word. Clones are the same one.
#[derive(Clone)]
pub(super) struct Pace(Arc<AtomicU32>);

impl Pace {
    /// A rest of this thread behind a stretch of work. It ends when there is more haste.
    pub(super) fn rest(&self, work: &Turns) {
        let rest = self.after(work);
        if !rest.is_zero() {
            thread::park_timeout(rest);
        }
    }

    /// How long that rest is.
    pub(super) fn after(&self, work: &Turns) -> Duration {
        LONGEST.min(work.rest(self.0.load(Ordering::Acquire)))
    }

    /// Between two steps of work that are short: others may have a turn while there is time for all.
    pub(super) fn turn(&self, work: &mut Turns) {
        let rests = self.0.load(Ordering::Acquire);
        if rests == Haste::None.rests() {
            work.pass(rests);
        }
    }

    /// From now on there is so much time. Wakes the thread from a rest that is too long for that.
    pub(super) fn set(&self, haste: Haste, thread: &Thread) {
        if self.0.swap(haste.rests(), Ordering::AcqRel) > haste.rests() {
            thread.unpark();
        }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self(Arc::new(Haste::None.rests().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_in_proportion_and_bounded() {
        let (pace, thread) = (Pace::default(), thread::current());
        let work = Turns::new();
        thread::sleep(Duration::from_millis(2));
        for (haste, rests) in [(Haste::Some, 1), (Haste::All, 0), (Haste::None, 3)] {
            pace.set(haste, &thread);
            let (before, rest) = (work.worked(), pace.after(&work));
            assert!(before * rests <= rest && rest <= work.worked() * rests || rest == LONGEST);
        }
        thread::sleep(LONGEST / 3);
        assert_eq!(pace.after(&work), LONGEST);
    }

    // Red when `turn` asks `pass` whatever the haste is: the writer would wait for a thread that lets everybody pass.
    #[test]
    fn others_have_a_turn_while_there_is_time_for_all() {
        let (pace, thread) = (Pace::default(), thread::current());
        for (haste, has) in [(Haste::All, false), (Haste::Some, false), (Haste::None, true)] {
            pace.set(haste, &thread);
            let mut work = Turns::new();
            while !work.are_due() {
                thread::sleep(Duration::from_micros(50));
            }
            pace.turn(&mut work);
            assert_eq!(!work.given().is_zero(), has, "{haste:?}");
        }
    }

    // Red without the `unpark`.
    #[test]
    fn haste_ends_a_rest() {
        let pace = Pace::default();
        pace.set(Haste::All, &thread::current());
        // Its word is there already: however long this would be, it is over.
        thread::park();
    }
}
