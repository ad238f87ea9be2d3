//! How a caller says "stop".

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Stops every run that was given a clone of it. Cheap to clone; once cancelled it stays so.
#[derive(Clone, Debug)]
pub struct CancelToken(Option<Arc<Bell>>);

#[derive(Debug, Default)]
struct Bell {
    rung: AtomicBool,
    waiters: Notify,
}

impl CancelToken {
    /// A token that can be cancelled.
    pub fn new() -> Self {
        Self(Some(Arc::default()))
    }

    /// A token that nobody can cancel; allocates nothing.
    pub const fn never() -> Self {
        Self(None)
    }

    /// Stops the runs: each ends `Cancelled`, within 100 ms, unless it ended by itself first.
    pub fn cancel(&self) {
        if let Some(bell) = &self.0 {
            bell.rung.store(true, Ordering::Release);
            bell.waiters.notify_waiters();
        }
    }

    /// Whether [`CancelToken::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.as_ref().is_some_and(|bell| bell.rung.load(Ordering::Acquire))
    }

    /// Waits until the token is cancelled; for ever with [`CancelToken::never`].
    pub async fn cancelled(&self) {
        let Some(bell) = &self.0 else {
            return std::future::pending().await;
        };
        loop {
            // Listen before looking, or a cancel between the two would be missed.
            let notified = bell.waiters.notified();
            if self.is_cancelled() {
                return;
            }
            notified.await;
        }
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}
