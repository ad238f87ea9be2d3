//! The client's half of a stream: lengths before memory, and a pace that nobody may fall behind.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn::{ReadError, RecvStream};
use strongroom_job::frame::{self, FrameError, MAX_REQUEST_BYTES, PREFIX_BYTES};
use strongroom_job::{CloseCode, Refusal, RefusalCode, Request};
use tokio::time::{Instant, timeout_at};

/// Bytes of an upload that are handed on at once, and that one upload holds in memory.
pub(super) const PIECE_BYTES: usize = 256 << 10;
/// What has to arrive in each `request_timeout`, unless less is left: a drip of single bytes is as dead as silence.
const PACE_BYTES: usize = 32 << 10;

/// Why a request did not arrive.
#[derive(Debug)]
pub(super) enum ReadFault {
    /// The client can be told why.
    Refuse(Refusal),
    /// The client is gone or too slow: nobody listens.
    Gone(CloseCode),
}

impl From<Refusal> for ReadFault {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

/// Reads one stream in order.
pub(super) struct Reader {
    recv: RecvStream,
    timeout: Duration,
}

impl Reader {
    pub(super) fn new(recv: RecvStream, timeout: Duration) -> Self {
        Self { recv, timeout }
    }

    /// The request. Its whole header has to arrive within one timeout.
    pub(super) async fn header(&mut self) -> Result<Request, ReadFault> {
        let deadline = Instant::now() + self.timeout;
        let mut prefix = [0; PREFIX_BYTES];
        self.exactly(&mut prefix, deadline).await?;
        let length = frame::header_length(prefix, MAX_REQUEST_BYTES).map_err(bad_frame)?;
        let mut header = vec![0; length];
        self.exactly(&mut header, deadline).await?;
        Ok(frame::parse_header(&header).map_err(bad_frame)?)
    }

    /// The next piece of a body of which `left` bytes are still to come: full, or the rest.
    pub(super) async fn piece(&mut self, left: u64) -> Result<Bytes, ReadFault> {
        let wanted = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let mut piece = BytesMut::zeroed(wanted);
        let mut have = 0;
        while have < wanted {
            let until = (have + PACE_BYTES).min(wanted);
            self.exactly(&mut piece[have..until], Instant::now() + self.timeout).await?;
            have = until;
        }
        Ok(piece.freeze())
    }

    /// The request is over: only what was ended by its sender counts.
    pub(super) async fn end(&mut self) -> Result<(), ReadFault> {
        let mut extra = [0];
        match timeout_at(Instant::now() + self.timeout, self.recv.read(&mut extra)).await {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(_))) => {
                Err(bad("more bytes came than the request announced; say the right length").into())
            }
            Ok(Err(error)) => Err(gone(&error)),
            Err(_) => Err(ReadFault::Gone(CloseCode::TooSlow)),
        }
    }

    /// Tells the client to send no more, so that it looks at the answer.
    pub(super) fn stop(mut self, code: CloseCode) {
        // Fails only when everything has arrived already.
        let _ = self.recv.stop(code.number().into());
    }

    async fn exactly(&mut self, buffer: &mut [u8], deadline: Instant) -> Result<(), ReadFault> {
        let mut have = 0;
        while have < buffer.len() {
            match timeout_at(deadline, self.recv.read(&mut buffer[have..])).await {
                Ok(Ok(Some(read))) => have += read,
                Ok(Ok(None)) => {
                    return Err(bad("the request ended before all of its announced bytes had come").into());
                }
                Ok(Err(error)) => return Err(gone(&error)),
                Err(_) => return Err(ReadFault::Gone(CloseCode::TooSlow)),
            }
        }
        Ok(())
    }
}

fn gone(error: &ReadError) -> ReadFault {
    ReadFault::Gone(match error {
        ReadError::Reset(_) | ReadError::ConnectionLost(_) | ReadError::ClosedStream => CloseCode::NotNeeded,
        ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => CloseCode::Protocol,
    })
}

fn bad_frame(error: FrameError) -> Refusal {
    Refusal::new(RefusalCode::BadRequest, error)
}

fn bad(message: &str) -> Refusal {
    Refusal::new(RefusalCode::BadRequest, message)
}
