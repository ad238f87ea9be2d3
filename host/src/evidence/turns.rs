//! Who may remove or replace a segment: the writer that erases, or the sweeper, one at a time. And what both of them may know of damage.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files of evidence that were found damaged when something was to be erased from them. Clones share them.
///
/// *Bound:* one entry for each segment.
#[derive(Clone, Debug, Default)]
pub struct Damage(Arc<Mutex<BTreeSet<PathBuf>>>);

impl Damage {
    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.0).len()
    }

    pub(super) fn add(&self, file: PathBuf) {
        lock(&self.0).insert(file);
    }
}

/// Held while a segment is listed, read and then replaced, or removed: one that was removed meanwhile would be there again. Clones
/// share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<Mutex<()>>);

impl Turns {
    pub(super) fn take(&self) -> MutexGuard<'_, ()> {
        lock(&self.0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is a single insertion, or one of a file.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
