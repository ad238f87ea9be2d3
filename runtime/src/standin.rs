//! Time and randomness as a guest sees them: the host's, made coarse, or stand-ins that repeat exactly.
//!
//! *Owns:* the only reads of the wall clock in this crate. *Never:* a stand-in that depends on anything but its seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

use crate::grant::Grant;
use crate::outcome::HostFault;
use crate::reach::Ledger;
use crate::told::Sources;

/// What a granted clock is rounded down to: coarse enough to be of little use for timing attacks.
const COARSE: Duration = Duration::from_millis(1);
/// How far a stand-in clock moves at each read: a loop that waits for a moment still ends.
const STEP: Duration = Duration::from_millis(1);
/// Where a stand-in wall clock starts: 2000-01-01T00:00:00Z, after the epoch, so that no program doubts it.
const START: Duration = Duration::from_secs(946_684_800);

/// The number of a stand-in clock's first read; a clock that began at zero would stop Go programs.
const FIRST_READ: u64 = 1;

/// Streams of one seed, so that the three sources differ.
const STREAM_SECURE: u64 = 0;
const STREAM_INSECURE: u64 = 1;
const STREAM_SEED: u64 = 2;

/// Puts the clocks and random sources that `grant` allows into `wasi`, for a run that began at `start`. `ledger` is told of
/// their use when it is to be told everything.
pub(crate) fn install(
    wasi: &mut WasiCtxBuilder,
    grant: &Grant,
    start: Instant,
    ledger: &Ledger,
) -> Result<(), HostFault> {
    let mut sources = Sources { wasi, ledger };
    if grant.clock {
        sources.wall(CoarseWall, true);
        sources.monotonic(CoarseMonotonic { start }, true);
    } else {
        // One counter behind both clocks: time measured with either agrees.
        let reads = Arc::new(AtomicU64::new(FIRST_READ));
        sources.wall(CountedWall(Arc::clone(&reads)), false);
        sources.monotonic(CountedMonotonic(reads), false);
    }
    if grant.randomness && ledger.tells_all() {
        // The builder's own sources cannot be watched; these are as good.
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| HostFault::Engine {
            message: format!("the system gives no random bytes: {error}"),
        })?;
        sources.secure(stream(seed, STREAM_SECURE), true);
        sources.insecure(stream(seed, STREAM_INSECURE), true);
    }
    if !grant.randomness {
        sources.secure(stream(grant.seed, STREAM_SECURE), false);
        sources.insecure(stream(grant.seed, STREAM_INSECURE), false);
        let mut seed = stream(grant.seed, STREAM_SEED);
        sources.wasi.insecure_random_seed(u128::from(seed.next_u64()) << 64 | u128::from(seed.next_u64()));
    }
    Ok(())
}

fn stream(seed: [u8; 32], number: u64) -> ChaCha20Rng {
    let mut rng = ChaCha20Rng::from_seed(seed);
    rng.set_stream(number);
    rng
}

/// The host's monotonic clock, for measuring runs. Never shown to a guest as it is.
#[expect(clippy::disallowed_methods, reason = "this crate's one read of the monotonic clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

struct CoarseWall;

impl HostWallClock for CoarseWall {
    fn resolution(&self) -> Duration {
        COARSE
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the grant says that the guest may know the time; the one read of it"
    )]
    fn now(&self) -> Duration {
        // A host clock set before 1970 shows 1970 rather than stopping the guest.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Duration::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

struct CoarseMonotonic {
    start: Instant,
}

impl HostMonotonicClock for CoarseMonotonic {
    fn resolution(&self) -> u64 {
        nanos(COARSE)
    }

    fn now(&self) -> u64 {
        // Never zero: to Go's runtime a monotonic clock that shows zero is a broken one.
        let elapsed = nanos(self.start.elapsed().saturating_add(COARSE));
        elapsed - elapsed % nanos(COARSE)
    }
}

struct CountedWall(Arc<AtomicU64>);

impl HostWallClock for CountedWall {
    fn resolution(&self) -> Duration {
        STEP
    }

    fn now(&self) -> Duration {
        START.saturating_add(Duration::from_nanos(tick(&self.0)))
    }
}

struct CountedMonotonic(Arc<AtomicU64>);

impl HostMonotonicClock for CountedMonotonic {
    fn resolution(&self) -> u64 {
        nanos(STEP)
    }

    fn now(&self) -> u64 {
        tick(&self.0)
    }
}

/// Nanoseconds since the start of a stand-in clock; each call is one step later.
fn tick(reads: &AtomicU64) -> u64 {
    reads.fetch_add(1, Ordering::Relaxed).saturating_mul(nanos(STEP))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Red with `saturating_add(COARSE)` left out, and with a counter that starts at zero: Go programs stop at once then.
    #[test]
    fn no_monotonic_clock_ever_shows_zero() {
        assert!(CoarseMonotonic { start: now() }.now() >= nanos(COARSE));
        assert!(CountedMonotonic(Arc::new(AtomicU64::new(FIRST_READ))).now() >= nanos(STEP));
    }
}
