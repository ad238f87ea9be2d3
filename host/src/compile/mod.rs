//! Compiling: from a module's bytes to code that the engine has loaded, without trusting the compiler with this process.
//!
//! Cranelift cannot be interrupted, and how long it takes and how much memory is up to whoever wrote the module. So it runs in a
//! child process of the same binary, under bounds, and its result is kept:
//!
//! ```text
//! digest ─► cache ── found, MAC right ─────────────► Verified ─┐
//!             └ no ─► parent ═══ pipes ═══ child ─► FromChild ─┴─ vouch ─► Vouched ─► Engine::load ─► Module
//! ```
//!
//! * `Loader` is that road, `message` what goes over the pipes, `parent` and `child` are the two ends of them;
//! * [`confine()`] takes from the child what it does not need: files, sockets, other programs, memory and time past its bounds;
//! * `cache` keeps what was compiled, under a key that only this host has; `vouch` is the one unsafe step;
//! * `kept` has what is loaded, while it is used and for some time after.
//!
//! *Owns:* the compiler's processes, `DIR/cache`. *Never:* decides whose module may be compiled; loads a byte that neither our own
//! compiler has just written nor our own key vouches for.
//! *Bound:* `CHILDREN` compilers at once, each with `compile_memory_bytes` and `compile_ms`; `compile_cache_bytes` of disk.
//! *Crash:* of a child: the module is refused, or tried once more, as `parent` tells. Of the host: a half-written file of the cache
//! has no name yet; one that the power took has a wrong MAC, and is compiled again.

mod cache;
mod child;
mod confine;
mod kept;
mod message;
mod parent;
#[expect(
    unsafe_code,
    reason = "native code cannot be checked, only vouched for; this file says by what right"
)]
mod vouch;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use strongroom_job::Digest;
use strongroom_runtime::{
    ArtifactError, Compatibility, Engine, Metering, Module, ModuleError, PoolUse, Vouched,
};
use tokio::sync::Semaphore;

pub use cache::{Cache, Verified};
pub use child::{COMMAND, main as child_main};
pub use confine::{ChildLimits, Confinement, confine};

pub use crate::confine::Enforced;

pub(crate) use kept::Kept;

use crate::config::Bounds;
use parent::Failed;

/// Compilers at once: with one, a module that takes its whole time keeps everybody waiting; each has every core.
const CHILDREN: usize = 2;
/// How often a child that somebody killed is started again for the same module.
const RETRIES: u32 = 1;

/// Where modules are compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// In a process of this program, which must be the `strongroom` command of the very version that the host is.
    Child(PathBuf),
    /// In the host's own process: a module then takes whatever time and memory it wants. For tests, and for hosts whose every
    /// principal is trusted.
    InProcess,
}

/// Why there is no compiled module.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The module's fault.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The module's fault: compiling it takes more than this host gives.
    #[error(
        "compiling the module takes more than {most}, which is the most that this host gives it ({knob} in its configuration): \
         make its largest functions smaller, or ask the host's owner for more"
    )]
    TooCostly {
        /// The bound, with its unit.
        most: String,
        /// The key of the configuration that sets it.
        knob: &'static str,
    },
    /// The module's fault, as far as anybody can tell: the compiler crashed over it.
    #[error(
        "the compiler crashed over the module ({how}); the host is unharmed. Build the module in another way"
    )]
    Crashed {
        /// The signal, or what it said last.
        how: String,
    },
    /// Nobody's fault.
    #[error("the host is shutting down; try again when it is back")]
    ShuttingDown,
    /// The host's fault.
    #[error("{0}")]
    Host(String),
}

/// Gets modules compiled, and remembers on disk what they were compiled to.
#[derive(Debug)]
pub(crate) struct Loader {
    engine: Engine,
    compiler: Compiler,
    /// None where nothing is to be remembered.
    cache: Option<Arc<Cache>>,
    bounds: parent::Bounds,
    turns: Arc<Semaphore>,
    /// Whether the log has been told what this kernel cannot confine.
    told: AtomicBool,
}

impl Compiler {
    /// The program that this process runs: right for the `strongroom` command, for nobody else.
    ///
    /// # Errors
    /// When the operating system does not say which program it is.
    pub fn this_program() -> io::Result<Self> {
        /// The very file that runs, also when another has taken its name since.
        const RUNNING: &str = "/proc/self/exe";
        let running = Path::new(RUNNING);
        if running.exists() {
            Ok(Self::Child(running.into()))
        } else {
            std::env::current_exe().map(Self::Child)
        }
    }
}

impl Loader {
    pub(crate) fn new(engine: Engine, compiler: Compiler, cache: Cache, bounds: &Bounds) -> Self {
        let most = match compiler {
            Compiler::Child(_) => CHILDREN,
            // It cannot be stopped, and uses every core.
            Compiler::InProcess => 1,
        };
        Self {
            engine,
            compiler,
            cache: Some(Arc::new(cache)),
            bounds: parent::Bounds::of(bounds),
            turns: Arc::new(Semaphore::new(most)),
            told: AtomicBool::new(false),
        }
    }

    /// What guests have of the engine's pools now.
    pub(crate) fn pool_use(&self) -> PoolUse {
        self.engine.pool_use()
    }

    /// Compiles one module where there is no host: as a host does it, in a process of this program under a host's usual bounds,
    /// but without a cache.
    ///
    /// # Errors
    /// As [`Loader::load`].
    pub(crate) async fn once(engine: Engine, metering: Metering, wasm: &[u8]) -> Result<Module, LoadError> {
        let compiler = Compiler::this_program().map_err(|error| host(&error))?;
        let turns = Arc::new(Semaphore::new(1));
        let bounds = parent::Bounds::usual();
        let loader = Self { engine, compiler, cache: None, bounds, turns, told: AtomicBool::new(false) };
        loader.load(&Digest::of(wasm), metering, std::future::ready(Ok(wasm.to_vec()))).await
    }

    /// The module of this digest: from the cache, or else compiled from `wasm`, which is awaited only then, when it is this
    /// module's turn.
    pub(crate) async fn load(
        &self,
        digest: &Digest,
        metering: Metering,
        wasm: impl Future<Output = io::Result<Vec<u8>>>,
    ) -> Result<Module, LoadError> {
        if let Some(module) = self.cached(*digest, metering).await? {
            return Ok(module);
        }
        // The turn comes before the bytes: of all modules that wait for the compiler, few are in memory.
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|error| host(&error))?;
        let wasm =
            wasm.await.map_err(|error| host(&format_args!("the module's file cannot be used: {error}")))?;
        match &self.compiler {
            Compiler::InProcess => {
                let (engine, cache, digest) = (self.engine.clone(), self.cache.clone(), *digest);
                blocking(move || {
                    let module = engine.compile_with(&wasm, metering)?;
                    if let Some(cache) = cache {
                        cache.keep(&digest, &engine.compatibility(metering)?, &module.artifact()?);
                    }
                    drop(turn);
                    Ok(module)
                })
                .await
            }
            Compiler::Child(program) => {
                let mut tries = 0;
                let turn = Arc::new(turn);
                let made = loop {
                    let request = parent::Request { config: self.engine.config(), metering, wasm: &wasm };
                    match parent::compile(program, self.bounds, request, Arc::clone(&turn)).await {
                        Err(Failed::Killed { signal }) if tries < RETRIES => {
                            tries += 1;
                            tracing::warn!(%digest, signal, "a compiler was killed; starting another");
                        }
                        other => break other.map_err(LoadError::from)?,
                    }
                };
                self.tell(made.confinement);
                self.loaded(*digest, metering, vouch::child(made.artifact)).await
            }
        }
    }

    async fn cached(&self, digest: Digest, metering: Metering) -> Result<Option<Module>, LoadError> {
        let Some(cache) = self.cache.clone() else { return Ok(None) };
        let engine = self.engine.clone();
        blocking(move || {
            let compatibility = engine.compatibility(metering)?;
            let Some(verified) = cache.find(&digest, &compatibility) else { return Ok(None) };
            match engine.load(&vouch::cached(verified)) {
                Ok(module) => Ok(Some(module)),
                // The pool may have become smaller since: compiling again finds the words for it.
                Err(error) => {
                    tracing::warn!(%digest, %error, "compiled code in the cache does not load; compiling again");
                    cache.forget(&digest, &compatibility);
                    Ok(None)
                }
            }
        })
        .await
    }

    async fn loaded(&self, digest: Digest, metering: Metering, made: Vouched) -> Result<Module, LoadError> {
        let (engine, cache) = (self.engine.clone(), self.cache.clone());
        blocking(move || {
            let module = engine.load(&made).map_err(|error| match error {
                ArtifactError::Module(error) => LoadError::Module(error),
                ArtifactError::Incompatible { .. } => host(&format_args!(
                    "the compiler is not the program that this host is ({error}): restart the host"
                )),
                other => host(&other),
            })?;
            if let Some(cache) = cache {
                let compatibility: Compatibility = engine.compatibility(metering)?;
                cache.keep(&digest, &compatibility, made.bytes());
            }
            Ok(module)
        })
        .await
    }

    /// Says once what the kernel cannot do. Bounds on memory and time hold everywhere.
    fn tell(&self, confinement: Confinement) {
        let whole = confinement.files == Enforced::Whole && confinement.calls == Enforced::Whole;
        if !whole && !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                files = ?confinement.files,
                system_calls = ?confinement.calls,
                "this kernel cannot take everything from a compiler's process (Landlock, seccomp); its bounds hold"
            );
        }
    }
}

/// Compiled code that a worker was sent by its host.
struct FromHost(Vec<u8>);

impl FromHost {
    fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Loads code in a worker, which its host has passed to it.
///
/// # Errors
/// As [`Engine::load`].
pub(crate) fn load_passed(engine: &Engine, code: Vec<u8>) -> Result<Module, ArtifactError> {
    engine.load(&vouch::passed(FromHost(code)))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| host(&error))?
}

fn host(error: &dyn std::fmt::Display) -> LoadError {
    LoadError::Host(error.to_string())
}
