//! Intake: from a UDP socket to requests of known principals, and their answers back.
//!
//! The road of a request, and the file that holds each step:
//!
//! 1. [`Intake::bind`] opens the endpoint with every bound set by hand (`endpoint`);
//!    and, where networks are named, drops what comes from elsewhere before quinn sees it (`gate`);
//! 2. the handshake proves a key that the host knows, or ends (`tls`); strangers are counted, never logged;
//! 3. the key gets its share of connections, requests and memory, and no more (`keyring`, `connection`);
//! 4. one stream carries one request: header, body, answer (`stream`, `body`, `answer`);
//! 5. a [`Service`] says what the answer is (`service`).
//!
//! *Owns:* the socket, every connection, every bound on what a peer can make the host hold.
//! *Never:* state that outlives the process; trust in anything but the key that the handshake proved.
//! *Spec:* `docs/formats/wire.md`.

mod answer;
mod body;
mod connection;
mod doors;
mod endpoint;
mod gate;
mod ids;
mod keyring;
pub mod service;
mod stream;
mod tls;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quinn::{Endpoint, Incoming};
use strongroom_job::{CloseCode, SecretKey};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::config::{AllowList, Bounds};
use crate::meters::Meters;
pub use doors::Doors;
use keyring::Keyring;
pub use service::{Accepted, EndReader, EventReader, OutputReader, Page, Service, Upload};

/// Unfinished handshakes at once. When all places are taken the oldest gives way: a flood of half-open ones then has to be
/// renewed within a client's round trip to keep that client out.
const MAX_HANDSHAKES: usize = 128;
/// Longest handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the end waits for closed connections to be forgotten, and for requests that must not be cut off.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// Whoever has said goodbye just now, as the client of an embedded host has, is gone within this time.
const GOODBYES: Duration = Duration::from_millis(10);

/// A bound endpoint that serves nobody yet.
pub struct Intake<S> {
    endpoint: Endpoint,
    local: SocketAddr,
    shared: Arc<Shared<S>>,
}

/// What all connections and requests have in common.
struct Shared<S> {
    service: Arc<S>,
    keyring: Arc<Keyring>,
    /// Longest wait for a header, and for the next piece of a body.
    request_timeout: Duration,
    strangers: Strangers,
    meters: Arc<Meters>,
    /// Whether new requests are still taken.
    stage: watch::Sender<Stage>,
    /// Requests in progress, until their answers have arrived.
    in_progress: watch::Sender<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    Draining,
}

/// Why the host cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has the port.
    #[error(
        "UDP {0} is in use: another program, perhaps another Strongroom host, listens there. Stop it, or set `listen` in the \
         configuration to another port"
    )]
    InUse(SocketAddr),
    /// The system does not allow it.
    #[error(
        "cannot listen on UDP {address}: {error}. Set `listen` in the configuration to an address of this machine"
    )]
    Address {
        /// Where the host was told to listen.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The key or the TLS library is at fault.
    #[error("cannot set up TLS with the host's key: {0}")]
    Tls(#[from] rustls::Error),
}

/// How many tried to connect and were turned away before any application byte: no key, an unknown key, another protocol.
#[derive(Clone, Debug, Default)]
pub struct Strangers(Arc<AtomicU64>);

impl Strangers {
    /// Their number since the start.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl<S> fmt::Debug for Intake<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("local", &self.local).finish_non_exhaustive()
    }
}

impl<S: Service> Intake<S> {
    /// Opens the endpoint at `listen`; port 0 takes any free one. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn bind(
        listen: SocketAddr,
        key: &SecretKey,
        service: Arc<S>,
        bounds: &Bounds,
    ) -> Result<Self, BindError> {
        Self::bind_for((listen, None), None, key, service, bounds, Arc::default())
    }

    /// [`bind`](Self::bind) for those networks, if any are named, and with what is counted; at the socket that was handed over, if one was.
    pub(crate) fn bind_for(
        (listen, handed): (SocketAddr, Option<OwnedFd>),
        allow_from: Option<AllowList>,
        key: &SecretKey,
        service: Arc<S>,
        bounds: &Bounds,
        meters: Arc<Meters>,
    ) -> Result<Self, BindError> {
        let known = {
            // quinn keeps this for as long as it remembers a closed connection, and what is behind the service ends when nobody has that.
            let service = Arc::downgrade(&service);
            Arc::new(move |key: &_| service.upgrade().is_some_and(|service| service.principal(key).is_some()))
        };
        let server = endpoint::server_config(key, known, bounds)?;
        let unbound = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse(listen),
            _ => BindError::Address { address: listen, error },
        };
        let gate = allow_from.map(|allow_from| (allow_from, Arc::clone(&meters)));
        let endpoint = endpoint::open(listen, handed, server, gate).map_err(unbound)?;
        let local = endpoint.local_addr().map_err(unbound)?;
        let shared = Shared {
            service,
            keyring: Arc::new(Keyring::new(bounds.max_connections, bounds.max_connections_per_key)),
            request_timeout: bounds.request_timeout,
            strangers: Strangers::default(),
            meters,
            stage: watch::Sender::new(Stage::Open),
            in_progress: watch::Sender::new(0),
        };
        Ok(Self { endpoint, local, shared: Arc::new(shared) })
    }

    /// Where it listens: the real port when 0 was asked for.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What closes connections while it runs.
    #[must_use]
    pub fn doors(&self) -> Doors {
        Doors::of(&self.shared.keyring)
    }

    /// The count of those who were turned away; it goes on counting after [`run`](Self::run) has begun.
    #[must_use]
    pub fn strangers(&self) -> Strangers {
        self.shared.strangers.clone()
    }

    /// Serves until `drain` is done. Then new connections are ignored and new requests refused as `shutting-down`, while
    /// answers in progress (waits, output) go on, until the last of them has arrived or `close` is done: then whatever is
    /// left is cut off.
    ///
    /// Requests that change something are not cut off by `close`: they lose their client, not their effect. The end waits up
    /// to two seconds for them.
    pub async fn run(self, drain: impl Future<Output = ()> + Send, close: impl Future<Output = ()> + Send) {
        let Self { endpoint, local, shared } = self;
        tracing::debug!(%local, "intake is open");
        accept_until(&endpoint, &shared, drain).await;

        shared.stage.send_replace(Stage::Draining);
        endpoint.set_server_config(None);
        let mut in_progress = shared.in_progress.subscribe();
        tokio::select! {
            _ = in_progress.wait_for(|count| *count == 0) => {}
            () = close => {}
        }
        let is_alone = timeout(GOODBYES, nobody_connected(&shared.keyring)).await.is_ok();
        endpoint.close(CloseCode::ShuttingDown.number().into(), b"the host stops");
        // Connections that their clients have closed stay with the endpoint for three probe timeouts, 80 ms or more; nobody is told anything by them.
        if !is_alone {
            let _ = timeout(CLOSE_GRACE, endpoint.wait_idle()).await;
        }
        if timeout(CLOSE_GRACE, in_progress.wait_for(|count| *count == 0)).await.is_err() {
            let left = *shared.in_progress.borrow();
            tracing::warn!(left, "requests are still in progress; they go on without a client");
        }
        tracing::debug!(%local, "intake is closed");
    }
}

/// Waits until nobody is connected any more.
async fn nobody_connected(keyring: &Keyring) {
    while !keyring.is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
}

async fn accept_until<S: Service>(
    endpoint: &Endpoint,
    shared: &Arc<Shared<S>>,
    drain: impl Future<Output = ()> + Send,
) {
    let mut drain = pin!(drain);
    let mut handshakes: VecDeque<AbortHandle> = VecDeque::with_capacity(MAX_HANDSHAKES);
    loop {
        let incoming = tokio::select! {
            biased;
            () = &mut drain => return,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { return };
        // An address that nobody answers from costs one small packet and no memory.
        if !incoming.remote_address_validated() {
            // Fails only for a validated address.
            let _ = incoming.retry();
            continue;
        }
        if handshakes.len() >= MAX_HANDSHAKES {
            handshakes.retain(|handshake| !handshake.is_finished());
        }
        if handshakes.len() >= MAX_HANDSHAKES
            && let Some(oldest) = handshakes.pop_front()
        {
            oldest.abort();
            shared.strangers.add();
        }
        let shared = Arc::clone(shared);
        handshakes.push_back(tokio::spawn(shake_hands(shared, incoming)).abort_handle());
    }
}

/// Ends with a connection of its own task, so that giving way ends a handshake and never a connection.
async fn shake_hands<S: Service>(shared: Arc<Shared<S>>, incoming: Incoming) {
    let connection = match incoming.accept() {
        Ok(connecting) => timeout(HANDSHAKE_TIMEOUT, connecting).await,
        Err(_) => return shared.strangers.add(),
    };
    match connection {
        Ok(Ok(connection)) => drop(tokio::spawn(connection::serve(shared, connection))),
        Ok(Err(_)) | Err(_) => shared.strangers.add(),
    }
}
