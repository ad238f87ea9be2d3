//! A guest's stdin: read only as far as the guest asks.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use wasmtime_wasi::cli::{IsTerminal, StdinStream};
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};

use crate::pipes::{Fault, PipeFailed, Pipes, lock};

/// Most that is read ahead of the guest.
const READ_AHEAD: usize = 64 << 10;

/// Where input comes from.
pub(crate) enum Source {
    /// All of it, in memory.
    Bytes(Bytes),
    /// Read as needed.
    Reader(Box<dyn AsyncRead + Send + Unpin>),
}

/// What the guest's handles to stdin share.
pub(crate) struct Stdin {
    source: Source,
    /// Read, but not yet taken by the guest.
    ahead: BytesMut,
    ended: bool,
    failed: Option<io::Error>,
    /// Bytes that the guest took.
    pub(crate) taken: u64,
}

impl Stdin {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, ahead: BytesMut::new(), ended: false, failed: None, taken: 0 }
    }

    pub(crate) fn fault(&mut self) -> Option<Fault> {
        self.failed.take().map(Fault::Stdin)
    }

    /// Up to `size` bytes that are there already; empty when there are none yet.
    pub(crate) fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let bytes = match &mut self.source {
            Source::Bytes(bytes) if bytes.is_empty() => return Err(StreamError::Closed),
            Source::Bytes(bytes) => bytes.split_to(size.min(bytes.len())),
            Source::Reader(_) if !self.ahead.is_empty() => {
                self.ahead.split_to(size.min(self.ahead.len())).freeze()
            }
            Source::Reader(_) if self.failed.is_some() => return Err(StreamError::Trap(PipeFailed.into())),
            Source::Reader(_) if self.ended => return Err(StreamError::Closed),
            Source::Reader(_) => Bytes::new(),
        };
        self.taken += bytes.len() as u64;
        Ok(bytes)
    }

    /// Ready when a `read` would say something: bytes, the end, or a failure.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Source::Reader(reader) = &mut self.source else {
            return Poll::Ready(());
        };
        if !self.ahead.is_empty() || self.ended || self.failed.is_some() {
            return Poll::Ready(());
        }
        self.ahead.reserve(READ_AHEAD);
        match pin!(reader.read_buf(&mut self.ahead)).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0)) => self.ended = true,
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => self.failed = Some(error),
        }
        Poll::Ready(())
    }
}

/// One handle to stdin; all of them read from the same place.
pub(crate) struct StdinHandle(pub(crate) Arc<Pipes>);

impl IsTerminal for StdinHandle {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for StdinHandle {
    /// Only WASI 0.3 asks for this form, and it is not linked.
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(Self(Arc::clone(&self.0)))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for StdinHandle {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| lock(&self.0.stdin).poll_ready(cx)).await;
    }
}

#[wasmtime_wasi::async_trait]
impl InputStream for StdinHandle {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        lock(&self.0.stdin).read(size)
    }
}
