//! A real HTTP server on loopback, with or without TLS, that behaves as its paths say, and certificates for it.
//!
//! | path | what it does |
//! | --- | --- |
//! | `/hello` | answers `hello` |
//! | `/echo` | answers with the body that came |
//! | `/redirect/URL` | sends the guest to `http://URL` |
//! | `/endless` | streams zeros until nobody takes them |
//! | `/head` | sends headers without end |
//! | `/cut` | promises more than it sends |
//! | `/silent` | never answers |
//! | `/drip` | sends a byte now and then, for ever |
//! | `/stall` | sends a head, and nothing after it |
//! | `/swallow` | reads the body for ever, and answers nothing |
#![allow(unreachable_pub, reason = "the other files of this test use it")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// Between the bytes of `/drip`.
const DRIP: Duration = Duration::from_millis(20);
const CHUNK: usize = 16 * 1024;
/// Most that the server does for one request, should a guard fail: an endless answer would hang its test otherwise.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// A running server; it stops with the runtime that it was started on.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    log: Arc<Mutex<Log>>,
    open: watch::Receiver<usize>,
}

#[derive(Default)]
struct Log {
    connections: usize,
    heads: Vec<String>,
    bytes: u64,
}

/// One authority, and the key that it signs with.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    /// A server's side of TLS, with a certificate for `name` that is good until the end of `last_year`.
    pub fn server(&self, name: &str, last_year: i32) -> ServerConfig {
        self.server_with(name, last_year, rustls::ALL_VERSIONS)
    }

    pub fn server_with(
        &self,
        name: &str,
        last_year: i32,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ServerConfig {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap()
    }
}

impl Server {
    /// Serves on a free port of 127.0.0.1.
    pub async fn start(tls: Option<ServerConfig>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (count, open) = watch::channel(0);
        let server = Self { address: listener.local_addr().unwrap(), log: Arc::default(), open };
        let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let (log, count) = (Arc::clone(&server.log), Arc::new(count));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, count, acceptor) = (Arc::clone(&log), Arc::clone(&count), acceptor.clone());
                log.lock().unwrap().connections += 1;
                count.send_modify(|open| *open += 1);
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, &log).await;
                            }
                        }
                        None => serve(stream, &log).await,
                    }
                    count.send_modify(|open| *open -= 1);
                });
            }
        });
        server
    }

    pub fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.address)
    }

    /// Connections that were ever accepted.
    pub fn connections(&self) -> usize {
        self.log.lock().unwrap().connections
    }

    /// Heads of the requests that came, in order.
    pub fn heads(&self) -> Vec<String> {
        self.log.lock().unwrap().heads.clone()
    }

    /// Bytes of bodies, in both directions.
    pub fn bytes(&self) -> u64 {
        self.log.lock().unwrap().bytes
    }

    /// Waits until so many connections are open.
    pub async fn until_open(&self, number: usize) {
        self.open.clone().wait_for(|open| *open == number).await.unwrap();
    }

    /// Waits until a request has come.
    pub async fn until_asked(&self) {
        while self.heads().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, log: &Mutex<Log>) {
    let Some((head, body)) = head(&mut stream).await else { return };
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    log.lock().unwrap().heads.push(head.clone());
    // A client that went away is what half of the tests are about.
    let _ = answer(&mut stream, &path, &head, body, log).await;
    let _ = stream.shutdown().await;
}

/// The head of a request, and what came with it of the body.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return Some((String::from_utf8(bytes).unwrap(), body));
        }
    }
}

async fn answer(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    path: &str,
    head: &str,
    mut body: Vec<u8>,
    log: &Mutex<Log>,
) -> std::io::Result<()> {
    let count = |bytes: usize| {
        let mut log = log.lock().unwrap();
        log.bytes += bytes as u64;
        log.bytes < MOST_BYTES
    };
    match path {
        "/echo" => {
            // The one way in which the test's guests send a body.
            assert!(head.contains("transfer-encoding: chunked"), "{head}");
            while !body.ends_with(b"0\r\n\r\n") {
                if stream.read_buf(&mut body).await? == 0 {
                    return Ok(());
                }
            }
            let body = unchunked(&body);
            count(body.len());
            stream
                .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes())
                .await?;
            stream.write_all(&body).await
        }
        "/endless" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            while count(CHUNK) {
                stream.write_all(&[0; CHUNK]).await?;
            }
            Ok(())
        }
        "/head" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            while count(CHUNK) {
                stream.write_all(format!("x-more: {}\r\n", "a".repeat(CHUNK)).as_bytes()).await?;
            }
            Ok(())
        }
        "/cut" => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello").await,
        "/stall" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            stream.flush().await?;
            stream.read_buf(&mut body).await?;
            Ok(())
        }
        "/silent" => {
            stream.read_buf(&mut body).await?;
            Ok(())
        }
        "/drip" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            loop {
                stream.write_all(b".").await?;
                tokio::time::sleep(DRIP).await;
            }
        }
        "/swallow" => {
            count(body.len());
            loop {
                body.clear();
                let read = stream.read_buf(&mut body).await?;
                if read == 0 || !count(read) {
                    return Ok(());
                }
            }
        }
        _ => match path.strip_prefix("/redirect/") {
            Some(to) => {
                let head =
                    format!("HTTP/1.1 302 Found\r\nlocation: http://{to}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(head.as_bytes()).await
            }
            None => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await,
        },
    }
}

/// The body behind its chunked coding, which is whole.
fn unchunked(mut coded: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = coded.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&coded[..end]).unwrap(), 16).unwrap();
        body.extend_from_slice(&coded[end + 2..end + 2 + size]);
        coded = &coded[end + 2 + size + 2..];
    }
    body
}
