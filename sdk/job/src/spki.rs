//! Ed25519 keys in the encodings that TLS speaks: SubjectPublicKeyInfo and PKCS #8.
//!
//! There is exactly one DER encoding of each, so both are a fixed head and 32 bytes; no DER is parsed.
//!
//! *Spec:* RFC 8410 §4 and §7; RFC 7250 uses the first as a raw public key.

use zeroize::Zeroizing;

use crate::{PublicKey, PublicKeyError, SecretKey};

/// Bytes of an ed25519 SubjectPublicKeyInfo.
pub const SPKI_BYTES: usize = SPKI_HEAD.len() + 32;

/// SEQUENCE { SEQUENCE { OID 1.3.101.112 }, BIT STRING of 32 bytes.
const SPKI_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// SEQUENCE { INTEGER 0, SEQUENCE { OID 1.3.101.112 }, OCTET STRING { OCTET STRING of 32 bytes.
const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

impl PublicKey {
    /// This key as a SubjectPublicKeyInfo.
    #[must_use]
    pub fn to_spki(&self) -> [u8; SPKI_BYTES] {
        let mut spki = [0; SPKI_BYTES];
        spki[..SPKI_HEAD.len()].copy_from_slice(&SPKI_HEAD);
        spki[SPKI_HEAD.len()..].copy_from_slice(self.as_bytes());
        spki
    }

    /// The key of a SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// When the bytes are anything but an ed25519 SubjectPublicKeyInfo (an X.509 certificate, another algorithm, trailing
    /// bytes), or hold no [usable key](PublicKey::from_bytes).
    pub fn from_spki(spki: &[u8]) -> Result<Self, PublicKeyError> {
        let key = spki.strip_prefix(&SPKI_HEAD).and_then(|key| <&[u8; 32]>::try_from(key).ok());
        Self::from_bytes(key.ok_or(PublicKeyError::Syntax)?)
    }
}

impl SecretKey {
    /// This key in PKCS #8, version 1, for a TLS library. Wiped when dropped.
    #[must_use]
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        let mut pkcs8 = Zeroizing::new(Vec::with_capacity(PKCS8_HEAD.len() + 32));
        pkcs8.extend_from_slice(&PKCS8_HEAD);
        pkcs8.extend_from_slice(self.seed().as_slice());
        pkcs8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example keys of RFC 8410, §10.1 and §10.3.
    const RFC_SPKI: &str = "302a300506032b6570032100\
        19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
    const RFC_PKCS8: &str = "302e020100300506032b657004220420\
        d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842";

    fn rfc_secret() -> SecretKey {
        let bytes = hex::decode(&RFC_PKCS8[32..]).unwrap_or_default();
        let mut seed = Zeroizing::new([0; 32]);
        seed.copy_from_slice(&bytes);
        SecretKey::from_seed(&seed)
    }

    #[test]
    fn both_encodings_are_those_of_the_standard() {
        let secret = rfc_secret();
        assert_eq!(hex::encode(secret.to_pkcs8().as_slice()), RFC_PKCS8);
        assert_eq!(hex::encode(secret.public().to_spki()), RFC_SPKI);
        assert_eq!(PublicKey::from_spki(&secret.public().to_spki()), Ok(secret.public()));
    }

    // Red with the head not compared, or the rest cut to 32 bytes.
    #[test]
    fn nothing_else_passes_for_a_key() {
        let spki = rfc_secret().public().to_spki();
        let longer = [&spki[..], &[0]].concat();
        let mut x25519 = spki;
        x25519[8] = 0x6e;
        for wrong in [&spki[..43], &spki[1..], &longer, &x25519, &[]] {
            assert_eq!(PublicKey::from_spki(wrong), Err(PublicKeyError::Syntax));
        }
        let mut weak = spki;
        weak[12..].fill(0);
        assert_eq!(PublicKey::from_spki(&weak), Err(PublicKeyError::Weak));
    }
}
