//! One request over one connection: look up, connect, verify, send, and hand over the answer while it streams.
//!
//! *Never:* a name resolved here, or an address that the gate did not give.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Uri, header};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::body::{Download, Overrun, Upload};
use super::target::Target;
use super::{Answer, Socket, is_forbidden, tls};
use crate::net::{Gate, Refused};
use crate::soft::SoftLimits;

/// Longest wait for a connection: name, TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for one address while there is another to try.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the head of an answer, from the connection on. The run's own deadline is mostly sooner.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(600);
/// Longest wait between two parts of an answer's body.
const BETWEEN_BYTES_TIMEOUT: Duration = Duration::from_secs(600);

/// Largest head of an answer, and what is read at a time of its body.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// Most headers of an answer.
const MAX_HEADERS: usize = 128;

/// How long a guest waits for a server, at each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    connect: Duration,
    first_byte: Duration,
    between_bytes: Duration,
}

impl Times {
    /// What the guest asked for, as far as that is shorter than what it gets anyway.
    pub(super) fn of(options: Option<RequestOptions>) -> Self {
        let options = options.unwrap_or_default();
        let shorter = |asked: Option<Duration>, most: Duration| asked.map_or(most, |asked| asked.min(most));
        Self {
            connect: shorter(options.connect_timeout, CONNECT_TIMEOUT),
            first_byte: shorter(options.first_byte_timeout, FIRST_BYTE_TIMEOUT),
            between_bytes: shorter(options.between_bytes_timeout, BETWEEN_BYTES_TIMEOUT),
        }
    }
}

/// A request that was judged, and all that it takes.
pub(super) struct Call {
    pub(super) target: Target,
    pub(super) request: Request<WasiBody>,
    pub(super) times: Times,
    pub(super) gate: Gate,
    pub(super) soft: SoftLimits,
    pub(super) socket: Socket,
    pub(super) tls: Arc<ClientConfig>,
}

/// Makes the request. The second half of the answer keeps the connection going, and closes it when it is dropped.
///
/// # Errors
///
/// What the guest is told; details that it need not know are only in the host's log.
pub(super) async fn exchange(call: Call) -> Result<Answer, Error> {
    let Call { target, request, times, gate, soft, socket, tls } = call;
    let connecting = timeout(times.connect, connect(&target, &gate, tls));
    let stream = connecting.await.map_err(|_| Error::ConnectionTimeout)??;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(READ_BUFFER_BYTES)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| fault(&error))?;
    let mut connection = Box::pin(async move {
        // Its place among the sockets is free again when it is closed, not before.
        let _socket = socket;
        // Why it ended is told where the answer, or its body, is waited for.
        let _ = connection.await;
    });

    let overrun = Overrun::default();
    let upload = request.map(|body| Upload::new(body, soft.clone(), overrun.clone()));
    let mut sending = pin!(sender.send_request(address(upload, &target)?));
    let mut closed = false;
    let answering = poll_fn(|cx| {
        if let Poll::Ready(answer) = sending.as_mut().poll(cx) {
            return Poll::Ready(answer);
        }
        if !closed && connection.as_mut().poll(cx).is_ready() {
            closed = true;
            return sending.as_mut().poll(cx);
        }
        Poll::Pending
    });
    let answer = timeout(times.first_byte, answering)
        .await
        .map_err(|_| Error::HttpResponseTimeout)?
        .map_err(|error| overrun.explain(&error))?;
    let answer = answer.map(|body| Download::new(body, soft, overrun, times.between_bytes).boxed_unsync());
    let rest = Box::new(async move {
        if !closed {
            connection.await;
        }
        Ok(())
    });
    Ok((answer, rest))
}

/// The request as it goes out: to the path alone, under the host that was judged, on a connection of its own.
fn address<B>(mut request: Request<B>, target: &Target) -> Result<Request<B>, Error> {
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    set_headers(request.headers_mut(), target)?;
    Ok(request)
}

fn set_headers(headers: &mut HeaderMap, target: &Target) -> Result<(), Error> {
    // A guest cannot have set them; should it find a way, it changes nothing.
    let forbidden: Vec<_> = headers.keys().filter(|name| is_forbidden(name)).cloned().collect();
    for name in forbidden {
        headers.remove(name);
    }
    let host = HeaderValue::try_from(target.authority()).map_err(|_| Error::HttpRequestUriInvalid)?;
    headers.insert(header::HOST, host);
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(())
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect(target: &Target, gate: &Gate, tls: Arc<ClientConfig>) -> Result<Box<dyn Stream>, Error> {
    let addresses = gate.addresses_of(&target.host, target.port).await;
    let addresses = addresses.map_err(|refused| {
        if matches!(refused, Refused::NotGranted | Refused::Special) {
            gate.note(false, || target.reach());
        }
        match refused {
            Refused::NotGranted => Error::HttpRequestDenied,
            Refused::Special => Error::DestinationIpProhibited,
            Refused::Unknown => Error::DnsError { rcode: None, info_code: None },
            Refused::Slow => Error::DnsTimeout,
        }
    })?;
    let stream = dial(&addresses).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        _ => Error::DestinationUnavailable,
    })?;
    // Without it small requests only wait longer.
    let _ = stream.set_nodelay(true);
    if !target.tls {
        return Ok(Box::new(stream));
    }
    let name = tls::server_name(&target.host).ok_or(Error::HttpRequestUriInvalid)?;
    let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(|error| {
        tracing::debug!(origin = target.origin(), %error, "a guest's TLS connection failed");
        tls::fault(&error)
    })?;
    Ok(Box::new(stream))
}

/// Connects to the first address that answers.
async fn dial(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut result = Err(io::ErrorKind::AddrNotAvailable.into());
    for (at, address) in addresses.iter().enumerate() {
        let connecting = TcpStream::connect(address);
        result = if at + 1 == addresses.len() {
            connecting.await
        } else {
            timeout(ADDRESS_TIMEOUT, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        };
        if result.is_ok() {
            break;
        }
    }
    result
}

/// What went wrong between the two ends, as the guest is told.
pub(super) fn fault(error: &hyper::Error) -> Error {
    if error.is_parse_too_large() {
        return Error::HttpResponseHeaderSectionSize(None);
    }
    if error.is_incomplete_message() {
        return Error::HttpResponseIncomplete;
    }
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    match source.map(io::Error::kind) {
        Some(io::ErrorKind::UnexpectedEof) => Error::HttpResponseIncomplete,
        Some(_) => Error::ConnectionTerminated,
        None if error.is_closed() || error.is_canceled() => Error::ConnectionTerminated,
        None => Error::HttpProtocolError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    // Red without the removal, and without the insertion.
    #[test]
    fn a_forged_host_does_not_go_out() {
        let url = "https://example.com:8443/a?b";
        let target = Target::of(&Method::GET, &url.parse().unwrap());
        let forged = Request::get(url)
            .header("host", "evil.example")
            .header("host", "evil.example")
            .header("x-original-url", "/admin")
            .header("transfer-encoding", "chunked")
            .header("accept", "*/*")
            .body(())
            .unwrap();
        let request = address(forged, &target).unwrap();
        assert_eq!(request.uri(), "/a?b");
        let mut headers: Vec<_> =
            request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        headers.sort_unstable();
        assert_eq!(headers, [("accept", "*/*"), ("connection", "close"), ("host", "example.com:8443")]);
    }

    #[test]
    fn a_guest_may_wait_shorter_but_not_longer() {
        let second = Duration::from_secs(1);
        let asked = RequestOptions { connect_timeout: Some(second), ..RequestOptions::default() };
        assert_eq!(Times::of(Some(asked)), Times { connect: second, ..Times::of(None) });
        let asked = RequestOptions { connect_timeout: Some(Duration::MAX), ..asked };
        assert_eq!(Times::of(Some(asked)), Times::of(None));
    }
}
