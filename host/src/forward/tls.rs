//! TLS to destinations of the audit log: whose word is taken that a receiver is who it says it is.
//!
//! *Never:* a connection whose certificate was not verified against the host that the configuration names: there is no way to ask
//! for one. *Owns:* rustls, beside intake. *Spec:* RFC 8446, RFC 5246; RFC 5425, 4 and 5, with RFC 9662.

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use strongroom_runtime::TlsRoots;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A TLS connection.
pub(super) type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

/// The client's side of TLS of one destination.
#[derive(Clone)]
pub(super) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Trusts `roots` and nobody else; says what is wrong with them.
    pub(super) fn new(roots: &TlsRoots) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        match roots {
            TlsRoots::Web => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            TlsRoots::Only(certificates) => {
                for (at, certificate) in certificates.iter().enumerate() {
                    store.add(CertificateDer::from_slice(certificate)).map_err(|error| {
                        format!("ca_file: certificate {} in it cannot be an authority: {error}", at + 1)
                    })?;
                }
            }
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(store)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    /// Shakes hands over `tcp`, and verifies that its other end is `host`, a name or an address.
    pub(super) async fn connect(&self, host: &str, tcp: TcpStream) -> io::Result<TlsStream> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(Arc::clone(&self.0)).connect(name, tcp).await
    }
}
