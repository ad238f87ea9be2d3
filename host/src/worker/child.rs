//! The worker: a process that runs the guests of one tenant, as it is told.
//!
//! *Owns:* the order: confinement comes before the first byte of a module or a job. *Never:* opens a file but those of its tenant;
//! decides what a guest may do; outlives its host.
//! *Bound:* as many guests as the host hands over; as many loaded modules as `Kept` has.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use strongroom_job::Digest;
use strongroom_runtime::{
    CancelToken, Engine, Metering, Module, OutputSink, Progress, Sandbox, Stdio, open_kernel_files,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::runtime::Builder;
use tokio::sync::{OnceCell, mpsc, watch};
use tokio_util::sync::PollSender;

use super::converse::PROGRESS_PAUSE;
use super::message::{self, Hello, Input, Order, Ready, Said};
use super::pass;
use crate::compile::{Kept, load_passed};
use crate::confine::confine_worker;
use crate::dispatch::{Ran, limits};

/// The argument that makes the `strongroom` program a worker. Not a command for people: it speaks `message` over its standard input,
/// which is a socket.
pub const COMMAND: &str = "run-guests";

/// Messages of one job on their way to the host; each has at most 64 KiB.
const IN_FLIGHT: usize = 4;
/// Threads for file operations of guests.
const MAX_BLOCKING: usize = 64;
/// What guests' threads stand behind the host's own.
const NICENESS: i32 = 5;
/// How long an order may take to arrive.
const ORDER: Duration = Duration::from_secs(20);

/// Runs as a worker until the host closes the socket.
#[must_use]
pub fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The host keeps it for its log; when it is gone, nobody needs it.
            let _ = writeln!(io::stderr(), "{COMMAND}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> io::Result<()> {
    let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut hello: Hello = message::read(&mut &control)?;
    // Where it is refused, guests run as everybody else.
    let _ = rustix::process::setpriority_process(None, NICENESS);
    open_kernel_files();
    // There is one thread until here.
    let (files, calls) = confine_worker(&hello.walls.open, hello.walls.network, hello.data_bytes)?;
    let engine = Engine::new(hello.engine()?).map_err(io::Error::other)?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(hello.threads.max(1))
        .max_blocking_threads(MAX_BLOCKING)
        .thread_name("guest")
        .enable_all()
        .build()?;
    let modules = Arc::new(Modules { engine, kept: Kept::default() });
    (&control).write_all(&Ready { files, calls }.encode())?;
    while let Some(files) = pass::receive(&control)? {
        let modules = Arc::clone(&modules);
        runtime.spawn(async move {
            // A host that does not hear of the end of a job takes this worker for gone.
            let _ = serve(&modules, files).await;
        });
    }
    // Nobody is left who would hear of a guest's end: all of them end here, at once.
    runtime.shutdown_background();
    Ok(())
}

/// One job.
async fn serve(modules: &Modules, files: Vec<OwnedFd>) -> io::Result<()> {
    let mut files = files.into_iter();
    let (Some(socket), Some(code), input) = (files.next(), files.next(), files.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let socket = UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    let (mut from, to) = tokio::net::UnixStream::from_std(socket)?.into_split();
    let (said, to_say) = mpsc::channel(IN_FLIGHT);
    let cancel = CancelToken::new();
    let speaker = tokio::spawn(speak(to, to_say, cancel.clone()));
    let last = match tokio::time::timeout(ORDER, message::read_order(&mut from)).await {
        Err(_) => Said::Fault("the order did not arrive".into()),
        Ok(Err(error)) => Said::Fault(format!("the order cannot be read: {error}")),
        Ok(Ok((order, inline))) => {
            // It ends when the host closes the socket, which it does in any case.
            tokio::spawn(listen(from, cancel.clone()));
            match run(modules, order, (code, input, inline), &said, &cancel).await {
                Ok(ran) => Said::Ran(Box::new(ran)),
                Err(words) => Said::Fault(words),
            }
        }
    };
    let _ = said.send(last).await;
    drop(said);
    speaker.await.map_err(io::Error::other)
}

/// Says what there is to say. Where nobody listens, the guest ends.
async fn speak(mut to: OwnedWriteHalf, mut said: mpsc::Receiver<Said>, cancel: CancelToken) {
    while let Some(said) = said.recv().await {
        let Ok(bytes) = said.encode() else { break };
        if to.write_all(&bytes).await.is_err() {
            break;
        }
    }
    cancel.cancel();
}

/// Waits for the host's word to cancel, or for its end, which means the same.
async fn listen(mut from: OwnedReadHalf, cancel: CancelToken) {
    let _ = from.read_u8().await;
    cancel.cancel();
}

async fn run(
    modules: &Modules,
    order: Order,
    (code, input, inline): (OwnedFd, Option<OwnedFd>, Vec<u8>),
    said: &mpsc::Sender<Said>,
    cancel: &CancelToken,
) -> Result<Ran, String> {
    let Order { module, metering, terms, limits: asked, input: kind, .. } = order;
    let module = modules.get(module, metering, code).await?;
    let stdio = stdin(kind, input, inline).map_err(|error| error.to_string())?;
    let (newest, progress) = watch::channel(None);
    let stdio =
        stdio.stdout(Sink::new(said, Said::Stdout)).stderr(Sink::new(said, Said::Stderr)).progress(newest);
    let over = CancelToken::new();
    let telling = tokio::spawn(tell(progress, said.clone(), over.clone()));
    let ran = Sandbox::run(&module, &terms.grant(), &limits(&asked), stdio, cancel).await;
    over.cancel();
    let _ = telling.await;
    let mut ran = Ran::of(ran.map_err(|fault| fault.to_string())?);
    if let Some(result) = ran.result.take() {
        let _ = said.send(Said::Result(result)).await;
    }
    Ok(ran)
}

fn stdin(kind: Input, file: Option<OwnedFd>, inline: Vec<u8>) -> io::Result<Stdio> {
    let missing = || io::Error::other("the input is missing");
    Ok(match kind {
        Input::Empty => Stdio::null(),
        Input::Inline => Stdio::null().stdin_bytes(inline),
        Input::File => Stdio::null().stdin(tokio::fs::File::from_std(file.ok_or_else(missing)?.into())),
        Input::Pipe => Stdio::null().stdin(pipe::Receiver::from_owned_fd(file.ok_or_else(missing)?)?),
    })
}

/// Tells the newest progress, not more often than somebody could look at it, until the run has dropped the sender. The last one is told
/// when the run is `over`.
async fn tell(mut progress: watch::Receiver<Option<Progress>>, said: mpsc::Sender<Said>, over: CancelToken) {
    while progress.changed().await.is_ok() {
        let newest = progress.borrow_and_update().clone();
        if let Some(newest) = newest {
            let word = Said::Progress(newest.percent(), newest.text().as_bytes().to_vec());
            if said.send(word).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PROGRESS_PAUSE) => {}
            () = over.cancelled() => {}
        }
    }
}

/// A guest's output on its way to the host.
struct Sink {
    said: PollSender<Said>,
    as_word: fn(Vec<u8>) -> Said,
}

impl Sink {
    fn new(said: &mpsc::Sender<Said>, as_word: fn(Vec<u8>) -> Said) -> Self {
        Self { said: PollSender::new(said.clone()), as_word }
    }
}

impl OutputSink for Sink {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.said.poll_reserve(cx).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn send(&mut self, chunk: Bytes) -> io::Result<()> {
        self.said.send_item((self.as_word)(chunk.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was sent goes out before the account of the run, in order.
        Poll::Ready(Ok(()))
    }
}

/// Modules that are loaded, each once for all who ask at the same time.
struct Modules {
    engine: Engine,
    kept: Kept<OnceCell<Module>>,
}

impl Modules {
    async fn get(&self, digest: Digest, metering: Metering, code: OwnedFd) -> Result<Module, String> {
        let slot = self.kept.slot(&digest, metering);
        let engine = self.engine.clone();
        let load = || async move {
            let load = move || {
                let file = File::from(code);
                let length = file.metadata().map_err(|error| error.to_string())?.len();
                let mut bytes = vec![0; usize::try_from(length).map_err(|error| error.to_string())?];
                file.read_exact_at(&mut bytes, 0).map_err(|error| error.to_string())?;
                load_passed(&engine, bytes).map_err(|error| error.to_string())
            };
            tokio::task::spawn_blocking(load).await.map_err(|error| error.to_string())?
        };
        slot.get_or_try_init(load).await.cloned()
    }
}
