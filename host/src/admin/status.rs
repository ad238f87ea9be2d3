//! `GET /status`: what this host is, where it listens, how far its log is.
//!
//! *Spec:* `docs/reference/cli.md`, "`strongroom status`".

use std::net::SocketAddr;

use serde::Serialize;
use strongroom_job::{PublicKey, Timestamp};

use super::{SOCKET, Shared, health};
use crate::audit::read::LogReader;
use crate::config::AllowList;

#[derive(Serialize)]
struct Status {
    version: &'static str,
    host_key: PublicKey,
    pid: u32,
    dir: String,
    started: Timestamp,
    uptime_ms: u64,
    listeners: Vec<Listener>,
    log: Log,
    jobs: Jobs,
    connections: u64,
    ready: bool,
    /// Why it is not ready.
    problems: Vec<String>,
    /// What somebody should look at all the same.
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Listener {
    /// What for: `jobs`, `log`, `admin`.
    purpose: &'static str,
    protocol: &'static str,
    address: String,
    /// In words.
    who: String,
}

#[derive(Serialize)]
struct Log {
    origin: String,
    /// Durable.
    records: u64,
    /// Under a checkpoint.
    published: u64,
    /// Under one that witnesses signed, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    cosigned: Option<u64>,
}

#[derive(Serialize, Default)]
struct Jobs {
    accepted: u64,
    scheduled: u64,
    queued: u64,
    running: u64,
}

pub(super) fn of(shared: &Shared) -> String {
    let watched = &shared.watched;
    let problems = health::problems(shared);
    let meters = watched.store.meters();
    let (queues, _) = watched.dispatcher.board().watched();
    let mut jobs = Jobs::default();
    for queue in queues {
        jobs.accepted += u64::from(queue.jobs.held);
        jobs.scheduled += u64::from(queue.jobs.scheduled);
        jobs.queued += u64::from(queue.jobs.queued);
        jobs.running += u64::from(queue.jobs.running);
    }
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        host_key: watched.key,
        pid: std::process::id(),
        dir: watched.dir.display().to_string(),
        started: watched.started,
        uptime_ms: u64::try_from(meters.uptime().as_millis()).unwrap_or(u64::MAX),
        listeners: listeners(shared),
        log: Log {
            origin: shared.in_force().config.log_origin.clone(),
            records: watched.store.log_size(),
            published: *watched.published.borrow(),
            cosigned: cosigned(shared),
        },
        jobs,
        connections: meters.connections.load(std::sync::atomic::Ordering::Relaxed),
        ready: problems.is_empty(),
        problems,
        warnings: health::warnings(shared),
    };
    #[expect(clippy::expect_used, reason = "plain data with text for keys always serializes")]
    serde_json::to_string(&status).expect("plain data serializes")
}

/// Everything that this host listens at. What is not here is not open.
fn listeners(shared: &Shared) -> Vec<Listener> {
    let in_force = shared.in_force();
    let (watched, config) = (&shared.watched, &in_force.config);
    let from = |allow_from: Option<&AllowList>| match allow_from {
        Some(networks) => format!("from {networks}"),
        None => "from any address that reaches it".to_owned(),
    };
    let tcp = |purpose, address: SocketAddr, who: String| Listener {
        purpose,
        protocol: "HTTP over TCP",
        address: address.to_string(),
        who,
    };
    let mut listeners = vec![Listener {
        purpose: "jobs",
        protocol: "QUIC over UDP",
        address: watched.jobs.to_string(),
        who: format!("the keys of {}, {}", keys(shared), from(config.allow_from.as_ref())),
    }];
    if let Some(address) = watched.log_served {
        let who = format!("anybody, for reading, {}", from(config.serve_log_allow_from.as_ref()));
        listeners.push(tcp("log", address, who));
    }
    listeners.push(Listener {
        purpose: "admin",
        protocol: "HTTP over a unix socket",
        address: watched.dir.join(SOCKET).display().to_string(),
        who: format!("user {} of this machine, and root", rustix::process::geteuid().as_raw()),
    });
    if let (Some(address), Some(admin)) = (shared.tcp, &config.admin) {
        let who = format!("anybody, metrics and health only, {}", from(Some(&admin.allow_from)));
        listeners.push(tcp("admin", address, who));
    }
    listeners
}

/// Who may connect at this moment, in numbers.
fn keys(shared: &Shared) -> String {
    let in_force = shared.in_force();
    let principals = in_force.config.principals.len();
    match in_force.delegates(shared.watched.clock.now()) {
        0 => format!("{principals} principals"),
        delegates => format!("{principals} principals and {delegates} delegates"),
    }
}

/// How far witnesses have signed; none where nobody is asked, or nobody has.
pub(super) fn cosigned(shared: &Shared) -> Option<u64> {
    if shared.in_force().config.witnesses.is_empty() {
        return None;
    }
    let reader = LogReader::open(&shared.watched.dir.join("audit"), Some(shared.watched.log.key())).ok()?;
    Some(reader.cosigned().ok()??.size().get())
}
