//! The host's half of the handshake: raw public keys, known keys only, TLS 1.3 and nothing kept for next time.
//!
//! *Never:* X.509, anonymous clients, tickets, early data.
//! *Spec:* RFC 7250, RFC 8446; `docs/formats/wire.md`.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerIncompatible,
    ServerConfig, SignatureScheme,
};
use strongroom_job::{PublicKey, SecretKey, Signature, frame};

/// Says whether a key is known.
pub(super) type IsKnown = Arc<dyn Fn(&PublicKey) -> bool + Send + Sync>;

/// A configuration that proves that we hold `key`, and shakes hands with holders of known keys only.
pub(super) fn server_config(key: &SecretKey, known: IsKnown) -> Result<ServerConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let signer = any_eddsa_type(&PrivatePkcs8KeyDer::from(key.to_pkcs8().as_slice()))?;
    let spki = CertificateDer::from(key.public().to_spki().to_vec());
    let certified = Arc::new(CertifiedKey::new(vec![spki], signer));

    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(KnownKeys(known)))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified)));
    config.alpn_protocols = vec![frame::ALPN.to_vec()];
    // A resumed session would skip `KnownKeys`; early data would arrive before it.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(config)
}

/// Accepts a client by its key, before the client can send anything else.
struct KnownKeys(IsKnown);

impl ClientCertVerifier for KnownKeys {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if (self.0)(&parse_key(end_entity)?) {
            Ok(ClientCertVerified::assertion())
        } else {
            // The alert for this is `access_denied`: the client's SDK turns it into "the host does not know our key".
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

impl fmt::Debug for KnownKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KnownKeys")
    }
}

fn parse_key(spki: &CertificateDer<'_>) -> Result<PublicKey, Error> {
    PublicKey::from_spki(spki)
        .map_err(|error| Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error)))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    // Red without `send_tls13_tickets`, and without `session_storage`. No early data is also the library's default; the line
    // stays in case that changes. tests/transport.rs shows it from the client's side.
    #[test]
    fn nothing_of_a_session_is_kept_or_taken_early() {
        let key = SecretKey::from_seed(&Default::default());
        let config = server_config(&key, Arc::new(|_| true)).unwrap();
        assert_eq!(config.send_tls13_tickets, 0);
        assert_eq!(config.max_early_data_size, 0);
        assert!(!config.session_storage.can_cache());
        assert!(!config.ticketer.enabled());
    }
}
