//! What a host promises when it accepts an envelope, signed with its key, so that it cannot deny it later.
//!
//! An answer on the wire carries only what the client does not know: a time and a signature. The client builds the statement
//! from what it knows itself, and checks the signature over that: so a good signature is one over the right statement.
//!
//! *Spec:* DSSE v1; `docs/formats/receipt.md`, "Acceptance".

use serde::{Deserialize, Serialize};

use crate::base64_bytes::Base64Bytes;
use crate::dsse::{Dsse, pae};
use crate::note::VerifierKey;
use crate::strict::{self, StrictError};
use crate::succession::{KeyChain, KeyRole};
use crate::{AcceptedJob, Digest, PublicKey, SecretKey, Signature, Timestamp, as_text};

/// DSSE payload type of an acceptance.
pub const ACCEPTANCE_PAYLOAD_TYPE: &str = "application/vnd.strongroom.acceptance.v1+json";
/// Longest file with an acceptance, in bytes: one of the largest batch, in base64.
pub const MAX_ACCEPTANCE_BYTES: usize = 4 << 20;

/// The version that every acceptance of this format carries.
const VERSION: u8 = 1;

/// What a host says when it accepts an envelope: all of its jobs are durable, and their records have these places in its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acceptance {
    /// The format's version, always 1.
    version: u8,
    /// Who accepted.
    pub host: PublicKey,
    /// The log that has the records, by its verifier key.
    #[serde(with = "as_text")]
    pub log: VerifierKey,
    /// SHA-256 of the signed body: of the one job, or of the batch.
    pub envelope: Digest,
    /// The host's clock when the last of the jobs was accepted, as in its record.
    pub time: Timestamp,
    /// In the envelope's order.
    pub jobs: Vec<AcceptedJob>,
}

/// What of an acceptance is sent: the rest is known to whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptanceSignature {
    /// [`Acceptance::time`].
    pub time: Timestamp,
    /// An ed25519 signature, 64 bytes, by the host's key.
    pub signature: Base64Bytes,
}

/// An acceptance whose signature was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedAcceptance {
    acceptance: Acceptance,
    signature: Signature,
}

/// Why an acceptance is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptanceError {
    /// Not the strict JSON of an acceptance.
    #[error("the acceptance is malformed: {0}")]
    Malformed(#[from] StrictError),
    /// The right content in another spelling.
    #[error("the acceptance is not written as a host writes it: other order or white space")]
    NotAsWritten,
    /// The host did not sign this.
    #[error("bad signature of the acceptance: {0} did not sign this answer")]
    BadSignature(Box<PublicKey>),
}

impl Acceptance {
    /// What `host`, whose log is `log`, says of the envelope with this digest.
    #[must_use]
    pub const fn new(
        host: PublicKey,
        log: VerifierKey,
        envelope: Digest,
        time: Timestamp,
        jobs: Vec<AcceptedJob>,
    ) -> Self {
        Self { version: VERSION, host, log, envelope, time, jobs }
    }

    /// Signs it with the key of the host that it names. The same acceptance always gets the same signature.
    #[must_use]
    pub fn sign(&self, key: &SecretKey) -> AcceptanceSignature {
        let signature = key.sign(&pae(ACCEPTANCE_PAYLOAD_TYPE, &self.to_json()));
        AcceptanceSignature { time: self.time, signature: Base64Bytes(signature.as_bytes().to_vec()) }
    }

    /// Believes it, if the host that it names signed it.
    ///
    /// # Errors
    /// [`BadSignature`](AcceptanceError::BadSignature).
    pub fn verify(self, signature: &[u8]) -> Result<SignedAcceptance, AcceptanceError> {
        let signature = <[u8; 64]>::try_from(signature).map(Signature::from_bytes);
        match signature {
            Ok(signature)
                if self.host.verifies(&pae(ACCEPTANCE_PAYLOAD_TYPE, &self.to_json()), &signature) =>
            {
                Ok(SignedAcceptance { acceptance: self, signature })
            }
            _ => Err(AcceptanceError::BadSignature(Box::new(self.host))),
        }
    }

    fn to_json(&self) -> Vec<u8> {
        #[expect(
            clippy::expect_used,
            reason = "string keys and plain values always serialize; a Vec takes every write"
        )]
        serde_json::to_vec(self).expect("plain data serializes")
    }
}

impl SignedAcceptance {
    /// What was signed.
    #[must_use]
    pub const fn acceptance(&self) -> &Acceptance {
        &self.acceptance
    }

    /// The DSSE envelope that any tool for DSSE can check, in JSON: to be kept as evidence.
    #[must_use]
    pub fn to_dsse(&self) -> Vec<u8> {
        #[expect(
            clippy::expect_used,
            reason = "string keys and plain values always serialize; a Vec takes every write"
        )]
        serde_json::to_vec(&self.dsse()).expect("plain data serializes")
    }

    fn dsse(&self) -> Dsse {
        let Self { acceptance, signature } = self;
        Dsse::signed(ACCEPTANCE_PAYLOAD_TYPE, acceptance.to_json(), &acceptance.host, signature)
    }

    /// Reads what [`to_dsse`](Self::to_dsse) wrote, and checks that `host` signed it.
    ///
    /// # Errors
    /// When it is no acceptance in its one spelling, or `host` did not sign it.
    pub fn from_dsse(bytes: &[u8], host: &PublicKey) -> Result<Self, AcceptanceError> {
        Self::from_dsse_by(bytes, &KeyChain::pinned(KeyRole::Host, *host))
    }

    /// The same, of a host whose key was replaced since, or before: any of `keys` may have signed it.
    ///
    /// # Errors
    /// As [`from_dsse`](Self::from_dsse).
    pub fn from_dsse_by(bytes: &[u8], keys: &KeyChain) -> Result<Self, AcceptanceError> {
        let dsse: Dsse = strict::parse(bytes, MAX_ACCEPTANCE_BYTES)?;
        let acceptance: Acceptance = strict::parse(&dsse.payload.0, MAX_ACCEPTANCE_BYTES)?;
        if !keys.contains(&acceptance.host) {
            return Err(AcceptanceError::BadSignature(Box::new(*keys.pin())));
        }
        let signature = dsse.signature().map(|signature| *signature.as_bytes()).unwrap_or([0; 64]);
        let signed = acceptance.verify(&signature)?;
        if signed.to_dsse() == bytes { Ok(signed) } else { Err(AcceptanceError::NotAsWritten) }
    }
}

/// As its DSSE envelope.
impl Serialize for SignedAcceptance {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.dsse().serialize(serializer)
    }
}
