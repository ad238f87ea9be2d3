//! The engine: compiles modules, holds the pools they run in.

use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::config::{Allocation, EngineConfig};
use crate::fs;
use crate::module::{Metering, Module};
use crate::net;
use crate::probe;
use crate::progress;
use crate::quantity::ByteSize;
use crate::refusal::ModuleError;
use crate::sandbox::Guest;
use crate::ticker::Ticker;

/// Compiles modules and holds what their runs share. Cheap to clone; its thread and its address space go when the last clone and
/// the last [`Module`] go.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) inner: Arc<EngineInner>,
}

/// Why an engine could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A setting that cannot work.
    #[error("engine configuration: {field} {why}")]
    Config {
        /// The field of [`EngineConfig`].
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The kernel, or a filter in front of it, has no `openat2`.
    #[error(
        "this kernel does not offer openat2 ({source}); granted directories cannot be confined without it: \
         use Linux 5.6 or newer, and allow the call in the container's seccomp profile"
    )]
    NoOpenat2 {
        /// What the probe answered.
        source: io::Error,
    },
    /// wasmtime refused the configuration, or the system refused the address space or the thread.
    #[error("the engine could not start: {message}")]
    Start {
        /// What was said.
        message: String,
    },
}

#[derive(Debug)]
pub(crate) struct EngineInner {
    pub(crate) config: EngineConfig,
    /// Whether freed slots are reset by `PAGEMAP_SCAN`.
    pagemap_scan: bool,
    plain: Half,
    /// Made at the first metered module: few hosts need a second pool.
    metered: OnceLock<Half>,
    /// Held while `metered` is made, so that it is made once.
    making: Mutex<()>,
    /// What guests' HTTPS requests are made with.
    pub(crate) tls: net::http::tls::Tls,
    pub(crate) ticker: Ticker,
}

/// One wasmtime engine with everything that guests may import, linked once.
pub(crate) struct Half {
    pub(crate) engine: wasmtime::Engine,
    pub(crate) core: wasmtime::Linker<Guest>,
    pub(crate) component: wasmtime::component::Linker<Guest>,
}

impl std::fmt::Debug for Half {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Half")
    }
}

impl Engine {
    /// Starts an engine: reserves address space and starts one thread.
    ///
    /// # Errors
    ///
    /// See [`EngineError`].
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        config.check()?;
        let tls = net::http::tls::Tls::new(&config.tls_roots)?;
        probe::require_openat2()?;
        let pagemap_scan = config.allocation == Allocation::Pooled && probe::has_pagemap_scan();
        if config.allocation == Allocation::Pooled && !pagemap_scan {
            tracing::warn!(
                "this kernel has no PAGEMAP_SCAN (Linux 6.7): starting a guest takes about three times as long"
            );
        }
        let plain = Half::new(&config, Metering::None, pagemap_scan)?;
        let ticker = Ticker::start(plain.engine.clone(), config.tick).map_err(start_error)?;
        let inner = EngineInner {
            config,
            pagemap_scan,
            plain,
            metered: OnceLock::new(),
            making: Mutex::new(()),
            tls,
            ticker,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// [`Engine::compile_with`] without metering.
    ///
    /// # Errors
    ///
    /// See [`ModuleError`].
    pub fn compile(&self, wasm: &[u8]) -> Result<Module, ModuleError> {
        self.compile_with(wasm, Metering::None)
    }

    /// Checks, compiles and links a WebAssembly binary. Takes processor time in proportion to the module (about a second for
    /// 2 MiB), sometimes much more, and cannot be interrupted: call it off the async threads, and only with modules that may
    /// take the time and the memory of this process. For others: [`precompile`](crate::precompile) in a process with bounds,
    /// and [`Engine::load`].
    ///
    /// # Errors
    ///
    /// See [`ModuleError`].
    pub fn compile_with(&self, wasm: &[u8], metering: Metering) -> Result<Module, ModuleError> {
        Module::compile(self, wasm, metering)
    }

    /// The configuration it was started with.
    pub fn config(&self) -> &EngineConfig {
        &self.inner.config
    }

    /// Whether the kernel's `PAGEMAP_SCAN` resets freed memories; starts are about three times slower without.
    pub fn resets_by_pagemap_scan(&self) -> bool {
        self.inner.pagemap_scan
    }
}

impl EngineInner {
    pub(crate) fn half(&self, metering: Metering) -> Result<&Half, EngineError> {
        if metering == Metering::None {
            return Ok(&self.plain);
        }
        // The lock guards no data, so one poisoned by a panic is as good as any.
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(half) = self.metered.get() {
            return Ok(half);
        }
        let half = Half::new(&self.config, metering, self.pagemap_scan)?;
        self.ticker.add_metered(half.engine.clone());
        Ok(self.metered.get_or_init(|| half))
    }

    /// Those that were made.
    pub(crate) fn halves(&self) -> impl Iterator<Item = &Half> {
        std::iter::once(&self.plain).chain(self.metered.get())
    }

    /// Whether the engine's own bounds rule out a job that may use `memory`.
    pub(crate) fn refuses(&self, memory: ByteSize) -> Option<String> {
        let most = self.config.max_memory;
        (memory > most).then(|| format!("a memory limit of {memory}; this engine gives {most} at most"))
    }
}

impl Half {
    pub(crate) fn new(
        config: &EngineConfig,
        metering: Metering,
        pagemap_scan: bool,
    ) -> Result<Self, EngineError> {
        let engine = wasmtime::Engine::new(&config.wasmtime(metering, pagemap_scan)).map_err(start_error)?;

        let mut core = wasmtime::Linker::new(&engine);
        fs::link_preview1(&mut core).map_err(start_error)?;
        progress::link_core(&mut core).map_err(start_error)?;

        let mut component = wasmtime::component::Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut component).map_err(start_error)?;
        fs::link_preview2(&mut component).map_err(start_error)?;
        net::link(&mut component).map_err(start_error)?;
        net::http::link(&mut component).map_err(start_error)?;
        progress::link_component(&mut component).map_err(start_error)?;
        Ok(Self { engine, core, component })
    }
}

fn start_error(error: impl std::fmt::Display) -> EngineError {
    EngineError::Start { message: format!("{error:#}") }
}
