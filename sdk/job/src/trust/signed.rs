//! One version of a trust file with the signatures under it.

use std::fmt;

use super::{MAX_OPERATORS, MAX_TRUST_VERSION_BYTES, TRUST_PAYLOAD_TYPE, TrustBody, TrustError};
use crate::base64_bytes::Base64Bytes;
use crate::dsse::{Dsse, DsseSignature, pae};
use crate::strict;
use crate::{PublicKey, SecretKey, Signature};

/// Most signatures under one version: its own operators, and those of the version before.
const MAX_SIGNATURES: usize = 2 * MAX_OPERATORS;

/// What one version says, and signatures whose keys are sorted and distinct. Whether they are good, and enough, depends on the version before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedTrust {
    body: TrustBody,
    signatures: Vec<(PublicKey, Signature)>,
}

/// Which signatures a version has, and which it must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Of its own operators: have signed, must sign.
    pub own: (u64, u64),
    /// Of the operators of the version before, where there is one: have signed, must sign.
    pub before: Option<(u64, u64)>,
}

impl Missing {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        let is_met = |(have, need)| have >= need;
        is_met(self.own) && self.before.is_none_or(is_met)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (have, need) = self.own;
        write!(f, "{have} of its own operators signed, {need} must")?;
        if let Some((have, need)) = self.before {
            write!(f, "; {have} of the operators of the version before signed, {need} must")?;
        }
        Ok(())
    }
}

impl SignedTrust {
    /// A version that nobody has signed yet.
    #[must_use]
    pub const fn unsigned(body: TrustBody) -> Self {
        Self { body, signatures: Vec::new() }
    }

    /// What it says.
    #[must_use]
    pub const fn body(&self) -> &TrustBody {
        &self.body
    }

    /// Who signed, ascending.
    pub fn signers(&self) -> impl Iterator<Item = &PublicKey> {
        self.signatures.iter().map(|(key, _)| key)
    }

    /// Adds a signature; one that is there stays as it is.
    ///
    /// # Errors
    /// [`Stranger`](TrustError::Stranger) when the key is an operator neither of this version nor of the one `before`.
    pub(super) fn sign(&mut self, key: &SecretKey, before: Option<&TrustBody>) -> Result<bool, TrustError> {
        let public = key.public();
        if !self.may_sign(&public, before) {
            return Err(TrustError::Stranger(Box::new(public)));
        }
        match self.signatures.binary_search_by(|(signer, _)| signer.cmp(&public)) {
            Ok(_) => Ok(false),
            Err(place) => {
                self.signatures.insert(place, (public, key.sign(&self.message())));
                Ok(true)
            }
        }
    }

    /// Checks everything but that there are enough signatures: it comes next after `before`, is for the same host, and every signature is
    /// a good one of somebody who may sign. Says what is missing.
    pub(super) fn check(&self, before: Option<&TrustBody>) -> Result<Missing, TrustError> {
        let expected = before.map_or(1, |before| before.version().saturating_add(1));
        if self.body.version != expected {
            return Err(TrustError::WrongVersion { found: self.body.version, expected });
        }
        if let Some(before) = before.filter(|before| before.log != self.body.log) {
            return Err(TrustError::OtherLog { found: self.body.log.clone(), expected: before.log.clone() });
        }
        let message = self.message();
        for (key, signature) in &self.signatures {
            if !self.may_sign(key, before) {
                return Err(TrustError::Stranger(Box::new(*key)));
            }
            if !key.verifies(&message, signature) {
                return Err(TrustError::BadSignature(Box::new(*key)));
            }
        }
        let counted = |body: &TrustBody| {
            let signed = self.signers().filter(|key| body.names(key)).count();
            (signed as u64, body.threshold)
        };
        Ok(Missing { own: counted(&self.body), before: before.map(counted) })
    }

    fn may_sign(&self, key: &PublicKey, before: Option<&TrustBody>) -> bool {
        self.body.names(key) || before.is_some_and(|before| before.names(key))
    }

    fn message(&self) -> Vec<u8> {
        pae(TRUST_PAYLOAD_TYPE, &self.body.to_json())
    }

    /// Reads what [`to_line`](Self::to_line) writes, and nothing looser. No signature is checked here.
    pub(super) fn parse(line: &[u8]) -> Result<Self, TrustError> {
        let dsse: Dsse = strict::parse(line, MAX_TRUST_VERSION_BYTES)?;
        if dsse.payloadType != TRUST_PAYLOAD_TYPE {
            return Err(TrustError::OtherType);
        }
        if dsse.signatures.len() > MAX_SIGNATURES {
            return Err(TrustError::Signatures(dsse.signatures.len()));
        }
        let body = TrustBody::parse(&dsse.payload.0)?;
        let signatures: Vec<_> =
            dsse.signatures.iter().map(signature).collect::<Option<_>>().ok_or(TrustError::SignatureForm)?;
        if !signatures.is_sorted_by(|(one, _), (next, _)| one < next) {
            return Err(TrustError::SignatureOrder);
        }
        let read = Self { body, signatures };
        // The payload is written anew with it, so its spelling is compared, too.
        if read.to_line() == line { Ok(read) } else { Err(TrustError::NotAsWritten) }
    }

    /// Its DSSE envelope, which any tool for DSSE can check, in one line without its end.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let signature = |(key, signature): &(PublicKey, Signature)| DsseSignature {
            keyid: Some(key.to_string()),
            sig: Base64Bytes(signature.as_bytes().to_vec()),
        };
        let dsse = Dsse {
            payloadType: TRUST_PAYLOAD_TYPE.into(),
            payload: Base64Bytes(self.body.to_json()),
            signatures: self.signatures.iter().map(signature).collect(),
        };
        #[expect(
            clippy::expect_used,
            reason = "string keys and plain values always serialize; a Vec takes every write"
        )]
        serde_json::to_vec(&dsse).expect("plain data serializes")
    }
}

/// The key that a signature names is only where to look: it counts if it is an operator's, and if it made the signature.
fn signature(written: &DsseSignature) -> Option<(PublicKey, Signature)> {
    let key = written.keyid.as_deref()?.parse().ok()?;
    let bytes = <[u8; 64]>::try_from(written.sig.0.as_slice()).ok()?;
    Some((key, Signature::from_bytes(bytes)))
}
