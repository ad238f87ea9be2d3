//! Which refusals of a known principal enter the log, and which are only counted: a flood must not fill the disk.
//!
//! *Bound:* one small entry per principal that was ever refused, and one per role that it lacks; principals are named in the configuration, and
//! those that a reload takes out are forgotten.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use strongroom_job::{PublicKey, Role, Timestamp};

/// Refusals that a principal may have logged at once.
const BURST: u32 = 20;
/// After this long one more may be logged.
const REFILL: Duration = Duration::from_secs(1);
/// A principal that lacks a role has that logged this often at most, with how many times it asked. It is a matter of its
/// configuration, and the first record says it all.
const ROLE_PAUSE: Duration = Duration::from_hours(1);

/// Decides per principal.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    principals: Mutex<HashMap<PublicKey, Bucket>>,
    roles: Mutex<HashMap<(PublicKey, Role), Lack>>,
}

#[derive(Debug)]
struct Lack {
    /// When it was logged.
    at: Timestamp,
    /// Refusals since then.
    suppressed: u64,
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

    /// Whether to log that this principal lacks this role, and how many times it was refused for that without a record before.
    pub(crate) fn count_role(&self, principal: &PublicKey, role: Role, now: Timestamp) -> Option<u64> {
        let mut roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
        match roles.entry((*principal, role)) {
            Entry::Vacant(new) => {
                new.insert(Lack { at: now, suppressed: 0 });
                Some(0)
            }
            Entry::Occupied(mut lack) if now.since(lack.get().at) >= ROLE_PAUSE => {
                Some(lack.insert(Lack { at: now, suppressed: 0 }).suppressed)
            }
            Entry::Occupied(mut lack) => {
                lack.get_mut().suppressed += 1;
                None
            }
        }
    }

    /// Forgets those who are no principals any more.
    pub(crate) fn keep(&self, known: impl Fn(&PublicKey) -> bool) {
        self.principals.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| known(key));
        self.roles.lock().unwrap_or_else(PoisonError::into_inner).retain(|(key, _), _| known(key));
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

    // Red without the question for `ROLE_PAUSE`, and when the key alone is counted.
    #[test]
    fn a_missing_role_is_logged_once_an_hour_and_counted() {
        let [one, other] =
            [1, 2].map(|seed| strongroom_job::SecretKey::from_seed(&[seed; 32].into()).public());
        let refusals = Refusals::default();
        let hour = 3_600_000;
        let count = |key, role, at| refusals.count_role(key, role, Timestamp::from_millis(at));
        assert_eq!(count(&one, Role::Operate, 5), Some(0));
        assert!((0..1000).all(|n| count(&one, Role::Operate, 5 + n).is_none()));
        assert_eq!(count(&one, Role::View, 6), Some(0), "another role");
        assert_eq!(count(&other, Role::Operate, 6), Some(0), "another principal");
        assert_eq!(count(&one, Role::Operate, 4 + hour), None);
        assert_eq!(count(&one, Role::Operate, 5 + hour), Some(1001));
        assert_eq!(count(&one, Role::Operate, 6 + hour), None);
        refusals.keep(|key| *key != one);
        assert_eq!(count(&one, Role::Operate, 7 + hour), Some(0));
    }
}
