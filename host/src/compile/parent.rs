//! The host's end: starts a compiler, feeds it, and decides what its silence means.
//!
//! *Owns:* the child's life: whoever stops waiting for it kills it. *Never:* waits longer than `compile_ms`, or reads more than an
//! answer may have.
//! *Bound:* a child's memory and processor time are its rlimits ([`confine`](super::confine())); its wall time is ours.
//! *Crash:* of the host leaves a child without a reader: it ends with its pipes, or with its processor time.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use strongroom_runtime::{ByteSize, EngineConfig, Metering, ModuleError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::OwnedSemaphorePermit;

use super::LoadError;
use super::child::COMMAND;
use super::confine::Confinement;
use super::message::{ANSWER_HEAD_BYTES, Answer, AnswerHead, Head};
use crate::allocator::LEAN;
use crate::config;

/// Most threads of one compiler. Each takes address space of the child's.
const MAX_THREADS: usize = 8;
/// What is kept of a child's standard error.
const MAX_STDERR_BYTES: u64 = 4096;
/// How often a child that closed its pipes is looked at, at most, until it has ended by itself.
const LAST_LOOKS: u32 = 200;
/// The time between two such looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Bounds of one compilation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    memory: ByteSize,
    time: Duration,
    threads: usize,
}

/// What to compile.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) config: &'a EngineConfig,
    pub(super) metering: Metering,
    pub(super) wasm: &'a [u8],
}

/// What a compiler made.
pub(super) struct Made {
    pub(super) artifact: FromChild,
    pub(super) confinement: Confinement,
}

/// An artifact that came over the pipe of a child of ours, whole.
pub(super) struct FromChild(Vec<u8>);

/// Why there is no artifact.
#[derive(Debug)]
pub(super) enum Failed {
    Refused(ModuleError),
    /// Out of a bound: its amount, and its key in the configuration.
    TooCostly(String, &'static str),
    Crashed(String),
    /// By a signal that is neither the module's doing nor ours: an administrator, or a machine out of memory.
    Killed {
        signal: i32,
    },
    Host(String),
}

impl Bounds {
    /// Those of a host whose configuration says nothing.
    pub(super) fn usual() -> Self {
        let (memory, time) = config::compile_defaults();
        Self::new(memory, time)
    }

    pub(super) fn of(bounds: &config::Bounds) -> Self {
        Self::new(bounds.compile_memory_bytes, bounds.compile_time)
    }

    fn new(memory: u64, time: Duration) -> Self {
        Self {
            memory: ByteSize::bytes(memory),
            time,
            threads: available_parallelism().map_or(1, |cores| cores.get().min(MAX_THREADS)),
        }
    }

    /// All threads for the whole time: more cannot be needed, and an orphan ends by it.
    fn cpu_seconds(self) -> u64 {
        (self.time.as_secs() + 1).saturating_mul(self.threads as u64)
    }
}

/// Compiles in a process of its own. Dropped, it kills the process. `turn` is held until the process is gone.
pub(super) async fn compile(
    program: &Path,
    bounds: Bounds,
    request: Request<'_>,
    turn: Arc<OwnedSemaphorePermit>,
) -> Result<Made, Failed> {
    let mut process = Process::start(program, bounds, turn)
        .await
        .map_err(|error| Failed::Host(format!("cannot start the compiler {}: {error}", program.display())))?;
    let mut said = Vec::new();
    let answered = tokio::time::timeout(bounds.time, process.converse(request, &mut said)).await;
    match answered {
        Err(_) => Err(Failed::TooCostly(format!("{:?}", bounds.time), "compile_ms")),
        Ok(Ok((head, Answer::Artifact(bytes)))) => {
            Ok(Made { artifact: FromChild(bytes), confinement: head.confinement })
        }
        Ok(Ok((_, Answer::Refused(error)))) => Err(Failed::Refused(error)),
        Ok(Ok((_, Answer::Fault(words)))) => Err(Failed::Host(words)),
        Ok(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => {
            let said = String::from_utf8_lossy(&said);
            Err(match process.end().await {
                Ok(status) => silence(status, said.trim(), bounds),
                Err(error) => Failed::Host(format!("the compiler cannot be waited for: {error}")),
            })
        }
        Ok(Err(error)) => Err(Failed::Host(format!("the compiler's answer cannot be read: {error}"))),
    }
}

/// What it means that a child ended without an answer.
fn silence(status: ExitStatus, said: &str, bounds: Bounds) -> Failed {
    /// How Rust says that an allocation failed, before it aborts.
    const NO_MEMORY: &str = "memory allocation of ";
    /// Signals of a program that went wrong by itself.
    const CRASHES: [i32; 6] =
        [libc::SIGSEGV, libc::SIGABRT, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP];

    let last = said.lines().last().unwrap_or_default();
    match status.signal() {
        Some(libc::SIGXCPU) => {
            Failed::TooCostly(format!("{} s of processor time", bounds.cpu_seconds()), "compile_ms")
        }
        Some(libc::SIGABRT) if said.contains(NO_MEMORY) => {
            Failed::TooCostly(format!("{} of memory", bounds.memory), "compile_memory_bytes")
        }
        Some(signal) if CRASHES.contains(&signal) => {
            Failed::Crashed(format!("signal {signal} {last}").trim().into())
        }
        Some(signal) => Failed::Killed { signal },
        None => Failed::Host(format!("the compiler ended without an answer ({status}) {last}").trim().into()),
    }
}

/// A child that is killed when it is no longer needed.
struct Process {
    /// None once somebody waits for it.
    child: Option<Child>,
    turn: Arc<OwnedSemaphorePermit>,
}

impl Process {
    async fn start(program: &Path, bounds: Bounds, turn: Arc<OwnedSemaphorePermit>) -> io::Result<Self> {
        let mut command = Command::new(program);
        command
            .arg0("strongroom")
            .args([COMMAND, &bounds.memory.as_u64().to_string(), &bounds.cpu_seconds().to_string()])
            .env_clear()
            // The C library reserves address space for every thread, unless told otherwise; it allocates where a host is inside another program.
            .envs([("MALLOC_ARENA_MAX", "2"), LEAN, ("RAYON_NUM_THREADS", &bounds.threads.to_string())])
            .current_dir("/")
            // Ctrl-C in a terminal is for the host, which finishes what it does.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // A caller that goes away meanwhile leaves a child whose pipes are closed: it ends.
        let child =
            tokio::task::spawn_blocking(move || command.spawn()).await.map_err(io::Error::other)??;
        Ok(Self { child: Some(child), turn })
    }

    /// Sends the module, collects what it says on standard error, and reads the answer.
    async fn converse(
        &mut self,
        request: Request<'_>,
        said: &mut Vec<u8>,
    ) -> io::Result<(AnswerHead, Answer)> {
        let child = self.child.as_mut().ok_or(ErrorKind::BrokenPipe)?;
        let to = Sender::from_owned_fd(pipe(child.stdin.take())?)?;
        let from = Receiver::from_owned_fd(pipe(child.stdout.take())?)?;
        let errors = Receiver::from_owned_fd(pipe(child.stderr.take())?)?;
        let (_, (), answer) = tokio::join!(send(to, request), keep(errors, said), receive(from));
        answer
    }

    /// Gives what a child that closed its pipes ended with. Some programs close them a moment before they end, and a signal of ours in
    /// between would look like one of the kernel's; one that is
    /// still there after [`LAST_LOOKS`] is ended.
    async fn end(mut self) -> io::Result<ExitStatus> {
        for _ in 0..LAST_LOOKS {
            // It stays where it is until then: whoever drops this meanwhile ends it.
            if let Some(status) = self.child.as_mut().ok_or(ErrorKind::NotFound)?.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(PAUSE).await;
        }
        let mut child = self.child.take().ok_or(ErrorKind::NotFound)?;
        child.kill()?;
        tokio::task::spawn_blocking(move || child.wait()).await.map_err(io::Error::other)?
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // Gone already, or about to be: either is fine.
        let _ = child.kill();
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }
        // Giving gigabytes back takes the kernel a while, which no thread of the network should wait for.
        let turn = Arc::clone(&self.turn);
        let reaper = move || {
            let _ = child.wait();
            drop(turn);
        };
        // Without a thread it stays a zombie until the host ends, which costs a number.
        let _ = std::thread::Builder::new().name("compiler-end".into()).spawn(reaper);
    }
}

fn pipe(end: Option<impl Into<OwnedFd>>) -> io::Result<OwnedFd> {
    end.map(Into::into).ok_or_else(|| ErrorKind::BrokenPipe.into())
}

/// A child that went away shows it in its answer; here it is no error.
async fn send(mut to: Sender, request: Request<'_>) -> io::Result<()> {
    let Request { config, metering, wasm } = request;
    let head = Head { config: config.clone(), metering, length: wasm.len() as u64 }.encode()?;
    to.write_all(&head).await?;
    to.write_all(wasm).await
}

/// Keeps the beginning, and takes the rest away so that the child does not wait for a reader.
async fn keep(mut from: Receiver, said: &mut Vec<u8>) {
    let kept = (&mut from).take(MAX_STDERR_BYTES).read_to_end(said).await;
    if kept.is_ok() {
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    }
}

async fn receive(mut from: impl AsyncRead + Unpin) -> io::Result<(AnswerHead, Answer)> {
    let mut head = [0; ANSWER_HEAD_BYTES];
    from.read_exact(&mut head).await?;
    let head = AnswerHead::decode(head)?;
    let mut payload = Vec::new();
    (&mut from).take(head.length).read_to_end(&mut payload).await?;
    if payload.len() as u64 != head.length {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok((head, head.answer(payload)?))
}

impl FromChild {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl From<Failed> for LoadError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused(error) => Self::Module(error),
            Failed::TooCostly(most, knob) => Self::TooCostly { most, knob },
            Failed::Crashed(how) => Self::Crashed { how },
            Failed::Killed { signal } => Self::Host(format!(
                "the compiler was killed by signal {signal}, perhaps because this machine is out of memory; try again later"
            )),
            Failed::Host(words) => Self::Host(words),
        }
    }
}
