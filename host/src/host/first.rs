//! What the log is told at a start, before anything else: that the host began, and what is not as it was.

use strongroom_job::trust::TrustFile;
use strongroom_job::{Event, PublicKey, Timestamp};

use super::StartError;
use crate::config::Config;
use crate::store::{Store, Transition};
use crate::trust;

/// Tells it, durably. `trusted` was held against what the store says was in force.
pub(super) async fn tell(
    store: &Store,
    host: PublicKey,
    config: &Config,
    trusted: Option<&TrustFile>,
    now: Timestamp,
) -> Result<(), StartError> {
    let version = env!("CARGO_PKG_VERSION").into();
    let started = Event::HostStarted { host, version, config: config.digest };
    store.commit(Transition::Log(started)).await?;
    if let Some(changed) = config.governs.changed_from(store.governed()?.map(|before| before.by)) {
        store.commit(Transition::Log(changed)).await?;
    }
    let Some(file) = trusted else { return Ok(()) };
    for changed in trust::news(file, store.trusted()?.as_ref()) {
        store.commit(Transition::Log(changed)).await?;
    }
    let last = file.in_force();
    if last.has_expired(now) {
        tracing::warn!(
            version = last.version(),
            expired = last.expires().to_rfc3339(),
            "the trust file has expired: jobs go on, and operators are refused until a newer version is installed"
        );
    }
    Ok(())
}
