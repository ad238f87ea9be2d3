//! A guest's stdout and stderr: counted, cut at the limit, handed on at the sink's pace.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::limits::LimitKind;
use crate::outcome::Outcome;
use crate::pipes::{Fault, PipeFailed, Pipes, lock};
use crate::quantity::ByteSize;
use crate::stdio::{MAX_CHUNK, OutputSink};

/// Most that waits for the sink. One chunk would do for a guest with one handle; a guest with several may be given leave to
/// write on each of them.
const MAX_WAITING: usize = 4 * MAX_CHUNK;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Stdout,
    Stderr,
}

/// What the guest's handles to one output share.
pub(crate) struct Stdout {
    which: Which,
    sink: Box<dyn OutputSink>,
    /// Taken from the guest, not yet by the sink.
    waiting: VecDeque<Bytes>,
    /// The sink said that it takes one more.
    room: bool,
    /// The sink was given something since it last said so, and may still be passing that on.
    busy: bool,
    limit: u64,
    /// Taken from the guest within the limit.
    pub(crate) accepted: u64,
    /// What the guest had tried to write in all when it went past the limit.
    over: Option<u64>,
    failed: Option<io::Error>,
}

impl Stdout {
    pub(crate) fn new(which: Which, sink: Box<dyn OutputSink>, limit: ByteSize) -> Self {
        Self {
            which,
            sink,
            waiting: VecDeque::new(),
            room: false,
            busy: false,
            limit: limit.as_u64(),
            accepted: 0,
            over: None,
            failed: None,
        }
    }

    pub(crate) fn fault(&mut self) -> Option<Fault> {
        let which = self.which;
        self.failed.take().map(|error| match which {
            Which::Stdout => Fault::Stdout(error),
            Which::Stderr => Fault::Stderr(error),
        })
    }

    /// The outcome of having written too much.
    pub(crate) fn exceeded(&self) -> Option<Outcome> {
        let limit = match self.which {
            Which::Stdout => LimitKind::Stdout,
            Which::Stderr => LimitKind::Stderr,
        };
        self.over.map(|used| Outcome::Exceeded { limit, allowed: self.limit, used })
    }

    /// Keeps the sink going while the guest does something else: computes, sleeps, waits for input. Ready when the
    /// sink broke.
    pub(crate) fn poll_pump(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.busy || !self.waiting.is_empty() {
            let _ = self.poll_room(cx);
        }
        if self.failed.is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Hands on what waits; ready when all of it went.
    pub(crate) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_drain(cx));
        if self.failed.is_none()
            && let Err(error) = ready!(self.sink.poll_finish(cx))
        {
            self.failed = Some(error);
        }
        Poll::Ready(())
    }

    /// Ready when nothing waits and the sink takes more, or when there is a failure to report.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_drain(cx));
        if self.failed.is_none() && !self.room {
            match ready!(self.sink.poll_ready(cx)) {
                Ok(()) => (self.room, self.busy) = (true, false),
                Err(error) => self.failed = Some(error),
            }
        }
        Poll::Ready(())
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.failed.is_none() && !self.waiting.is_empty() {
            if !self.room
                && let Err(error) = ready!(self.sink.poll_ready(cx))
            {
                self.failed = Some(error);
                break;
            }
            if let Some(chunk) = self.waiting.pop_front() {
                self.hand_on(chunk);
            }
        }
        Poll::Ready(())
    }

    fn hand_on(&mut self, chunk: Bytes) {
        (self.room, self.busy) = (false, true);
        if let Err(error) = self.sink.send(chunk) {
            self.failed = Some(error);
        }
    }

    fn check(&self) -> StreamResult<()> {
        if self.failed.is_some() || self.over.is_some() {
            Err(StreamError::Trap(PipeFailed.into()))
        } else {
            Ok(())
        }
    }

    /// How much may be written now.
    fn permit(&self) -> StreamResult<usize> {
        self.check()?;
        Ok(if self.room && self.waiting.is_empty() { MAX_CHUNK } else { 0 })
    }

    /// Takes bytes from the guest: those within the limit go on, the first beyond it ends the run.
    pub(crate) fn write(&mut self, mut bytes: Bytes) -> StreamResult<()> {
        self.check()?;
        let asked = bytes.len() as u64;
        let left = self.limit - self.accepted;
        if asked > left {
            self.over = Some(self.accepted + asked);
            bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
        self.accepted += bytes.len() as u64;
        if !bytes.is_empty() {
            if self.room && self.waiting.is_empty() {
                self.hand_on(bytes);
            } else if self.waiting.iter().map(Bytes::len).sum::<usize>() + bytes.len() <= MAX_WAITING {
                self.waiting.push_back(bytes);
            } else {
                return Err(StreamError::trap("wrote more than it was permitted to"));
            }
        }
        self.check()
    }
}

/// One handle to stdout or stderr; all handles of one write to the same place.
pub(crate) struct StdoutHandle(pub(crate) Arc<Pipes>, pub(crate) Which);

impl StdoutHandle {
    fn state(&self) -> &Mutex<Stdout> {
        match self.1 {
            Which::Stdout => &self.0.stdout,
            Which::Stderr => &self.0.stderr,
        }
    }
}

impl IsTerminal for StdoutHandle {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for StdoutHandle {
    /// Only WASI 0.3 asks for this form, and it is not linked.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Self(Arc::clone(&self.0), self.1))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for StdoutHandle {
    async fn ready(&mut self) {
        poll_fn(|cx| lock(self.state()).poll_room(cx)).await;
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for StdoutHandle {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        lock(self.state()).write(bytes)
    }

    /// Bytes are handed on as they come: there is nothing else to flush.
    fn flush(&mut self) -> StreamResult<()> {
        lock(self.state()).check()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        lock(self.state()).permit()
    }

    /// The provided version asks for leave four times; every line that a preview 1 guest prints comes through here.
    async fn blocking_write_and_flush(&mut self, mut bytes: Bytes) -> StreamResult<()> {
        while !bytes.is_empty() {
            let mut chunk = Some(bytes.split_to(bytes.len().min(MAX_CHUNK)));
            poll_fn(|cx| {
                let mut state = lock(self.state());
                ready!(state.poll_room(cx));
                Poll::Ready(chunk.take().map_or(Ok(()), |chunk| state.write(chunk)))
            })
            .await?;
        }
        Ok(())
    }
}
