//! The audit log on disk: plain files that anybody can check without trusting this host.
//!
//! `cosigned` keeps what witnesses signed, `served` says what may be shown to strangers, `succession` puts a new key in the place of the
//! one that signed.
//! `writer` appends and signs; `verify` believes nothing and rebuilds everything; `read` shows entries, makes
//! proofs and exports a verified copy. All of it is blocking file work: the host calls it from a thread of
//! its own.
//!
//! *Owns:* the files under the audit directory (`checkpoint`, `checkpoint.cosigned`, `log.pub`, `keys`, `tile/`).
//! *Never:* knows what an entry means, talks to the store, or signs a checkpoint over entries that are not durable.
//! *Crash:* the checkpoint is the only commit point; see `writer`. *Spec:* `docs/formats/tiles.md`.

pub mod cosigned;
mod durable;
mod export;
mod files;
mod leftovers;
pub mod read;
mod served;
pub mod succession;
pub mod verify;
pub mod writer;
mod writer_error;

pub use durable::{Hook, Step, When};
pub use export::ExportError;
pub use files::FileError;
pub(crate) use served::{LogFiles, Shown};
