//! The thread that makes running guests yield.
//!
//! *Owns:* one OS thread. It advances the epoch of every engine while at least one guest runs, and sleeps
//! without waking otherwise. *Never:* touches a guest.

use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Ticks without a guest before the thread parks: short gaps between jobs must not cost a wake-up each.
const IDLE_TICKS: u32 = 100;

/// Stops and joins its thread when dropped.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// Guests between start and end.
    running: AtomicUsize,
    /// The thread sleeps until unparked.
    parked: AtomicBool,
    stop: AtomicBool,
    plain: wasmtime::Engine,
    metered: OnceLock<wasmtime::Engine>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("running", &self.running)
            .field("parked", &self.parked)
            .finish_non_exhaustive()
    }
}

/// Keeps the ticker ticking while it lives.
pub(crate) struct Running<'a>(&'a Shared);

impl Ticker {
    pub(crate) fn start(plain: wasmtime::Engine, tick: Duration) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            running: AtomicUsize::new(0),
            parked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            plain,
            metered: OnceLock::new(),
        });
        let thread = std::thread::Builder::new().name("strongroom-epoch".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.run(tick)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Ticks a second engine from now on.
    pub(crate) fn add_metered(&self, engine: wasmtime::Engine) {
        // There is one metered engine per ticker; a second call has nothing to add.
        let _ = self.shared.metered.set(engine);
    }

    pub(crate) fn enter(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        // Pairs with `run`: it says that it parks, then looks for guests; we say there is a guest, then look whether it
        // parks. One of the two sees the other.
        if self.shared.parked.load(Ordering::SeqCst) {
            self.unpark();
        }
        Running(&self.shared)
    }

    fn unpark(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Shared {
    fn run(&self, tick: Duration) {
        let mut idle = 0;
        while !self.stop.load(Ordering::SeqCst) {
            idle = if self.running.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
            if idle > IDLE_TICKS {
                self.parked.store(true, Ordering::SeqCst);
                if self.running.load(Ordering::SeqCst) == 0 && !self.stop.load(Ordering::SeqCst) {
                    std::thread::park();
                }
                self.parked.store(false, Ordering::SeqCst);
                idle = 0;
            }
            std::thread::park_timeout(tick);
            self.plain.increment_epoch();
            if let Some(metered) = self.metered.get() {
                metered.increment_epoch();
            }
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.unpark();
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked: it runs nothing that does. If it had, dropping it is all that is left.
            let _ = thread.join();
        }
    }
}
