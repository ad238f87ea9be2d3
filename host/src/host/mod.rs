//! The host: opens its parts in order, serves, and closes them in the opposite order.
//!
//! *Owns:* the order of start and stop. *Never:* decides anything about a job.
//! *Crash:* a start after a crash is an ordinary start: jobs that were running are handed to `lifecycle` as `Recover`
//! before the first connection is taken.

mod accept;
mod ends;
mod erasure;
mod events;
mod faces;
mod first;
mod gate;
mod grants;
mod hands;
mod health;
mod keeper;
mod operators;
mod principals;
mod receipts;
mod refuse;
mod reload;
mod reserve;
mod service;
mod starts;
mod threads;
mod upload;
mod view;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use strongroom_job::note::{KeyName, VerifierKey};
use strongroom_job::succession::KeyRole;
use strongroom_job::{Event, PublicKey};
use strongroom_runtime::{ByteSize, Engine, EngineConfig, EngineError};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub use crate::admin::AdminError;
use crate::admission::command::Commands;
use crate::admission::delegation::Grants;
use crate::blobs::Blobs;
use crate::checkup::{self, Checkup};
use crate::clock::{Clock, Steps};
use crate::compile::{Cache, Compiler, Loader};
use crate::config::{Config, OverlapError};
use crate::cosigning::Cosigning;
use crate::dispatch::{Board, Dispatcher, OwnPolicy, Places};
use crate::evidence::{Evidence, EvidenceError, Sweeper};
use crate::forward::{Forwarders, Source};
use crate::home::{HomeError, Live, LockedHome};
use crate::http::Listening;
use crate::intake::{BindError, Intake};
use crate::lifecycle;
use crate::mend::{self, MendError};
use crate::publisher::{JoinError, Publisher};
use crate::store::{ActiveJobs, Closing, CommitError, Effect, OpenError, ReadError, Store, Transition};
use crate::trust::{self, TrustFault};
use crate::worker::Workers;

use faces::Faces;
use keeper::Keeper;
use receipts::Receipts;
pub use reload::{ReloadError, Reloaded};
use service::HostService;
use starts::Given;
use threads::Threads;

/// How long the last answers may take after the last attempt is over.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// How long a guest's blocking file operation may keep the stop waiting.
const GUEST_THREADS: Duration = Duration::from_millis(200);

/// A host that serves.
#[derive(Debug)]
pub struct Host {
    address: SocketAddr,
    key: PublicKey,
    faces: Box<Faces>,
    service: Arc<HostService>,
    threads: Threads,
    publisher: Publisher,
    cosigning: Option<Cosigning>,
    log_server: Option<Listening>,
    forwarders: Forwarders,
    closing: Closing,
    dispatching: JoinHandle<()>,
    serving: JoinHandle<()>,
    keeping: JoinHandle<()>,
    watching: JoinHandle<()>,
    checkup: Option<Checkup>,
    /// Sent: no new requests.
    drain: oneshot::Sender<()>,
    /// Sent: close what is left.
    close: oneshot::Sender<()>,
    /// Dropped last: the lock outlives everything that writes under it.
    home: LockedHome,
}

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Finish what is running, at most so long; what is queued stays queued, durably.
    Running(Duration),
    /// Finish everything that is queued or running, at most so long.
    Everything(Duration),
}

/// How a host ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything is recorded and published.
    InOrder,
    /// State or log could not be written, before or while it stopped; this is the first reason. Nothing that was
    /// acknowledged is lost; records of the end, or a checkpoint over the last records, are missing until the next start.
    Failed(String),
}

/// Why a host does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A volume, or a copy of the log, in the data directory.
    #[error(transparent)]
    Overlap(#[from] OverlapError),
    /// The sandbox.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The directory of blobs, or of scratch space.
    #[error("cannot use {path}: {error}")]
    Blobs {
        /// Which directory.
        path: PathBuf,
        /// The reason.
        error: std::io::Error,
    },
    /// The directory of compiled modules.
    #[error("cannot use {path}: {error}")]
    Cache {
        /// Which directory.
        path: PathBuf,
        /// The reason.
        error: std::io::Error,
    },
    /// The state.
    #[error(transparent)]
    State(#[from] OpenError),
    /// The log, or its agreement with the state.
    #[error(transparent)]
    Log(#[from] JoinError),
    /// The state is wrong, and cannot be made anew.
    #[error(
        "the state is wrong ({problem}), and could not be rebuilt: {error}. Nothing was changed; `strongroom fsck` says more"
    )]
    Rebuild {
        /// What is wrong with it.
        problem: String,
        /// Why it could not be rebuilt.
        error: Box<MendError>,
    },
    /// The state is wrong also after it was made anew.
    #[error("the state was rebuilt, and is wrong still: {0}. `strongroom fsck` says more")]
    StillWrong(String),
    /// The evidence beside the log.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The name of the log.
    #[error("the log cannot be called {0:?}")]
    LogName(String),
    /// The trust file.
    #[error(transparent)]
    Trust(#[from] TrustFault),
    /// The state could not be read while jobs were recovered.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A first record could not be made durable.
    #[error("the state cannot be written: {0}")]
    Commit(#[from] CommitError),
    /// The listening address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The address of the log.
    #[error("cannot serve the log at {address} (`serve_log`): {error}")]
    ServeLog {
        /// Where.
        address: SocketAddr,
        /// The reason.
        error: std::io::Error,
    },
    /// The directory of cursors, or a thread that forwards.
    #[error("the audit log cannot be forwarded: {0}")]
    Forward(#[source] std::io::Error),
    /// A thread or a runtime.
    #[error("the operating system refuses a thread: {0}")]
    Threads(#[source] std::io::Error),
}

impl Host {
    /// What `starts` has the names for.
    async fn open(
        home: LockedHome,
        config: Config,
        compiler: Compiler,
        given: Given,
    ) -> Result<Self, StartError> {
        let Given { fault, hands, mut sockets } = given;
        config.apart_from(home.dir())?;
        let host_key = home.host_key()?;
        let (key, log_public) = (host_key.public(), home.log_key()?.public());
        let engine = Engine::new(engine_config(&config))?;
        let blobs = Blobs::open(&home.blobs(), &home.tmp())
            .map_err(|error| StartError::Blobs { path: home.blobs(), error })?;
        let cache = Cache::open(&home.cache(), &*home.cache_key()?, config.bounds.compile_cache_bytes)
            .map_err(|error| StartError::Cache { path: home.cache(), error })?;
        let places =
            Places::open(&home).map_err(|error| StartError::Blobs { path: home.scratch(), error })?;
        let places = places.working_in(Workers::of(&config, engine.config(), &compiler));
        let name: KeyName =
            config.log_origin.parse().map_err(|_| StartError::LogName(config.log_origin.clone()))?;
        let verifier = VerifierKey::new(name.clone(), log_public);
        let (mut opened, log) = mend::open(&home, &config, &name)?;
        let trusted = trust::check(&home, &name, opened.trusted()?.as_ref())?;
        let evidence = Evidence::open(&home.evidence(), log.size().get())?;
        let (sweeper, damage) = (Sweeper::beside(&evidence), evidence.damage());
        let clock = Arc::new(Clock::with_hands(opened.latest(), hands));
        let steps = Steps::since(opened.latest(), clock.reading());
        let board = Arc::new(Board::new(&config, Arc::clone(&clock)));
        let listener = Box::new(Arc::clone(&board));
        let active = opened.take_active();
        let (store, closing) = opened.start_telling(Arc::clone(&clock), fault, listener)?;
        let log_server = faces::serve_log(&home, &verifier, &config, store.meters()).await?;
        let publisher =
            Publisher::start(&home.audit(), log, evidence, store.clone()).map_err(StartError::Threads)?;
        let cosigning = (!config.witnesses.is_empty())
            .then(|| Cosigning::start(&home, verifier.clone(), &config.witnesses, config.witness_quorum));
        let source = Source { home: home.dir().to_owned(), key: log_public, published: publisher.sizes() };
        let forwarders = Forwarders::start(&config.forwards, &source).map_err(StartError::Forward)?;

        // On the heap: a start's own future stays small.
        Box::pin(first::tell(&store, (&home, key), &config, trusted.as_ref(), clock.now())).await?;
        let threads = Threads::start().map_err(StartError::Threads)?;
        let grants = Grants::of(store.grants()?);
        let policy = OwnPolicy::new(key, config).with_grants(grants);
        let policy = Arc::new(policy.with_commands(Commands::of(store.commands()?)));
        let in_force = policy.in_force();
        principals::tell_of_no_operator(&in_force, trusted.as_ref());
        let config = &in_force.config;
        let loader = Loader::new(engine, compiler, cache, &config.bounds);
        let dispatcher = Dispatcher::new(
            store.clone(),
            blobs.clone(),
            places,
            Arc::clone(&board),
            Arc::clone(&policy),
            loader,
            threads.handles(),
        );
        recover(&store, active, &board).await?;

        let keeper = Keeper {
            store: store.clone(),
            blobs: blobs.clone(),
            policy: Arc::clone(&policy),
            clock: Arc::clone(&clock),
            evidence: sweeper,
        };
        let earlier = home.successions(KeyRole::Host)?;
        let receipts =
            Receipts::new(host_key.clone(), earlier, verifier.clone(), home.audit(), publisher.published());
        let parts = checkup::Parts {
            audit: home.audit(),
            key: log_public,
            blobs: home.blobs(),
            store: store.clone(),
            clock: Arc::clone(&clock),
            rules: config.check,
        };
        let watched = hands::watch(Arc::clone(&clock), store.clone(), steps);
        let service =
            HostService::new(Arc::clone(&policy), log_public, store, blobs, dispatcher, clock, receipts);
        let service = Arc::new(service.told_of(damage).trusting(trusted));
        let (allow_from, meters) = (config.allow_from.clone(), Arc::clone(service.store().meters()));
        let (listen, serves) = ((config.listen, sockets.jobs.take()), Arc::clone(&service));
        let intake = Intake::bind_for(listen, allow_from, &host_key, serves, &config.bounds, meters)?;
        let (address, strangers) = (intake.local_addr(), intake.strangers());
        service.has_doors(intake.doors(), home.config_lock());
        let watched = grants::watch_beside(watched, Arc::clone(&service));
        let (drain, draining) = oneshot::channel::<()>();
        let (close, closed) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            // A dropped sender means the same as a sent word.
            let drain = async move { drop(draining.await) };
            let close = async move { drop(closed.await) };
            intake.run(drain, close).await;
        });
        let dispatcher = service.dispatcher().clone();
        let dispatching = tokio::spawn(async move { dispatcher.run().await });
        let checkup = Checkup::start(parts).map_err(StartError::Threads)?;
        // Not before: a start that fails leaves no task behind that holds the store.
        let (keeping, watching) = (tokio::spawn(keeper.run()), tokio::spawn(watched));
        home.announce(&Live { address, pid: std::process::id(), host: key })?;
        Ok(Self {
            address,
            key,
            faces: Box::new(Faces::new(verifier, service.now(), strangers, sockets)),
            service,
            threads,
            publisher,
            cosigning,
            log_server,
            forwarders,
            closing,
            dispatching,
            serving,
            keeping,
            watching,
            checkup,
            drain,
            close,
            home,
        })
    }

    /// Where the host listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where the log is served, if it is.
    #[must_use]
    pub fn log_addr(&self) -> Option<SocketAddr> {
        self.log_server.as_ref().map(Listening::address)
    }

    /// What clients pin.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// Waits until the host can no longer keep its promises, and says why. It must be stopped then.
    pub async fn failed(&self) -> String {
        let mut publishing = self.publisher.failed();
        tokio::select! {
            reason = self.service.store().wait_failed() => reason,
            reason = wait_for_reason(&mut publishing) => reason,
        }
    }

    /// Waits until nothing is queued or running.
    pub async fn idle(&self) {
        self.service.dispatcher().drained().await;
    }

    /// Takes no more requests, ends as `how` says, publishes the log up to its last record, closes everything.
    pub async fn stop(self, how: Stop) -> Ended {
        let Self {
            service,
            threads,
            publisher,
            cosigning,
            log_server,
            forwarders,
            closing,
            dispatching,
            serving,
            keeping,
            watching,
            checkup,
            drain,
            close,
            home,
            faces,
            ..
        } = self;
        // Whoever looks for a host from now on waits for the lock.
        if let Err(error) = home.forget() {
            tracing::warn!(%error, "the host's address cannot be taken back");
        }
        if let Some(admin) = &faces.admin {
            admin.stopping();
        }
        let _ = drain.send(());
        // Nobody reads a configuration any more.
        drop(faces.reloads.lock().await.take());
        service.refuse_new();
        let dispatcher = service.dispatcher().clone();
        // When time is up, whatever still runs is left to the next start to judge.
        match how {
            Stop::Everything(most) => {
                drop(tokio::time::timeout(most, dispatcher.drained()).await);
                dispatching.abort();
                drop(dispatching.await);
            }
            Stop::Running(most) => {
                dispatching.abort();
                // Only then nothing starts any more, also with a group that is under way.
                drop(dispatching.await);
                drop(tokio::time::timeout(most, dispatcher.settled()).await);
            }
        }
        let mut serving = serving;
        if tokio::time::timeout(LAST_ANSWERS, &mut serving).await.is_err() {
            let _ = close.send(());
            dispatcher.give_up_registering();
            drop(serving.await);
        }
        keeping.abort();
        watching.abort();
        if let Some(checkup) = checkup {
            drop(tokio::task::spawn_blocking(|| checkup.stop()).await);
        }
        // Their handles of the store are gone when they are.
        drop(keeping.await);
        drop(watching.await);
        let recorded = service.store().commit(Transition::Log(Event::HostStopped {})).await;
        if let Err(error) = &recorded {
            tracing::error!(%error, "the stop cannot be recorded");
        }
        // It has handles of the store, too.
        if let Some(admin) = faces.admin {
            Box::pin(admin.stop()).await;
        }
        let finished = tokio::task::spawn_blocking(move || {
            let published = publisher.stop();
            forwarders.stop();
            threads.stop(GUEST_THREADS);
            drop(dispatcher);
            drop(service);
            closing.wait().map_or(published, Err)
        });
        let published = finished.await.unwrap_or_else(|panic| Err(panic.to_string()));
        if let Some(cosigning) = cosigning {
            cosigning.stop().await;
        }
        if let Some(log_server) = log_server {
            log_server.stop().await;
        }
        drop(home);
        match recorded.map_err(|error| error.to_string()).and(published) {
            Ok(()) => Ended::InOrder,
            Err(reason) => Ended::Failed(reason),
        }
    }
}

async fn wait_for_reason(failed: &mut watch::Receiver<Option<String>>) -> String {
    match failed.wait_for(Option::is_some).await {
        Ok(reason) => reason.clone().unwrap_or_default(),
        // The publisher ended in order; that is no failure.
        Err(_) => std::future::pending().await,
    }
}

/// Puts every queue and every job that is not over onto the board, and judges those that were running when the host went down.
async fn recover(store: &Store, jobs: ActiveJobs, board: &Board) -> Result<(), StartError> {
    let modes = store.queue_modes()?;
    board.hear(modes.into_iter().map(|(queue, mode)| Effect::Queue(queue, mode)).collect());
    let mut cut_off = Vec::new();
    for active in jobs {
        if active.running {
            cut_off.push(active.entry.job);
        } else {
            board.hear(vec![Effect::Waits(active.entry)]);
        }
    }
    for job in cut_off {
        let event = lifecycle::Event::Recover;
        store.commit(Transition::Step { job, event }).await?;
    }
    Ok(())
}

fn engine_config(config: &Config) -> EngineConfig {
    let bounds = &config.bounds;
    EngineConfig {
        max_concurrent: u32::try_from(bounds.max_running).unwrap_or(u32::MAX),
        max_memory: ByteSize::bytes(bounds.max_limits.memory_bytes),
        tls_roots: config.http_roots.clone(),
        ..EngineConfig::default()
    }
}
