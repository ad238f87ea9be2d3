//! Compiled modules, kept while they are in use and for some time after.
//!
//! *Owns:* when a module is compiled: once for all who ask at the same time, one module at a time, since the compiler uses
//! every core and cannot be interrupted. *Never:* takes compiled code from anywhere but the engine.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use strongroom_job::Digest;
use strongroom_runtime::{Engine, Metering, Module, ModuleError};
use tokio::sync::{OnceCell, Semaphore};

use crate::blobs::Blobs;

/// Compiled modules that are kept. A large one takes some 45 MiB, an ordinary one less than 1 MiB.
const MAX_KEPT: usize = 32;

/// Why there is no compiled module.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    /// The module's fault.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The host's fault.
    #[error("{0}")]
    Host(String),
}

type Key = (Digest, Metering);
type Slot = Arc<OnceCell<Module>>;

/// The cache.
#[derive(Debug)]
pub(super) struct Modules {
    engine: Engine,
    blobs: Blobs,
    max_bytes: u64,
    kept: Mutex<Kept>,
    compiler: Semaphore,
}

#[derive(Debug, Default)]
struct Kept {
    slots: HashMap<Key, (Slot, u64)>,
    /// Counts uses; a slot remembers its latest.
    uses: u64,
}

impl Modules {
    pub(super) fn new(engine: Engine, blobs: Blobs, max_bytes: u64) -> Self {
        Self { engine, blobs, max_bytes, kept: Mutex::default(), compiler: Semaphore::new(1) }
    }

    /// The compiled module; compiles it if need be.
    pub(super) async fn get(&self, digest: &Digest, metering: Metering) -> Result<Module, LoadError> {
        let slot = self.kept.lock().unwrap_or_else(PoisonError::into_inner).slot((*digest, metering));
        // A failure leaves the cell empty: the next who asks tries again.
        slot.get_or_try_init(|| self.load(digest, metering)).await.cloned()
    }

    /// Compiles a module whose file is not kept yet, and remembers it if it is good.
    pub(super) async fn register(&self, digest: &Digest, file: &Path) -> Result<(), LoadError> {
        let slot = self.kept.lock().unwrap_or_else(PoisonError::into_inner).slot((*digest, Metering::None));
        let compile = || async {
            let _turn = self.compiler.acquire().await.map_err(|error| unusable(&error))?;
            let bytes = tokio::fs::read(file).await.map_err(|error| unusable(&error))?;
            self.compile(bytes, Metering::None).await
        };
        slot.get_or_try_init(compile).await.map(drop)
    }

    async fn load(&self, digest: &Digest, metering: Metering) -> Result<Module, LoadError> {
        // The turn comes before the bytes: of all modules that wait for the compiler, one is in memory.
        let _turn = self.compiler.acquire().await.map_err(|error| unusable(&error))?;
        let bytes = self.blobs.load(digest, self.max_bytes).await.map_err(|error| unusable(&error))?;
        self.compile(bytes, metering).await
    }

    async fn compile(&self, bytes: Vec<u8>, metering: Metering) -> Result<Module, LoadError> {
        let engine = self.engine.clone();
        let compiled = tokio::task::spawn_blocking(move || engine.compile_with(&bytes, metering));
        Ok(compiled.await.map_err(|error| unusable(&error))??)
    }
}

fn unusable(error: &dyn std::fmt::Display) -> LoadError {
    LoadError::Host(format!("the module's file cannot be used: {error}"))
}

impl Kept {
    fn slot(&mut self, key: Key) -> Slot {
        self.uses += 1;
        let uses = self.uses;
        let (slot, used) = self.slots.entry(key).or_default();
        *used = uses;
        let slot = Arc::clone(slot);
        if self.slots.len() > MAX_KEPT
            && let Some(oldest) = self.slots.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key)
        {
            self.slots.remove(&oldest);
        }
        slot
    }
}
