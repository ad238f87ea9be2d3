//! A host that is running already, here or elsewhere, whose key is known before it is called.

use std::path::PathBuf;

use clap::Args;
use strongroom_job::PublicKey;
use strongroom_sdk::{Client, ConnectOptions, Identity, KnownHosts, Retry};

use crate::home::{Home, Live};

use super::Common;
use super::exit::Failure;

/// Which host, and as whom.
#[derive(Args, Clone, Debug)]
pub(super) struct RemoteArgs {
    /// Host to talk to [default: the one that serves --dir]
    #[arg(long, value_name = "ADDRESS:PORT")]
    host: Option<String>,
    /// The host's public key [default: from known_hosts in --dir]
    #[arg(long, value_name = "KEY", requires = "host")]
    host_key: Option<PublicKey>,
    /// Secret key file to sign with [default: keys/client.key in --dir]
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

impl RemoteArgs {
    /// Whether a host was named. If not, the directory's is meant.
    pub(super) const fn names_a_host(&self) -> bool {
        self.host.is_some()
    }

    /// The key to sign with.
    pub(super) fn identity(&self, home: &Home) -> Result<Identity, Failure> {
        match &self.identity {
            None => Ok(home.client_key()?.into()),
            Some(file) => {
                Identity::load(file).map_err(|error| Failure::usage(format_args!("--identity {error}")))
            }
        }
    }

    /// Connects to the named host, or to the one that serves the directory now.
    pub(super) async fn connect(&self, common: &Common) -> Result<Client, Failure> {
        let home = common.home()?;
        let identity = self.identity(&home)?;
        let (address, key) = match &self.host {
            Some(address) => (address.clone(), self.pinned(address, &home)?),
            None => {
                let live = live(&home)?;
                (live.address.to_string(), home.host_key()?.public())
            }
        };
        Ok(Client::connect(ConnectOptions::new(address, key, identity)).await?)
    }

    /// The key of the host that is meant, whether or not it runs.
    pub(super) fn audience(&self, home: &Home) -> Result<PublicKey, Failure> {
        match &self.host {
            Some(address) => self.pinned(address, home),
            None => Ok(home.host_key()?.public()),
        }
    }

    fn pinned(&self, address: &str, home: &Home) -> Result<PublicKey, Failure> {
        match self.host_key {
            Some(key) => Ok(key),
            None => Ok(KnownHosts::load(home.known_hosts())?.key_of(address)?),
        }
    }
}

/// The host that serves the directory now.
fn live(home: &Home) -> Result<Live, Failure> {
    let live = if Home::is_held(home.dir()) { home.live()? } else { None };
    live.ok_or_else(|| {
        let dir = home.dir().display();
        Failure::fault(format_args!(
            "no host serves {dir} now. Start one with `strongroom serve --dir {dir}`, name another with --host, or use \
             `strongroom run`, which needs none"
        ))
    })
}

/// One attempt to reach the host of a directory, without waiting for one that is on its way out.
pub(super) async fn try_local(
    live: &Live,
    host_key: PublicKey,
    identity: &Identity,
) -> Result<Client, strongroom_sdk::Error> {
    let mut options = ConnectOptions::new(live.address, host_key, identity.clone());
    // The caller tries again, and looks who serves the directory each time.
    options.retry = Retry::none();
    Client::connect(options).await
}
