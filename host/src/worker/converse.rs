//! The host's end of one job in a worker.
//!
//! *Owns:* the job's socket, its deadline, what is believed of what comes over it. *Never:* takes more output than the job's limits, an account
//! that cannot be true, or a worker's silence past the deadline: such a worker is killed, with whatever else its tenant runs.
//! *Bound:* one message in memory; the sinks' pace is the worker's.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream as Pair;
use std::time::Duration;

use bytes::Bytes;
use strongroom_job::{Limits, MAX_DENIALS, Outcome};
use strongroom_runtime::{OutputSink, Progress};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::message::{self, CANCEL, Said, Unheard};
use super::pool::{Work, WorkerError};
use super::process::Process;
use super::source::{Handed, Pump};
use crate::dispatch::Ran;

/// What a worker gets past a job's wall-clock limit: a write to a disk under way may take it 5 s, loading a module and a busy machine some
/// more.
const LATE: Duration = Duration::from_secs(15);
/// What it gets after a cancel, for the same reasons.
const CANCELLED: Duration = Duration::from_secs(15);
/// A worker that was killed is gone within that time, or the kernel is at fault.
const KILLED: Duration = Duration::from_secs(10);
/// How long a worker may be too busy to take a job, in steps.
const FULL: (u32, Duration) = (200, Duration::from_millis(10));
/// The least time between two words about progress from a worker that behaves.
pub(super) const PROGRESS_PAUSE: Duration = Duration::from_millis(20);
/// More of them that are let pass.
const PROGRESS_MORE: u64 = 64;

/// Runs one job in `process`.
pub(super) async fn converse(process: &Process, work: Work) -> Result<Ran, WorkerError> {
    let Work { tenant, mut order, code, input, sinks, progress, cancel } = work;
    let Handed { kind, inline, fd, mut pump } = input.hand_over().await?;
    (order.input, order.inline) = (kind, inline.len() as u64);
    let head = message::encode(&order)?;
    let (ours, theirs) = Pair::pair()?;
    ours.set_nonblocking(true)?;
    let mut files = vec![theirs.as_fd(), code.as_fd()];
    files.extend(fd.as_ref().map(|fd| fd.as_fd()));
    let given = hand(process, &files).await;
    drop((theirs, fd));
    let (from, mut to) = UnixStream::from_std(ours)?.into_split();

    let most = Duration::from_millis(order.limits.wall_ms).saturating_add(LATE);
    let unfinished = Unfinished(process);
    let mut listener = Listener::new(sinks, progress, &order.limits, most);
    let mut talk = Box::pin(async {
        given.map_err(Broke::System)?;
        let sent = async {
            to.write_all(&head).await?;
            to.write_all(&inline).await
        };
        sent.await.map_err(|_| Broke::Unheard(Unheard::Gone))?;
        drop(head);
        let cancelled = async {
            cancel.cancelled().await;
            // One that is gone is noticed by who listens.
            let _ = to.write_all(&[CANCEL]).await;
            sleep(CANCELLED).await;
        };
        tokio::select! {
            heard = listener.listen(from) => heard,
            error = fed(pump.as_mut()) => Err(Broke::Input(error)),
            () = cancelled => Err(Broke::Silent),
        }
    });
    let ended = timeout(most, &mut talk).await.unwrap_or(Err(Broke::Silent));
    drop(talk);
    let broke = match ended {
        Ok(ran) if ran.outcome == Outcome::Cancelled && !cancel.is_cancelled() => {
            Broke::Lied("it says that a job was cancelled which was not")
        }
        Ok(ran) => {
            unfinished.end();
            return Ok(ran);
        }
        Err(Broke::Fault(words)) => {
            unfinished.end();
            return Err(WorkerError::Fault(words));
        }
        Err(broke) => broke,
    };
    // Nothing of the job may go on when its end is told, and nobody else than the worker could say that nothing does.
    drop(unfinished);
    let how = timeout(KILLED, process.ended()).await.unwrap_or_else(|_| "it does not end".into());
    if cancel.is_cancelled() && matches!(broke, Broke::Silent) {
        tracing::warn!(%tenant, "a worker did not end a cancelled job in time, and was killed");
        return Ok(Ran::cancelled());
    }
    Err(match broke {
        Broke::Unheard(Unheard::Gone) => WorkerError::Gone { tenant, how },
        Broke::Unheard(Unheard::Malformed(what)) | Broke::Lied(what) => WorkerError::Lied { tenant, what },
        Broke::Silent => WorkerError::Silent { tenant },
        Broke::Input(error) => WorkerError::Input(error),
        Broke::Output(error) => WorkerError::Output(error),
        Broke::System(error) => WorkerError::System(error),
        Broke::Fault(words) => WorkerError::Fault(words),
    })
}

/// A job whose end is not known. Dropped, it takes the worker with it: an attempt that is given up, because its host stops, leaves nothing
/// behind that still runs.
struct Unfinished<'a>(&'a Process);

impl Unfinished<'_> {
    fn end(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// Why there is no account of a run.
enum Broke {
    Unheard(Unheard),
    Lied(&'static str),
    Silent,
    /// In the worker's own words, which end a job and nothing else.
    Fault(String),
    Input(io::Error),
    Output(io::Error),
    System(io::Error),
}

/// Hands the files over; a worker that is busy taking others gets a moment.
async fn hand(process: &Process, files: &[std::os::fd::BorrowedFd<'_>]) -> io::Result<()> {
    let (tries, pause) = FULL;
    for _ in 0..tries {
        match process.send(files) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(pause).await,
            // It is gone: its socket says so, in the words for that.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => return other,
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Feeds the guest; comes back only when its input cannot be read.
async fn fed(pump: Option<&mut Pump>) -> io::Error {
    match pump {
        None => std::future::pending().await,
        Some(pump) => match pump.pour().await {
            Err(error) => error,
            Ok(()) => std::future::pending().await,
        },
    }
}

/// Takes what a worker says of one job.
struct Listener {
    sinks: [Box<dyn OutputSink>; 2],
    /// Bytes that may still come for each.
    left: [u64; 2],
    progress: watch::Sender<Option<Progress>>,
    /// Words about progress that may still come.
    words: u64,
    result: Option<Vec<u8>>,
    limits: Limits,
    most: Duration,
}

impl Listener {
    fn new(
        sinks: [Box<dyn OutputSink>; 2],
        progress: watch::Sender<Option<Progress>>,
        limits: &Limits,
        most: Duration,
    ) -> Self {
        let left = [limits.stdout_bytes, limits.stderr_bytes];
        let words = u64::try_from(most.as_millis() / PROGRESS_PAUSE.as_millis()).unwrap_or(u64::MAX);
        let words = words.saturating_add(PROGRESS_MORE);
        Self { sinks, left, progress, words, result: None, limits: limits.clone(), most }
    }

    async fn listen(&mut self, mut from: OwnedReadHalf) -> Result<Ran, Broke> {
        loop {
            match Said::hear(&mut from).await.map_err(Broke::Unheard)? {
                Said::Stdout(bytes) => self.output(0, bytes).await?,
                Said::Stderr(bytes) => self.output(1, bytes).await?,
                Said::Progress(percent, text) => {
                    self.words =
                        self.words.checked_sub(1).ok_or(Broke::Lied("it says too much of progress"))?;
                    self.progress.send_replace(Some(Progress::new(percent.into(), &text)));
                }
                Said::Result(_) if self.result.is_some() => return Err(Broke::Lied("it gives two results")),
                Said::Result(bytes) => self.result = Some(bytes),
                Said::Fault(words) => return Err(Broke::Fault(words)),
                Said::Ran(mut ran) => {
                    self.check(&ran)?;
                    for sink in &mut self.sinks {
                        let finished = std::future::poll_fn(|cx| sink.poll_finish(cx)).await;
                        finished.map_err(Broke::Output)?;
                    }
                    ran.result = self.result.take();
                    return Ok(*ran);
                }
            }
        }
    }

    async fn output(&mut self, which: usize, bytes: Vec<u8>) -> Result<(), Broke> {
        let left = &mut self.left[which];
        *left = left
            .checked_sub(bytes.len() as u64)
            .ok_or(Broke::Lied("it gives more output than the job may have"))?;
        let sink = &mut self.sinks[which];
        std::future::poll_fn(|cx| sink.poll_ready(cx)).await.map_err(Broke::Output)?;
        sink.send(Bytes::from(bytes)).map_err(Broke::Output)
    }

    /// Whether this can be the account of a run of this job.
    fn check(&self, ran: &Ran) -> Result<(), Broke> {
        let most = u64::try_from(self.most.as_micros()).unwrap_or(u64::MAX);
        let usage = &ran.usage;
        let rules = [
            (
                usage.wall_us <= most && usage.cpu_us <= most,
                "it says that a job took longer than it can have",
            ),
            (
                usage.peak_memory_bytes <= self.limits.memory_bytes,
                "it says that a job had more memory than it may",
            ),
            (
                usage.fuel.is_some() == self.limits.fuel.is_some(),
                "it says something else of fuel than was asked",
            ),
            (ran.denied.len() <= MAX_DENIALS, "it tells of too many denials"),
            // The others are not for a run to end in.
            (
                matches!(
                    ran.outcome,
                    Outcome::Exited { .. }
                        | Outcome::Trapped { .. }
                        | Outcome::Exceeded { .. }
                        | Outcome::Cancelled
                        | Outcome::Faulted { .. }
                ),
                "it says that a job ended as no run does",
            ),
        ];
        rules.into_iter().find(|(kept, _)| !kept).map_or(Ok(()), |(_, rule)| Err(Broke::Lied(rule)))
    }
}
