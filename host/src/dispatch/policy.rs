//! The host's own policy: the configuration in force, which a reload replaces as a whole.
//!
//! Whoever decides something takes it once and decides all of it by that one. *Never:* decides what may be replaced (`host/reload.rs`).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use strongroom_job::PublicKey;

use crate::admission::Policy;
use crate::config::{Config, Principal};

/// The host's own policy, owned.
#[derive(Debug)]
pub struct OwnPolicy {
    /// The host's key.
    pub host: PublicKey,
    in_force: RwLock<Arc<InForce>>,
}

/// A checked configuration, and its principals by their keys.
#[derive(Debug)]
pub struct InForce {
    /// The configuration.
    pub config: Config,
    principals: HashMap<PublicKey, Arc<Principal>>,
}

impl OwnPolicy {
    /// The policy of a host with this key.
    #[must_use]
    pub fn new(host: PublicKey, config: Config) -> Self {
        Self { host, in_force: RwLock::new(Arc::new(InForce::of(config))) }
    }

    /// What is in force at this moment.
    #[must_use]
    pub fn in_force(&self) -> Arc<InForce> {
        // Nothing can panic while it is held.
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on this is in force.
    pub(crate) fn replace(&self, config: Config) {
        let next = Arc::new(InForce::of(config));
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// The policy as admission takes it.
    #[must_use]
    pub fn of<'a>(&'a self, in_force: &'a InForce) -> Policy<'a> {
        Policy { host: &self.host, config: &in_force.config }
    }
}

impl InForce {
    fn of(config: Config) -> Self {
        let principals = config.principals.iter().map(|who| (who.key, Arc::new(who.clone()))).collect();
        Self { config, principals }
    }

    /// Who has this key.
    #[must_use]
    pub fn principal(&self, key: &PublicKey) -> Option<Arc<Principal>> {
        self.principals.get(key).map(Arc::clone)
    }
}
