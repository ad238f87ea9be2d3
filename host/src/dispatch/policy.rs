//! The host's own policy: the configuration in force, which a reload replaces as a whole, and the grants of its principals.
//!
//! Whoever decides something takes it once and decides all of it by that one. *Never:* decides what may be replaced (`host/reload.rs`).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use strongroom_job::{PublicKey, Timestamp};

use crate::admission::Policy;
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
    /// The configuration.
    pub config: Config,
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
        Self { host, in_force: RwLock::new(Arc::new(InForce::of(config, Arc::default()))) }
    }

    /// The same, with grants.
    #[must_use]
    pub fn with_grants(self, grants: Grants) -> Self {
        self.replace_grants(grants);
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
        let grants = Arc::clone(&self.in_force().grants);
        self.put(InForce::of(config, grants));
    }

    /// From now on these are the grants. Nobody else may replace anything meanwhile.
    pub(crate) fn replace_grants(&self, grants: Grants) {
        let config = self.in_force().config.clone();
        self.put(InForce::of(config, Arc::new(grants)));
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
    fn of(config: Config, grants: Arc<Grants>) -> Self {
        let principals: HashMap<_, _> =
            config.principals.iter().map(|who| (who.key, Arc::new(who.clone()))).collect();
        let delegates = grants.delegates(&principals);
        Self { config, grants, principals, delegates }
    }

    /// Who has this key at this time: a principal of the configuration, or a delegate whose time it is.
    #[must_use]
    pub fn principal(&self, key: &PublicKey, now: Timestamp) -> Option<Arc<Principal>> {
        let delegate = || {
            let who = self.delegates.get(key)?;
            who.narrowed.as_deref().is_some_and(|narrowed| narrowed.is_good_at(now)).then_some(who)
        };
        self.principals.get(key).or_else(delegate).map(Arc::clone)
    }
}
