//! A delegation with the signature of who gives it.

use super::{DELEGATION_PAYLOAD_TYPE, DelegationBody, DelegationError, MAX_DELEGATION_ENVELOPE_BYTES};
use crate::base64_bytes::Base64Bytes;
use crate::dsse::{Dsse, pae};
use crate::strict;
use crate::{Digest, SecretKey, Signature};

/// What is given, the bytes that say so, and the delegator's good signature under them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedDelegation {
    body: DelegationBody,
    payload: Vec<u8>,
    signature: Signature,
}

impl SignedDelegation {
    pub(super) fn sign(body: &DelegationBody, key: &SecretKey) -> Result<Self, DelegationError> {
        if key.public() != body.delegator {
            return Err(DelegationError::OtherSigner(Box::new(body.delegator)));
        }
        #[expect(
            clippy::expect_used,
            reason = "string keys and plain values always serialize; a Vec takes every write"
        )]
        let payload = serde_json::to_vec(body).expect("plain data serializes");
        let signature = key.sign(&pae(DELEGATION_PAYLOAD_TYPE, &payload));
        Self::of(payload, signature)
    }

    /// Reads an envelope. The key that must have signed is named in the signed bytes themselves; who that is, is the host's to ask.
    ///
    /// # Errors
    /// When it is not a DSSE envelope with one good signature of the delegator, over a body that keeps the rules of the format.
    pub fn parse(bytes: &[u8]) -> Result<Self, DelegationError> {
        let dsse: Dsse = strict::parse(bytes, MAX_DELEGATION_ENVELOPE_BYTES)?;
        if dsse.payloadType != DELEGATION_PAYLOAD_TYPE {
            return Err(DelegationError::OtherType);
        }
        let signature = dsse.signature().ok_or(DelegationError::Signature)?;
        Self::of(dsse.payload.0, signature)
    }

    /// From its two parts, as an audit record holds them.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn from_parts(payload: &Base64Bytes, signature: &Base64Bytes) -> Result<Self, DelegationError> {
        let signature =
            <[u8; 64]>::try_from(signature.0.as_slice()).map_err(|_| DelegationError::Signature)?;
        Self::of(payload.0.clone(), Signature::from_bytes(signature))
    }

    fn of(payload: Vec<u8>, signature: Signature) -> Result<Self, DelegationError> {
        let body = DelegationBody::parse(&payload)?;
        if !body.delegator.verifies(&pae(DELEGATION_PAYLOAD_TYPE, &payload), &signature) {
            return Err(DelegationError::BadSignature(Box::new(body.delegator)));
        }
        Ok(Self { body, payload, signature })
    }

    /// What is given.
    #[must_use]
    pub const fn body(&self) -> &DelegationBody {
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
        let dsse = Dsse::signed(
            DELEGATION_PAYLOAD_TYPE,
            self.payload.clone(),
            &self.body.delegator,
            &self.signature,
        );
        #[expect(
            clippy::expect_used,
            reason = "string keys and plain values always serialize; a Vec takes every write"
        )]
        serde_json::to_vec(&dsse).expect("plain data serializes")
    }
}
