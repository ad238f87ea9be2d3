//! `strongroom receipt replay`: the same module with the same task and the same stand-ins, here and now. A job that was signed as
//! deterministic ends in the same way everywhere, so its outputs and its fuel must agree with the receipt to the byte.
//!
//! *Bound:* the limits of the job. Output is hashed as it comes, never kept.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use clap::Args;
use serde::Serialize;
use strongroom_job::receipt::Verified;
use strongroom_job::{
    ARTIFACTS_PATH, Digest, Digester, Input, JobId, Limit, Outcome, OutputSummary, RefusalCode, SCRATCH_PATH,
    Task,
};
use strongroom_runtime::{
    Allocation, ByteSize, CancelToken, Engine, EngineConfig, Fuel, Metering, OutputSink, Sandbox, Stdio,
};

use super::{TrustedArgs, line, summary};
use crate::admission::replay as grant_for;
use crate::blobs::{self, Blobs};
use crate::cli::console::Console;
use crate::cli::exit::{Exit, Failure};
use crate::cli::{Common, with_runtime};
use crate::compile::{LoadError, Loader};
use crate::dispatch::{limits, translate};
use crate::rooms::{Collected, collect};

/// Run the job of a receipt again.
#[derive(Args, Debug)]
pub(in crate::cli) struct ReplayArgs {
    #[command(flatten)]
    trusted: TrustedArgs,
    /// The module [default: the one with its digest among the blobs of --dir]
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// The input, if it was not in the envelope [default: as for the module]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
}

pub(super) fn replay(common: &Common, args: &ReplayArgs, console: &Console) -> Result<Exit, Failure> {
    let (proven, _) = args.trusted.believe()?;
    let task = repeatable(&proven)?;
    let module = args.find(common, args.module.as_deref(), "module", &proven.admitted.module.digest)?;
    let module = std::fs::read(&module).map_err(|error| unreadable(&module, &error))?;
    let again = with_runtime(async {
        let stdio = args.input_of(common, &task)?;
        run(&module, &task, stdio, &proven).await
    })?;
    tell(&proven, &again, console)
}

/// The task, if running it again can be expected to give the same.
fn repeatable(proven: &Verified) -> Result<Task, Failure> {
    let not = |why: &str| {
        Err(Failure::usage(format_args!("job {} cannot be replayed: {why}", proven.admitted.job)))
    };
    let Some(body) = &proven.body else {
        return not(
            "its receipt does not hold the envelope, or not which job of it this is a run of. Fetch it with `receipt get --with-envelope`",
        );
    };
    match proven.finished.outcome {
        Outcome::Exceeded { limit: Limit::WallTime | Limit::CpuTime, .. } => {
            not("it ran out of time, which no run repeats")
        }
        Outcome::Exited { .. } | Outcome::Trapped { .. } | Outcome::Exceeded { .. } => Ok(body.task.clone()),
        _ => not(&format!("its guest did not end by itself ({})", proven.finished.outcome)),
    }
}

impl ReplayArgs {
    /// The file with this digest: the one that was named, or the directory's blob. Hashed, so that nothing else is run.
    fn find(
        &self,
        common: &Common,
        named: Option<&Path>,
        what: &'static str,
        digest: &Digest,
    ) -> Result<PathBuf, Failure> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => {
                let path = blobs::place(&common.directory()?.join("blobs"), digest);
                if !path.is_file() {
                    let text = format_args!(
                        "the {what} {digest} is not in the data directory: name a file with --{what}"
                    );
                    return Err(Failure::usage(text));
                }
                path
            }
        };
        let found = summary(&path)?.digest;
        if found != *digest {
            let text = format_args!(
                "{}: not the job's {what}: it has {found}, and the job's has {digest}",
                path.display()
            );
            return Err(Failure::usage(text));
        }
        Ok(path)
    }

    fn input_of(&self, common: &Common, task: &Task) -> Result<Stdio, Failure> {
        Ok(match &task.input {
            Input::Empty => Stdio::null(),
            Input::Inline(bytes) => Stdio::null().stdin_bytes(bytes.0.clone()),
            Input::Blob { digest, .. } => {
                let path = self.find(common, self.input.as_deref(), "input", digest)?;
                let file = std::fs::File::open(&path).map_err(|error| unreadable(&path, &error))?;
                Stdio::null().stdin(tokio::fs::File::from_std(file))
            }
            Input::Outputs { .. } => {
                return Err(Failure::usage(
                    "the job cannot be replayed: its input is what other jobs left, and its receipt does not hold that",
                ));
            }
        })
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format_args!("{}: {error}", path.display()))
}

/// How a second run ended.
struct Again {
    outcome: Outcome,
    fuel: Option<u64>,
    outputs: Vec<(String, OutputSummary)>,
}

async fn run(module: &[u8], task: &Task, stdio: Stdio, proven: &Verified) -> Result<Again, Failure> {
    let fault =
        |error: &dyn std::fmt::Display| Failure::fault(format_args!("the job cannot be run here: {error}"));
    let room = tempfile::tempdir().map_err(|error| fault(&error))?;
    let scratch = room.path().join("scratch");
    let artifacts = Path::new(ARTIFACTS_PATH).strip_prefix(SCRATCH_PATH).map_err(|error| fault(&error))?;
    std::fs::create_dir_all(scratch.join(artifacts)).map_err(|error| fault(&error))?;
    let admitted = &proven.admitted;
    let grant = grant_for(task, &admitted.envelope, admitted.job, Some(&scratch)).map_err(|what| {
        Failure::usage(format_args!(
            "job {} cannot be replayed: it was given {what}, which no run gives again. Jobs signed with --deterministic can be",
            admitted.job
        ))
    })?;
    let default = EngineConfig::default();
    let memory = ByteSize::bytes(task.limits.memory_bytes);
    let config = EngineConfig {
        max_concurrent: 1,
        allocation: Allocation::OnDemand,
        max_memory: default.max_memory.max(memory),
        memory_reservation: default.memory_reservation.max(memory),
        ..default
    };
    let engine = Engine::new(config).map_err(|error| fault(&error))?;
    let metering = if task.limits.fuel.is_some() { Metering::Fuel } else { Metering::None };
    let module = Loader::once(engine, metering, module).await.map_err(|error| match error {
        LoadError::Host(_) => Failure::fault(error),
        _ => Failure::refused(RefusalCode::BadModule, error),
    })?;
    let (stdout, stderr) = (Counted::default(), Counted::default());
    let stdio = stdio.stdout(stdout.clone()).stderr(stderr.clone());
    let report = Sandbox::run(&module, &grant, &limits(&task.limits), stdio, &CancelToken::new()).await;
    let report = report.map_err(|error| fault(&error))?;
    let mut outputs = vec![("stdout".to_owned(), stdout.summary()), ("stderr".to_owned(), stderr.summary())];
    if let Some(result) = &report.result {
        outputs.push((
            "result".into(),
            OutputSummary { length: result.len() as u64, digest: Digest::of(result) },
        ));
    }
    let mut outcome = translate(report.outcome);
    if task.capabilities.scratch && matches!(outcome, Outcome::Exited { .. }) {
        let blobs = Blobs::open(&room.path().join("blobs"), &room.path().join("tmp"))
            .map_err(|error| fault(&error))?;
        match collect(&scratch.join(artifacts), &blobs).await.map_err(|error| fault(&error))? {
            Collected::Kept(left, _) => outputs.extend(left.into_iter().map(|one| {
                let name = format!("{}{}", strongroom_job::receipt::ARTIFACT_PREFIX, one.name);
                (name, OutputSummary { length: one.length, digest: one.digest })
            })),
            Collected::TooMany { allowed, found } => {
                outcome = Outcome::Exceeded { limit: Limit::Artifacts, allowed, used: found };
            }
        }
    }
    Ok(Again { outcome, fuel: report.usage.fuel.map(|Fuel(units)| units), outputs })
}

#[derive(Serialize)]
struct Document {
    job: JobId,
    agrees: bool,
    compared: Vec<Compared>,
}

#[derive(Serialize)]
struct Compared {
    what: String,
    agrees: bool,
    recorded: String,
    found: String,
}

fn tell(proven: &Verified, again: &Again, console: &Console) -> Result<Exit, Failure> {
    let compared = compare(proven, again);
    let agrees = compared.iter().all(|one| one.agrees);
    let job = proven.admitted.job;
    if console.json() {
        console.document(&Document { job, agrees, compared })?;
    } else {
        let mut text =
            format!("job {job}: {}", if agrees { "the replay agrees" } else { "the replay differs" });
        for Compared { what, agrees, recorded, found } in &compared {
            let told = if *agrees {
                format!("the same: {recorded}")
            } else {
                format!("{found}, and the receipt has {recorded}")
            };
            text.push_str(&format!("\n{what:<10} {told}"));
        }
        let ours = env!("CARGO_PKG_VERSION");
        if !agrees && proven.version != ours {
            text.push_str(&format!(
                "\nIt ran under version {}, and this is {ours}: fuel may be counted otherwise.",
                line(&proven.version)
            ));
        }
        console.print(text)?;
    }
    Ok(if agrees { Exit::Status(0) } else { Exit::No })
}

/// Outcome, fuel, and each output that either run has.
fn compare(proven: &Verified, again: &Again) -> Vec<Compared> {
    let row = |what: String, recorded: String, found: String| Compared {
        what,
        agrees: recorded == found,
        recorded,
        found,
    };
    let fuel = |fuel: Option<u64>| fuel.map_or_else(|| "not counted".to_owned(), |fuel| fuel.to_string());
    let shown = |summary: Option<&OutputSummary>| match summary {
        Some(OutputSummary { length, digest }) => format!("{length} bytes, {digest}"),
        None => "none".to_owned(),
    };
    let recorded = proven.finished.outputs();
    let mut names: Vec<&String> = recorded.iter().map(|(name, _)| name).collect();
    names.extend(
        again
            .outputs
            .iter()
            .map(|(name, _)| name)
            .filter(|name| !recorded.iter().any(|(known, _)| known == *name)),
    );
    let of = |outputs: &[(String, OutputSummary)], name: &str| {
        shown(outputs.iter().find(|(known, _)| known == name).map(|(_, summary)| summary))
    };
    let mut rows = vec![
        row("outcome".into(), proven.finished.outcome.to_string(), again.outcome.to_string()),
        row("fuel".into(), fuel(proven.finished.usage.fuel), fuel(again.fuel)),
    ];
    rows.extend(
        names.into_iter().map(|name| row(name.clone(), of(&recorded, name), of(&again.outputs, name))),
    );
    rows
}

/// Hashes a stream. Clones share it.
#[derive(Clone, Debug, Default)]
struct Counted(Arc<Mutex<(u64, Digester)>>);

impl Counted {
    fn summary(&self) -> OutputSummary {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        OutputSummary { length: seen.0, digest: seen.1.finish() }
    }
}

impl OutputSink for Counted {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, chunk: Bytes) -> io::Result<()> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.0 += chunk.len() as u64;
        seen.1.update(&chunk);
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
