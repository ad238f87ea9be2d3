//! The threads that jobs run on, apart from those that serve the network.
//!
//! Attempts have a thread of their own: committing a start or an end never waits for a guest to yield. Guests have one thread
//! per core, at a lower priority than everything else of the host.
//!
//! *Crash:* an attempt that is cut off by the end of its thread commits nothing; the next start judges it.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

/// What guests' threads stand behind the host's own: enough that a thread of the host that wakes up gets its turn at once, and
/// little enough that guests keep most of a machine that others use as well.
const NICENESS: i32 = 5;

/// Dropped, they end without waiting: a start that fails half-way drops them in the middle of async code, where a tokio
/// runtime may not wait for its threads.
#[derive(Debug)]
pub(super) struct Threads(Option<Box<Pair>>);

#[derive(Debug)]
struct Pair {
    attempts: Runtime,
    guests: Runtime,
}

impl Threads {
    pub(super) fn start() -> io::Result<Self> {
        let attempts =
            Builder::new_multi_thread().worker_threads(1).thread_name("attempt").enable_all().build()?;
        // As many as there are processors, whatever a variable of the environment says.
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let guests = Builder::new_multi_thread()
            .worker_threads(processors)
            .thread_name("guest")
            .on_thread_start(step_back)
            .enable_all()
            .build()?;
        Ok(Self(Some(Box::new(Pair { attempts, guests }))))
    }

    /// Where attempts run, and where their guests do.
    pub(super) fn handles(&self) -> (Handle, Handle) {
        #[expect(clippy::expect_used, reason = "only `stop` and `drop` take them, and both end this value")]
        let pair = self.0.as_ref().expect("the threads are there");
        (pair.attempts.handle().clone(), pair.guests.handle().clone())
    }

    /// Ends the threads; waits for file operations that are under way, at most so long for those of either kind. Blocks.
    pub(super) fn stop(mut self, most: Duration) {
        if let Some(pair) = self.0.take() {
            let Pair { attempts, guests } = *pair;
            // First whoever would take the end of a guest's thread for the end of the guest.
            attempts.shutdown_timeout(most);
            guests.shutdown_timeout(most);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(pair) = self.0.take() {
            let Pair { attempts, guests } = *pair;
            attempts.shutdown_background();
            guests.shutdown_background();
        }
    }
}

/// On Linux, this is the priority of the calling thread alone. Where it is refused, guests run as everybody else.
fn step_back() {
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "guests keep the priority of the host");
    }
}
