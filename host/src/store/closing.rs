//! The end of the writer's thread.

use std::thread::JoinHandle;

use tokio::sync::watch;

/// The writer's thread; it ends when every [`Store`](super::Store) handle is gone.
#[derive(Debug)]
pub struct Closing {
    pub(super) thread: JoinHandle<()>,
    pub(super) failed: watch::Receiver<Option<String>>,
}

impl Closing {
    /// Waits for the writer to end, and says why it failed, if it did. Blocks; drop every handle first.
    pub fn wait(self) -> Option<String> {
        // A panic of the writer was seen by everybody whose answer it dropped; what nobody waits for is told here.
        let panicked = self.thread.join().is_err().then(|| "the writer panicked".into());
        self.failed.borrow().clone().or(panicked)
    }
}
