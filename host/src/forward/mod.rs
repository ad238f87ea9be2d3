//! Forwarding: the audit log goes elsewhere as well, so that the evidence does not stay on the machine that it is about.
//!
//! A forwarder is a reader of the published log, as anybody could be. `course` has the one loop of each destination: read up
//! to the checkpoint (`entry`), hand a batch to its sink, keep the place (`cursor`). Sinks: `stream` (syslog over TCP and, by `tls`, TLS),
//! `datagram` (syslog over UDP and Unix sockets), `file` (JSON lines, rotated), `otlp` (HTTP, through `collector` and `wire`). `syslog` and `json` make what is sent;
//! both are pure. `status` tells how far each destination is, what is wrong with it (`problem`) and what it refused (`gaps`); `kept` reads
//! their small files.
//!
//! *Owns:* a thread for each destination, `forward` in the data directory.
//! *Never:* keeps a job, a submit or a publication waiting: nobody waits for a forwarder. Leaves a record out: what cannot be sent
//! stays in the log, which is kept for ever, and is sent later. Only UDP loses without anybody's knowing.
//! *Crash:* records since the last cursor are sent again; each carries its index. *Spec:* `docs/formats/forwarding.md`.

mod collector;
mod course;
mod cursor;
mod datagram;
mod entry;
mod file;
mod gaps;
mod json;
mod kept;
mod otlp;
mod problem;
mod status;
mod stream;
mod syslog;
mod tls;
mod wire;

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use strongroom_job::{Name, PublicKey};
use tokio::sync::watch;

use crate::config::Forward;

use course::{Course, LAST};
use tls::Tls;

pub(crate) use collector::{Collector, rejected};
pub use gaps::Rejected;
pub(crate) use json::{Attribute, Resource};
pub use status::{Status, statuses};

/// The directory of cursors, in the data directory.
pub(crate) const DIRECTORY: &str = "forward";

/// The threads that forward.
#[derive(Debug)]
pub(crate) struct Forwarders {
    stop: watch::Sender<bool>,
    /// Ends when the last of them has ended.
    ended: Receiver<()>,
}

/// Where a forwarder reads, and who must have signed what it reads.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The data directory.
    pub(crate) home: std::path::PathBuf,
    /// The log's key.
    pub(crate) key: PublicKey,
    /// Changes with every publication.
    pub(crate) published: watch::Receiver<u64>,
}

impl Forwarders {
    /// Starts one thread for each destination.
    ///
    /// # Errors
    /// When a destination's `ca_file` is of no use, the directory of cursors cannot be made, or a thread cannot be had. The first
    /// comes before any thread.
    pub(crate) fn start(forwards: &[Forward], source: &Source) -> io::Result<Self> {
        let tls: Vec<_> = forwards.iter().map(tls).collect::<Result<_, _>>().map_err(io::Error::other)?;
        let (stop, stopped) = watch::channel(false);
        let (alive, ended) = channel();
        if !forwards.is_empty() {
            make_directory(&source.home)?;
        }
        for (forward, tls) in forwards.iter().zip(tls) {
            let course = Course::new(forward.clone(), tls, source.clone(), stopped.clone());
            spawn(course, alive.clone())?;
        }
        Ok(Self { stop, ended })
    }

    /// Has each destination get what is published, as far as it takes that within seconds; ends them all. Blocks.
    pub(crate) fn stop(self) {
        let Self { stop, ended } = self;
        stop.send_replace(true);
        // Nobody sends: the channel ends with the last thread. One that its disk does not let go is left behind.
        if ended.recv_timeout(LAST + Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!(
                "a destination of the audit log does not let go; what it has not taken is sent after the next start"
            );
        }
    }
}

/// A `ca_file` with which no receiver can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("[[forward]] {name}: {problem}")]
pub struct TrustError {
    /// The destination.
    pub name: Name,
    /// What is wrong with which certificate.
    pub problem: String,
}

/// Whether a host could trust a receiver at every destination of `forwards` that has TLS. Opens no connection.
///
/// # Errors
/// The first that would keep a host from starting.
pub fn check(forwards: &[Forward]) -> Result<(), TrustError> {
    forwards.iter().try_for_each(|forward| tls(forward).map(drop))
}

fn tls(forward: &Forward) -> Result<Option<Tls>, TrustError> {
    let tls = forward.to.is_tls().then(|| Tls::new(&forward.roots)).transpose();
    tls.map_err(|problem| TrustError { name: forward.name.clone(), problem })
}

fn spawn(course: Course, alive: Sender<()>) -> io::Result<()> {
    // A runtime of its own: what blocks here, such as a file on a slow disk, blocks nobody else.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("forward-{}", course.name())).spawn(move || {
        runtime.block_on(course.run());
        // A name that is being looked up is not waited for.
        runtime.shutdown_background();
        drop(alive);
    })?;
    Ok(())
}

fn make_directory(home: &Path) -> io::Result<()> {
    let directory = home.join(DIRECTORY);
    crate::home::place::private_directory(&directory).map_err(|error| io::Error::other(error.to_string()))?;
    crate::home::place::sync_parent(&directory).map_err(|error| io::Error::other(error.to_string()))
}

/// Why a destination does not go on for now, or not at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// It is tried again.
    #[error("{0}")]
    Later(String),
    /// It needs somebody.
    #[error("{0}")]
    Stuck(String),
}

impl Trouble {
    #[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` calls")]
    fn later(problem: impl ToString) -> Self {
        Self::Later(problem.to_string())
    }
}
