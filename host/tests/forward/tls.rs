//! Syslog over TLS: only to the receiver that the configuration means.

use std::sync::Arc;

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use strongroom::config::{Config, Forward};
use strongroom::home::Home;
use strongroom::host::{Host, StartError};
use strongroom_runtime::TlsRoots;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::common::live::compiler;
use crate::common::patience::bounded;
use crate::receiver::frames;
use crate::support::{Got, assert_whole, host, log, to, work};

/// An authority, and what it signed for a server.
pub(crate) struct Pki {
    pub(crate) authority: rcgen::Certificate,
    pub(crate) server: rcgen::Certificate,
    pub(crate) key: KeyPair,
}

impl Pki {
    /// For a server called `name`, which may be an address.
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "test authority");
        let authority_key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(params, authority_key);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let server = params.signed_by(&key, &issuer).unwrap();
        Self { authority, server, key }
    }

    pub(crate) fn trusted_by(&self, mut forward: Forward) -> Forward {
        forward.roots = TlsRoots::Only(vec![self.authority.der().to_vec()]);
        forward
    }
}

fn acceptor(pki: &Pki) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(pki.key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pki.server.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// The server that `pki` is of, on a port of its own: `each` has every connection, one after the other, that is trusted.
pub(crate) async fn server<F>(
    pki: &Pki,
    each: impl Fn(TlsStream<TcpStream>) -> F + Send + 'static,
) -> (u16, JoinHandle<()>)
where
    F: Future<Output = ()> + Send,
{
    let acceptor = acceptor(pki);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                each(stream).await;
            }
        }
    });
    (port, task)
}

async fn receiver(pki: &Pki) -> (u16, Got, JoinHandle<()>) {
    let got = Got::default();
    let all = got.clone();
    let each = move |mut stream| {
        let all = all.clone();
        async move { drop(frames(&mut stream, &all, usize::MAX).await) }
    };
    let (port, task) = server(pki, each).await;
    (port, got, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_arrives_over_tls() {
    bounded(async {
        for name in ["127.0.0.1", "localhost"] {
            let pki = Pki::new(name);
            let (port, got, _task) = receiver(&pki).await;
            let live = host(pki.trusted_by(to(&format!("syslog+tls://{name}:{port}")))).await;
            work(&live.client().await, 2).await;
            let dir = live.stop().await;
            assert_whole(&got.all(), &log(dir.path()));
        }
    })
    .await;
}

// Red without the making of `tls` in `Forwarders::start`: the host ran, and forwarded nothing.
#[tokio::test(flavor = "multi_thread")]
async fn no_host_starts_with_authorities_that_are_of_no_use() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::create(dir.path()).unwrap().lock().unwrap();
    let mut config = Config::load(&home.config()).unwrap();
    config.listen = ([127, 0, 0, 1], 0).into();
    let mut forward = to("otlp+https://localhost:1");
    forward.roots = TlsRoots::Only(vec![vec![0x30, 0x00]]);
    config.forwards = vec![forward];
    let started = Box::pin(Host::start(home, config, compiler())).await;
    let Err(StartError::Forward(error)) = started else { panic!("it started, or says something else") };
    assert!(
        error.to_string().starts_with("[[forward]] a: ca_file: certificate 1 in it cannot be an authority")
    );
}

// Red with another name than the destination's in `Tls::connect`.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_to_a_receiver_that_cannot_prove_its_name() {
    // On the heap: it holds three hosts.
    bounded(Box::pin(async {
        let (pki, other) = (Pki::new("localhost"), Pki::new("localhost"));
        let (port, got, _task) = receiver(&pki).await;
        for forward in [
            // Another authority; the right authority and another name; the authorities of the public web.
            other.trusted_by(to(&format!("syslog+tls://localhost:{port}"))),
            pki.trusted_by(to(&format!("syslog+tls://127.0.0.1:{port}"))),
            to(&format!("syslog+tls://localhost:{port}")),
        ] {
            let live = host(forward).await;
            work(&live.client().await, 1).await;
            live.stop().await;
            assert_eq!(got.len(), 0);
        }
    }))
    .await;
}
