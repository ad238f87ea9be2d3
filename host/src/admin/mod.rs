//! The other face of a host: who runs it asks here how it is. Jobs go another way, and nothing here changes one.
//! One request changes the host: to what its own file says.
//!
//! ```text
//! GET /metrics        Prometheus text (`metrics`, written by `text`)      both listeners
//! GET /health/live    200 while the process answers                       both
//! GET /health/ready   200 or 503, and why (`health`)                      both
//! GET /status         JSON (`status`)                                     the socket only
//! GET, POST /log-level  what the host says of itself, and that it say more or less     the socket only
//! POST /reload        the configuration is read again (`reload`)          the socket only
//! ```
//!
//! The same numbers go to a collector from here, if there is one (`export`).
//!
//! *Owns:* what is told, to whom. *Never:* a key, a job's content, a secret. What it tells over TCP names queues, tenants and
//! counts, and no more.
//! *Bound:* `http`'s; each answer is made at once, from memory but for the size of the disk.
//! *Spec:* `docs/reference/metrics.md`, `docs/reference/cli.md`.

mod export;
mod health;
mod kept;
mod log_level;
mod metrics;
mod reload;
mod shares;
mod status;
mod text;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use strongroom_job::note::VerifierKey;
use strongroom_job::{PublicKey, Timestamp};
use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
use crate::dispatch::{Dispatcher, InForce, OwnPolicy};
use crate::handed::Sockets;
use crate::http::{Answer, Asked, Body, Door, Listening, Method, Reply, Serving};
use crate::intake::Strangers;
use crate::store::Store;
use crate::telemetry::Telemetry;

/// What the socket is called in a data directory.
pub(crate) const SOCKET: &str = "admin.sock";

pub(crate) use reload::{Ask, Read, way};

/// The parts of a host that are looked at.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) dir: PathBuf,
    pub(crate) key: PublicKey,
    pub(crate) log: VerifierKey,
    pub(crate) jobs: SocketAddr,
    pub(crate) log_served: Option<SocketAddr>,
    pub(crate) started: Timestamp,
    pub(crate) clock: Arc<Clock>,
    pub(crate) policy: Arc<OwnPolicy>,
    pub(crate) store: Store,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) strangers: Strangers,
    pub(crate) published: watch::Receiver<u64>,
    pub(crate) publishing_failed: watch::Receiver<Option<String>>,
    /// To who reads the configuration.
    pub(crate) reload: mpsc::Sender<Ask>,
}

/// Both listeners, while they listen.
#[derive(Debug)]
pub(crate) struct Admin {
    local: Serving,
    tcp: Option<Listening>,
    telemetry: Option<Telemetry>,
    stopping: Arc<AtomicBool>,
}

/// Why administration is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The socket.
    #[error(
        "cannot make the socket for administration {path}: {error}. Make the directory writable for this user, on a file system that has sockets"
    )]
    Socket {
        /// Where.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The address.
    #[error(
        "cannot listen for administration at {address} (`admin.listen`): {error}. Name another address or port there, or take [admin] out"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The thread that sends traces and metrics.
    #[error("cannot send traces and metrics to a collector (`[telemetry]`): {0}")]
    Telemetry(#[source] io::Error),
}

/// What either listener answers from.
struct Shared {
    watched: Watched,
    /// Where the TCP listener is.
    tcp: Option<SocketAddr>,
    stopping: Arc<AtomicBool>,
    /// `/proc/self/status`, opened once.
    memory: Option<File>,
}

/// For this user, on this machine.
struct Inside(Arc<Shared>);
/// For whoever `allow_from` names.
struct Outside(Arc<watch::Sender<Option<Arc<Shared>>>>);

impl Admin {
    /// Opens the socket in the directory, and the TCP listener if the configuration has one; or takes those of `sockets`.
    ///
    /// # Errors
    /// When one of them cannot be had.
    pub(crate) async fn start(watched: Watched, sockets: &mut Sockets) -> Result<Self, AdminError> {
        let in_force = watched.policy.in_force();
        let config = &in_force.config;
        let stopping = Arc::new(AtomicBool::new(false));
        // The address is known once it is bound, and the answers name it.
        let later = Arc::new(watch::Sender::new(None));
        let tcp = match &config.admin {
            None => None,
            Some(admin) => {
                let turned_away = Arc::clone(&watched.store.meters().outside_admin);
                let door = Door { allow_from: Some(admin.allow_from.clone()), turned_away };
                let outside = Arc::new(Outside(Arc::clone(&later)));
                let listening = match sockets.shown.take() {
                    Some(socket) => Listening::handed(socket, door, outside),
                    None => Listening::start(admin.listen, door, outside).await,
                };
                let address = admin.listen;
                Some(listening.map_err(|error| AdminError::Listen { address, error })?)
            }
        };
        let path = watched.dir.join(SOCKET);
        let shared = Arc::new(Shared {
            watched,
            tcp: tcp.as_ref().map(Listening::address),
            stopping: Arc::clone(&stopping),
            memory: File::open("/proc/self/status").ok(),
        });
        later.send_replace(Some(Arc::clone(&shared)));
        let inside = Arc::new(Inside(Arc::clone(&shared)));
        let local = match sockets.admin.take() {
            Some(socket) => Serving::handed(socket, inside),
            None => Serving::local(&path, inside),
        };
        let local = local.map_err(|error| AdminError::Socket { path, error })?;
        let telemetry = export::start(&shared).map_err(AdminError::Telemetry)?;
        Ok(Self { local, tcp, telemetry, stopping })
    }

    /// Where administration listens besides the socket.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().map(Listening::address)
    }

    /// From now on the host is not ready.
    pub(crate) fn stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(crate) async fn stop(self) {
        self.local.stop().await;
        if let Some(tcp) = self.tcp {
            tcp.stop().await;
        }
        if let Some(telemetry) = self.telemetry {
            drop(tokio::task::spawn_blocking(|| telemetry.stop()).await);
        }
    }
}

impl Answer for Inside {
    const MAX_BODY: usize = crate::log_level::MAX_BYTES;
    const METHODS: &'static str = "GET, HEAD, POST";

    async fn answer(&self, asked: Asked) -> Reply {
        match asked.path.as_str() {
            "/status" if asked.method == Method::Get => {
                let shared = Arc::clone(&self.0);
                let made = tokio::task::spawn_blocking(move || status::of(&shared)).await;
                made.map_or_else(|_| stops(), |json| reply(200, "application/json", json))
            }
            "/log-level" => log_level::answer(&self.0, &asked),
            "/reload" if asked.method == Method::Post => reload::ask(&self.0.watched.reload).await,
            "/reload" => Reply::words(405, "the configuration is read again when this is posted to"),
            _ => either(&self.0, &asked).await,
        }
    }
}

impl Answer for Outside {
    const MAX_BODY: usize = 0;
    const METHODS: &'static str = "GET, HEAD";

    async fn answer(&self, asked: Asked) -> Reply {
        let shared = self.0.borrow().clone();
        match shared {
            Some(shared) => either(&shared, &asked).await,
            None => Reply::words(503, "the host starts"),
        }
    }
}

/// What both listeners tell.
async fn either(shared: &Arc<Shared>, asked: &Asked) -> Reply {
    if asked.method != Method::Get {
        return Reply::words(405, "here the host is looked at, and not changed");
    }
    let make: fn(&Shared) -> Reply = match asked.path.as_str() {
        "/metrics" => |shared| reply(200, text::CONTENT_TYPE, text::of(&metrics::of(shared))),
        "/health/live" => |_| Reply::words(200, "live"),
        "/health/ready" => |shared| match health::problems(shared) {
            problems if problems.is_empty() => match health::warnings(shared) {
                warnings if warnings.is_empty() => Reply::words(200, "ready"),
                warnings => Reply::words(200, format_args!("ready, with a warning: {}", warnings.join("; "))),
            },
            problems => Reply::words(503, format_args!("not ready: {}", problems.join("; "))),
        },
        _ => return Reply::words(404, "no such page; there are /metrics, /health/live and /health/ready"),
    };
    let shared = Arc::clone(shared);
    tokio::task::spawn_blocking(move || make(&shared)).await.unwrap_or_else(|_| stops())
}

fn stops() -> Reply {
    Reply::words(503, "the host stops")
}

fn reply(status: u16, content_type: &'static str, text: String) -> Reply {
    Reply { status, content_type, cache: "no-store", body: Body::Bytes(text.into_bytes()) }
}

impl Shared {
    fn in_force(&self) -> Arc<InForce> {
        self.watched.policy.in_force()
    }
}
