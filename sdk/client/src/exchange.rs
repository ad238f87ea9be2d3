//! One request and its answer on one stream.
//!
//! *Spec:* `docs/formats/wire.md`.

use bytes::{Bytes, BytesMut};
use quinn::{Connection, ReadError, ReadExactError, RecvStream, SendStream, WriteError};
use strongroom_job::frame::{self, MAX_RESPONSE_BYTES, PREFIX_BYTES};
use strongroom_job::{CloseCode, PublicKey, Request, Response};

use crate::session::{Link, Session};
use crate::{Error, quic};

/// Most bytes of an answer's body that are handed on at once.
const MAX_PIECE_BYTES: usize = 256 << 10;

/// A stream that carries one request. Dropped early, it tells the host that nobody listens any more.
pub(crate) struct Exchange {
    address: String,
    key: PublicKey,
    send: SendStream,
    recv: RecvStream,
    /// Whether the whole request was sent.
    complete: bool,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // Without this, quinn would end the stream in order, as if the request were complete.
        if !self.complete {
            let _ = self.send.reset(CloseCode::NotNeeded.number().into());
        }
    }
}

impl Exchange {
    /// Sends the header of a request on the link's live connection.
    pub(crate) async fn on(link: &Link, session: &Session, request: &Request) -> Result<Self, Error> {
        Self::begin(&session.connection, &link.options.addr, link.options.identity.public(), request).await
    }

    /// Sends the header of a request. Waits while the host allows no further stream on this connection.
    pub(crate) async fn begin(
        connection: &Connection,
        address: &str,
        key: PublicKey,
        request: &Request,
    ) -> Result<Self, Error> {
        let (send, recv) = connection
            .open_bi()
            .await
            .map_err(|error| quic::connection_error(address, &key, true, &error))?;
        let mut exchange = Self { address: address.into(), key, send, recv, complete: false };
        exchange.body(frame::encode_header(request).into()).await?;
        Ok(exchange)
    }

    /// Sends a piece of the request's body. False: the host has heard enough, its answer says why.
    pub(crate) async fn body(&mut self, piece: Bytes) -> Result<bool, Error> {
        match self.send.write_chunk(piece).await {
            Ok(()) => Ok(true),
            Err(WriteError::Stopped(_)) => Ok(false),
            Err(WriteError::ConnectionLost(error)) => {
                Err(quic::connection_error(&self.address, &self.key, true, &error))
            }
            Err(error @ (WriteError::ClosedStream | WriteError::ZeroRttRejected)) => {
                Err(self.protocol(error.to_string()))
            }
        }
    }

    /// The request is complete.
    pub(crate) fn end_request(&mut self) {
        // Fails only if the host stopped the stream before; then its answer says why.
        let _ = self.send.finish();
        self.complete = true;
    }

    /// The host's answer; a refusal is an error.
    pub(crate) async fn answer(&mut self) -> Result<Response, Error> {
        let mut prefix = [0; PREFIX_BYTES];
        self.recv.read_exact(&mut prefix).await.map_err(|error| self.cut_off(error))?;
        let mut header = vec![0; self.length(prefix)?];
        self.recv.read_exact(&mut header).await.map_err(|error| self.cut_off(error))?;
        self.response(&header)
    }

    fn length(&self, prefix: [u8; PREFIX_BYTES]) -> Result<usize, Error> {
        frame::header_length(prefix, MAX_RESPONSE_BYTES).map_err(|error| self.protocol(error.to_string()))
    }

    fn response(&self, header: &[u8]) -> Result<Response, Error> {
        match frame::parse_header(header).map_err(|error| self.protocol(error.to_string()))? {
            Response::Refused(refusal) => Err(Error::Refused(refusal)),
            response => Ok(response),
        }
    }

    /// The next header of an answer that has several; none at its end.
    pub(crate) async fn next_answer(&mut self, buffer: &mut BytesMut) -> Result<Option<Response>, Error> {
        loop {
            if let Some(prefix) = buffer.first_chunk() {
                let whole = PREFIX_BYTES + self.length(*prefix)?;
                if buffer.len() >= whole {
                    return self.response(&buffer.split_to(whole)[PREFIX_BYTES..]).map(Some);
                }
            }
            match self.next().await? {
                Some(bytes) => buffer.extend_from_slice(&bytes),
                None if buffer.is_empty() => return Ok(None),
                None => return Err(self.protocol("its answer ended in the middle of a header".into())),
            }
        }
    }

    /// The next bytes of the answer's body; none at its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let chunk = self.recv.read_chunk(MAX_PIECE_BYTES, true).await;
        chunk.map(|chunk| chunk.map(|chunk| chunk.bytes)).map_err(|error| self.read_error(error))
    }

    /// The host answered something else than it was asked.
    pub(crate) fn unexpected(&self, kind: &str) -> Error {
        self.protocol(format!("{kind:?} is no answer to the request"))
    }

    pub(crate) fn protocol(&self, detail: String) -> Error {
        Error::Protocol { address: self.address.clone(), detail }
    }

    fn cut_off(&self, error: ReadExactError) -> Error {
        match error {
            ReadExactError::FinishedEarly(read) => {
                self.protocol(format!("its answer ended after {read} bytes of a part"))
            }
            ReadExactError::ReadError(error) => self.read_error(error),
        }
    }

    fn read_error(&self, error: ReadError) -> Error {
        match error {
            ReadError::Reset(code) => quic::closed(self.address.clone(), code.into_inner()),
            ReadError::ConnectionLost(error) => {
                quic::connection_error(&self.address, &self.key, true, &error)
            }
            error
            @ (ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected) => {
                self.protocol(error.to_string())
            }
        }
    }
}

/// The answer's name on the wire.
pub(crate) const fn kind_of(response: &Response) -> &'static str {
    match response {
        Response::Host(_) => "host",
        Response::Accepted { .. } => "accepted",
        Response::Stored { .. } => "stored",
        Response::Job(_) => "job",
        Response::Jobs { .. } => "jobs",
        Response::Output { .. } => "output",
        Response::Modules { .. } => "modules",
        Response::Erased(_) => "erased",
        Response::Queues { .. } => "queues",
        Response::Events { .. } => "events",
        Response::Grants { .. } => "grants",
        Response::Principals { .. } => "principals",
        Response::Refused(_) => "refused",
    }
}
