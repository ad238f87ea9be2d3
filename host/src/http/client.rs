//! One question to another server. *Never:* follows a redirect, asks a proxy, or keeps a connection.

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use tokio::net::TcpStream;

use super::address::Prefix;
use super::stream::Stream;

const BUFFER_BYTES: usize = 16 * 1024;
const AGENT: &str = concat!("strongroom/", env!("CARGO_PKG_VERSION"));

/// What the server said.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    #[error("cannot be reached: {0}")]
    Connect(std::io::Error),
    #[error("speaks no HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("sends more than {0} bytes")]
    TooLong(usize),
    #[error("stops in the middle of its answer")]
    CutOff,
}

/// Posts `body` to `path` below `prefix`; reads at most `max` bytes of the answer. The caller sets the time.
pub(crate) async fn post(
    prefix: &Prefix,
    path: &str,
    body: Vec<u8>,
    max: usize,
) -> Result<Answered, PostError> {
    let stream = TcpStream::connect((prefix.host(), prefix.port())).await.map_err(PostError::Connect)?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(BUFFER_BYTES);
    let (mut sender, connection) = builder.handshake(Stream(stream)).await?;
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = hyper::Method::POST;
    // Both were checked when the prefix was parsed.
    *request.uri_mut() = prefix.path_of(path).try_into().unwrap_or_default();
    let headers = request.headers_mut();
    if let Ok(host) = prefix.authority().try_into() {
        headers.insert(HOST, host);
    }
    headers.insert(USER_AGENT, hyper::header::HeaderValue::from_static(AGENT));
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain; charset=utf-8"));
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), max).collect().await;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() { PostError::TooLong(max) } else { PostError::CutOff }
        })?;
        Ok(Answered { status, body: body.to_bytes().to_vec() })
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answered = exchange.as_mut() => answered,
        // The connection may be over before its last bytes are taken.
        _ = connection => exchange.await,
    }
}
