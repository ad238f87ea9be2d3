//! The client's half of the handshake: raw public keys, one pinned host, TLS 1.3 and nothing kept for next time.
//!
//! *Never:* a certificate authority, a host name, resumption, early data.
//! *Spec:* RFC 7250, RFC 8446; `docs/formats/wire.md`.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, PeerIncompatible,
    SignatureScheme,
};
use strongroom_job::{PublicKey, SecretKey, Signature, frame};

/// Where the verifier leaves the key of a host that is not the pinned one.
pub(crate) type FoundKey = Arc<OnceLock<PublicKey>>;

/// A configuration that shakes hands with the holder of `host` only, and proves that we hold `identity`.
///
/// When somebody else answers, the handshake fails and their key is in `found`.
pub(crate) fn client_config(
    identity: &SecretKey,
    host: &PublicKey,
    found: FoundKey,
) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(identity.to_pkcs8().as_slice()))?;
    let spki = CertificateDer::from(identity.public().to_spki().to_vec());
    let certified = Arc::new(CertifiedKey::new(vec![spki], key));

    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedHost { expected: *host, found }))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified)));
    config.alpn_protocols = vec![frame::ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    Ok(config)
}

/// Accepts one host: who holds the pinned key.
#[derive(Debug)]
struct PinnedHost {
    expected: PublicKey,
    found: FoundKey,
}

impl ServerCertVerifier for PinnedHost {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key = parse_key(end_entity)?;
        if key == self.expected {
            Ok(ServerCertVerified::assertion())
        } else {
            let _ = self.found.set(key);
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let signature = <[u8; 64]>::try_from(dss.signature());
        let good = dss.scheme == SignatureScheme::ED25519
            && signature.is_ok_and(|bytes| {
                parse_key(cert).is_ok_and(|key| key.verifies(message, &Signature::from_bytes(bytes)))
            });
        if good {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::BadSignature))
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

fn parse_key(spki: &CertificateDer<'_>) -> Result<PublicKey, Error> {
    PublicKey::from_spki(spki)
        .map_err(|error| Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error)))))
}
