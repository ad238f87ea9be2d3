//! What a run of a guest was, in the contract's words: the same whichever process it ran in.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use strongroom_job::{Denial, Limit, MAX_DENIALS, Outcome, Usage};
use strongroom_runtime as sandbox;
use strongroom_runtime::{ByteSize, Fuel, LimitKind};

/// How a guest ended, what it used, and what it was denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ran {
    pub(crate) outcome: Outcome,
    pub(crate) usage: Usage,
    pub(crate) denied: Vec<Denial>,
    /// What it set as its result. Goes another way where there are two processes.
    #[serde(skip)]
    pub(crate) result: Option<Vec<u8>>,
}

impl Ran {
    /// What the sandbox reports.
    pub(crate) fn of(report: sandbox::Report) -> Self {
        let sandbox::Report { outcome, usage, reached, result, .. } = report;
        let usage = Usage {
            wall_us: micros(usage.wall),
            cpu_us: micros(usage.cpu),
            fuel: usage.fuel.map(|Fuel(units)| units),
            peak_memory_bytes: usage.peak_memory.as_u64(),
            stdin_bytes: usage.stdin.as_u64(),
            disk_bytes: usage.disk.as_u64(),
            files: usage.files,
            http_bytes: usage.http_body.as_u64(),
        };
        Self { outcome: translate(outcome), usage, denied: denials(&reached), result }
    }

    /// A guest that was cancelled before it began.
    pub(crate) fn cancelled() -> Self {
        Self { outcome: Outcome::Cancelled, usage: Usage::default(), denied: Vec::new(), result: None }
    }
}

/// What the guest was denied, most often first when there are too many to tell.
fn denials(reached: &[sandbox::Reached]) -> Vec<Denial> {
    let mut denied: Vec<_> = reached.iter().filter(|reached| !reached.granted).collect();
    if denied.len() > MAX_DENIALS {
        denied.sort_by_key(|reached| std::cmp::Reverse(reached.count));
        denied.truncate(MAX_DENIALS);
    }
    denied.iter().map(|reached| Denial { what: reached.what.to_string(), count: reached.count }).collect()
}

/// The sandbox's limits for what a job asks for.
pub(crate) fn limits(asked: &strongroom_job::Limits) -> sandbox::Limits {
    sandbox::Limits {
        memory: ByteSize::bytes(asked.memory_bytes),
        fuel: asked.fuel.map(Fuel),
        wall: Duration::from_millis(asked.wall_ms),
        stdout: ByteSize::bytes(asked.stdout_bytes),
        stderr: ByteSize::bytes(asked.stderr_bytes),
        cpu: asked.cpu_ms.map(Duration::from_millis),
        disk: ByteSize::bytes(asked.disk_bytes),
        file_size: ByteSize::bytes(asked.file_bytes),
        files: asked.files,
        handles: asked.handles,
        sockets: asked.sockets,
        http_body: ByteSize::bytes(asked.http_bytes),
        instances: asked.instances,
        host_buffer: ByteSize::bytes(asked.host_buffer_bytes),
        ..sandbox::Limits::default()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The sandbox's outcome in the contract's words.
pub(crate) fn translate(outcome: sandbox::Outcome) -> Outcome {
    match outcome {
        sandbox::Outcome::Exited(code) => Outcome::Exited { code },
        sandbox::Outcome::Trapped { message, .. } => Outcome::Trapped { reason: message },
        sandbox::Outcome::Exceeded { limit, allowed, used } => match translate_limit(limit) {
            Some(limit) => Outcome::Exceeded { limit, allowed, used },
            None => Outcome::Faulted {
                reason: format!("the sandbox has a limit {limit} that this host does not know"),
            },
        },
        sandbox::Outcome::Cancelled => Outcome::Cancelled,
        // Admission has held the limits against the host's maxima, so this is the host's own mistake.
        sandbox::Outcome::Denied { what } => Outcome::Faulted { reason: what },
        other => Outcome::Faulted {
            reason: format!("the sandbox ended in a way that this host does not know: {other}"),
        },
    }
}

fn translate_limit(limit: LimitKind) -> Option<Limit> {
    Some(match limit {
        LimitKind::Memory => Limit::Memory,
        LimitKind::Fuel => Limit::Fuel,
        LimitKind::Wall => Limit::WallTime,
        LimitKind::Stdout => Limit::Stdout,
        LimitKind::Stderr => Limit::Stderr,
        LimitKind::Instances => Limit::Instances,
        LimitKind::Tables => Limit::Tables,
        LimitKind::Memories => Limit::Memories,
        LimitKind::Handles => Limit::Handles,
        LimitKind::HostBuffer => Limit::HostBuffers,
        LimitKind::Cpu => Limit::CpuTime,
        LimitKind::Disk => Limit::Disk,
        LimitKind::FileSize => Limit::FileSize,
        LimitKind::Files => Limit::Files,
        LimitKind::Sockets => Limit::Sockets,
        LimitKind::HttpBody => Limit::HttpBodies,
        _ => return None,
    })
}
