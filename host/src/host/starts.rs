//! The ways to start a host: as it is, at sockets that were handed over, and, for tests, with a disk and a clock of their own.
//!
//! *Owns:* names for what differs. *Never:* opens anything.

use std::sync::Arc;

use super::{Host, StartError};
use crate::clock::Hands;
use crate::compile::Compiler;
use crate::config::Config;
use crate::handed::Sockets;
use crate::home::LockedHome;
use crate::store::{Fault, NoFault};

/// What a start is given besides the directory and its configuration.
pub(super) struct Given {
    pub(super) fault: Box<dyn Fault>,
    pub(super) hands: Option<Arc<dyn Hands>>,
    pub(super) sockets: Sockets,
}

impl Host {
    /// Opens everything and begins to serve on the configured address.
    ///
    /// # Errors
    /// When a part cannot be opened, or the parts do not fit together. Nothing is served then.
    pub async fn start(home: LockedHome, config: Config, compiler: Compiler) -> Result<Self, StartError> {
        Self::start_with(home, config, compiler, Box::new(NoFault)).await
    }

    /// [`Host::start`] at sockets that the service manager made.
    ///
    /// # Errors
    /// As [`Host::start`].
    pub(crate) async fn start_on(
        home: LockedHome,
        config: Config,
        compiler: Compiler,
        sockets: Sockets,
    ) -> Result<Self, StartError> {
        Self::open(home, config, compiler, Given { fault: Box::new(NoFault), hands: None, sockets }).await
    }

    /// [`Host::start`] with a disk that may fail, for tests.
    ///
    /// # Errors
    /// As [`Host::start`].
    pub async fn start_with(
        home: LockedHome,
        config: Config,
        compiler: Compiler,
        fault: Box<dyn Fault>,
    ) -> Result<Self, StartError> {
        Self::start_at(home, config, compiler, fault, None).await
    }

    /// [`Host::start_with`] with a clock that is not the system's, for tests.
    ///
    /// # Errors
    /// As [`Host::start`].
    pub async fn start_at(
        home: LockedHome,
        config: Config,
        compiler: Compiler,
        fault: Box<dyn Fault>,
        hands: Option<Arc<dyn Hands>>,
    ) -> Result<Self, StartError> {
        Self::open(home, config, compiler, Given { fault, hands, sockets: Sockets::default() }).await
    }
}
