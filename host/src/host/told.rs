//! What the log is told at a start, behind `host-started`: what changed while nobody served.

use strongroom_job::succession::KeyRole;
use strongroom_job::{Change, Event};

use super::StartError;
use crate::config::Config;
use crate::home::LockedHome;
use crate::store::{Governed, Store};

/// What the log is told of what governs the host, if that is not what it said before.
pub(super) fn changed(config: &Config, before: Option<Governed>) -> Option<Event> {
    let (now, before) = (config.governs, before.map(|before| before.by));
    if before == Some(now) {
        return None;
    }
    Some(Event::ConfigurationChanged {
        configuration: Change { old: before.map(|before| before.configuration), new: now.configuration },
        principals: Change { old: before.map(|before| before.principals), new: now.principals },
        policy: Change { old: before.map(|before| before.policy), new: now.policy },
    })
}

/// What the log is told of keys that were replaced since it was last told of any.
pub(super) fn rotated(home: &LockedHome, store: &Store) -> Result<Vec<Event>, StartError> {
    let mut told = Vec::new();
    for role in [KeyRole::Host, KeyRole::Log] {
        let statements = home.successions(role)?;
        let last = store.rotated_to(role)?;
        // Where it names none of them, it has been told of none: they are all that there are.
        let known =
            statements.iter().position(|one| Some(*one.new_key()) == last).map_or(0, |place| place + 1);
        told.extend(statements[known..].iter().map(Event::from));
    }
    Ok(told)
}
