//! One attempt: from an admitted job to how it ended.

use std::io;
use std::time::Duration;

use strongroom_job::{
    Denial, Digest, Input, Limit, MAX_DENIALS, Outcome, OutputSalt, OutputSummary, SCRATCH_PATH,
    SECRETS_PATH, Usage,
};
use strongroom_runtime as sandbox;
use strongroom_runtime::{ByteSize, CancelToken, Fuel, LimitKind, Metering, Sandbox, Stdio};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::output::{Kept, Outputs, Spool};
use super::{Places, Shared, inputs};
use crate::admission::AdmittedJob;
use crate::blobs::Blobs;
use crate::compile::LoadError;
use crate::lifecycle::Finished;
use crate::rooms::{Collected, Room, collect};
use crate::secrets::Given;
use crate::store::Outputs as Inline;

/// The part of [`ARTIFACTS_PATH`](strongroom_job::ARTIFACTS_PATH) below the scratch directory.
const ARTIFACTS: &str = "out";

/// How an attempt ended, and the output that goes into the store with it.
pub(super) struct Ended {
    pub(super) finished: Finished,
    pub(super) inline: Inline,
}

/// Something of the host's that went wrong, in words for the record.
struct Fault(String);

impl<E: std::error::Error> From<E> for Fault {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Runs the job once. Whatever goes wrong is in the outcome.
pub(super) async fn run(
    shared: &Shared,
    job: &AdmittedJob,
    outputs: &Outputs,
    cancel: &CancelToken,
) -> Ended {
    match attempt(shared, job, outputs, cancel).await {
        Ok(ended) => ended,
        Err(Fault(reason)) => {
            tracing::error!(job = %job.id(), %reason, "the attempt failed at the host");
            faulted(reason)
        }
    }
}

/// The end of an attempt that the host is to blame for.
pub(super) fn faulted(reason: String) -> Ended {
    Ended { finished: Finished::without_run(Outcome::Faulted { reason }), inline: Inline::default() }
}

async fn attempt(
    shared: &Shared,
    job: &AdmittedJob,
    outputs: &Outputs,
    cancel: &CancelToken,
) -> Result<Ended, Fault> {
    let task = job.task();
    let metering = if task.limits.fuel.is_some() { Metering::Fuel } else { Metering::None };
    let module = tokio::select! {
        module = shared.modules.get(&task.module.digest, metering) => match module {
            Ok(module) => module,
            Err(LoadError::Host(reason)) => return Err(Fault(reason)),
            // It was compiled when it was registered; only another engine, or smaller bounds, can find fault with it now.
            Err(error) => return Err(Fault(format!("the module does not run on this host: {error}"))),
        },
        () = cancel.cancelled() => {
            let finished = Finished::without_run(Outcome::Cancelled);
            return Ok(Ended { finished, inline: Inline::default() });
        }
    };
    let in_force = shared.policy.in_force();
    let who = in_force.principal(job.signer(), shared.board.now());
    let grant = job.grant(who.as_deref(), &shared.policy.of(&in_force))?;
    let scratch = if task.capabilities.scratch { Some(scratch(shared, job).await?) } else { None };
    let secrets = secrets(shared, job).await?;
    let mut grant = secrets.variables().fold(grant, |grant, (name, value)| grant.env(name, value));
    if let Some(files) = secrets.files() {
        grant = grant.read_dir(files, SECRETS_PATH);
    }
    if let Some(room) = &scratch {
        grant = grant.write_dir(room.path(), SCRATCH_PATH);
    }
    let limits = limits(&task.limits);
    let (stdout, stdout_remains) = Spool::new(&outputs.stdout, &shared.blobs);
    let (stderr, stderr_remains) = Spool::new(&outputs.stderr, &shared.blobs);
    let stdio = input(shared, job).await?.stdout(stdout).stderr(stderr).progress(outputs.progress.clone());
    let cancel = cancel.clone();
    let guest = async move { Sandbox::run(&module, &grant, &limits, stdio, &cancel).await };
    let report = on_guest_thread(&shared.guests, guest).await;
    secrets.remove().await;
    let report = report?;
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).map_err(io::Error::other)?;
    let salt = OutputSalt::from_bytes(salt);
    let mut ended = ended(report, stdout_remains.keep().await?, stderr_remains.keep().await?, salt);
    if let Some(room) = scratch {
        let left = leave(&mut ended.finished, &room, &shared.blobs).await;
        // Before the end is told: whoever hears of it finds nothing behind.
        room.remove().await;
        left?;
    }
    Ok(ended)
}

/// Runs a guest among the other guests; it is stopped when this is dropped.
async fn on_guest_thread<E: std::error::Error + Send + 'static>(
    guests: &Handle,
    guest: impl Future<Output = Result<sandbox::Report, E>> + Send + 'static,
) -> Result<sandbox::Report, Fault> {
    match AbortOnDropHandle::new(guests.spawn(guest)).await {
        Ok(report) => Ok(report?),
        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        // The host is being stopped and this attempt with it: that is no end of the job, and the next start judges it.
        Err(_) => std::future::pending().await,
    }
}

/// A new scratch directory with a place for artifacts.
async fn scratch(shared: &Shared, job: &AdmittedJob) -> io::Result<Room> {
    let (rooms, name) = (shared.places.scratch.clone(), job.id().to_string());
    let made = tokio::task::spawn_blocking(move || {
        let room = rooms.room(&name)?;
        room.make(ARTIFACTS)?;
        Ok(room)
    });
    made.await.map_err(io::Error::other)?
}

async fn secrets(shared: &Shared, job: &AdmittedJob) -> Result<Given, Fault> {
    if job.task().capabilities.secrets.is_empty() {
        return Ok(Given::default());
    }
    let Places { vault, memory, .. } = shared.places.clone();
    let (job, asked) = (job.id(), job.task().capabilities.secrets.clone());
    let given = tokio::task::spawn_blocking(move || Given::prepare(&vault, &memory, job, &asked));
    Ok(given.await.map_err(io::Error::other)??)
}

/// What a guest that ended by itself left is kept, and told in its end. One that was stopped did not finish its files.
async fn leave(finished: &mut Finished, room: &Room, blobs: &Blobs) -> io::Result<()> {
    if !matches!(finished.outcome, Outcome::Exited { .. }) {
        return Ok(());
    }
    match collect(&room.path().join(ARTIFACTS), blobs).await {
        Ok(Collected::Kept(artifacts, notes)) => {
            finished.artifacts = artifacts;
            finished.denied.extend(notes);
            finished.denied.truncate(MAX_DENIALS);
        }
        Ok(Collected::TooMany { allowed, found }) => {
            finished.outcome = Outcome::Exceeded { limit: Limit::Artifacts, allowed, used: found };
        }
        // The directory is the guest's own, which may have removed it.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn ended(report: sandbox::Report, stdout: Kept, stderr: Kept, salt: OutputSalt) -> Ended {
    let sandbox::Report { outcome, usage, reached, result } = report;
    let finished = Finished {
        outcome: translate(outcome),
        usage: Usage {
            wall_us: micros(usage.wall),
            cpu_us: micros(usage.cpu),
            fuel: usage.fuel.map(|Fuel(units)| units),
            peak_memory_bytes: usage.peak_memory.as_u64(),
            stdin_bytes: usage.stdin.as_u64(),
            disk_bytes: usage.disk.as_u64(),
            files: usage.files,
            http_bytes: usage.http_body.as_u64(),
        },
        stdout: stdout.summary,
        stderr: stderr.summary,
        denied: denials(&reached),
        artifacts: Vec::new(),
        result: result.as_deref().map(summary),
        salt: Some(salt),
    };
    let inline = Inline { stdout: stdout.inline, stderr: stderr.inline, result };
    Ended { finished, inline }
}

fn summary(bytes: &[u8]) -> OutputSummary {
    OutputSummary { length: bytes.len() as u64, digest: Digest::of(bytes) }
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

async fn input(shared: &Shared, job: &AdmittedJob) -> Result<Stdio, Fault> {
    Ok(match &job.task().input {
        Input::Empty => Stdio::null(),
        Input::Outputs { artifact } => {
            let left = inputs::outputs(&shared.store, &shared.blobs, &job.id(), artifact.as_ref())?;
            Stdio::null().stdin(left)
        }
        Input::Inline(bytes) => Stdio::null().stdin_bytes(bytes.0.clone()),
        Input::Blob { digest, .. } => Stdio::null().stdin(shared.blobs.read(digest).await?),
    })
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
