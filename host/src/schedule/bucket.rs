//! A token bucket in whole numbers.
//!
//! *Owns:* how fast tokens come. A token is worth `per` in nanoseconds, and each nanosecond that passes brings `starts`: nothing
//! is ever rounded, so nothing drifts, however often or seldom it is looked at. *Never:* clocks.
//!
//! A clock that goes back brings no tokens and takes none; time counts on from there. So a clock that was an hour ahead for a
//! moment costs at most one burst too much, and nobody waits for that hour to come again.

use std::time::Duration;

use strongroom_job::Timestamp;

use crate::config::Rate;

const NANOS_PER_MILLI: u128 = 1_000_000;

/// The tokens of one queue.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    /// What one token is worth.
    token: u128,
    /// What a millisecond brings.
    per_milli: u128,
    /// Most that it holds. Below 2¹²⁶: `burst` has 32 bits, `per` 94.
    full: u128,
    level: u128,
    /// When `level` was right.
    at: Timestamp,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: Rate, now: Timestamp) -> Self {
        // A `per` of zero would make a token worth nothing, and an empty bucket as good as a full one.
        let token = rate.per.as_nanos().max(1);
        let full = token * u128::from(rate.burst);
        Self { token, per_milli: u128::from(rate.starts) * NANOS_PER_MILLI, full, level: full, at: now }
    }

    /// Lets time pass until `now`.
    pub(super) fn advance(&mut self, now: Timestamp) {
        let millis = now.as_millis().saturating_sub(self.at.as_millis());
        self.level = self.full.min(self.level + u128::from(millis) * self.per_milli);
        self.at = now;
    }

    pub(super) fn has_token(&self) -> bool {
        self.level >= self.token
    }

    /// Takes a token. Only when there is one.
    pub(super) fn take(&mut self) {
        self.level = self.level.saturating_sub(self.token);
    }

    /// When there is a token: now, or later, or never.
    pub(super) fn next(&self) -> Option<Timestamp> {
        if self.has_token() {
            return Some(self.at);
        }
        if self.full < self.token || self.per_milli == 0 {
            return None;
        }
        let millis = (self.token - self.level).div_ceil(self.per_milli);
        Some(self.at.saturating_add(Duration::from_millis(u64::try_from(millis).ok()?)))
    }
}
