//! What the host shows besides its port for jobs: the log, and itself.

use std::net::SocketAddr;
use std::sync::Arc;

use strongroom_job::Timestamp;
use strongroom_job::note::VerifierKey;
use tokio::sync::{Mutex, mpsc};

use super::{Host, StartError};
use crate::admin::{self, Admin, AdminError, Ask, Watched};
use crate::config::Config;
use crate::handed::Sockets;
use crate::home::LockedHome;
use crate::http::{Door, Listening};
use crate::intake::Strangers;
use crate::log_server;
use crate::meters::Meters;

/// What is needed to tell of the host, and who tells it.
#[derive(Debug)]
pub(super) struct Faces {
    pub(super) log: VerifierKey,
    pub(super) started: Timestamp,
    pub(super) strangers: Strangers,
    pub(super) admin: Option<Admin>,
    /// Handed over, and not yet listened at.
    sockets: Sockets,
    /// Who wants the configuration to be read again.
    pub(super) reloads: Mutex<Option<mpsc::Receiver<Ask>>>,
}

impl Faces {
    pub(super) fn new(log: VerifierKey, started: Timestamp, strangers: Strangers, sockets: Sockets) -> Self {
        Self { log, started, strangers, admin: None, sockets, reloads: Mutex::new(None) }
    }
}

/// Shows the log where the configuration says, if it says so.
pub(super) async fn serve_log(
    home: &LockedHome,
    log: &VerifierKey,
    config: &Config,
    meters: &Meters,
) -> Result<Option<Listening>, StartError> {
    let Some(address) = config.serve_log else { return Ok(None) };
    let witnessed = !config.witnesses.is_empty();
    let turned_away = Arc::clone(&meters.outside_log);
    let door = Door { allow_from: config.serve_log_allow_from.clone(), turned_away };
    let started = log_server::start(&home.audit(), log.clone(), witnessed, address, door).await;
    started.map(Some).map_err(|error| StartError::ServeLog { address, error })
}

impl Host {
    /// Lets this user, and whoever `[admin]` names, look at the host from now on: `admin.sock` in its directory, and `admin.listen`.
    ///
    /// # Errors
    /// When one of them cannot be had. The host serves jobs all the same, until it is stopped.
    pub async fn administer(&mut self) -> Result<(), AdminError> {
        let (reload, asked) = admin::way();
        let watched = Watched {
            dir: self.home.dir().to_owned(),
            key: self.key,
            log: self.faces.log.clone(),
            jobs: self.address,
            log_served: self.log_addr(),
            started: self.faces.started,
            clock: Arc::clone(&self.service.clock),
            policy: Arc::clone(&self.service.policy),
            store: self.service.store().clone(),
            dispatcher: self.service.dispatcher().clone(),
            strangers: self.faces.strangers.clone(),
            published: self.publisher.sizes(),
            publishing_failed: self.publisher.failed(),
            reload,
        };
        self.faces.admin = Some(Admin::start(watched, &mut self.faces.sockets).await?);
        *self.faces.reloads.lock().await = Some(asked);
        Ok(())
    }

    /// Waits until somebody asks over the socket that the configuration be read again. For one at a time; never, where nobody can ask.
    pub(crate) async fn asked_to_reload(&self) -> Ask {
        let mut reloads = self.faces.reloads.lock().await;
        let asked = match reloads.as_mut() {
            Some(reloads) => reloads.recv().await,
            None => None,
        };
        match asked {
            Some(ask) => ask,
            None => std::future::pending().await,
        }
    }

    /// Where administration listens besides the socket, if it does.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.faces.admin.as_ref().and_then(Admin::address)
    }
}
