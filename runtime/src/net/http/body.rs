//! Bodies, counted while they pass.
//!
//! *Never:* more than a frame of one in memory.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;
use wasmtime_wasi_http::{Error, WasiBody};

use super::wire;
use crate::soft::SoftLimits;
use crate::standin::now;

/// How far a request's body went past the limit. hyper tells of a body that failed, not why.
#[derive(Clone, Debug, Default)]
pub(super) struct Overrun(Arc<AtomicU64>);

impl Overrun {
    /// What `error` means to the guest.
    pub(super) fn explain(&self, error: &hyper::Error) -> Error {
        match self.0.load(Ordering::Relaxed) {
            0 => wire::fault(error),
            bytes => Error::HttpRequestBodySize(Some(bytes)),
        }
    }
}

/// What the guest sends.
pub(super) struct Upload {
    body: WasiBody,
    sent: u64,
    soft: SoftLimits,
    overrun: Overrun,
}

impl Upload {
    pub(super) fn new(body: WasiBody, soft: SoftLimits, overrun: Overrun) -> Self {
        Self { body, sent: 0, soft, overrun }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            let bytes = size(frame);
            self.sent = self.sent.saturating_add(bytes);
            if self.soft.http_body(bytes).is_err() {
                self.overrun.0.store(self.sent, Ordering::Relaxed);
                return Poll::Ready(Some(Err(Error::HttpRequestBodySize(Some(self.sent)))));
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What the server sends.
pub(super) struct Download {
    /// None once the rest is not wanted.
    body: Option<Incoming>,
    received: u64,
    soft: SoftLimits,
    overrun: Overrun,
    /// Longest wait for the next frame.
    patience: Duration,
    /// Set when a wait begins.
    bell: Pin<Box<Sleep>>,
    waiting: bool,
}

impl Download {
    pub(super) fn new(body: Incoming, soft: SoftLimits, overrun: Overrun, patience: Duration) -> Self {
        let bell = Box::pin(tokio::time::sleep(patience));
        Self { body: Some(body), received: 0, soft, overrun, patience, bell, waiting: false }
    }

    fn take(&mut self, frame: Result<Frame<Bytes>, hyper::Error>) -> Result<Frame<Bytes>, Error> {
        let frame = frame.map_err(|error| self.overrun.explain(&error))?;
        let bytes = size(&frame);
        self.received = self.received.saturating_add(bytes);
        match self.soft.http_body(bytes) {
            Ok(()) => Ok(frame),
            Err(_) => Err(Error::HttpResponseBodySize(Some(self.received))),
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let result = match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(frame)) => {
                this.waiting = false;
                this.take(frame)
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {
                // The time that a guest takes to come back and read is not the server's.
                if !std::mem::replace(&mut this.waiting, true) {
                    this.bell.as_mut().reset((now() + this.patience).into());
                }
                match this.bell.as_mut().poll(cx) {
                    Poll::Ready(()) => Err(Error::ConnectionReadTimeout),
                    Poll::Pending => return Poll::Pending,
                }
            }
        };
        if result.is_err() {
            // Closes the connection: the server need not go on.
            this.body = None;
        }
        Poll::Ready(Some(result))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

fn size(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX))
}
