//! The Strongroom host: a library with everything that the `strongroom` command does.
//!
//! The road of a job, and the module that holds each step, in reading order:
//!
//! 1. [`intake`] takes a frame from a QUIC stream of a client whose key is known;
//! 2. [`host`] reads the envelope, which gives a [`VerifiedJob`](strongroom_job::VerifiedJob), and asks
//! 3. [`admission`] for an [`AdmittedJob`](admission::AdmittedJob) or a refusal;
//! 4. [`store`] commits it, with its audit record, durably, before the client is told;
//! 5. [`dispatch`] starts it when [`schedule`] says that it is its turn, and runs it in the sandbox of `strongroom-runtime`;
//! 6. [`lifecycle`] says which state follows, and [`store`] commits that, again with its record;
//! 7. `publisher` brings the records into the Merkle tree of [`audit`], and signs checkpoints;
//! 8. `cosigning` has witnesses cosign them, and `log_server` shows the log to whoever asks.
//! 8. [`forward`] sends what is published elsewhere as well.
//!
//! [`witness`] cosigns the checkpoints of other hosts' logs.
//! [`compile`] turns modules into machine code, in a process that may take so much and no more.
//! [`retention`] says which jobs that are over go.
//! [`worker`] runs guests in a process for each tenant, where the configuration says so.
//! While a job runs, `rooms` has its scratch directory and [`secrets`] what it may know.
//! [`evidence`] keeps, beside the log, what its records refer to, so that [`mend`] can make the state anew
//! (`store::rebuild`); [`fsck`] checks all of it, and `checkup` from time to time what can be checked while a host serves.
//! [`backup`] copies all that a host cannot make again, beside a host that serves.
//! [`trust`] says who may operate the host, as its operators signed it.
//! `admin` is the other face: what `meters` counted, health and status, over a socket in the data directory;
//! [`telemetry`] sends the same, and what becomes of jobs, to a collector.
//! `handed` has the sockets that a service manager made.
//! `disk` says how much room there is. [`config`] and [`home`] say what a host is made of, [`blobs`] keeps modules, inputs and long outputs, [`clock`] is the
//! one place that knows the time, [`cli`] is the command.
// Two files have an exception, with the reason beside it.
#![deny(unsafe_code)]

#[macro_use]
mod stage;

mod admin;
pub mod admission;
mod allocator;
pub mod audit;
pub mod backup;
pub mod blobs;
mod checkup;
pub mod cli;
pub mod clock;
pub mod compile;
pub mod config;
pub mod confine;
mod cosigning;
mod disk;
pub mod dispatch;
pub mod evidence;
pub mod forward;
pub mod fsck;
mod handed;
pub mod home;
pub mod host;
mod http;
pub mod intake;
pub mod lifecycle;
mod log_level;
mod log_server;
pub mod mend;
mod meters;
mod publisher;
mod refusals;
pub mod retention;
mod rooms;
pub mod schedule;
pub mod secrets;
mod spans;
pub mod store;
pub mod telemetry;
pub mod trust;
mod turns;
pub mod witness;
pub mod worker;
