//! A body that says who signs it, and his good signature under these very bytes, in a DSSE envelope: a grant, or a command of an operator.
//!
//! Only the bodies' own `sign`, [`Signed::parse`] and [`Signed::from_parts`] make one, so whoever has one has checked the signature and the form.
//!
//! *Never:* says whether who signed may do so: that is the host's to ask. *Spec:* DSSE v1.

use serde::Serialize;

use crate::base64_bytes::Base64Bytes;
use crate::dsse::{Dsse, pae};
use crate::strict::{self, StrictError};
use crate::{Digest, PublicKey, SecretKey, Signature};

/// What can be signed so.
pub trait SignedBody: Serialize + Sized {
    /// Its DSSE payload type.
    const PAYLOAD_TYPE: &'static str;
    /// Longest envelope, in bytes.
    const MAX_ENVELOPE_BYTES: usize;
    /// Why it is not taken.
    type Error: From<StrictError> + From<NotSigned>;

    /// Reads what was signed, and holds it against the rules of its format.
    fn read(payload: &[u8]) -> Result<Self, Self::Error>;

    /// Who signs it, by its own words.
    fn signer(&self) -> PublicKey;
}

/// What is wrong with an envelope, whatever it holds.
#[derive(Clone, Copy, Debug)]
pub enum NotSigned {
    /// Something else was signed.
    OtherType,
    /// Not exactly one signature of 64 bytes.
    Signature,
    /// The signature is not this key's over these bytes.
    Bad(PublicKey),
    /// Another key was to sign than this one.
    OtherSigner(PublicKey),
}

/// What is said, the bytes that say so, and the good signature under them of who says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<B> {
    body: B,
    payload: Vec<u8>,
    signature: Signature,
}

impl<B: SignedBody> Signed<B> {
    pub(crate) fn sign(body: &B, key: &SecretKey) -> Result<Self, B::Error> {
        if key.public() != body.signer() {
            return Err(NotSigned::OtherSigner(body.signer()).into());
        }
        #[expect(
            clippy::expect_used,
            reason = "string keys and plain values always serialize; a Vec takes every write"
        )]
        let payload = serde_json::to_vec(body).expect("plain data serializes");
        let signature = key.sign(&pae(B::PAYLOAD_TYPE, &payload));
        Self::of(payload, signature)
    }

    /// Reads an envelope. The key that must have signed is named in the signed bytes themselves; who that is, is the host's to ask.
    ///
    /// # Errors
    /// When it is not a DSSE envelope with one good signature of that key, over a body that keeps the rules of its format.
    pub fn parse(bytes: &[u8]) -> Result<Self, B::Error> {
        let dsse: Dsse = strict::parse(bytes, B::MAX_ENVELOPE_BYTES)?;
        if dsse.payloadType != B::PAYLOAD_TYPE {
            return Err(NotSigned::OtherType.into());
        }
        let signature = dsse.signature().ok_or(NotSigned::Signature)?;
        Self::of(dsse.payload.0, signature)
    }

    /// From its two parts, as an audit record holds them.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn from_parts(payload: &Base64Bytes, signature: &Base64Bytes) -> Result<Self, B::Error> {
        let signature = <[u8; 64]>::try_from(signature.0.as_slice()).map_err(|_| NotSigned::Signature)?;
        Self::of(payload.0.clone(), Signature::from_bytes(signature))
    }

    fn of(payload: Vec<u8>, signature: Signature) -> Result<Self, B::Error> {
        let body = B::read(&payload)?;
        let signer = body.signer();
        if !signer.verifies(&pae(B::PAYLOAD_TYPE, &payload), &signature) {
            return Err(NotSigned::Bad(signer).into());
        }
        Ok(Self { body, payload, signature })
    }

    /// What is said.
    #[must_use]
    pub const fn body(&self) -> &B {
        &self.body
    }

    /// The signed bytes.
    #[must_use]
    pub fn payload(&self) -> Base64Bytes {
        Base64Bytes(self.payload.clone())
    }

    /// The signature under them.
    #[must_use]
    pub fn signature(&self) -> Base64Bytes {
        Base64Bytes(self.signature.as_bytes().to_vec())
    }

    /// SHA-256 of the signed bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.payload)
    }

    /// The envelope as we write it, whatever the spelling in which it came: the signature does not depend on it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let dsse = Dsse::signed(B::PAYLOAD_TYPE, self.payload.clone(), &self.body.signer(), &self.signature);
        #[expect(
            clippy::expect_used,
            reason = "string keys and plain values always serialize; a Vec takes every write"
        )]
        serde_json::to_vec(&dsse).expect("plain data serializes")
    }
}
