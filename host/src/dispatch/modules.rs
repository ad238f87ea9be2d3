//! Compiled modules, kept while they are in use and for some time after.
//!
//! *Owns:* who waits for whom: a module is loaded once for all who ask at the same time. *Never:* compiles; that is `compile`'s.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use strongroom_job::Digest;
use strongroom_runtime::{Metering, Module, PoolUse};
use tokio::sync::OnceCell;

use crate::blobs::Blobs;
use crate::compile::{Kept, LoadError, Loader};
use crate::worker::seal;

/// One module, as far as somebody has asked for it.
#[derive(Debug, Default)]
struct Loaded {
    module: OnceCell<Module>,
    /// Its compiled code in a file in memory that nobody can change, for workers.
    code: OnceCell<Arc<OwnedFd>>,
}

/// The cache.
#[derive(Debug)]
pub(super) struct Modules {
    loader: Loader,
    blobs: Blobs,
    max_bytes: u64,
    kept: Kept<Loaded>,
}

impl Modules {
    pub(super) fn new(loader: Loader, blobs: Blobs, max_bytes: u64) -> Self {
        Self { loader, blobs, max_bytes, kept: Kept::default() }
    }

    /// The compiled module; compiles it if need be.
    pub(super) async fn get(&self, digest: &Digest, metering: Metering) -> Result<Module, LoadError> {
        // A failure leaves the cell empty: the next who asks tries again.
        let load = || self.loader.load(digest, metering, self.blobs.load(digest, self.max_bytes));
        self.kept.slot(digest, metering).module.get_or_try_init(load).await.cloned()
    }

    /// The module's compiled code, for a process that loads it; compiles it if need be.
    pub(super) async fn code(&self, digest: &Digest, metering: Metering) -> Result<Arc<OwnedFd>, LoadError> {
        let module = self.get(digest, metering).await?;
        let seal = || async move {
            let sealed = tokio::task::spawn_blocking(move || {
                seal(&module.artifact()?).map_err(|error| LoadError::Host(error.to_string()))
            });
            let sealed = sealed.await.map_err(|error| LoadError::Host(error.to_string()))??;
            Ok(Arc::new(sealed))
        };
        self.kept.slot(digest, metering).code.get_or_try_init(seal).await.cloned()
    }

    pub(super) fn pool_use(&self) -> PoolUse {
        self.loader.pool_use()
    }

    /// Compiles a module whose file is not kept yet, and remembers it if it is good.
    pub(super) async fn register(&self, digest: &Digest, file: &Path) -> Result<(), LoadError> {
        let load = || self.loader.load(digest, Metering::None, tokio::fs::read(file));
        self.kept.slot(digest, Metering::None).module.get_or_try_init(load).await.map(drop)
    }
}
