//! A server with bounds: so many connections, so many of one address, so long each, requests of so many bytes.
//!
//! *Never:* gives a request to its [`Answer`] before all of it is there. *Bound:* the constants below. A client that sends slowly holds one
//! place for at most [`HEADER`] and [`BODY`]; one that takes its answer slowly, for [`CONNECTION`].

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::io::ReaderStream;

use super::local::Local;
use super::stream::{Stream, TokioTimer};
use crate::config::AllowList;
use crate::meters::Counter;

/// Connections at once.
const MAX_CONNECTIONS: usize = 128;
/// Connections at once of one address.
const MAX_OF_ONE: usize = 32;
/// Longest wait for the whole header of a request, and between two requests.
const HEADER: Duration = Duration::from_secs(10);
/// Longest wait for the whole body of a request.
const BODY: Duration = Duration::from_secs(10);
/// Longest life of a connection.
const CONNECTION: Duration = Duration::from_secs(300);
/// How long what is being answered may take once the server is told to stop, or the connection is too old.
const LAST_ANSWER: Duration = Duration::from_secs(5);
/// Memory of one connection for headers, and the most that they may have.
const BUFFER_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// Pieces in which files are sent.
const CHUNK_BYTES: usize = 64 * 1024;
/// Before a listener that failed is asked again: usually the process has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(50);

type Sent = UnsyncBoxBody<Bytes, io::Error>;

/// How a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// `GET`, and `HEAD`, whose answer goes without its body.
    Get,
    Post,
    Other,
}

/// One request, whole.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// As it was sent, not decoded; without the query.
    pub(crate) path: String,
    /// Empty but for `POST`.
    pub(crate) body: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) cache: &'static str,
    pub(crate) body: Body,
}

/// What an answer carries.
#[derive(Debug)]
pub(crate) enum Body {
    Bytes(Vec<u8>),
    /// So many bytes of a file, in pieces.
    File(tokio::fs::File, u64),
}

impl Reply {
    /// One line for people, which nobody may keep.
    pub(crate) fn words(status: u16, text: impl std::fmt::Display) -> Self {
        let body = Body::Bytes(format!("{text}\n").into_bytes());
        Self { status, content_type: "text/plain; charset=utf-8", cache: "no-store", body }
    }
}

/// Who answers requests.
pub(crate) trait Answer: Send + Sync + 'static {
    /// The longest body that is read.
    const MAX_BODY: usize;
    /// The methods that there are, for who uses another.
    const METHODS: &'static str;

    /// The answer. Status 405 gets the list of methods with it.
    fn answer(&self, asked: Asked) -> impl Future<Output = Reply> + Send;
}

/// Who may come in.
#[derive(Debug, Default)]
pub(crate) struct Door {
    /// From where; none: from anywhere.
    pub(crate) allow_from: Option<AllowList>,
    /// Told of each that comes from elsewhere.
    pub(crate) turned_away: Arc<Counter>,
}

/// A server that runs. Dropped, it ends at once.
#[derive(Debug)]
pub(crate) struct Serving {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

/// A server that listens at an address.
#[derive(Debug)]
pub(crate) struct Listening {
    address: SocketAddr,
    serving: Serving,
}

impl Listening {
    /// Listens at `address` and has `answer` answer whoever `door` lets in.
    ///
    /// # Errors
    /// When the address is not to be had.
    pub(crate) async fn start<A: Answer>(
        address: SocketAddr,
        door: Door,
        answer: Arc<A>,
    ) -> io::Result<Self> {
        Self::at(TcpListener::bind(address).await?, door, answer)
    }

    /// [`start`](Self::start) at a socket that was handed over, which listens.
    ///
    /// # Errors
    /// When it is no such socket.
    pub(crate) fn handed<A: Answer>(socket: OwnedFd, door: Door, answer: Arc<A>) -> io::Result<Self> {
        let listener = std::net::TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        Self::at(TcpListener::from_std(listener)?, door, answer)
    }

    fn at<A: Answer>(listener: TcpListener, door: Door, answer: Arc<A>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self { address, serving: Serving::start(Ear::Tcp(listener, door), answer) })
    }

    /// Where it listens.
    #[must_use]
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// As [`Serving::stop`].
    pub(crate) async fn stop(self) {
        self.serving.stop().await;
    }
}

impl Serving {
    /// Listens at the socket `path` for this user, and has `answer` answer. To be called by who holds the directory of `path`, which is open to
    /// nobody else.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub(crate) fn local<A: Answer>(path: &Path, answer: Arc<A>) -> io::Result<Self> {
        Ok(Self::start(Ear::Local(Local::bind(path)?), answer))
    }

    /// [`local`](Self::local) at a socket that was handed over, which listens. Its name is its maker's.
    ///
    /// # Errors
    /// When it is no such socket.
    pub(crate) fn handed<A: Answer>(socket: OwnedFd, answer: Arc<A>) -> io::Result<Self> {
        Ok(Self::start(Ear::Local(Local::handed(socket)?), answer))
    }

    fn start<A: Answer>(ear: Ear, answer: Arc<A>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(serve(ear, answer, stopped));
        Self { stop, task }
    }

    /// Takes no more connections, finishes what is being answered within seconds, ends.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        let _ = (&mut self.task).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is listened to.
enum Ear {
    Tcp(TcpListener, Door),
    Local(Local),
}

/// A connection of either kind.
trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

impl Ear {
    /// The next connection, and where it comes from; none for one that is turned away, of which no byte is read.
    async fn accept(&self) -> io::Result<Option<(Box<dyn Socket>, IpAddr)>> {
        match self {
            Self::Tcp(listener, door) => {
                let (stream, peer) = listener.accept().await?;
                if door.allow_from.as_ref().is_some_and(|allowed| !allowed.admits(peer.ip())) {
                    door.turned_away.add();
                    return Ok(None);
                }
                let _ = stream.set_nodelay(true);
                Ok(Some((Box::new(stream), peer.ip())))
            }
            Self::Local(local) => {
                let stream = local.accept().await?;
                // All of this machine share one share.
                Ok(stream.map(|stream| -> (Box<dyn Socket>, _) {
                    (Box::new(stream), Ipv6Addr::UNSPECIFIED.into())
                }))
            }
        }
    }
}

async fn serve<A: Answer>(ear: Ear, answer: Arc<A>, stopped: watch::Receiver<bool>) {
    let places = Arc::new(Places::default());
    let mut connections = JoinSet::new();
    let mut stop = stopped.clone();
    loop {
        tokio::select! {
            () = told(&mut stop) => break,
            Some(_) = connections.join_next() => {}
            accepted = ear.accept() => match accepted {
                // Without a place the connection is closed: whoever waited for an answer would wait in the dark.
                Ok(Some((stream, peer))) => if let Some(place) = Place::take(&places, peer) {
                    connections.spawn(connection(stream, Arc::clone(&answer), stopped.clone(), place));
                },
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be taken");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
    drop(ear);
    while connections.join_next().await.is_some() {}
}

/// Waits for the word to stop. A sender that is gone means the same.
async fn told(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// Who has how many connections.
#[derive(Debug, Default)]
struct Places(Mutex<BTreeMap<IpAddr, usize>>);

/// What counts as one address: an IPv4 address, in either form, or an IPv6 network of 64 bits, as one customer has at least that.
fn one(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(peer) => Ipv6Addr::from_bits(peer.to_bits() & (u128::MAX << 64)).into(),
        peer => peer,
    }
}

/// One connection's place; given back when it is dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    peer: IpAddr,
}

impl Place {
    fn take(places: &Arc<Places>, peer: IpAddr) -> Option<Self> {
        let peer = one(peer);
        let mut taken = places.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let own = taken.get(&peer).copied().unwrap_or(0);
        if all >= MAX_CONNECTIONS || own >= MAX_OF_ONE {
            return None;
        }
        taken.insert(peer, own + 1);
        Some(Self { places: Arc::clone(places), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.peer) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.remove(&self.peer)),
        }
    }
}

async fn connection<A: Answer>(
    stream: Box<dyn Socket>,
    answer: Arc<A>,
    mut stopped: watch::Receiver<bool>,
    place: Place,
) {
    let service = service_fn(|request| {
        let answer = Arc::clone(&answer);
        async move { Ok::<_, Infallible>(respond(&*answer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer)
        .header_read_timeout(HEADER)
        .max_buf_size(BUFFER_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(Stream(stream), service);
    let mut connection = std::pin::pin!(connection);
    let over = tokio::select! {
        _ = connection.as_mut() => true,
        () = told(&mut stopped) => false,
        () = tokio::time::sleep(CONNECTION) => false,
    };
    if !over {
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(LAST_ANSWER, connection).await;
    }
    drop(place);
}

async fn respond<A: Answer>(answer: &A, request: Request<Incoming>) -> Response<Sent> {
    let head = request.method() == hyper::Method::HEAD;
    let reply = match read::<A>(request).await {
        Ok(asked) => answer.answer(asked).await,
        Err(reply) => reply,
    };
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let length = match &reply.body {
        Body::Bytes(bytes) => bytes.len() as u64,
        Body::File(_, length) => *length,
    };
    let mut response = Response::new(if head { nothing() } else { sent(reply.body) });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(reply.cache));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static(A::METHODS));
    }
    response
}

async fn read<A: Answer>(request: Request<Incoming>) -> Result<Asked, Reply> {
    let method = match *request.method() {
        hyper::Method::GET | hyper::Method::HEAD => Method::Get,
        hyper::Method::POST => Method::Post,
        _ => Method::Other,
    };
    let path = request.uri().path().to_owned();
    let mut body = Vec::new();
    if method == Method::Post {
        let limited = Limited::new(request.into_body(), A::MAX_BODY);
        let collected = tokio::time::timeout(BODY, limited.collect()).await;
        let collected = collected.map_err(|_| Reply::words(408, "the body did not come in time"))?;
        body = collected.map(|all| all.to_bytes().to_vec()).map_err(|error| {
            if error.is::<LengthLimitError>() {
                Reply::words(413, format_args!("the body has more than {} bytes", A::MAX_BODY))
            } else {
                Reply::words(400, "the body is cut off")
            }
        })?;
    }
    Ok(Asked { method, path, body })
}

fn nothing() -> Sent {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn sent(body: Body) -> Sent {
    match body {
        Body::Bytes(bytes) => Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync(),
        Body::File(file, length) => {
            let pieces = ReaderStream::with_capacity(file.take(length), CHUNK_BYTES);
            StreamBody::new(pieces.map_ok(Frame::data)).boxed_unsync()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Red without `one` in `Place::take`.
    #[test]
    fn one_network_has_one_share_however_many_addresses_it_has() {
        let places = Arc::new(Places::default());
        let take = |peer: String| Place::take(&places, peer.parse().unwrap());
        let held: Vec<_> =
            (0..MAX_OF_ONE).map(|host| take(format!("2001:db8:0:1::{host:x}")).unwrap()).collect();
        assert!(take("2001:db8:0:1:ffff::1".into()).is_none());
        let other = take("2001:db8:0:2::1".into()).unwrap();
        drop((held, other));
        assert!(places.0.lock().unwrap().is_empty(), "every place is given back");
        let held: Vec<_> = (0..MAX_OF_ONE).map(|_| take("::ffff:192.0.2.1".into()).unwrap()).collect();
        assert!(take("192.0.2.1".into()).is_none());
        assert!(take("192.0.2.2".into()).is_some());
        drop(held);
    }
}
