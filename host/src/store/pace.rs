//! How fast sled is given a layer: slowly while there is time, as fast as it can be once somebody waits for it.
//!
//! sled writes four to ten bytes for each that it is given, and takes a processor for as long. A whole layer at once is a fifth of a second in which every
//! commit waits for a processor or for the disk: with two processors, a job in a hundred took 20 to 80 ms where others took 2. So there is a rest behind each piece.
//!
//! *Owns:* one word from the writer to the thread behind it. *Never:* delays by a rest what somebody waits for. The copying of sled's file
//! rests by the same word.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

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
    /// A rest of this thread behind work that took so long. It ends when there is more haste.
    pub(super) fn rest(&self, took: Duration) {
        let rest = self.after(took);
        if !rest.is_zero() {
            thread::park_timeout(rest);
        }
    }

    /// How long that rest is.
    pub(super) fn after(&self, took: Duration) -> Duration {
        LONGEST.min(took * self.0.load(Ordering::Acquire))
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
        let work = Duration::from_millis(2);
        assert_eq!(pace.after(work), work * 3);
        assert_eq!(pace.after(Duration::from_secs(9)), LONGEST);
        for (haste, rests) in [(Haste::Some, 1), (Haste::All, 0), (Haste::None, 3)] {
            pace.set(haste, &thread);
            assert_eq!(pace.after(work), work * rests);
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
