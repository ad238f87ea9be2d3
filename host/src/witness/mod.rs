//! A witness for other hosts: it remembers one checkpoint of each log that it knows, and cosigns what extends it.
//!
//! `memory` holds the rule and the files; `server` speaks HTTP. A witness needs no host, no state and no log of its own.
//!
//! ```text
//! POST /add-checkpoint ──► AddCheckpoint::judge ──► cosign ──► logs/<SHA-256 of the origin>, synced ──► the cosignature line
//! ```
//!
//! *Owns:* `DIR/logs`, `DIR/evidence`. *Never:* answers before what it answers is durable; believes a request about what was cosigned before.
//! *Cannot see:* that its own directory was set back to an older copy. It then cosigns a second history from there on, so a
//! witness's disk is not to be restored from a backup.
//! *Spec:* C2SP tlog-witness; `docs/formats/cosignature.md`.

mod memory;
mod server;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use strongroom_job::SecretKey;
use strongroom_job::cosignature::CosignerKey;
use strongroom_job::note::KeyName;
use strongroom_job::succession::KeyChain;

use crate::http::{Door, Listening};

pub use memory::{Memory, MemoryError, NotCosigned};

/// The directory of what it cosigned, in its own.
pub(crate) const MEMORY: &str = "logs";
/// The most logs of one witness.
pub const MAX_LOGS: usize = 10_000;

/// A witness that serves.
#[derive(Debug)]
pub struct Witness {
    key: CosignerKey,
    listening: Listening,
}

/// Why a witness does not start.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// What it remembers.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The address.
    #[error("cannot listen at {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
}

impl Witness {
    /// Serves at `address` with what `dir` remembers of `logs`.
    ///
    /// # Errors
    /// When the memory cannot be read, or the address is not to be had.
    pub async fn start(
        dir: &Path,
        name: KeyName,
        key: SecretKey,
        logs: Vec<impl Into<KeyChain>>,
        address: SocketAddr,
    ) -> Result<Self, WitnessError> {
        let public = CosignerKey::new(name.clone(), key.public());
        let memory = Memory::open(dir, name, key, logs)?;
        let answer = Arc::new(server::Cosigner::new(memory));
        let listening = Listening::start(address, Door::default(), answer).await;
        let listening = listening.map_err(|error| WitnessError::Listen { address, error })?;
        Ok(Self { key: public, listening })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// What checks its cosignatures.
    #[must_use]
    pub const fn key(&self) -> &CosignerKey {
        &self.key
    }

    /// Finishes what is being answered, and ends.
    pub async fn stop(self) {
        self.listening.stop().await;
    }
}
