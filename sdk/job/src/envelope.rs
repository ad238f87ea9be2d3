//! The envelope: signed bytes, and the only road from bytes to a job that may be believed.
//!
//! [`Envelope::parse`] gives something that claims; [`Envelope::verify`] gives something that was proven. Nothing else in
//! any crate makes a [`VerifiedJob`], so code that takes one cannot have skipped the signature.
//!
//! *Spec:* DSSE v1; `docs/formats/envelope.md`.

use serde::Serialize;

use crate::body::{BatchBody, BodyError, JobBody, MAX_BATCH_BODY_BYTES, MAX_JOB_BODY_BYTES};
use crate::dsse::{Dsse, pae};
use crate::strict::{self, StrictError};
use crate::{Digest, PublicKey, SecretKey, Signature};

/// DSSE payload type of one job.
pub const JOB_PAYLOAD_TYPE: &str = "application/vnd.strongroom.job.v1+json";
/// DSSE payload type of a batch.
pub const BATCH_PAYLOAD_TYPE: &str = "application/vnd.strongroom.batch.v1+json";
/// Longest envelope, in bytes: the longest body in base64, and room for what stands around it.
pub const MAX_ENVELOPE_BYTES: usize = MAX_BATCH_BODY_BYTES.div_ceil(3) * 4 + 1024;

/// A DSSE envelope whose signature nobody has looked at yet.
#[derive(Clone, Debug)]
pub struct Envelope {
    kind: Kind,
    payload: Vec<u8>,
    signature: Signature,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Job,
    Batch,
}

/// Proof that one principal asked for one job: only [`Envelope::verify`] makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedJob {
    signer: PublicKey,
    envelope: Digest,
    body: JobBody,
}

/// Why an envelope is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not the strict JSON of an envelope.
    #[error("the envelope is malformed: {0}")]
    Malformed(#[from] StrictError),
    /// Signs something that is neither a job nor a batch.
    #[error("the envelope carries {0:?}, which is neither a job nor a batch of version 1")]
    PayloadType(String),
    /// Not exactly one signature of 64 bytes.
    #[error("the envelope must carry exactly one signature of 64 bytes")]
    Signature,
    /// The signature is not this principal's over these bytes.
    #[error("bad signature: {0} did not sign these bytes")]
    BadSignature(Box<PublicKey>),
    /// The signature is good; what it signs is not.
    #[error(transparent)]
    Body(#[from] BodyError),
}

impl Envelope {
    /// Takes the envelope apart; believes nothing of it.
    ///
    /// # Errors
    /// When it is not a DSSE envelope of ours with exactly one signature, or its body is too long for its type.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let dsse: Dsse = strict::parse(bytes, MAX_ENVELOPE_BYTES)?;
        let kind = match dsse.payloadType.as_str() {
            JOB_PAYLOAD_TYPE => Kind::Job,
            BATCH_PAYLOAD_TYPE => Kind::Batch,
            other => return Err(EnvelopeError::PayloadType(other.chars().take(100).collect())),
        };
        // Nobody is made to hash megabytes for a job that is refused for its length afterwards.
        if dsse.payload.0.len() > kind.max_body_bytes() {
            let (length, max) = (dsse.payload.0.len(), kind.max_body_bytes());
            return Err(BodyError::from(StrictError::TooLong { length, max }).into());
        }
        let signature = dsse.signature().ok_or(EnvelopeError::Signature)?;
        Ok(Self { kind, payload: dsse.payload.0, signature })
    }

    /// Whether it carries one job, and no batch.
    #[must_use]
    pub const fn is_of_one_job(&self) -> bool {
        matches!(self.kind, Kind::Job)
    }

    /// SHA-256 of what was signed, and the one job that it claims to be; none of a batch. Nothing of it is proven: for whoever has verified these bytes before, and
    /// kept them where nobody else writes.
    ///
    /// # Errors
    /// When what was signed is not a well-formed job.
    pub fn claims(&self) -> Result<Option<(Digest, JobBody)>, BodyError> {
        match self.kind {
            Kind::Job => Ok(Some((Digest::of(&self.payload), JobBody::parse(&self.payload)?))),
            Kind::Batch => Ok(None),
        }
    }

    /// The envelope as we write it, whatever the spelling in which it came: the signature does not depend on it.
    pub(crate) fn into_dsse(self, signer: &PublicKey) -> Dsse {
        Dsse::signed(self.kind.payload_type(), self.payload, signer, &self.signature)
    }

    /// Checks the signature against the key of the principal who sent it, then reads what was signed: one job, or all
    /// jobs of a batch.
    ///
    /// # Errors
    /// When `signer` did not sign these bytes, or they are not a well-formed job or batch.
    pub fn verify(self, signer: &PublicKey) -> Result<Vec<VerifiedJob>, EnvelopeError> {
        if !signer.verifies(&pae(self.kind.payload_type(), &self.payload), &self.signature) {
            return Err(EnvelopeError::BadSignature(Box::new(*signer)));
        }
        let bodies = match self.kind {
            Kind::Job => vec![JobBody::parse(&self.payload)?],
            Kind::Batch => BatchBody::parse(&self.payload)?,
        };
        let envelope = Digest::of(&self.payload);
        let signer = *signer;
        Ok(bodies.into_iter().map(|body| VerifiedJob { signer, envelope, body }).collect())
    }
}

impl VerifiedJob {
    /// Who signed.
    #[must_use]
    pub const fn signer(&self) -> &PublicKey {
        &self.signer
    }

    /// SHA-256 of the signed bytes: of the one job, or of the whole batch that it came in.
    #[must_use]
    pub const fn envelope(&self) -> &Digest {
        &self.envelope
    }

    /// What was signed.
    #[must_use]
    pub const fn body(&self) -> &JobBody {
        &self.body
    }

    /// What was signed, by move.
    #[must_use]
    pub fn into_body(self) -> JobBody {
        self.body
    }
}

/// A signed envelope, ready to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedEnvelope {
    bytes: Vec<u8>,
    digest: Digest,
}

impl SignedEnvelope {
    /// The envelope's JSON.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the signed body: what the audit log calls this envelope.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }
}

/// Signs one job.
///
/// # Errors
/// When the body breaks a rule of the format, so that every host would refuse it.
pub fn sign_job(body: &JobBody, key: &SecretKey) -> Result<SignedEnvelope, BodyError> {
    let payload = to_json(body);
    JobBody::parse(&payload)?;
    Ok(sign(Kind::Job, payload, key))
}

/// Signs a batch of jobs once.
///
/// # Errors
/// When the body breaks a rule of the format, so that every host would refuse it.
pub fn sign_batch(body: &BatchBody, key: &SecretKey) -> Result<SignedEnvelope, BodyError> {
    let payload = to_json(body);
    BatchBody::parse(&payload)?;
    Ok(sign(Kind::Batch, payload, key))
}

fn sign(kind: Kind, payload: Vec<u8>, key: &SecretKey) -> SignedEnvelope {
    let digest = Digest::of(&payload);
    SignedEnvelope { bytes: to_json(&Dsse::sign(kind.payload_type(), payload, key)), digest }
}

fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "string keys and plain values always serialize; a Vec takes every write"
    )]
    serde_json::to_vec(value).expect("plain data serializes")
}

impl Kind {
    const fn payload_type(self) -> &'static str {
        match self {
            Self::Job => JOB_PAYLOAD_TYPE,
            Self::Batch => BATCH_PAYLOAD_TYPE,
        }
    }

    const fn max_body_bytes(self) -> usize {
        match self {
            Self::Job => MAX_JOB_BODY_BYTES,
            Self::Batch => MAX_BATCH_BODY_BYTES,
        }
    }
}
