//! TLS of outbound requests: whose word is taken that a server is who it says it is.
//!
//! *Never:* a connection whose certificate was not verified: there is no way to ask for one. No resumed session either, which
//! would skip that, and would tell a server that two guests share a host. *Spec:* RFC 8446, RFC 5280, RFC 6125.

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use wasmtime_wasi_http::Error;

use crate::engine::EngineError;
use crate::rules::HttpHost;

/// The field of [`EngineConfig`](crate::EngineConfig), for errors.
const FIELD: &str = "tls_roots";

/// The authorities whose certificates a server that guests reach over HTTPS may show. Revocation lists are not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum TlsRoots {
    /// Those that Mozilla trusts, as of when this crate was built. The default.
    #[default]
    Web,
    /// Only these: X.509 certificates in DER. For servers inside an organization, or tests.
    Only(Vec<Vec<u8>>),
}

impl TlsRoots {
    /// [`TlsRoots::Only`] from the text of a bundle: PEM, every `CERTIFICATE` in it, anything else skipped.
    ///
    /// # Errors
    ///
    /// [`EngineError::Config`] for a broken PEM section, or when there is no certificate. Whether each can be an authority is
    /// seen when the engine starts.
    pub fn from_pem(bundle: &[u8]) -> Result<Self, EngineError> {
        let mut certificates = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(bundle) {
            let certificate = certificate.map_err(|error| wrong(format!("is not PEM: {error}")))?;
            certificates.push(certificate.to_vec());
        }
        if certificates.is_empty() {
            return Err(wrong("has no section CERTIFICATE"));
        }
        Ok(Self::Only(certificates))
    }

    fn store(&self) -> Result<RootCertStore, EngineError> {
        let mut store = RootCertStore::empty();
        match self {
            Self::Web => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Self::Only(certificates) if certificates.is_empty() => {
                return Err(wrong("names no certificate, so that no server could be trusted"));
            }
            Self::Only(certificates) => {
                for (at, certificate) in certificates.iter().enumerate() {
                    store.add(CertificateDer::from_slice(certificate)).map_err(|error| {
                        wrong(format!("has certificate {}, which cannot be an authority: {error}", at + 1))
                    })?;
                }
            }
        }
        Ok(store)
    }
}

/// The one configuration of an engine's clients.
///
/// # Errors
///
/// [`EngineError::Config`] when a root is no certificate, or there is none.
pub(crate) fn client_config(roots: &TlsRoots) -> Result<Arc<ClientConfig>, EngineError> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| EngineError::Start { message: error.to_string() })?
        .with_root_certificates(roots.store()?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The name that the certificate must be for.
pub(super) fn server_name(host: &HttpHost) -> Option<ServerName<'static>> {
    match host {
        HttpHost::Name(name) => ServerName::try_from(name.clone()).ok(),
        HttpHost::Address(address) => Some(ServerName::from(*address)),
    }
}

/// What a failed handshake means to the guest.
pub(super) fn fault(error: &io::Error) -> Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => Error::TlsAlertReceived {
            alert_id: Some((*alert).into()),
            alert_message: Some(format!("{alert:?}")),
        },
        Some(_) => Error::TlsProtocolError,
        None if error.kind() == io::ErrorKind::UnexpectedEof => Error::ConnectionTerminated,
        None => Error::TlsProtocolError,
    }
}

fn wrong(why: impl Into<String>) -> EngineError {
    EngineError::Config { field: FIELD, why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----
MIIBiTCCAS+gAwIBAgIUUouTlQIwkewOKEVe08cJn6csWUwwCgYIKoZIzj0EAwIw
GTEXMBUGA1UEAwwOdGVzdCBhdXRob3JpdHkwIBcNMjYxMTIyMTkwMTI2WhgPMjEy
NjEwMjkxOTAxMjZaMBkxFzAVBgNVBAMMDnRlc3QgYXV0aG9yaXR5MFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAE4FOH5wwz3EviwvlthZY2C/8DlcMoNLlfCcoaOj8e
VM1B9bMfqNf5l9bllFqc4+UE5MfHLBGQwzURh7XVvtEbQaNTMFEwHQYDVR0OBBYE
FEinJVd3Lw5LjtWMPvvyjWf2zdS3MB8GA1UdIwQYMBaAFEinJVd3Lw5LjtWMPvvy
jWf2zdS3MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhAIVFeRve
XITL0qmZcXXwkFtBuEnANRPPZ92e7hR0NKVdAiAqRvsVhd7kJDO0Rag86MWv7MZK
V8rKCQng4LvNhtK1Vw==
-----END CERTIFICATE-----
";

    #[test]
    fn the_webs_roots_are_there_and_sessions_are_not_resumed() {
        assert!(TlsRoots::Web.store().unwrap().len() > 100);
        let config = format!("{:?}", client_config(&TlsRoots::Web).unwrap().resumption);
        assert!(config.contains("NoClientSessionStorage"), "{config}");
    }

    // Red when `Only` starts from the web's roots.
    #[test]
    fn a_bundle_is_all_that_is_trusted() {
        let bundle = format!("# ours\n{AUTHORITY}\nand the next\n{AUTHORITY}");
        let roots = TlsRoots::from_pem(bundle.as_bytes()).unwrap();
        assert!(matches!(&roots, TlsRoots::Only(certificates) if certificates.len() == 2));
        assert_eq!(roots.store().unwrap().len(), 2);
    }

    // Red without the check of an empty list, and with `add_parsable_certificates` for `add`.
    #[test]
    fn roots_that_could_verify_nothing_are_refused() {
        for roots in [TlsRoots::Only(Vec::new()), TlsRoots::Only(vec![vec![0x30, 0]])] {
            let error = client_config(&roots).unwrap_err();
            assert!(matches!(error, EngineError::Config { field: FIELD, .. }), "{error}");
        }
        for bundle in ["", "words", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            assert!(TlsRoots::from_pem(bundle.as_bytes()).is_err(), "{bundle}");
        }
    }
}
