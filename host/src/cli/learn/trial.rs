//! One run of a module that is no job: in this process, with the rights of who typed the command, recorded nowhere.
//!
//! *Bound:* the limits of the task; of the guest's output the first [`MAX_SHOWN`] bytes of each stream are kept.

use std::fs::File;
use std::io::{self, Seek as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use strongroom_job::{ARTIFACTS_PATH, RefusalCode, SCRATCH_PATH, Task};
use strongroom_runtime::{
    Allocation, ByteSize, CancelToken, Engine, EngineConfig, Metering, Module, OutputSink, Reach, Reached,
    Report, Sandbox, Stdio,
};

use crate::admission::trial;
use crate::cli::exit::Failure;
use crate::compile::{LoadError, Loader};
use crate::dispatch::limits;

/// Bytes of each of the guest's output streams that are shown.
const MAX_SHOWN: usize = 64 << 10;

/// An interface whose one function gives a number that is drawn before the run.
const SEED: &str = "wasi:random/insecure-seed@";

/// A module that can be tried again and again.
pub(super) struct Trial {
    module: Module,
    input: Option<File>,
    /// Whether it imports a random number that is handed over before it could be told of.
    has_seed: bool,
    /// Where the guest sees nothing.
    nothing: tempfile::TempDir,
    /// Where scratch directories are made.
    tmp: std::path::PathBuf,
}

/// How one try went.
pub(super) struct Tried {
    pub(super) report: Report,
    pub(super) stdout: Head,
    pub(super) stderr: Head,
}

impl Trial {
    /// Compiles the module, as a host would.
    pub(super) async fn new(
        wasm: &[u8],
        task: &Task,
        input: Option<File>,
        tmp: &Path,
    ) -> Result<Self, Failure> {
        let default = EngineConfig::default();
        let memory = ByteSize::bytes(task.limits.memory_bytes);
        let config = EngineConfig {
            max_concurrent: 1,
            allocation: Allocation::OnDemand,
            max_memory: default.max_memory.max(memory),
            memory_reservation: default.memory_reservation.max(memory),
            ..default
        };
        let engine =
            Engine::new(config).map_err(|error| Failure::fault(format_args!("no sandbox: {error}")))?;
        let metering = if task.limits.fuel.is_some() { Metering::Fuel } else { Metering::None };
        let module = Loader::once(engine, metering, wasm).await.map_err(|error| match error {
            LoadError::Host(_) => Failure::fault(error),
            _ => Failure::refused(RefusalCode::BadModule, error),
        })?;
        let imports = &module.info().imports;
        let has_seed = imports.iter().any(|import| import.interface.starts_with(SEED));
        let nothing = tempfile::tempdir_in(tmp).map_err(|error| no_directory(tmp, &error))?;
        Ok(Self { module, input, has_seed, nothing, tmp: tmp.to_owned() })
    }

    /// Runs it once with what `task` asks for and nothing else.
    pub(super) async fn run(&self, task: &Task, cancel: &CancelToken) -> Result<Tried, Failure> {
        let scratch = if task.capabilities.scratch { Some(self.scratch()?) } else { None };
        let grant = trial(task, self.nothing.path(), scratch.as_ref().map(tempfile::TempDir::path));
        let grant = grant.ok_or_else(|| {
            Failure::usage("--learn runs without a host, which volumes and secrets belong to: name directories, and give the guest a stand-in for a secret with --env or --read")
        })?;
        let (stdout, stderr) = (Head::default(), Head::default());
        let stdio = self.input()?.stdout(stdout.clone()).stderr(stderr.clone());
        let report = Sandbox::run(&self.module, &grant, &limits(&task.limits), stdio, cancel).await;
        let mut report = report.map_err(|error| Failure::fault(format_args!("the trial failed: {error}")))?;
        if self.has_seed && task.capabilities.random {
            // To say that it is not used would be a guess.
            report.reached.push(Reached { what: Reach::Randomness, granted: true, count: 1 });
        }
        Ok(Tried { report, stdout, stderr })
    }

    /// As a host makes it: empty but for where artifacts go.
    fn scratch(&self) -> Result<tempfile::TempDir, Failure> {
        let made = tempfile::tempdir_in(&self.tmp).and_then(|directory| {
            let artifacts = Path::new(ARTIFACTS_PATH).strip_prefix(SCRATCH_PATH).map_err(io::Error::other)?;
            std::fs::create_dir(directory.path().join(artifacts))?;
            Ok(directory)
        });
        made.map_err(|error| no_directory(&self.tmp, &error))
    }

    /// The input from its first byte, for each run.
    fn input(&self) -> Result<Stdio, Failure> {
        let Some(file) = &self.input else { return Ok(Stdio::null()) };
        let wrong =
            |error: io::Error| Failure::fault(format_args!("the input cannot be read again: {error}"));
        let mut file = file.try_clone().map_err(wrong)?;
        file.rewind().map_err(wrong)?;
        Ok(Stdio::null().stdin(tokio::fs::File::from_std(file)))
    }
}

fn no_directory(tmp: &Path, error: &io::Error) -> Failure {
    Failure::fault(format_args!("cannot make a directory in {}: {error}", tmp.display()))
}

/// Keeps the beginning of a stream. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Head(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    left_out: u64,
}

impl Head {
    /// What was kept, and how many bytes were not.
    pub(super) fn take(&self) -> (Vec<u8>, u64) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut kept.bytes), kept.left_out)
    }
}

impl OutputSink for Head {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, chunk: Bytes) -> io::Result<()> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_SHOWN - kept.bytes.len();
        let fits = &chunk[..chunk.len().min(room)];
        kept.bytes.extend_from_slice(fits);
        kept.left_out = kept.left_out.saturating_add((chunk.len() - fits.len()) as u64);
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    // Red with `extend_from_slice(&chunk)`.
    #[test]
    fn of_an_endless_output_the_beginning_is_kept() {
        let mut head = Head::default();
        for _ in 0..100 {
            head.send(Bytes::from(vec![7; 1000])).unwrap();
        }
        let (bytes, left_out) = head.take();
        assert_eq!((bytes.len(), left_out), (MAX_SHOWN, 100_000 - MAX_SHOWN as u64));
    }
}
