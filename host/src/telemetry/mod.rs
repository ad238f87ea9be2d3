//! Traces and metrics of the host go to a collector, over OTLP, if the configuration says so.
//!
//! ```text
//! service, dispatch ── Tracer: try_send ──► channel ──► Exporter ── spans  ──► /v1/traces
//!                                            page() ──►   its thread ── numbers ──► /v1/metrics
//! ```
//!
//! `tracer` is what the parts of the host note things with; it never waits, and what has no room is dropped and counted. `ids` names
//! traces and spans, so that all that a job does over restarts of the host is one trace. `exporter` has the one loop; `spans` and `numbers`
//! write requests, and are pure. The way to the collector is `forward`'s.
//!
//! *Owns:* a thread at a low priority, the channel. *Never:* keeps a job waiting; tells anything of a job but its id, its tenant, its queue,
//! how often it ran and how it ended: no argument, no name of a file, no word of a guest.
//! *Bound:* `MAX_WAITING` things that happened, one request of each kind. *Crash:* what was not sent is gone; the
//! audit log has it all the same.
//! *Spec:* `docs/formats/telemetry.md`.

mod exporter;
mod ids;
mod numbers;
mod spans;
mod tracer;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use futures_util::future::BoxFuture;
use strongroom_job::{JobId, JobState, Timestamp};
use tokio::sync::watch;

use crate::config::{self, Config};
use crate::forward::{Collector, Resource};
use crate::meters::Meters;
use crate::meters::page::Page;

use exporter::{Exporter, LAST};
pub(crate) use tracer::{Part, Steps, Subject, Tracer};

/// What this stands behind everything else of the host, guests too.
const NICENESS: i32 = 10;

/// What is asked of the host by the thread that exports.
pub(crate) struct Source {
    /// When the host started: all its counters began then.
    pub(crate) started: Timestamp,
    pub(crate) now: Box<dyn Fn() -> Timestamp + Send>,
    pub(crate) page: Box<dyn Fn() -> Page + Send>,
    /// A job that is over; none when nothing is known of it any more.
    pub(crate) end: Box<dyn Fn(JobId) -> BoxFuture<'static, Option<Ended>> + Send>,
    pub(crate) meters: Arc<Meters>,
}

/// The whole way of a job that is over.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) subject: Subject,
    pub(crate) admitted_at: Timestamp,
    pub(crate) ended_at: Timestamp,
    pub(crate) state: JobState,
    pub(crate) attempts: u32,
}

/// The thread that exports.
#[derive(Debug)]
pub(crate) struct Telemetry {
    stop: watch::Sender<bool>,
    ended: Receiver<()>,
}

/// A `ca_file` with which no collector can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("[telemetry]: {0}")]
pub struct TrustError(String);

/// Whether a host could trust the collector of this configuration, if it has one with TLS. Opens no connection.
///
/// # Errors
/// What keeps it from that.
pub fn check(config: &Config) -> Result<(), TrustError> {
    let Some(telemetry) = &config.telemetry else { return Ok(()) };
    collector(telemetry, "").map(drop)
}

fn collector(telemetry: &config::Telemetry, signal: &str) -> Result<Collector, TrustError> {
    let config::Endpoint { tls, server, prefix } = &telemetry.to;
    let roots = tls.then_some(&telemetry.roots);
    Collector::new(server.clone(), format!("{prefix}{signal}"), roots).map_err(TrustError)
}

impl Telemetry {
    /// Starts the thread, and gives what is noted with. The log has the name `log`.
    ///
    /// # Errors
    /// When the collector could not be trusted, or there is no thread to be had.
    pub(crate) fn start(
        telemetry: &config::Telemetry,
        log: String,
        source: Source,
    ) -> io::Result<(Self, Option<Tracer>)> {
        let [traces, metrics] = ["/v1/traces", "/v1/metrics"].map(|signal| collector(telemetry, signal));
        let (traces, metrics) = (traces.map_err(io::Error::other)?, metrics.map_err(io::Error::other)?);
        let (tracer, items) = Tracer::new(Arc::clone(&source.meters));
        let (stop, stopped) = watch::channel(false);
        let (alive, ended) = channel();
        let exporter = Exporter::new(
            telemetry.traces.then_some((traces, items)),
            telemetry.metrics_every.map(|every| (metrics, every)),
            Resource::new(log),
            source,
            stopped,
        );
        // A runtime of its own: what blocks here blocks nobody else.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("telemetry".into()).spawn(move || {
            if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                tracing::debug!(%error, "telemetry keeps the priority of the host");
            }
            runtime.block_on(exporter.run());
            // A name that is being looked up is not waited for.
            runtime.shutdown_background();
            drop(alive);
        })?;
        Ok((Self { stop, ended }, telemetry.traces.then_some(tracer)))
    }

    /// Sends what waits, as far as the collector takes that within seconds, and ends the thread. Blocks.
    pub(crate) fn stop(self) {
        self.stop.send_replace(true);
        // Nobody sends: the channel ends with the thread.
        if self.ended.recv_timeout(LAST + Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the thread that sends traces and metrics does not end; it is left behind");
        }
    }
}
