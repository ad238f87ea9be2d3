//! DSSE: a payload of some type, and who signed both.
//!
//! *Never:* believes `keyid`. Whoever verifies brings the key.
//! *Spec:* DSSE v1.

use serde::{Deserialize, Serialize};

use crate::base64_bytes::Base64Bytes;
use crate::{PublicKey, SecretKey, Signature};

/// An envelope as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(non_snake_case, reason = "the field names of DSSE")]
pub(crate) struct Dsse {
    pub(crate) payloadType: String,
    pub(crate) payload: Base64Bytes,
    pub(crate) signatures: Vec<DsseSignature>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DsseSignature {
    /// A hint that nobody signed: written for other tools, never believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keyid: Option<String>,
    pub(crate) sig: Base64Bytes,
}

impl Dsse {
    /// Signs a payload.
    pub(crate) fn sign(payload_type: &str, payload: Vec<u8>, key: &SecretKey) -> Self {
        let signature = key.sign(&pae(payload_type, &payload));
        Self::signed(payload_type, payload, &key.public(), &signature)
    }

    /// The envelope around a payload that was signed already, in the one way in which we write it.
    pub(crate) fn signed(
        payload_type: &str,
        payload: Vec<u8>,
        signer: &PublicKey,
        signature: &Signature,
    ) -> Self {
        let sig = Base64Bytes(signature.as_bytes().to_vec());
        Self {
            payloadType: payload_type.into(),
            payload: Base64Bytes(payload),
            signatures: vec![DsseSignature { keyid: Some(signer.to_string()), sig }],
        }
    }

    /// The one signature of 64 bytes, if that is what there is.
    pub(crate) fn signature(&self) -> Option<Signature> {
        let [signature] = self.signatures.as_slice() else { return None };
        Some(Signature::from_bytes(<[u8; 64]>::try_from(signature.sig.0.as_slice()).ok()?))
    }

    /// Whether `signer` made the one signature over type and payload.
    pub(crate) fn is_signed_by(&self, signer: &PublicKey) -> bool {
        let message = pae(&self.payloadType, &self.payload.0);
        self.signature().is_some_and(|signature| signer.verifies(&message, &signature))
    }
}

/// DSSE's pre-authentication encoding: type and body with their lengths, so that neither can pass for part of the other.
pub(crate) fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {} {} ", payload_type.len(), payload_type, payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}
