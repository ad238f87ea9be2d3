//! One attempt: from an admitted job to how it ended.

use std::io;
use std::time::Duration;

use strongroom_job::{
    Access, Digest, Input, Limit, MAX_DENIALS, Outcome, OutputSalt, OutputSummary, SCRATCH_PATH, SECRETS_PATH,
};
use strongroom_runtime as sandbox;
use strongroom_runtime::{CancelToken, Metering, Sandbox};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::output::{Kept, Outputs, Spool};
use super::ran::{Ran, limits};
use super::{Places, Shared, inputs};
use crate::admission::AdmittedJob;
use crate::blobs::Blobs;
use crate::compile::LoadError;
use crate::lifecycle::Finished;
use crate::rooms::{Collected, Room, collect};
use crate::secrets::Given;
use crate::store::Outputs as Inline;
use crate::telemetry::{Part, Steps};
use crate::worker::{Area, Order, Source, Work};

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
    steps: &mut Steps,
) -> Ended {
    match attempt(shared, job, outputs, cancel, steps).await {
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
    steps: &mut Steps,
) -> Result<Ended, Fault> {
    steps.next(Part::Load);
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
    steps.next(Part::Prepare);
    let in_force = shared.policy.in_force();
    let who = in_force.principal(job.signer(), shared.board.now());
    let mut terms = job.terms(who.as_deref(), &shared.policy.of(&in_force))?;
    let area = area(shared, job).await?;
    let scratch = if task.capabilities.scratch { Some(scratch(&area, job).await?) } else { None };
    let secrets = secrets(shared, &area, job).await?;
    for (name, value) in secrets.variables() {
        terms.env(name, value);
    }
    if let Some(files) = secrets.files() {
        terms.directory(files, SECRETS_PATH, Access::Read);
    }
    if let Some(room) = &scratch {
        terms.directory(room.path(), SCRATCH_PATH, Access::ReadWrite);
    }
    let (stdout, stdout_remains) = Spool::new(&outputs.stdout, &shared.blobs);
    let (stderr, stderr_remains) = Spool::new(&outputs.stderr, &shared.blobs);
    let progress = outputs.progress.clone();
    let input = input(shared, job).await?;
    steps.next(Part::Instantiate);
    let ran: Result<Ran, Fault> = match &shared.places.workers {
        Some(workers) => {
            let walls = workers.walls(&job.context().tenant, &in_force.config, &area, &terms);
            let work = Work {
                tenant: job.context().tenant.clone(),
                order: Order::new(task.module.digest, metering, terms, task.limits.clone()),
                code: shared.modules.code(&task.module.digest, metering).await?,
                input,
                sinks: [Box::new(stdout), Box::new(stderr)],
                progress,
                cancel: cancel.clone(),
            };
            let ran = Box::pin(workers.run(walls, work)).await.map_err(Fault::from);
            if let Ok(ran) = &ran {
                // A worker does not say how long it took to begin.
                steps.was(Part::Run, Duration::from_micros(ran.usage.wall_us));
            }
            ran
        }
        None => {
            let (grant, limits, cancel) = (terms.grant(), limits(&task.limits), cancel.clone());
            let stdio = input.stdio().stdout(stdout).stderr(stderr).progress(progress);
            let guest = async move { Sandbox::run(&module, &grant, &limits, stdio, &cancel).await };
            let report = on_guest_thread(&shared.guests, guest).await;
            if let Ok(report) = &report
                && let Some(began) = report.began_after
            {
                steps.was(Part::Run, report.usage.wall.saturating_sub(began));
            }
            report.map(Ran::of)
        }
    };
    steps.next(Part::Keep);
    secrets.remove().await;
    let ran = ran?;
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).map_err(io::Error::other)?;
    let salt = OutputSalt::from_bytes(salt);
    let kept = async { io::Result::Ok((stdout_remains.keep().await?, stderr_remains.keep().await?)) };
    let (stdout, stderr) = kept.instrument(stage!("collect")).await?;
    let mut ended = ended(ran, stdout, stderr, salt);
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
    match AbortOnDropHandle::new(guests.spawn(guest.in_current_span())).await {
        Ok(report) => Ok(report?),
        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        // The host is being stopped and this attempt with it: that is no end of the job, and the next start judges it.
        Err(_) => std::future::pending().await,
    }
}

/// Where the job's tenant has its rooms: those of the host, or its own.
async fn area(shared: &Shared, job: &AdmittedJob) -> io::Result<Area> {
    let Places { area, workers, .. } = &shared.places;
    let Some(workers) = workers.clone() else { return Ok(area.clone()) };
    let (area, tenant) = (area.clone(), job.context().tenant.clone());
    tokio::task::spawn_blocking(move || workers.area(&area, &tenant)).await.map_err(io::Error::other)?
}

/// A new scratch directory with a place for artifacts.
async fn scratch(area: &Area, job: &AdmittedJob) -> io::Result<Room> {
    let (rooms, name) = (area.scratch.clone(), job.id().to_string());
    let made = tokio::task::spawn_blocking(move || {
        let room = rooms.room(&name)?;
        room.make(ARTIFACTS)?;
        Ok(room)
    });
    made.await.map_err(io::Error::other)?
}

async fn secrets(shared: &Shared, area: &Area, job: &AdmittedJob) -> Result<Given, Fault> {
    if job.task().capabilities.secrets.is_empty() {
        return Ok(Given::default());
    }
    let (vault, memory) = (shared.places.vault.clone(), area.memory.clone());
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

fn ended(ran: Ran, stdout: Kept, stderr: Kept, salt: OutputSalt) -> Ended {
    let Ran { outcome, usage, denied, result } = ran;
    let finished = Finished {
        outcome,
        usage,
        stdout: stdout.summary,
        stderr: stderr.summary,
        denied,
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

async fn input(shared: &Shared, job: &AdmittedJob) -> Result<Source, Fault> {
    Ok(match &job.task().input {
        Input::Empty => Source::Empty,
        Input::Outputs { artifact } => {
            let left = inputs::outputs(&shared.store, &shared.blobs, &job.id(), artifact.as_ref())?;
            Source::Stream(left)
        }
        Input::Inline(bytes) => Source::Bytes(bytes.0.clone().into()),
        Input::Blob { digest, .. } => Source::File(shared.blobs.read(digest).await?),
    })
}
