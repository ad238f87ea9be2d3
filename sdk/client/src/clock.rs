//! The one place where the SDK asks what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

use strongroom_job::Timestamp;

/// Now, by the system's clock; a clock before 1970 counts as 1970.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
