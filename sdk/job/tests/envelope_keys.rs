//! Keys and signatures that a lenient verifier takes and this one must not.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fixtures;

use curve25519_dalek::Scalar;
use curve25519_dalek::constants::EIGHT_TORSION;
use ed25519_dalek::{SigningKey, Verifier, VerifyingKey};
use sha2::{Digest as _, Sha512};
use strongroom_job::{PublicKey, PublicKeyError, SecretKey, Signature};
use zeroize::Zeroizing;

const MESSAGE: &[u8] = b"DSSEv1 1 x 1 y";

/// The signature that a holder of the secret key can make with the commitment `r`, a point of small order.
fn signature_with(commitment: [u8; 32], seed: [u8; 32]) -> [u8; 64] {
    let signing = SigningKey::from_bytes(&seed);
    let mut hash = Sha512::new();
    hash.update(commitment);
    hash.update(signing.verifying_key().as_bytes());
    hash.update(MESSAGE);
    let challenge = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
    let answer = challenge * signing.to_scalar();
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&commitment);
    signature[32..].copy_from_slice(answer.as_bytes());
    signature
}

// Red with `verify` in place of `verify_strict` in `PublicKey::verifies`.
#[test]
fn a_signature_with_a_small_order_commitment_is_refused() {
    let seed = [1; 32];
    let identity = EIGHT_TORSION[0].compress().to_bytes();
    let signature = signature_with(identity, seed);

    let lenient = SigningKey::from_bytes(&seed).verifying_key();
    let taken = lenient.verify(MESSAGE, &ed25519_dalek::Signature::from_bytes(&signature));
    assert!(taken.is_ok(), "the library's plain `verify` takes it, so that the guard is `verify_strict`");
    let key = SecretKey::from_seed(&Zeroizing::new(seed)).public();
    assert!(!key.verifies(MESSAGE, &Signature::from_bytes(signature)));

    for point in EIGHT_TORSION {
        let signature = signature_with(point.compress().to_bytes(), seed);
        assert!(!key.verifies(MESSAGE, &Signature::from_bytes(signature)));
    }
}

// Red without the `is_weak` test in `PublicKey::from_bytes`.
#[test]
fn every_small_order_key_is_refused() {
    for point in EIGHT_TORSION {
        let bytes = point.compress().to_bytes();
        assert!(VerifyingKey::from_bytes(&bytes).is_ok(), "the library takes it");
        assert_eq!(PublicKey::from_bytes(&bytes), Err(PublicKeyError::Weak));
    }
}

/// All 26 encodings with y from p to 2^255 - 1: each would be a second name of a key.
// Red without the comparison with the compressed point in `PublicKey::from_bytes`.
#[test]
fn every_non_canonical_key_is_refused() {
    let mut decoded = 0;
    for low in 0xed..=0xff_u8 {
        for sign in [0x7f, 0xff] {
            let mut bytes = [0xff; 32];
            bytes[0] = low;
            bytes[31] = sign;
            decoded += u32::from(VerifyingKey::from_bytes(&bytes).is_ok());
            assert!(PublicKey::from_bytes(&bytes).is_err(), "{bytes:02x?}");
        }
    }
    assert!(decoded > 10, "the library takes {decoded} of them");
    // x = 0 with the sign bit set: "minus zero".
    let mut minus_zero = [0; 32];
    minus_zero[0] = 1;
    minus_zero[31] = 0x80;
    assert!(PublicKey::from_bytes(&minus_zero).is_err());
}

#[test]
fn bytes_that_are_no_point_are_refused() {
    let no_point = (0..=255).map(|byte| [byte; 32]).filter(|bytes| VerifyingKey::from_bytes(bytes).is_err());
    let mut seen = 0;
    for bytes in no_point {
        assert_eq!(PublicKey::from_bytes(&bytes), Err(PublicKeyError::NotAPoint));
        seen += 1;
    }
    assert!(seen > 50, "about half of all texts are no point: {seen}");
}

#[test]
fn a_key_text_has_one_form() {
    let text = fixtures::principal().public().to_string();
    let digits = &text["ed25519:".len()..];
    let wrong = [
        String::new(),
        digits.to_owned(),
        format!("ed25519:{}", digits.to_uppercase()),
        format!("Ed25519:{digits}"),
        format!("ed25519: {digits}"),
        format!("ed25519:{digits}\n"),
        format!("ed25519:{}", &digits[..62]),
        format!("ed25519:{digits}00"),
    ];
    for text in wrong {
        assert!(text.parse::<PublicKey>().is_err(), "{text:?}");
    }
}
