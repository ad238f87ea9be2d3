//! The host's half of a stream. What is not finished in order is reset, so that no part of an answer passes for the whole.

use std::future::Future;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn::SendStream;
use strongroom_job::frame::{self, MAX_RESPONSE_BYTES, PREFIX_BYTES};
use strongroom_job::{CloseCode, Refusal, RefusalCode, Response};
use tokio::time::timeout;

/// A client that takes nothing of its answer for so long is given up. A person may be reading the output in a pager.
const STALL_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How long a finished answer is waited for to arrive.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Headers are gathered up to this length before they are sent.
const HEADERS_AT_ONCE_BYTES: usize = 64 << 10;

/// The client does not listen any more.
#[derive(Debug)]
pub(super) struct Gone;

/// An answer being written.
pub(super) struct Answer {
    send: SendStream,
    begun: bool,
    finished: bool,
    code_if_dropped: CloseCode,
}

impl Answer {
    pub(super) const fn new(send: SendStream) -> Self {
        Self { send, begun: false, finished: false, code_if_dropped: CloseCode::HostFault }
    }

    /// Whether the header was sent, so that no other answer can be given.
    pub(super) const fn has_begun(&self) -> bool {
        self.begun
    }

    /// Sends the header.
    pub(super) async fn header(&mut self, response: &Response) -> Result<(), Gone> {
        self.begun = true;
        self.chunk(encoded(response).into()).await
    }

    /// Sends some headers, one behind the other.
    pub(super) async fn headers(
        &mut self,
        responses: impl IntoIterator<Item = Response>,
    ) -> Result<(), Gone> {
        self.begun = true;
        let mut bytes = BytesMut::new();
        for response in responses {
            bytes.extend_from_slice(&encoded(&response));
            if bytes.len() >= HEADERS_AT_ONCE_BYTES {
                self.chunk(bytes.split().freeze()).await?;
            }
        }
        if bytes.is_empty() { Ok(()) } else { self.chunk(bytes.freeze()).await }
    }

    /// Sends bytes of the body, once the client has room for them.
    pub(super) async fn chunk(&mut self, bytes: Bytes) -> Result<(), Gone> {
        match timeout(STALL_TIMEOUT, self.send.write_chunk(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Gone),
            Err(_) => {
                self.code_if_dropped = CloseCode::TooSlow;
                Err(Gone)
            }
        }
    }

    /// The answer is complete.
    pub(super) fn finish(&mut self) {
        // Fails only if the client stopped the stream: then nobody listens.
        let _ = self.send.finish();
        self.finished = true;
    }

    /// The answer ends here and is not complete.
    pub(super) const fn cut_off(&mut self, code: CloseCode) {
        // Who was too slow is told that.
        if !matches!(self.code_if_dropped, CloseCode::TooSlow) {
            self.code_if_dropped = code;
        }
    }

    /// Done once the client does not listen any more: it stopped the stream or is gone.
    pub(super) fn deaf(&self) -> impl Future<Output = ()> + Send + 'static {
        let stopped = self.send.stopped();
        async move { drop(stopped.await) }
    }

    /// Done once a finished answer has arrived, or will not.
    pub(super) fn delivered(self) -> impl Future<Output = ()> + Send + 'static {
        let stopped = self.finished.then(|| self.send.stopped());
        drop(self);
        async move {
            if let Some(stopped) = stopped {
                let _ = timeout(DELIVERY_TIMEOUT, stopped).await;
            }
        }
    }
}

/// A header as it is sent.
fn encoded(response: &Response) -> Vec<u8> {
    let bytes = frame::encode_header(response);
    if bytes.len() - PREFIX_BYTES <= MAX_RESPONSE_BYTES {
        return bytes;
    }
    let refusal = Refusal::new(RefusalCode::HostFault, "the answer is longer than any answer may be");
    frame::encode_header(&Response::Refused(refusal))
}

impl Drop for Answer {
    fn drop(&mut self) {
        // quinn finishes a dropped stream in order, also in a panic: then half an output would look like all of it.
        if !self.finished {
            let _ = self.send.reset(self.code_if_dropped.number().into());
        }
    }
}
