//! How far sled has come with its layer: the writer waits for that, a little behind each group, and not at once for all that is left of a layer.
//!
//! When many jobs come for long, sled falls behind, and the writer must come down to its pace. One that only stood still when two layers were full made everybody wait for half a
//! second to two seconds each time, whose jobs ever filled them.
//!
//! *Owns:* one count, from the thread behind the writer to the writer. *Never:* whether a layer is durable: the last word of a layer says that, and comes
//! behind all that follows it. *Crash:* nothing of it is on disk.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The writer's end.
pub(super) struct Headway(Arc<Shared>);

/// The end of who gives sled its rows. Dropped, nobody gives it any more.
pub(super) struct Making(Arc<Shared>);

#[derive(Default)]
struct Shared {
    layer: Mutex<Layer>,
    changed: Condvar,
}

#[derive(Default)]
struct Layer {
    /// Rows, and how many of them were handed on.
    rows: usize,
    taken: usize,
    /// Its last word was not said yet.
    is_under_way: bool,
    /// There will be no word any more.
    is_gone: bool,
}

impl Layer {
    const fn is_sound(&self) -> bool {
        !(self.is_under_way && self.is_gone)
    }
}

impl Shared {
    fn layer(&self) -> MutexGuard<'_, Layer> {
        // A few numbers, each written whole.
        self.layer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Layer)) {
        change(&mut self.layer());
        self.changed.notify_all();
    }
}

/// Both ends; no layer is under way.
pub(super) fn new() -> (Headway, Making) {
    let shared = Arc::<Shared>::default();
    (Headway(Arc::clone(&shared)), Making(shared))
}

impl Headway {
    /// A layer of so many rows is given.
    pub(super) fn begin(&self, rows: usize) {
        self.0.change(|layer| (layer.rows, layer.taken, layer.is_under_way) = (rows, 0, true));
    }

    /// Whether no layer is under way.
    pub(super) fn is_idle(&self) -> bool {
        !self.0.layer().is_under_way
    }

    /// Waits for the last word of the layer that is under way. False when it will never be said.
    pub(super) fn wait(&self) -> bool {
        let layer = self.0.changed.wait_while(self.0.layer(), |layer| layer.is_under_way && !layer.is_gone);
        layer.unwrap_or_else(PoisonError::into_inner).is_sound()
    }

    /// Waits until `part` of `of` of its rows were handed on, but not for longer than this. False when they never will be.
    pub(super) fn wait_for(&self, part: usize, of: usize, at_most: Duration) -> bool {
        let is_short = |layer: &mut Layer| {
            let is_taken = layer.taken as u128 * of as u128 >= part as u128 * layer.rows as u128;
            layer.is_under_way && !layer.is_gone && !is_taken
        };
        let layer = self.0.changed.wait_timeout_while(self.0.layer(), at_most, is_short);
        layer.unwrap_or_else(PoisonError::into_inner).0.is_sound()
    }
}

impl Making {
    /// So many rows more were handed on.
    pub(super) fn takes(&self, rows: usize) {
        self.0.change(|layer| layer.taken += rows);
    }

    /// The last word of a layer: sled has it, and the journal let go of it.
    pub(super) fn is_done(&self) {
        self.0.change(|layer| layer.is_under_way = false);
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.0.change(|layer| layer.is_gone = true);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// Waits on a thread of its own; says how that ended.
    fn waiting(headway: &Headway, wait: impl FnOnce(&Headway) -> bool + Send + 'static) -> Receiver<bool> {
        let headway = Headway(Arc::clone(&headway.0));
        let (sender, ended) = channel();
        let _ = std::thread::spawn(move || sender.send(wait(&headway)));
        ended
    }

    fn goes_on(ended: &Receiver<bool>) -> bool {
        ended.recv_timeout(Duration::from_millis(50)).is_err()
    }

    fn end(ended: &Receiver<bool>) -> bool {
        ended.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("it does not end"))
    }

    const EVER: Duration = Duration::from_secs(3600);

    // Red with a wait for the whole of a layer, which is what there was before.
    #[test]
    fn who_is_ahead_by_a_part_waits_for_that_part() {
        let (headway, making) = new();
        headway.begin(10);
        let ended = waiting(&headway, |headway| headway.wait_for(1, 2, EVER));
        making.takes(4);
        assert!(goes_on(&ended));
        making.takes(1);
        assert!(end(&ended));
        assert!(!headway.is_idle());
        assert!(headway.wait_for(0, 2, EVER), "who is not ahead does not wait");
        assert!(headway.wait_for(1, 1, Duration::from_millis(1)), "nobody waits for longer than he wants");
    }

    // Red when the rows of a layer are enough: it is durable behind its last word.
    #[test]
    fn the_whole_is_there_with_the_last_word() {
        let (headway, making) = new();
        headway.begin(2);
        making.takes(2);
        let ended = waiting(&headway, Headway::wait);
        assert!(goes_on(&ended));
        making.is_done();
        assert!(end(&ended));
        assert!(headway.is_idle());
    }

    // Red without the `Drop` of `Making`.
    #[test]
    fn nobody_waits_for_who_is_gone() {
        let (headway, making) = new();
        headway.begin(2);
        let ended = waiting(&headway, |headway| headway.wait_for(1, 2, EVER));
        drop(making);
        assert!(!end(&ended));
        assert!(!headway.wait(), "nor for the last word");
        assert!(!headway.is_idle());
    }
}
