//! Peers that do not keep to the rules: QUIC and TLS by hand, without the SDK.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    AlwaysResolvesClientRawPublicKeys, ClientSessionMemoryCache, ClientSessionStore, ResolvesClientCert,
    Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, NamedGroup, ServerConfig, SignatureScheme,
};
use strongroom_job::frame::{self, PREFIX_BYTES};
use strongroom_job::{PublicKey, Request, Response};
use strongroom_sdk::Identity;

use super::patience::soon;

/// What a peer shows of itself.
#[derive(Clone, Copy)]
pub(crate) enum Shows<'a> {
    /// A raw public key.
    Key(&'a Identity),
    /// Somebody else's raw public key, signing with its own.
    Stolen(&'a Identity, PublicKey),
    /// Nothing.
    Nothing,
    /// Nothing, after it agreed to show a raw public key.
    EmptyHand,
    /// An X.509 certificate.
    Certificate,
}

/// A peer that trusts any server.
pub(crate) struct Peer {
    pub(crate) config: ClientConfig,
    /// Tickets that the server gave.
    pub(crate) tickets: Arc<Tickets>,
}

impl Peer {
    pub(crate) fn new(shows: Shows<'_>, alpn: &[u8]) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let raw = !matches!(shows, Shows::Certificate);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustAnyone { raw }));
        let mut config = match shows {
            Shows::Key(identity) => builder.with_client_cert_resolver(holder(identity, identity.public())),
            Shows::Stolen(identity, shown) => builder.with_client_cert_resolver(holder(identity, shown)),
            Shows::Nothing => builder.with_no_client_auth(),
            Shows::EmptyHand => builder.with_client_cert_resolver(Arc::new(EmptyHand)),
            Shows::Certificate => {
                let made = rcgen::generate_simple_self_signed(vec!["strongroom".to_owned()]).unwrap();
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
                builder.with_client_auth_cert(vec![made.cert.der().clone()], key).unwrap()
            }
        };
        let tickets = Arc::new(Tickets::default());
        config.alpn_protocols = vec![alpn.to_vec()];
        config.enable_early_data = true;
        config.resumption = Resumption::store(Arc::clone(&tickets) as _);
        Self { config, tickets }
    }

    pub(crate) fn known(identity: &Identity) -> Self {
        Self::new(Shows::Key(identity), frame::ALPN)
    }

    pub(crate) fn call(&self, to: SocketAddr) -> quinn::Connecting {
        self.call_from(&free_endpoint(), to)
    }

    pub(crate) fn call_from(&self, endpoint: &Endpoint, to: SocketAddr) -> quinn::Connecting {
        let crypto = QuicClientConfig::try_from(self.config.clone()).unwrap();
        endpoint.connect_with(quinn::ClientConfig::new(Arc::new(crypto)), to, "strongroom").unwrap()
    }

    /// A connection that the host has accepted.
    pub(crate) async fn connect(&self, to: SocketAddr) -> Connection {
        let connection = soon(self.call(to)).await.unwrap();
        let answer = soon(ask(&connection, &Request::Host {})).await.unwrap();
        assert!(matches!(answer, Response::Host(_)));
        connection
    }

    /// How the host ends a connection that it does not want, and that it answered nothing before.
    pub(crate) async fn is_turned_away(&self, to: SocketAddr) -> ConnectionError {
        // The client's half of the handshake may be over before the host has seen what the client shows.
        match soon(self.call(to)).await {
            Err(error) => error,
            Ok(connection) => {
                assert!(soon(ask(&connection, &Request::Host {})).await.is_err(), "answered a stranger");
                soon(connection.closed()).await
            }
        }
    }
}

/// An endpoint that can only call.
pub(crate) fn free_endpoint() -> Endpoint {
    Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap()
}

/// Sends a request without a body.
pub(crate) async fn ask(connection: &Connection, request: &Request) -> Result<Response, Fault> {
    let (mut send, mut recv) = connection.open_bi().await.map_err(fault)?;
    send.write_all(&frame::encode_header(request)).await.map_err(fault)?;
    send.finish().map_err(fault)?;
    answer(&mut recv).await
}

/// Opens a stream and sends `bytes`; does not finish it.
pub(crate) async fn open_with(connection: &Connection, bytes: &[u8]) -> (SendStream, RecvStream) {
    let (mut send, recv) = soon(connection.open_bi()).await.unwrap();
    soon(send.write_all(bytes)).await.unwrap();
    (send, recv)
}

/// Reads an answer's header.
pub(crate) async fn answer(recv: &mut RecvStream) -> Result<Response, Fault> {
    let mut prefix = [0; PREFIX_BYTES];
    recv.read_exact(&mut prefix).await.map_err(fault)?;
    let mut header = vec![0; frame::header_length(prefix, frame::MAX_RESPONSE_BYTES).unwrap()];
    recv.read_exact(&mut header).await.map_err(fault)?;
    Ok(frame::parse_header(&header).unwrap())
}

/// The host did not answer.
#[derive(Debug)]
pub(crate) struct Fault;

fn fault<E>(_error: E) -> Fault {
    Fault
}

/// A server that holds `identity`, shows `shown`, and answers every stream with the same bytes.
pub(crate) fn impostor(identity: &Identity, shown: PublicKey, reply: Vec<u8>) -> (Endpoint, SocketAddr) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let resolver = AlwaysResolvesServerRawPublicKeys::new(certified(identity, shown));
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(TrustAnyone { raw: true }))
        .with_cert_resolver(Arc::new(resolver));
    tls.alpn_protocols = vec![frame::ALPN.to_vec()];
    let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = endpoint.local_addr().unwrap();
    let accepting = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            let Ok(connection) = incoming.await else { continue };
            while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                let _ = recv.read_to_end(1 << 20).await;
                let _ = send.write_all(&reply).await;
            }
        }
    });
    (endpoint, address)
}

/// Random datagrams to `address`, some of which look like QUIC.
pub(crate) async fn noise(address: SocketAddr, count: usize) {
    let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..count {
        let length = usize::try_from(random() % 1400).unwrap();
        let mut datagram: Vec<u8> = (0..length).map(|_| random().to_le_bytes()[0]).collect();
        // A long header of version 1: first byte, version, then lengths and bytes as they fall.
        if round % 2 == 0 && length > 8 {
            datagram[0] |= 0xc0;
            datagram[1..5].copy_from_slice(&1u32.to_be_bytes());
            datagram[5] %= 21;
        }
        let _ = socket.send_to(&datagram, address).await;
        if round % 64 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// The first byte of what `to` answers to the first datagram of a client.
pub(crate) async fn first_answer(peer: &Peer, to: SocketAddr) -> u8 {
    let between = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let _calling = peer.call(between.local_addr().unwrap());
    let mut datagram = [0; 2048];
    let (length, _) = soon(between.recv_from(&mut datagram)).await.unwrap();
    between.send_to(&datagram[..length], to).await.unwrap();
    soon(between.recv_from(&mut datagram)).await.unwrap();
    datagram[0]
}

/// A relay to `to` that brings back one datagram, the retry, and nothing after it: a handshake through it stays half open.
/// Counts in `arrived` once what the client says to the retry is on its way.
pub(crate) async fn one_way_relay(to: SocketAddr, arrived: Arc<AtomicUsize>) -> SocketAddr {
    let near = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let far = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    far.connect(to).await.unwrap();
    let address = near.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut outward, mut homeward) = ([0; 2048], [0; 2048]);
        let mut client = None;
        let (mut sent, mut returned) = (0, 0);
        loop {
            tokio::select! {
                Ok((length, from)) = near.recv_from(&mut outward) => {
                    client = Some(from);
                    let _ = far.send(&outward[..length]).await;
                    sent += 1;
                    if sent == 2 {
                        arrived.fetch_add(1, Ordering::SeqCst);
                    }
                }
                Ok(length) = far.recv(&mut homeward) => {
                    returned += 1;
                    if let (1, Some(client)) = (returned, client) {
                        let _ = near.send_to(&homeward[..length], client).await;
                    }
                }
            }
        }
    });
    address
}

fn holder(identity: &Identity, shown: PublicKey) -> Arc<AlwaysResolvesClientRawPublicKeys> {
    Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified(identity, shown)))
}

fn certified(identity: &Identity, shown: PublicKey) -> Arc<CertifiedKey> {
    let pkcs8 = identity.secret().to_pkcs8();
    let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.as_slice())).unwrap();
    Arc::new(CertifiedKey::new(vec![CertificateDer::from(shown.to_spki().to_vec())], key))
}

/// Agrees to a raw public key and then has none.
#[derive(Debug)]
struct EmptyHand;

impl ResolvesClientCert for EmptyHand {
    fn resolve(&self, _root_hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct TrustAnyone {
    raw: bool,
}

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256]
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.raw
    }
}

impl ClientCertVerifier for TrustAnyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// A session store that counts what a server asks it to keep.
#[derive(Debug)]
pub(crate) struct Tickets {
    kept: ClientSessionMemoryCache,
    count: AtomicUsize,
}

impl Default for Tickets {
    fn default() -> Self {
        Self { kept: ClientSessionMemoryCache::new(8), count: AtomicUsize::new(0) }
    }
}

impl Tickets {
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.kept.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept.kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.kept.set_tls12_session(server_name, value);
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.kept.tls12_session(server_name)
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.kept.remove_tls12_session(server_name);
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.kept.insert_tls13_ticket(server_name, value);
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept.take_tls13_ticket(server_name)
    }
}
