//! Whether the host takes anything new.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether new requests are refused.
#[derive(Debug, Default)]
pub(super) struct Gate(AtomicBool);

impl Gate {
    pub(super) fn close(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
