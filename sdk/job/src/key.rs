//! Ed25519 keys behind validated types: a `PublicKey` that exists can be trusted to be a strong point.
//!
//! *Never:* `verify` or `verify_batch`, which accept signatures that `verify_strict` refuses.
//! *Spec:* RFC 8032; the text form of a public key is `ed25519:` and 64 lowercase hex digits.

use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::as_hex;
use crate::digest::lower_hex;

const PREFIX: &str = "ed25519:";

/// The public half: names a principal, a host or a log. Never a small-order point.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// Why 32 bytes or a text are no usable public key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// The text has another form.
    #[error("not a public key: expected `ed25519:` and 64 lowercase hex digits")]
    Syntax,
    /// The bytes are no point of the curve, or not its canonical encoding.
    #[error("not a public key: the bytes are no canonical ed25519 point")]
    NotAPoint,
    /// A small-order point, for which a signature can be made without a secret.
    #[error("weak public key: a small-order ed25519 point proves nothing")]
    Weak,
}

/// Keys that a thread remembers to have checked, 50 KiB of them: in each of these places, the last two.
const PLACES: usize = 128;

thread_local! {
    /// Checking a key takes about 8 µs, and a host meets the same few in every row and record that it reads.
    static RECENT: RefCell<[[Option<VerifyingKey>; 2]; PLACES]> = const { RefCell::new([[None; 2]; PLACES]) };
}

/// Where a key is remembered. Who chooses keys that push each other out costs us a check each time, as without the memory.
const fn place(bytes: &[u8; 32]) -> usize {
    bytes[0] as usize % PLACES
}

fn recent(bytes: &[u8; 32]) -> Option<VerifyingKey> {
    RECENT.with_borrow(|recent| {
        recent[place(bytes)].iter().flatten().find(|key| key.as_bytes() == bytes).copied()
    })
}

fn remember(key: VerifyingKey) {
    RECENT.with_borrow_mut(|recent| {
        let place = &mut recent[place(key.as_bytes())];
        *place = [Some(key), place[0]];
    });
}

impl PublicKey {
    /// Checks 32 raw bytes.
    ///
    /// # Errors
    /// When they are no point of the curve, a non-canonical encoding, or of small order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, PublicKeyError> {
        if let Some(key) = recent(bytes) {
            return Ok(Self(key));
        }
        let key = Self::check(bytes)?;
        remember(key.0);
        Ok(key)
    }

    fn check(bytes: &[u8; 32]) -> Result<Self, PublicKeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| PublicKeyError::NotAPoint)?;
        if key.is_weak() {
            return Err(PublicKeyError::Weak);
        }
        // Decompression accepts y >= p: the same point would then have a second name.
        if key.to_edwards().compress().as_bytes() != bytes {
            return Err(PublicKeyError::NotAPoint);
        }
        Ok(Self(key))
    }

    /// The 32 raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Whether `signature` over `message` was made by this key's secret.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.0.verify_strict(message, &signature).is_ok()
    }

    /// The first eight hex digits: short enough for a sentence, never for a decision.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.as_bytes()[..4])
    }
}

impl std::hash::Hash for PublicKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        as_hex::write(self.as_bytes(), f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix(PREFIX).ok_or(PublicKeyError::Syntax)?;
        Self::from_bytes(&lower_hex(digits).ok_or(PublicKeyError::Syntax)?)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A 64-byte ed25519 signature. It means nothing until [`PublicKey::verifies`] says so.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// A signature from its 64 raw bytes, unchecked.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The 64 raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({}…)", hex::encode(&self.0[..4]))
    }
}

/// The secret half. Wiped on drop, never printed, never serialized.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// A key from a 32-byte seed, which the caller draws from the system's random source.
    #[must_use]
    pub fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, for writing the key to its file.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs `message`. Deterministic: the same key and message give the same signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(byte: u8) -> SecretKey {
        SecretKey::from_seed(&Zeroizing::new([byte; 32]))
    }

    #[test]
    fn a_signature_counts_for_its_key_and_message_only() {
        let signature = secret(1).sign(b"message");
        assert!(secret(1).public().verifies(b"message", &signature));
        assert!(!secret(2).public().verifies(b"message", &signature));
        assert!(!secret(1).public().verifies(b"messagf", &signature));
    }

    #[test]
    fn one_key_has_one_text() {
        let key = secret(1).public();
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(key.to_string().to_uppercase().parse::<PublicKey>(), Err(PublicKeyError::Syntax));
    }

    // Red without the `is_weak` test in `from_bytes`.
    #[test]
    fn small_order_points_are_refused() {
        let identity = {
            let mut bytes = [0; 32];
            bytes[0] = 1;
            bytes
        };
        assert_eq!(PublicKey::from_bytes(&identity), Err(PublicKeyError::Weak));
        assert_eq!(PublicKey::from_bytes(&[0; 32]), Err(PublicKeyError::Weak));
    }

    // Red with `recent` that does not compare the bytes.
    #[test]
    fn a_remembered_key_vouches_for_itself_alone() {
        let keys: Vec<PublicKey> = (0..=255).map(|byte| secret(byte).public()).collect();
        for _ in 0..2 {
            for key in &keys {
                assert_eq!(PublicKey::from_bytes(key.as_bytes()), Ok(*key));
                let mut other = *key.as_bytes();
                other[31] ^= 0x80;
                assert_ne!(PublicKey::from_bytes(&other), Ok(*key));
            }
        }
    }

    // Red with one key in a place: a client and a host whose keys have the same one would be checked anew each time.
    #[test]
    fn two_keys_in_one_place_are_both_remembered() {
        let keys: Vec<PublicKey> = (0..=255).map(|byte| secret(byte).public()).collect();
        let twins = keys.iter().enumerate().find_map(|(at, key)| {
            let twin = keys[..at].iter().find(|twin| place(twin.as_bytes()) == place(key.as_bytes()));
            twin.map(|twin| [*key, *twin])
        });
        let twins = twins.unwrap_or_else(|| panic!("more keys than places"));
        for _ in 0..2 {
            for key in twins {
                assert_eq!(PublicKey::from_bytes(key.as_bytes()), Ok(key));
            }
        }
        assert!(twins.iter().all(|key| recent(key.as_bytes()).is_some()));
    }

    // Red without the comparison of the compressed point in `from_bytes`.
    #[test]
    fn non_canonical_encodings_are_refused() {
        // p + 3 encodes y = 3, a point of the curve, a second time (p = 2^255 - 19).
        let mut twice = [0xff; 32];
        twice[0] = 0xed + 3;
        twice[31] = 0x7f;
        assert!(VerifyingKey::from_bytes(&twice).is_ok(), "the library takes it, so the guard is ours");
        assert_eq!(PublicKey::from_bytes(&twice), Err(PublicKeyError::NotAPoint));
    }

    // Red with `verify` in place of `verify_strict` only for small-order R; S + L is refused by both.
    #[test]
    fn malleated_signatures_are_refused() {
        const ORDER: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut bytes = *secret(1).sign(b"message").as_bytes();
        let mut carry = 0u16;
        for (byte, order) in bytes[32..].iter_mut().zip(ORDER) {
            carry += u16::from(*byte) + u16::from(order);
            *byte = carry.to_le_bytes()[0];
            carry >>= 8;
        }
        assert!(!secret(1).public().verifies(b"message", &Signature::from_bytes(bytes)));
    }
}
