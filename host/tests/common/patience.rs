//! A test whose guard is gone should fail, not hang.

use std::time::Duration;

/// Far longer than any test takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(300);

/// What `test` gives, unless it never ends.
pub async fn bounded<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, test).await.expect("it neither ended nor could be stopped")
}
