//! How fast the publisher works: with rests, unless somebody waits for it.
//!
//! What is written down for some hundred jobs takes a processor for ten milliseconds. With few processors the commits of that moment wait for one:
//! their jobs took twice as long as others. Rests as long as the work leave every other moment to them.

use std::time::Duration;

use crate::clock::Stopwatch;

/// Work between two rests.
const SPELL: Duration = Duration::from_millis(1);
/// No rest is longer, however long the work before it took: that was a disk.
const LONGEST: Duration = Duration::from_millis(20);

/// A piece of work, and how much time there is for it.
pub(super) struct Ease {
    /// None when somebody waits.
    since: Option<Stopwatch>,
}

impl Ease {
    /// Without a rest.
    pub(super) const fn none() -> Self {
        Self { since: None }
    }

    /// With rests.
    pub(super) fn all() -> Self {
        Self { since: Some(Stopwatch::start()) }
    }

    /// Between two steps of the work, which are short.
    pub(super) fn breathe(&mut self) {
        let Some(since) = self.since else { return };
        let worked = since.passed();
        if worked >= SPELL {
            std::thread::sleep(worked.min(LONGEST));
            self.since = Some(Stopwatch::start());
        }
    }
}
