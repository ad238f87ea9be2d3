//! What the log is told at a start, before anything else: that the host began, and what is not as it was.

use strongroom_job::succession::KeyRole;
use strongroom_job::trust::TrustFile;
use strongroom_job::{Event, PublicKey, Timestamp};

use super::StartError;
use crate::config::Config;
use crate::home::LockedHome;
use crate::store::{Store, Transition};
use crate::trust;

/// Tells it, durably. `trusted` was held against what the store says was in force.
pub(super) async fn tell(
    store: &Store,
    (home, host): (&LockedHome, PublicKey),
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
    for rotated in rotated(home, store)? {
        store.commit(Transition::Log(rotated)).await?;
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

/// What the log is told of keys that were replaced since it was last told of any.
fn rotated(home: &LockedHome, store: &Store) -> Result<Vec<Event>, StartError> {
    let mut told = Vec::new();
    for role in [KeyRole::Host, KeyRole::Log] {
        let statements = home.successions(role)?;
        let last = store.rotated_to(role)?;
        if let Some(last) = last
            && !home.key_chain(role)?.contains(&last)
        {
            tracing::error!(
                %role, replaced_by = %last,
                "by the log, the {role} key was replaced by another one than is here: if the keys came from an older copy, stop the host and put the \
                 newest copy back"
            );
        }
        // Where it names none of them, it has been told of none: they are all that there are.
        let known =
            statements.iter().position(|one| Some(*one.new_key()) == last).map_or(0, |place| place + 1);
        told.extend(statements[known..].iter().map(Event::from));
    }
    Ok(told)
}
