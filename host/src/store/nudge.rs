//! Wakes who gives sled rows when sled forgot to.
//!
//! sled writes on threads of its own. When such a write fails, one of its two paths keeps the error and wakes nobody
//! (`exit_reservation` in its `logger.rs`), and the `flush` that waits for it waits for ever: the host would neither answer nor
//! stop. A second `flush` finds the error and wakes everybody.
//!
//! *Owns:* a thread that looks at it once in [`PAUSE`]. *Never:* is in its way: it counts, no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::current::Current;

/// Between two looks. A piece of a layer, or of a copy, that is seen at two of them is nudged: this is a disk that failed, or one that is very slow.
const PAUSE: Duration = Duration::from_secs(1);

/// What is held by who gives sled rows.
pub(super) struct Nudge {
    /// Goes up at both ends of a piece: odd while one is under way.
    ends: Arc<AtomicU64>,
    /// Dropped: there are no more.
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Nudge {
    pub(super) fn start(rows: Current) -> std::io::Result<Self> {
        let ends = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = sync_channel(0);
        let seen = Arc::clone(&ends);
        let thread = std::thread::Builder::new()
            .name("store-nudge".into())
            .spawn(move || watch(&rows, &seen, &stopped))?;
        Ok(Self { ends, stop, thread })
    }

    /// Does something with sled under the eyes of the thread.
    pub(super) fn during<T>(&self, what: impl FnOnce() -> T) -> T {
        self.ends.fetch_add(1, Ordering::Relaxed);
        let done = what();
        self.ends.fetch_add(1, Ordering::Relaxed);
        done
    }

    /// Ends the thread.
    pub(super) fn stop(self) {
        drop(self.stop);
        // A panic in it is sled's; whoever works with sled has its own opinion of it by then.
        let _ = self.thread.join();
    }
}

fn watch(rows: &Current, ends: &AtomicU64, stopped: &Receiver<()>) {
    let mut before = 0;
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(PAUSE) {
        let now = ends.load(Ordering::Relaxed);
        if now % 2 == 1 && now == before {
            // Its error is also that of who waits for it and tells it.
            for db in rows.all() {
                let _ = db.flush();
            }
        }
        before = now;
    }
}
