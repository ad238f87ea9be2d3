//! How far the log is published, for those who wait for a checkpoint, and their way to hurry it.
//!
//! *Never:* on the way of an acknowledgement. *Bound:* however many wait, the publisher hears of them once, and publishes for them
//! at most every [`HURRIED`].

use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::sync::watch;

/// The least time between two publications that somebody waits for: each costs some syncs of the disk.
pub(super) const HURRIED: Duration = Duration::from_millis(10);
/// How long anybody waits for a checkpoint. A publisher that takes longer stands still, or the host stops; one that shares its processors
/// with much else has been seen to take more than ten seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// The log's published size, and a bell. Clones share both.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(super) size: watch::Receiver<u64>,
    pub(super) bell: SyncSender<()>,
}

impl Published {
    /// Waits until a durable checkpoint covers entry `index`; false when that takes too long.
    pub(crate) async fn covers(&self, index: u64) -> bool {
        let mut size = self.size.clone();
        if *size.borrow_and_update() > index {
            return true;
        }
        // Full means that it was rung and not yet heard.
        let _ = self.bell.try_send(());
        let covered = size.wait_for(|size| *size > index);
        matches!(tokio::time::timeout(PATIENCE, covered).await, Ok(Ok(_)))
    }
}
