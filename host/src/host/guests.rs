//! The threads that guests run on, apart from those that serve the network.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

/// One thread per core. Dropped, it ends without waiting: a start that fails half-way drops it in the middle of async code,
/// where a tokio runtime may not wait for its threads.
#[derive(Debug)]
pub(super) struct Guests(Option<Runtime>);

impl Guests {
    pub(super) fn start() -> io::Result<Self> {
        Builder::new_multi_thread()
            .thread_name("guest")
            .enable_all()
            .build()
            .map(|threads| Self(Some(threads)))
    }

    pub(super) fn handle(&self) -> Handle {
        #[expect(clippy::expect_used, reason = "only `stop` and `drop` take it, and both end this value")]
        self.0.as_ref().expect("the threads are there").handle().clone()
    }

    /// Ends the threads; waits at most so long for file operations that are under way. Blocks.
    pub(super) fn stop(mut self, most: Duration) {
        if let Some(threads) = self.0.take() {
            threads.shutdown_timeout(most);
        }
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}
