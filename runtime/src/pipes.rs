//! The three streams of a run, shared by the run and the guest's handles to them.

use std::future::poll_fn;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use crate::limits::Limits;
use crate::outcome::{HostFault, Outcome, Usage};
use crate::quantity::ByteSize;
use crate::stdin::Stdin;
use crate::stdio::Stdio;
use crate::stdout::{Stdout, Which};

/// Only ever locked for a moment, by the one thread that polls the run.
pub(crate) struct Pipes {
    pub(crate) stdin: Mutex<Stdin>,
    pub(crate) stdout: Mutex<Stdout>,
    pub(crate) stderr: Mutex<Stdout>,
}

/// A stream of the caller's that failed.
pub(crate) enum Fault {
    Stdin(io::Error),
    Stdout(io::Error),
    Stderr(io::Error),
}

impl From<Fault> for HostFault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Stdin(error) => Self::Stdin(error),
            Fault::Stdout(error) => Self::Stdout(error),
            Fault::Stderr(error) => Self::Stderr(error),
        }
    }
}

/// Stops the guest; the reason is in the pipe that failed.
#[derive(Debug, thiserror::Error)]
#[error("a stream of the run has failed")]
pub(crate) struct PipeFailed;

impl Pipes {
    pub(crate) fn new(stdio: Stdio, limits: &Limits) -> Self {
        Self {
            stdin: Mutex::new(Stdin::new(stdio.stdin)),
            stdout: Mutex::new(Stdout::new(Which::Stdout, stdio.stdout, limits.stdout)),
            stderr: Mutex::new(Stdout::new(Which::Stderr, stdio.stderr, limits.stderr)),
        }
    }

    /// Keeps both sinks going between two polls of the guest; ready when one of them broke.
    pub(crate) fn poll_pump(&self, cx: &mut Context<'_>) -> Poll<()> {
        let stdout = lock(&self.stdout).poll_pump(cx);
        let stderr = lock(&self.stderr).poll_pump(cx);
        if stdout.is_ready() || stderr.is_ready() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Waits until both sinks have everything.
    pub(crate) async fn finish(&self) {
        poll_fn(|cx| {
            let stdout = lock(&self.stdout).poll_finish(cx);
            let stderr = lock(&self.stderr).poll_finish(cx);
            if stdout.is_ready() && stderr.is_ready() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// What went through the streams, and the limit that one of them went past.
    ///
    /// # Errors
    ///
    /// The first failure of a stream, if there was one.
    pub(crate) fn settle(&self, usage: &mut Usage) -> Result<Option<Outcome>, HostFault> {
        let (mut stdin, mut stdout, mut stderr) = (lock(&self.stdin), lock(&self.stdout), lock(&self.stderr));
        if let Some(fault) = stdin.fault().or_else(|| stdout.fault()).or_else(|| stderr.fault()) {
            return Err(fault.into());
        }
        usage.stdin = ByteSize::bytes(stdin.taken);
        usage.stdout = ByteSize::bytes(stdout.accepted);
        usage.stderr = ByteSize::bytes(stderr.accepted);
        Ok(stdout.exceeded().or_else(|| stderr.exceeded()))
    }
}

/// A lock whose holder panicked is used on: the panic has already ended the run, and only counters are read then.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
