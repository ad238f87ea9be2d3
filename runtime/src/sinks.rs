//! Sinks that most callers need.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use crate::stdio::OutputSink;

/// Drops everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

impl OutputSink for Discard {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, _: Bytes) -> io::Result<()> {
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Keeps everything in memory. The run's output limit is what bounds it.
#[derive(Debug)]
pub struct Collect(Arc<Mutex<Vec<u8>>>);

/// The caller's end of a [`Collect`].
#[derive(Debug)]
pub struct Collected(Arc<Mutex<Vec<u8>>>);

impl Collect {
    /// The sink, and the handle that has its bytes.
    pub fn new() -> (Self, Collected) {
        let bytes = Arc::default();
        (Self(Arc::clone(&bytes)), Collected(bytes))
    }
}

impl Collected {
    /// What was written since the last call.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl OutputSink for Collect {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, chunk: Bytes) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk);
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Writes to an [`AsyncWrite`]: a pipe, a socket, a file. Holds one chunk.
#[derive(Debug)]
pub struct WriteSink<W> {
    writer: W,
    chunk: Bytes,
}

impl<W> WriteSink<W> {
    /// A sink in front of `writer`.
    pub const fn new(writer: W) -> Self {
        Self { writer, chunk: Bytes::new() }
    }
}

impl<W: AsyncWrite + Send + Unpin + 'static> OutputSink for WriteSink<W> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.chunk.has_remaining() {
            let written = ready!(Pin::new(&mut self.writer).poll_write(cx, &self.chunk))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.chunk.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, chunk: Bytes) -> io::Result<()> {
        self.chunk = chunk;
        Ok(())
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_ready(cx))?;
        Pin::new(&mut self.writer).poll_flush(cx)
    }
}
