//! One question to another server. *Never:* follows a redirect, asks a proxy, or keeps a connection.

use std::path::Path;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::address::Prefix;
use super::local;
use super::stream::Stream;

const BUFFER_BYTES: usize = 16 * 1024;
const AGENT: &str = concat!("strongroom/", env!("CARGO_PKG_VERSION"));

/// What is sent.
#[derive(Debug)]
pub(crate) struct Post<'a> {
    /// The `Host` header.
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
}

/// What the server said.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    /// Whole, or why not.
    pub(crate) body: Result<Vec<u8>, PostError>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    #[error("cannot be reached: {0}")]
    Connect(std::io::Error),
    #[error("cannot be asked so: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("speaks no HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("sends more than {0} bytes")]
    TooLong(usize),
    #[error("stops in the middle of its answer")]
    CutOff,
}

/// Posts `body`, a text, to `path` below `prefix`. As [`post`].
pub(crate) async fn post_text(
    prefix: &Prefix,
    path: &str,
    body: Vec<u8>,
    max: usize,
) -> Result<Answered, PostError> {
    let stream = TcpStream::connect((prefix.host(), prefix.port())).await.map_err(PostError::Connect)?;
    let (path, content_type) = (prefix.path_of(path), "text/plain; charset=utf-8");
    post(stream, Post { host: prefix.authority(), path: &path, content_type, body }, max).await
}

/// Fetches the text at `path` below `prefix`. As [`post`].
pub(crate) async fn get_text(prefix: &Prefix, path: &str, max: usize) -> Result<Answered, PostError> {
    let stream = TcpStream::connect((prefix.host(), prefix.port())).await.map_err(PostError::Connect)?;
    let request = Request::get(prefix.path_of(path)).header(HOST, prefix.authority());
    exchange(stream, request.header(USER_AGENT, AGENT).body(Full::default())?, max).await
}

/// Posts over a connection that is open; reads at most `max` bytes of the answer. The caller sets the time.
pub(crate) async fn post<S>(stream: S, request: Post<'_>, max: usize) -> Result<Answered, PostError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Post { host, path, content_type, body } = request;
    let request = Request::post(path).header(HOST, host).header(USER_AGENT, AGENT);
    let request = request.header(CONTENT_TYPE, content_type).body(Full::new(Bytes::from(body)))?;
    exchange(stream, request, max).await
}

/// Fetches the text at `path` from the socket at `socket`. As [`post`].
pub(crate) async fn get_local(socket: &Path, path: &str, max: usize) -> Result<Answered, PostError> {
    let stream = local::connect(socket).await.map_err(PostError::Connect)?;
    let request = Request::get(path).header(HOST, "localhost");
    exchange(stream, request.header(USER_AGENT, AGENT).body(Full::default())?, max).await
}

/// Posts nothing to `path` at the socket at `socket`. As [`post`].
pub(crate) async fn post_local(socket: &Path, path: &str, max: usize) -> Result<Answered, PostError> {
    let stream = local::connect(socket).await.map_err(PostError::Connect)?;
    let request = Request::post(path).header(HOST, "localhost");
    exchange(stream, request.header(USER_AGENT, AGENT).body(Full::default())?, max).await
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>, max: usize) -> Result<Answered, PostError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(BUFFER_BYTES);
    let (mut sender, connection) = builder.handshake(Stream(stream)).await?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), max).collect().await;
        let body = body.map(|body| body.to_bytes().to_vec()).map_err(|error| {
            if error.is::<LengthLimitError>() { PostError::TooLong(max) } else { PostError::CutOff }
        });
        Ok(Answered { status, body })
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answered = exchange.as_mut() => answered,
        // The connection may be over before its last bytes are taken.
        _ = connection => exchange.await,
    }
}
