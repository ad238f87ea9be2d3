//! Runs one WebAssembly module inside stated bounds.
//!
//! The flow, in reading order:
//!
//! ```text
//! EngineConfig → Engine ──compile──► Module ──Sandbox::run(Grant, Limits, Stdio, CancelToken)──► Report
//!       └─ precompile, in another process ─► bytes ─ Vouched ─ Engine::load ─┘
//! ```
//!
//! * [`Engine`] holds the only `wasmtime::Config`, the pool of memories and stacks, and the epoch ticker.
//! * [`Module`] is checked, compiled and linked once; running it again costs microseconds.
//! * [`Grant`] says what the guest may touch ([`Grant::none`] lists what that denies), [`Limits`] how much
//!   of it, [`Stdio`] where its input comes from and its output goes, and who watches its [`Progress`].
//! * [`Sandbox::run`] answers with an [`Outcome`] for whatever the guest did, and with a [`HostFault`] only for
//!   what this side did wrong.
//!
//! *Owns:* everything that touches wasmtime. *Never:* jobs, keys, signatures, databases, sockets but a guest's; no crate of the
//! SDK is imported here, so that this crate is useful alone.
//!
//! ```
//! # use strongroom_runtime::*;
//! # async fn demo(wasm: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::new(EngineConfig::default())?;
//! let module = engine.compile(wasm)?;
//! let (stdout, collected) = Collect::new();
//! let stdio = Stdio::null().stdin_bytes("some input").stdout(stdout);
//! let report = Sandbox::run(&module, &Grant::none(), &Limits::default(), stdio, &CancelToken::never()).await?;
//! println!("{:?} after {:?}: {:?}", report.outcome, report.usage.wall, collected.take());
//! # Ok(()) }
//! ```

// One file has an exception, with the reason beside it.
#![deny(unsafe_code)]

#[macro_use]
mod stage;

mod quantity;

mod config;
mod direct;
mod engine;
mod pool;
mod probe;
mod ticker;

mod artifact;
mod features;
mod module;
mod refusal;

mod areas;
mod inspect;

mod grant;
mod limits;
mod net;
mod reach;
mod rules;
mod standin;
mod told;

mod pipes;
mod progress;
mod sinks;
mod stdin;
mod stdio;
mod stdout;

mod cancel;
mod drive;
mod fs;
mod meter;
mod outcome;
mod sandbox;
mod soft;
mod verdict;

pub use areas::Area;
pub use artifact::{ArtifactError, Compatibility, Vouched, precompile};
pub use cancel::CancelToken;
pub use config::{Allocation, EngineConfig};
pub use engine::{Engine, EngineError};
pub use grant::{Access, Grant};
pub use inspect::{Inspection, MAX_PRODUCERS, MAX_REFUSALS, Producer, examine};
pub use limits::{LimitKind, Limits};
pub use module::{Import, Metering, Module, ModuleInfo, ModuleKind, inspect};
pub use net::http::tls::TlsRoots;
pub use net::resolve::{Lookup, Resolve, Resolver};
pub use outcome::{HostFault, Outcome, Report, TrapKind, Usage};
pub use pool::PoolUse;
pub use probe::open_kernel_files;
pub use progress::{MAX_PROGRESS_TEXT, MAX_RESULT, Progress};
pub use quantity::{ByteSize, Fuel};
pub use reach::{MAX_KINDS, MAX_OBSERVED, Reach, Reached};
pub use refusal::ModuleError;
pub use rules::{Destination, Hosts, HttpHost, HttpRule, Listener, Protocol};
pub use sandbox::Sandbox;
pub use sinks::{Collect, Collected, Discard, WriteSink};
pub use stdio::{MAX_CHUNK, OutputSink, Stdio};

/// Largest module that is looked at; the bytes of a larger one are never parsed.
pub const MAX_MODULE_SIZE: ByteSize = ByteSize::mib(64);
