//! Which sled holds the rows: another one from the moment at which the state's file was written anew ([`renew`](super::renew)).
//!
//! *Owns:* the handle that readers take. *Never:* keeps a reader waiting for more than the exchange of a handle. A reader goes on with
//! the one that it took: nothing is written to that any more once another is in its place, so it is a moment that has passed, and
//! what it had acknowledged by then is in both.

use std::sync::{Arc, PoisonError, RwLock};

/// The rows as they are now. Clones are handles to the same.
#[derive(Clone)]
pub(super) struct Current(Arc<RwLock<Handles>>);

struct Handles {
    now: sled::Db,
    /// The one that is being made to take its place.
    making: Option<sled::Db>,
}

impl Current {
    pub(super) fn new(now: sled::Db) -> Self {
        Self(Arc::new(RwLock::new(Handles { now, making: None })))
    }

    /// The rows. To be taken once by whoever reads several that belong together.
    pub(super) fn rows(&self) -> sled::Db {
        self.0.read().unwrap_or_else(PoisonError::into_inner).now.clone()
    }

    /// Another one is being made; or no longer.
    pub(super) fn make(&self, making: Option<sled::Db>) {
        let before = {
            let mut handles = self.0.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut handles.making, making)
        };
        // The last handle may write.
        drop(before);
    }

    /// From now on the rows are here. Gives back the handle to where they were.
    pub(super) fn put(&self, now: sled::Db) -> sled::Db {
        let mut handles = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // A second handle to what is now in force.
        handles.making = None;
        std::mem::replace(&mut handles.now, now)
    }

    /// Every one that the writer may wait for.
    pub(super) fn all(&self) -> Vec<sled::Db> {
        let handles = self.0.read().unwrap_or_else(PoisonError::into_inner);
        [Some(&handles.now), handles.making.as_ref()].into_iter().flatten().cloned().collect()
    }
}
