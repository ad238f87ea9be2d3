//! How fast a check goes, and when it stops.

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::Duration;

/// A check rests this long, each time that it has read as much as it may in this time.
const REST: Duration = Duration::from_millis(100);
/// Rests in a second.
const RESTS: u64 = 10;
/// What a step costs besides its bytes, in bytes: many small ones take time as well.
const STEP_BYTES: u64 = 256;

/// The end of a leash that is held. Nothing is ever sent: it is dropped.
pub(super) type Held = Sender<Infallible>;

/// The other end.
pub(super) struct Leash(pub(super) Receiver<Infallible>);

impl Leash {
    /// Waits so long; false as soon as nobody holds it any more.
    pub(super) fn holds_for(&self, time: Duration) -> bool {
        matches!(self.0.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }

    fn holds(&self) -> bool {
        matches!(self.0.try_recv(), Err(TryRecvError::Empty))
    }
}

/// Bounds what is read in a second.
pub(super) struct Pace<'a> {
    leash: &'a Leash,
    /// Bytes between two rests, and what is left of them.
    most: u64,
    left: u64,
    stopped: bool,
}

impl<'a> Pace<'a> {
    pub(super) fn new(leash: &'a Leash, bytes_per_second: u64) -> Self {
        let most = (bytes_per_second / RESTS).max(1);
        Self { leash, most, left: most, stopped: false }
    }

    /// So many bytes were read: rests if those were enough. False when it is time to stop.
    pub(super) fn read(&mut self, bytes: usize) -> bool {
        let mut cost = (bytes as u64).saturating_add(STEP_BYTES);
        while cost >= self.left && self.goes_on() {
            cost -= self.left;
            self.left = self.most;
            self.leash.holds_for(REST);
        }
        self.left = self.left.saturating_sub(cost);
        self.goes_on()
    }

    pub(super) fn goes_on(&mut self) -> bool {
        self.stopped = self.stopped || !self.leash.holds();
        !self.stopped
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    // Red where `goes_on` does not ask the leash.
    #[test]
    fn a_check_without_a_leash_stops_at_once_and_for_good() {
        let (held, leash) = channel();
        let leash = Leash(leash);
        let mut pace = Pace::new(&leash, 10);
        assert!(pace.goes_on() && leash.holds_for(Duration::from_millis(1)));
        drop(held);
        assert!(!pace.read(36_000) && !pace.goes_on() && !leash.holds_for(Duration::from_secs(3600)));
    }
}
