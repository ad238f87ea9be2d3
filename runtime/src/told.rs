//! Clocks and random sources that write down that they were read, for a run whose grant says so.
//!
//! *Never:* stands before the sources of a run that is not observed, so that such a run pays nothing.

use std::convert::Infallible;
use std::time::Duration;

use chacha20::rand_core::{Rng, TryRng};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

use crate::reach::{Ledger, Reach};

/// Puts sources into a context: as they are, or behind a [`Told`] when the run is observed.
pub(crate) struct Sources<'a> {
    pub(crate) wasi: &'a mut WasiCtxBuilder,
    pub(crate) ledger: &'a Ledger,
}

/// A source, and where its reads are written down.
struct Told<T> {
    inner: T,
    ledger: Ledger,
    /// Whether it is the real thing, and no stand-in.
    granted: bool,
}

impl Sources<'_> {
    pub(crate) fn wall(&mut self, clock: impl HostWallClock + 'static, granted: bool) {
        match self.told(granted) {
            Some(told) => self.wasi.wall_clock(told.around(clock)),
            None => self.wasi.wall_clock(clock),
        };
    }

    pub(crate) fn monotonic(&mut self, clock: impl HostMonotonicClock + 'static, granted: bool) {
        match self.told(granted) {
            Some(told) => self.wasi.monotonic_clock(told.around(clock)),
            None => self.wasi.monotonic_clock(clock),
        };
    }

    pub(crate) fn secure(&mut self, source: impl Rng + Send + 'static, granted: bool) {
        match self.told(granted) {
            Some(told) => self.wasi.secure_random(told.around(source)),
            None => self.wasi.secure_random(source),
        };
    }

    pub(crate) fn insecure(&mut self, source: impl Rng + Send + 'static, granted: bool) {
        match self.told(granted) {
            Some(told) => self.wasi.insecure_random(told.around(source)),
            None => self.wasi.insecure_random(source),
        };
    }

    fn told(&self, granted: bool) -> Option<Told<()>> {
        self.ledger.tells_all().then(|| Told { inner: (), ledger: self.ledger.clone(), granted })
    }
}

impl<T> Told<T> {
    fn around<U>(self, inner: U) -> Told<U> {
        Told { inner, ledger: self.ledger, granted: self.granted }
    }

    fn tell(&self, what: Reach) {
        if self.granted { self.ledger.granted(what) } else { self.ledger.denied(what) }
    }
}

impl<T: HostWallClock> HostWallClock for Told<T> {
    fn resolution(&self) -> Duration {
        self.inner.resolution()
    }

    fn now(&self) -> Duration {
        self.tell(Reach::Clock);
        self.inner.now()
    }
}

impl<T: HostMonotonicClock> HostMonotonicClock for Told<T> {
    fn resolution(&self) -> u64 {
        self.inner.resolution()
    }

    fn now(&self) -> u64 {
        self.tell(Reach::Clock);
        self.inner.now()
    }
}

impl<T: Rng> TryRng for Told<T> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.tell(Reach::Randomness);
        Ok(self.inner.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.tell(Reach::Randomness);
        Ok(self.inner.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.tell(Reach::Randomness);
        self.inner.fill_bytes(bytes);
        Ok(())
    }
}
