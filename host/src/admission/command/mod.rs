//! What operators ordered of principals, and what of it is in force over a configuration's file.
//!
//! [`Commands`] is every command that a host keeps; [`Commands::over`] gives the configuration as it is with them; [`Commands::judge`] says whether a new
//! one is taken (`judge`).
//!
//! *Owns:* who wins: what takes a key out over the file, the file over what makes a principal. *Never:* the store, which keeps them.
//! *Bound:* [`MAX_COMMANDS`] of at most 16 KiB. *Spec:* `docs/formats/principal.md`.

mod judge;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use strongroom_job::principal::{CommandId, Entry, SignedCommand};
use strongroom_job::{MAX_FORGOTTEN, PublicKey, Role, Timestamp};

use crate::config::{Config, Principal, Roles};

pub use judge::{Asking, Judged};

/// Commands that a host keeps at most.
pub const MAX_COMMANDS: usize = 1024;
/// With so many, it takes no more that make a principal: a key can still be taken out then.
pub const MAX_ADDING: usize = 768;

/// A command that a host keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What was signed.
    pub signed: SignedCommand,
    /// Index of its `principal-changed` record.
    pub log_index: u64,
}

/// Every command that a host keeps, and what they come to, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commands {
    /// By the order of their records.
    kept: BTreeMap<u64, Arc<Kept>>,
    ids: HashMap<CommandId, u64>,
    /// Keys that are out, and which record says so.
    revoked: HashMap<PublicKey, u64>,
    /// Principals that commands made, and which record says so.
    added: HashMap<PublicKey, u64>,
}

impl Commands {
    /// These commands.
    #[must_use]
    pub fn of(kept: impl IntoIterator<Item = Kept>) -> Self {
        let mut kept: Vec<Kept> = kept.into_iter().collect();
        kept.sort_by_key(|one| one.log_index);
        let mut commands = Self::default();
        for one in kept {
            commands.put(one);
        }
        commands
    }

    /// These, and one more, and without some.
    #[must_use]
    pub fn with(&self, signed: SignedCommand, log_index: u64, forgets: &[CommandId]) -> Self {
        let mut next = self.clone();
        next.follow(signed, log_index, forgets);
        next
    }

    /// As the record of a command says: one more, and without some.
    pub fn follow(&mut self, signed: SignedCommand, log_index: u64, forgets: &[CommandId]) {
        self.put(Kept { signed, log_index });
        for id in forgets {
            if let Some(at) = self.ids.remove(id) {
                self.kept.remove(&at);
            }
        }
    }

    fn put(&mut self, kept: Kept) {
        let (at, body) = (kept.log_index, kept.signed.body());
        if let Some(key) = &body.revoke {
            self.added.remove(key);
            self.revoked.insert(*key, at);
        }
        if let Some(key) = &body.restore {
            self.revoked.remove(key);
        }
        if let Some(entry) = &body.add {
            self.revoked.remove(&entry.key);
            self.added.insert(entry.key, at);
        }
        self.ids.insert(body.id, at);
        self.kept.insert(at, Arc::new(kept));
    }

    /// A command, by its id.
    #[must_use]
    pub fn get(&self, id: &CommandId) -> Option<&Kept> {
        self.kept.get(self.ids.get(id)?).map(AsRef::as_ref)
    }

    /// Whether a command took this key out, and none brought it back.
    #[must_use]
    pub fn is_revoked(&self, key: &PublicKey) -> bool {
        self.revoked.contains_key(key)
    }

    /// The principal that a command made of this key.
    #[must_use]
    pub fn added(&self, key: &PublicKey) -> Option<&Entry> {
        self.kept.get(self.added.get(key)?)?.signed.body().add.as_deref()
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.added.keys().filter_map(|key| self.added(key))
    }

    /// The record that says what is so of this key.
    #[must_use]
    pub fn record(&self, key: &PublicKey) -> Option<u64> {
        self.revoked.get(key).or_else(|| self.added.get(key)).copied()
    }

    /// Every key of which something is said.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.revoked.keys().chain(self.added.keys())
    }

    /// The file's configuration with them: without principals that are out, and with those that were made, as far as the file lets them be.
    #[must_use]
    pub fn over(&self, file: &Config) -> Config {
        let mut config = file.clone();
        config.principals.retain(|who| !self.is_revoked(&who.key));
        let mut made: Vec<(&u64, &Entry)> =
            self.added.iter().filter_map(|(key, at)| Some((at, self.added(key)?))).collect();
        made.sort_unstable_by_key(|(at, _)| **at);
        for (_, entry) in made {
            let wins = |who: &Principal| who.key == entry.key || who.name == entry.name;
            if config.principals.iter().any(wins) {
                continue;
            }
            config.principals.extend(principal(entry, file));
        }
        config
    }

    /// Those that may be let go: their time is up, nothing that they ordered is left, and no earlier one that stays speaks of the same keys, which
    /// without them would mean something again.
    #[must_use]
    pub fn spent(&self, now: Timestamp) -> Vec<CommandId> {
        let holds: HashSet<u64> = self.revoked.values().chain(self.added.values()).copied().collect();
        let mut stays: HashSet<PublicKey> = HashSet::new();
        let mut spent = Vec::new();
        for (at, kept) in &self.kept {
            let body = kept.signed.body();
            let goes = body.not_after <= now && !holds.contains(at) && spent.len() < MAX_FORGOTTEN;
            if goes && !body.keys().any(|key| stays.contains(&key)) {
                spent.push(body.id);
            } else {
                stays.extend(body.keys());
            }
        }
        spent
    }
}

/// What an entry is under this file: volumes that the file has not, or not as wide, are not given.
fn principal(entry: &Entry, file: &Config) -> Option<Principal> {
    let volumes = entry.volumes.iter().filter_map(|(name, access)| {
        let volume = file.volumes.get(name)?;
        Some((name.clone(), volume.access.min(*access)))
    });
    Some(Principal {
        name: entry.name.clone(),
        key: entry.key,
        tenant: entry.tenant.clone(),
        volumes: volumes.collect(),
        any_directory: false,
        any_network: false,
        connect: entry.connect.clone(),
        listen: entry.listen.clone(),
        http: entry.http.clone(),
        secrets: entry.secrets.iter().cloned().collect(),
        roles: Roles::of_list(&entry.roles)?,
        narrowed: None,
    })
}

/// What a command would say to make this principal; none when no command can.
#[must_use]
pub fn entry(who: &Principal) -> Option<Entry> {
    if who.any_directory || who.any_network || who.narrowed.is_some() {
        return None;
    }
    let entry = Entry {
        key: who.key,
        name: who.name.clone(),
        tenant: who.tenant.clone(),
        roles: roles(who),
        volumes: who.volumes.clone(),
        connect: who.connect.clone(),
        listen: who.listen.clone(),
        http: who.http.clone(),
        secrets: who.secrets.iter().cloned().collect(),
    };
    entry.check().is_ok().then_some(entry)
}

/// The roles of a principal: `admin`, which has all of them, by itself.
#[must_use]
pub fn roles(who: &Principal) -> Vec<Role> {
    if who.roles.has(Role::Admin) {
        return vec![Role::Admin];
    }
    Role::ALL.into_iter().filter(|role| who.roles.has(*role)).collect()
}
