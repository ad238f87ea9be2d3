//! Modules that are in use, and for some time after: a slot for each, in which whoever comes first puts what the others then take.
//!
//! *Bound:* [`MAX_KEPT`] slots; the one that nobody has asked for for longest goes first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use strongroom_job::Digest;
use strongroom_runtime::Metering;

/// Modules that are kept. A large one takes some 45 MiB, an ordinary one less than 1 MiB.
pub(crate) const MAX_KEPT: usize = 32;

type Key = (Digest, Metering);

/// The slots.
#[derive(Debug)]
pub(crate) struct Kept<S>(Mutex<Slots<S>>);

#[derive(Debug)]
struct Slots<S> {
    slots: HashMap<Key, (Arc<S>, u64)>,
    /// Counts uses; a slot remembers its latest.
    uses: u64,
}

impl<S> Default for Kept<S> {
    fn default() -> Self {
        Self(Mutex::new(Slots { slots: HashMap::new(), uses: 0 }))
    }
}

impl<S: Default> Kept<S> {
    /// The slot of a module, a new one if need be.
    pub(crate) fn slot(&self, digest: &Digest, metering: Metering) -> Arc<S> {
        // Each change is whole before anything can panic.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let uses = kept.uses;
        let (slot, used) = kept.slots.entry((*digest, metering)).or_default();
        *used = uses;
        let slot = Arc::clone(slot);
        if kept.slots.len() > MAX_KEPT
            && let Some(oldest) = kept.slots.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key)
        {
            kept.slots.remove(&oldest);
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Red with `max_by_key`, and without the removal.
    #[test]
    fn who_was_not_asked_for_for_longest_goes_first() {
        let kept: Kept<Mutex<usize>> = Kept::default();
        let slot = |number: usize| kept.slot(&Digest::of(&number.to_be_bytes()), Metering::None);
        let put = |number: usize| *slot(number).lock().expect("nobody panics") = number + 1;
        let has = |number: usize| *slot(number).lock().expect("nobody panics") == number + 1;
        (0..MAX_KEPT).for_each(put);
        assert!(has(0), "it is asked for again");
        put(MAX_KEPT);
        assert!(has(0) && has(MAX_KEPT));
        assert!(!has(1), "this one made room");
    }
}
