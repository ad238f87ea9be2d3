//! The client of a Strongroom host: connect, push a module, submit signed jobs, watch them, fetch what they wrote.
//!
//! ```no_run
//! # async fn example() -> Result<(), strongroom_sdk::Error> {
//! use strongroom_sdk::{Client, ConnectOptions, Identity, Job, KnownHosts};
//!
//! let address = "127.0.0.1:7433";
//! let host_key = KnownHosts::load("known_hosts")?.key_of(address)?;
//! let identity = Identity::load("keys/client.key")?;
//! let client = Client::connect(ConnectOptions::new(address, host_key, identity)).await?;
//!
//! let module = client.push_module("wordcount.wasm").await?;
//! let job = Job::new(module).arg("/docs").read_volume("docs", "/docs");
//! let accepted = client.submit(&job).await?;
//! println!("{}", client.wait(accepted.job).await?.end.outcome);
//! # Ok(())
//! # }
//! ```
//!
//! The road of a request, and the module that holds each step:
//!
//! 1. [`Identity`] and [`KnownHosts`] say who we are and whom we trust (`identity`, `known_hosts`);
//! 2. [`Client::connect`] makes a channel on which each side has proven its key (`tls`, `quic`, `session`);
//! 3. [`Job`], [`Batch`] or [`Flow`] becomes a signed envelope (`job`, `batch`, `flow`, `signing`);
//! 4. `submit` hands it over; one stream carries one request and its answer (`exchange`), again if the trouble was temporary (`retry`);
//! 5. blobs go in and output comes out in pieces (`push`, `output`), checked against their SHA-256;
//! 6. jobs are watched, their ends told, read back and signed anew, queues looked at and set, events heard (`watch`, `ends`, `again`, `queues`, `events`);
//! 7. rights are given on to other keys, and taken back (`grants`); operators add principals, and take them out (`principals`);
//! 8. the host's signatures are checked: under what it accepted, and under what it says of a job's end (`receipts`).
//!
//! *Never:* trust on first use, a secret in an error or a log, a whole input or output in memory.
#![forbid(unsafe_code)]

mod again;
mod batch;
mod client;
mod clock;
mod ends;
mod erase;
mod error;
mod events;
mod exchange;
mod flow;
mod grants;
mod identity;
mod job;
mod known_hosts;
mod output;
mod principals;
mod push;
mod queues;
mod quic;
mod random;
mod receipts;
mod retry;
mod session;
mod signing;
mod source;
mod submit;
mod tls;
mod watch;

pub use batch::{Batch, BatchJob};
pub use client::{Client, ConnectOptions, Finished, JobList, ListFilter, Timeouts};
pub use ends::Ends;
pub use error::Error;
pub use events::Events;
pub use flow::{Flow, FlowJob, Handle};
pub use identity::Identity;
pub use job::{DEFAULT_LIFETIME, INLINE_INPUT_BYTES, Job, Repeats, Retries, When};
pub use known_hosts::{Followed, KnownHosts};
pub use output::OutputReader;
pub use push::{Progress, Push};
pub use retry::Retry;
pub use signing::Signed;
pub use source::Source;
/// The contract that host and client share: ids, views, outcomes, refusals.
pub use strongroom_job as types;
pub use strongroom_job::{
    AcceptedJob, Artifact, Denial, Digest, EventLine, EventQuery, GrantView, HostEvent, HostView, Input,
    JobEnd, JobId, JobState, JobView, Missed, ModuleRef, ModuleView, Name, Outcome, OutputStream,
    PrincipalSource, PrincipalView, PublicKey, QueueMode, QueueView, Refusal, RefusalCode, RetryOn,
    SecretKey, Taken, Timestamp,
};
pub use submit::Accepted;
pub use watch::runs_as;
