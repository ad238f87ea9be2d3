//! Which refusals of a known principal enter the log, and which are only counted: a flood must not fill the disk.
//!
//! *Bound:* one small entry per principal that was ever refused; principals are named in the configuration.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use strongroom_job::{PublicKey, Timestamp};

/// Refusals that a principal may have logged at once.
const BURST: u32 = 20;
/// After this long one more may be logged.
const REFILL: Duration = Duration::from_secs(1);

/// Decides per principal.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    principals: Mutex<HashMap<PublicKey, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    /// Records that may be written now.
    left: u32,
    /// When `left` was last raised.
    filled_at: Timestamp,
    /// Refusals since the last record that got none.
    suppressed: u64,
}

impl Refusals {
    /// Whether to log this refusal, and how many went without a record before it.
    pub(crate) fn count(&self, principal: &PublicKey, now: Timestamp) -> Option<u64> {
        let mut principals = self.principals.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Bucket { left: BURST, filled_at: now, suppressed: 0 };
        let bucket = principals.entry(*principal).or_insert_with(new);
        let earned = now.since(bucket.filled_at).as_millis() / REFILL.as_millis();
        if earned > 0 {
            bucket.left = bucket.left.saturating_add(u32::try_from(earned).unwrap_or(BURST)).min(BURST);
            bucket.filled_at = now;
        }
        if bucket.left == 0 {
            bucket.suppressed += 1;
            return None;
        }
        bucket.left -= 1;
        Some(std::mem::take(&mut bucket.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Red without the test `left == 0`.
    #[test]
    fn a_flood_is_counted_and_not_logged() {
        let key = strongroom_job::SecretKey::from_seed(&[1; 32].into()).public();
        let refusals = Refusals::default();
        let at = Timestamp::from_millis;
        let logged = (0..1000).filter(|_| refusals.count(&key, at(5)).is_some()).count();
        assert_eq!(logged, 20);
        assert_eq!(refusals.count(&key, at(1005)), Some(980));
        assert_eq!(refusals.count(&key, at(1005)), None);
    }
}
