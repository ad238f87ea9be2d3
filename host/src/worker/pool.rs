//! Which worker a job goes to, and how long a worker is kept.
//!
//! A worker is for one tenant and one list of what it may touch. After a reload that changes the list, new jobs go to a new worker, and
//! the old one ends with its last job.
//!
//! *Owns:* the list of workers. *Never:* gives a worker to two tenants. *Bound:* `max_workers`; whoever needs one more takes the place of
//! the one that is idle for longest, or waits until one is.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::available_parallelism;
use std::time::Duration;

use strongroom_job::Name;
use strongroom_runtime::{CancelToken, EngineConfig, OutputSink, Progress};
use tokio::sync::{Notify, OnceCell, watch};

use super::converse::converse;
use super::message::{Hello, Order};
use super::process::Process;
use super::source::Source;
use super::walls::Walls;
use crate::admission::GrantTerms;
use crate::compile::Compiler;
use crate::config::{Config, Confine, Isolation};
use crate::confine::Enforced;
use crate::dispatch::Ran;
use crate::rooms::Rooms;
use crate::secrets::Memory;

/// Most threads of one worker for its guests.
const MAX_THREADS: usize = 8;
/// Private memory of a worker for each guest that may run at once, besides the guest's own: stacks, tables, bookkeeping.
const DATA_PER_GUEST: u64 = 16 << 20;
/// Private memory of a worker besides: code of modules, buffers, libraries.
const DATA: u64 = 4 << 30;
/// A tenant's directory among those of attempts. No job's id begins so.
const TENANT: &str = "tenant-";
/// How long a job waits, in its place of `max_running`, for a process.
const PATIENCE: Duration = Duration::from_secs(60);
const ALL_BUSY: &str = "all of max_workers processes have had work for a minute: the operator may raise max_workers, or lower max_running";
/// How often a worker must be found idle until it has been so for `worker_idle_ms`.
const LOOKS: u32 = 2;

/// Where attempts have their rooms.
#[derive(Clone, Debug)]
pub(crate) struct Area {
    pub(crate) scratch: Rooms,
    /// For secrets that are given as files.
    pub(crate) memory: Memory,
}

/// What a worker is to do, and who listens.
pub(crate) struct Work {
    pub(crate) tenant: Name,
    pub(crate) order: Order,
    /// The module's compiled code, sealed.
    pub(crate) code: Arc<OwnedFd>,
    pub(crate) input: Source,
    /// Of standard output and standard error.
    pub(crate) sinks: [Box<dyn OutputSink>; 2],
    pub(crate) progress: watch::Sender<Option<Progress>>,
    pub(crate) cancel: CancelToken,
}

/// Why a worker did not run a job to its end. The host's fault, as far as the job is concerned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    #[error("no worker process can be started for tenant {tenant}: {error}")]
    Start { tenant: Name, error: io::Error },
    #[error("the worker process of tenant {tenant} ended while it ran the job ({how})")]
    Gone { tenant: Name, how: String },
    #[error("the worker process of tenant {tenant} did not say in time how the job ended, and was killed")]
    Silent { tenant: Name },
    #[error("the worker process of tenant {tenant} broke a rule ({what}), and was killed")]
    Lied { tenant: Name, what: &'static str },
    #[error("the worker could not run the job: {0}")]
    Fault(String),
    #[error("reading the guest's input failed: {0}")]
    Input(#[source] io::Error),
    #[error("storing the guest's output failed: {0}")]
    Output(#[source] io::Error),
    #[error("a job cannot be handed to a worker process: {0}")]
    System(#[from] io::Error),
}

/// The workers of a host. Clones are handles to the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Workers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    program: Result<PathBuf, String>,
    engine: EngineConfig,
    most: usize,
    idle: Duration,
    required: bool,
    data_bytes: u64,
    state: Mutex<State>,
    /// Told when a worker became idle or is gone.
    room: Notify,
    areas: Mutex<HashMap<Name, Area>>,
}

#[derive(Debug, Default)]
struct State {
    held: Vec<Held>,
    /// Counts the ends of jobs: the order in which workers became idle.
    ends: u64,
    /// Whether somebody looks for idle ones.
    swept: bool,
}

#[derive(Debug)]
struct Held {
    slot: Arc<Slot>,
    jobs: usize,
    /// When it became idle.
    since: u64,
    /// How often it was found idle in a row.
    looks: u32,
}

#[derive(Debug)]
struct Slot {
    tenant: Name,
    walls: Walls,
    /// Started by the first who needs it; the others wait for that.
    process: OnceCell<Arc<Process>>,
}

/// One job's share of a worker.
struct Lease {
    inner: Arc<Inner>,
    slot: Arc<Slot>,
}

impl Workers {
    /// Those of a host of `config`; none where guests run in the host's own process.
    pub(crate) fn of(config: &Config, engine: &EngineConfig, compiler: &Compiler) -> Option<Self> {
        if config.isolation == Isolation::InProcess {
            return None;
        }
        let program = match compiler {
            Compiler::Child(program) => Ok(program.clone()),
            Compiler::InProcess => Err("isolation = \"process\" needs the strongroom program".to_owned()),
        };
        let bounds = &config.bounds;
        let guests = bounds.max_running as u64;
        // Metered modules have a pool of their own.
        let pools = guests.saturating_mul(bounds.max_limits.memory_bytes.saturating_add(DATA_PER_GUEST)) * 2;
        let inner = Inner {
            program,
            engine: engine.clone(),
            most: bounds.max_workers,
            idle: bounds.worker_idle,
            required: config.confine == Confine::Required,
            data_bytes: pools.saturating_add(DATA),
            state: Mutex::default(),
            room: Notify::new(),
            areas: Mutex::default(),
        };
        Some(Self(Arc::new(inner)))
    }

    /// The rooms of one tenant, below those of the host. Blocks.
    ///
    /// # Errors
    /// When they cannot be made.
    pub(crate) fn area(&self, whole: &Area, tenant: &Name) -> io::Result<Area> {
        // Held while they are made: making them twice would remove what is in them.
        let mut areas = self.0.areas.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(area) = areas.get(tenant) {
            return Ok(area.clone());
        }
        let name = format!("{TENANT}{tenant}");
        let area = Area { scratch: whole.scratch.within(&name)?, memory: whole.memory.within(&name)? };
        areas.insert(tenant.clone(), area.clone());
        Ok(area)
    }

    /// What the worker of such a job may touch.
    pub(crate) fn walls(&self, tenant: &Name, config: &Config, area: &Area, terms: &GrantTerms) -> Walls {
        Walls::of(tenant, config, area.scratch.path(), area.memory.path()).holding(terms)
    }

    /// Has a worker run a job. When this is over, or dropped, nothing of the job goes on, or its worker is being killed.
    ///
    /// # Errors
    /// When no worker ran it to its end.
    pub(crate) async fn run(&self, walls: Walls, work: Work) -> Result<Ran, WorkerError> {
        let cancel = work.cancel.clone();
        let started = tokio::select! {
            started = self.lease(&work.tenant, walls) => started,
            () = cancel.cancelled() => return Ok(Ran::cancelled()),
        };
        let (_lease, process) =
            started.map_err(|error| WorkerError::Start { tenant: work.tenant.clone(), error })?;
        converse(&process, work).await
    }

    async fn lease(&self, tenant: &Name, walls: Walls) -> io::Result<(Lease, Arc<Process>)> {
        self.sweep();
        let slot = loop {
            let mut room = std::pin::pin!(self.0.room.notified());
            // Before looking, so that no word is missed.
            room.as_mut().enable();
            if let Some(slot) = self.0.state().take(tenant, &walls, self.0.most) {
                break slot;
            }
            let waited = tokio::time::timeout(PATIENCE, room).await;
            waited.map_err(|_| io::Error::other(ALL_BUSY))?;
        };
        let lease = Lease { inner: Arc::clone(&self.0), slot };
        let start = || self.start(lease.slot.walls.clone());
        match lease.slot.process.get_or_try_init(start).await {
            Ok(process) => {
                let process = Arc::clone(process);
                Ok((lease, process))
            }
            Err(error) => {
                // Whoever comes next begins anew.
                self.0.state().held.retain(|held| !Arc::ptr_eq(&held.slot, &lease.slot));
                Err(error)
            }
        }
    }

    async fn start(&self, walls: Walls) -> io::Result<Arc<Process>> {
        let program = self.0.program.clone().map_err(io::Error::other)?;
        let threads = available_parallelism().map_or(1, |cores| cores.get().min(MAX_THREADS));
        let engine = self.0.engine.clone();
        let roots = Hello::roots(&engine.tls_roots);
        let hello = Hello { engine, roots, threads, walls, data_bytes: self.0.data_bytes };
        let started = tokio::task::spawn_blocking(move || Process::start(&program, &hello));
        let process = started.await.map_err(io::Error::other)??;
        let ready = process.ready();
        if ready.files != Enforced::Whole || ready.calls != Enforced::Whole {
            if self.0.required {
                return Err(io::Error::other(
                    "confine = \"required\", and this kernel cannot confine a worker as far as it should be",
                ));
            }
            tracing::warn!(
                files = ?ready.files,
                system_calls = ?ready.calls,
                "this kernel cannot take everything from a worker process (Landlock, seccomp)"
            );
        }
        Ok(Arc::new(process))
    }

    /// Sees to it that somebody looks for workers that are idle, as long as there are any handles.
    fn sweep(&self) {
        if std::mem::replace(&mut self.0.state().swept, true) {
            return;
        }
        let (inner, pause) = (Arc::downgrade(&self.0), self.0.idle / LOOKS);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                let Some(inner) = Weak::upgrade(&inner) else { return };
                let gone = inner.state().sweep();
                // Outside the lock: dropping kills.
                if !gone.is_empty() {
                    drop(gone);
                    inner.room.notify_waiters();
                }
            }
        });
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one operation of the list.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A worker of that tenant behind those walls, or a place for one; none when all places are busy.
    fn take(&mut self, tenant: &Name, walls: &Walls, most: usize) -> Option<Arc<Slot>> {
        // One that is gone keeps no place; its jobs hear of it from their own sockets.
        self.held.retain(|held| !held.slot.process.get().is_some_and(|process| process.is_over()));
        let fits = |held: &&mut Held| held.slot.tenant == *tenant && held.slot.walls == *walls;
        if let Some(held) = self.held.iter_mut().find(fits) {
            held.jobs += 1;
            held.looks = 0;
            return Some(Arc::clone(&held.slot));
        }
        if self.held.len() >= most {
            let idle = self.held.iter().enumerate().filter(|(_, held)| held.jobs == 0);
            let (longest, _) = idle.min_by_key(|(_, held)| held.since)?;
            self.held.swap_remove(longest);
        }
        let slot = Slot { tenant: tenant.clone(), walls: walls.clone(), process: OnceCell::new() };
        let slot = Arc::new(slot);
        self.held.push(Held { slot: Arc::clone(&slot), jobs: 1, since: 0, looks: 0 });
        Some(slot)
    }

    fn give_back(&mut self, slot: &Arc<Slot>) {
        self.ends += 1;
        let since = self.ends;
        if let Some(held) = self.held.iter_mut().find(|held| Arc::ptr_eq(&held.slot, slot)) {
            held.jobs -= 1;
            held.since = since;
        }
    }

    /// Those that have been idle for as long as they may be.
    fn sweep(&mut self) -> Vec<Held> {
        for held in self.held.iter_mut().filter(|held| held.jobs == 0) {
            held.looks += 1;
        }
        self.held.extract_if(.., |held| held.jobs == 0 && held.looks > LOOKS).collect()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.inner.state().give_back(&self.slot);
        self.inner.room.notify_waiters();
    }
}
