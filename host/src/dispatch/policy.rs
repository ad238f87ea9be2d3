//! The host's own policy: the configuration in force, which a reload replaces as a whole, what operators ordered
//! over it, and the grants of its principals.
//!
//! Whoever decides something takes it once and decides all of it by that one. *Never:* decides what may be replaced (`host/reload.rs`).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use strongroom_job::{PublicKey, Timestamp};

use crate::admission::Policy;
use crate::admission::command::Commands;
use crate::admission::delegation::Grants;
use crate::config::{Config, Principal};

/// The host's own policy, owned.
#[derive(Debug)]
pub struct OwnPolicy {
    /// The host's key.
    pub host: PublicKey,
    in_force: RwLock<Arc<InForce>>,
}

/// A checked configuration, its principals by their keys, and what they have given to others.
#[derive(Debug)]
pub struct InForce {
    /// The configuration, with the commands of operators: its principals are those who may come in.
    pub config: Config,
    /// The configuration as its file says it.
    pub file: Config,
    /// Every command of an operator about principals that the host keeps.
    pub commands: Arc<Commands>,
    /// Every grant that the host keeps.
    pub grants: Arc<Grants>,
    principals: HashMap<PublicKey, Arc<Principal>>,
    /// By its grants and this configuration. When its time is, it says itself.
    delegates: HashMap<PublicKey, Arc<Principal>>,
}

impl OwnPolicy {
    /// The policy of a host with this key.
    #[must_use]
    pub fn new(host: PublicKey, config: Config) -> Self {
        Self { host, in_force: RwLock::new(Arc::new(InForce::of(config, Arc::default(), Arc::default()))) }
    }

    /// The same, with grants.
    #[must_use]
    pub fn with_grants(self, grants: Grants) -> Self {
        self.replace_grants(grants);
        self
    }

    /// The same, with commands of operators.
    #[must_use]
    pub fn with_commands(self, commands: Commands) -> Self {
        self.replace_commands(commands);
        self
    }

    /// What is in force at this moment.
    #[must_use]
    pub fn in_force(&self) -> Arc<InForce> {
        // Nothing can panic while it is held.
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on this is in force. Nobody else may replace anything meanwhile.
    pub(crate) fn replace(&self, config: Config) {
        let InForce { grants, commands, .. } = &*self.in_force();
        self.put(InForce::of(config, Arc::clone(grants), Arc::clone(commands)));
    }

    /// From now on these are the grants. Nobody else may replace anything meanwhile.
    pub(crate) fn replace_grants(&self, grants: Grants) {
        let InForce { file, commands, .. } = &*self.in_force();
        self.put(InForce::of(file.clone(), Arc::new(grants), Arc::clone(commands)));
    }

    /// From now on these are the commands. Nobody else may replace anything meanwhile.
    pub(crate) fn replace_commands(&self, commands: Commands) {
        let InForce { file, grants, .. } = &*self.in_force();
        self.put(InForce::of(file.clone(), Arc::clone(grants), Arc::new(commands)));
    }

    fn put(&self, next: InForce) {
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }

    /// The policy as admission takes it.
    #[must_use]
    pub fn of<'a>(&'a self, in_force: &'a InForce) -> Policy<'a> {
        Policy { host: &self.host, config: &in_force.config }
    }
}

impl InForce {
    fn of(file: Config, grants: Arc<Grants>, commands: Arc<Commands>) -> Self {
        let config = commands.over(&file);
        let principals: HashMap<_, _> =
            config.principals.iter().map(|who| (who.key, Arc::new(who.clone()))).collect();
        let mut delegates = grants.delegates(&principals);
        // A key that is out is out as a delegate, too, and so is who stands below it.
        delegates.retain(|key, who| {
            let mut above = who.narrowed.iter().flat_map(|narrowed| &narrowed.chain);
            !commands.is_revoked(key) && !above.any(|above| commands.is_revoked(above))
        });
        Self { config, file, commands, grants, principals, delegates }
    }

    /// How many delegates may do something at this time.
    #[must_use]
    pub fn delegates(&self, now: Timestamp) -> usize {
        self.delegates.keys().filter(|key| self.principal(key, now).is_some()).count()
    }

    /// Who has this key at this time: a principal of the configuration or of a command, or a delegate whose time it is.
    #[must_use]
    pub fn principal(&self, key: &PublicKey, now: Timestamp) -> Option<Arc<Principal>> {
        let delegate = || {
            let who = self.delegates.get(key)?;
            who.narrowed.as_deref().is_some_and(|narrowed| narrowed.is_good_at(now)).then_some(who)
        };
        self.principals.get(key).or_else(delegate).map(Arc::clone)
    }
}
