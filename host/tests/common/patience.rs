//! A test whose guard is gone should fail, not hang.

use std::time::Duration;

/// Far longer than any test takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(300);

/// What must happen soon.
pub async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("must happen soon")
}

/// What `test` gives, unless it never ends.
pub async fn bounded<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, test).await.expect("it neither ended nor could be stopped")
}

/// [`bounded`], for a test that is so many times as long as others.
pub async fn bounded_times<T>(times: u64, test: impl Future<Output = T>) -> T {
    let patience = PATIENCE * u32::try_from(times).expect("a small number");
    tokio::time::timeout(patience, test).await.expect("it neither ended nor could be stopped")
}
