//! Receipts: how a job ended, proven to anybody who knows the host's key, without the host and without a network.
//!
//! A receipt holds three things that vouch for each other: a statement signed with the host's key (`statement`), the two audit
//! records that it is about with their proofs, and the signed checkpoint that the proofs lead to. The statement names the log's
//! key and the checkpoint, so nothing in the file is free: [`Receipt::verify`] fails when any byte of it is another one.
//!
//! *Never:* believes a field that it did not derive from a record, or that the host did not sign.
//! *Spec:* DSSE v1, in-toto Statement v1, SLSA provenance v1; `docs/formats/receipt.md`.

mod envelope;
mod statement;
pub(crate) mod time;
mod verify;

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

pub use statement::{ARTIFACT_PREFIX, Admitted, BUILD_TYPE, BUILDER_PREFIX, Finished};
pub use verify::{ReceiptError, Verified};

use statement::Statement;

use crate::base64_bytes::Base64Bytes;
use crate::checkpoint::SignedCheckpoint;
use crate::dsse::Dsse;
use crate::merkle::{Hash, MAX_PROOF_HASHES};
use crate::note::{MAX_NOTE_BYTES, VerifierKey};
use crate::strict;
use crate::succession::{MAX_LINKS, MAX_SUCCESSION_BYTES, Succession};
use crate::{
    Envelope, EnvelopeError, MAX_ENVELOPE_BYTES, MAX_RECORD_BYTES, Opening, OutputSummary, PublicKey, Record,
    RecordError, SecretKey, Timestamp,
};

/// DSSE payload type of the statement.
pub const STATEMENT_PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// Longest statement, in bytes: it repeats what the two records say, in some more words.
pub const MAX_STATEMENT_BYTES: usize = 4 * MAX_RECORD_BYTES;
/// Longest receipt, in bytes.
pub const MAX_RECEIPT_BYTES: usize = MAX_STATEMENT_BYTES.div_ceil(3) * 4
    + 2 * (MAX_RECORD_BYTES.div_ceil(3) * 4 + 64 * MAX_PROOF_HASHES)
    + 2 * MAX_NOTE_BYTES
    + MAX_ENVELOPE_BYTES
    + MAX_LINKS * (MAX_SUCCESSION_BYTES + 1)
    + 8 * 1024;

/// The version that every receipt of this format carries.
const VERSION: u8 = 1;

/// The name of a part of a receipt.
type Named = &'static str;

/// A receipt that was read, or issued, and that nobody believes yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The format's version, always 1.
    receipt: u8,
    /// The host's statement.
    statement: Dsse,
    /// The record of the job's admission.
    admitted: Entry,
    /// The record of its end.
    finished: Entry,
    /// The log's signed checkpoint, a text of some lines.
    checkpoint: String,
    /// The envelope that the job came in, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    envelope: Option<Dsse>,
    /// When that is for a key that the host had before: what leads from it to the key that signed the receipt.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "few")]
    succession: Vec<Succession>,
}

/// No more statements than a line may have: each is two signatures to check, before the host's.
fn few<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Succession>, D::Error> {
    struct Few;
    impl<'de> Visitor<'de> for Few {
        type Value = Vec<Succession>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_LINKS} statements")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
            let mut few = Vec::new();
            while let Some(one) = all.next_element()? {
                if few.len() == MAX_LINKS {
                    return Err(A::Error::invalid_length(MAX_LINKS + 1, &self));
                }
                few.push(one);
            }
            Ok(few)
        }
    }
    deserializer.deserialize_seq(Few)
}

/// One entry of the log, and what leads from it to the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    index: u64,
    leaf: Base64Bytes,
    proof: Vec<HashText>,
}

/// A hash, in the base64 of proofs and checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HashText(Hash);

/// One entry of the log with its inclusion proof, for [`Receipt::issue`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// Its place.
    pub index: u64,
    /// Its bytes.
    pub leaf: Vec<u8>,
    /// The inclusion proof, the leaf's sibling first.
    pub hashes: Vec<Hash>,
}

/// What a host puts into a receipt.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// The host's version.
    pub version: &'a str,
    /// Who signs its log.
    pub log: VerifierKey,
    /// The `admitted` record.
    pub admitted: Proven,
    /// The `finished` record.
    pub finished: Proven,
    /// What opens it, if it hides anything.
    pub opening: Option<&'a Opening>,
    /// When the last attempt began, if one did.
    pub started_at: Option<Timestamp>,
    /// The input that was a blob of its own.
    pub input: Option<OutputSummary>,
    /// The checkpoint that both proofs lead to.
    pub checkpoint: SignedCheckpoint,
    /// The envelope that the job came in.
    pub envelope: Option<&'a [u8]>,
}

/// Why a host cannot issue a receipt: its own fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// A leaf is no record.
    #[error("entry {index} of the log: {error}")]
    Record {
        /// Which.
        index: u64,
        /// What is wrong with it.
        error: RecordError,
    },
    /// A leaf is another record.
    #[error(
        "entry {0} of the log is not the record that the state says it is, or says something else of what the job left"
    )]
    OtherRecord(u64),
    /// The envelope that was kept is none.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

/// A record at its place.
struct Placed<'a, T> {
    index: u64,
    leaf: &'a [u8],
    time: Timestamp,
    says: T,
}

/// Everything that a statement is made from.
struct Facts<'a> {
    host: PublicKey,
    version: &'a str,
    log: &'a VerifierKey,
    admitted: Placed<'a, Admitted>,
    finished: Placed<'a, Finished>,
    started_at: Option<Timestamp>,
    input: Option<OutputSummary>,
    checkpoint: &'a str,
}

impl Receipt {
    /// Makes a receipt and signs it with the host's key.
    ///
    /// # Errors
    /// When the entries are not the job's records, or the envelope is none.
    pub fn issue(parts: Parts<'_>, key: &SecretKey) -> Result<Self, IssueError> {
        let Parts { version, log, admitted, finished, opening, started_at, input, checkpoint, envelope } =
            parts;
        let facts = Facts {
            host: key.public(),
            version,
            log: &log,
            admitted: place(&admitted, Admitted::of)?,
            finished: place(&finished, |record| Finished::of(record, opening))?,
            started_at,
            input,
            checkpoint: checkpoint.as_str(),
        };
        let principal = facts.admitted.says.principal;
        let statement = Dsse::sign(STATEMENT_PAYLOAD_TYPE, to_json(&Statement::of(&facts)), key);
        let envelope = envelope.map(Envelope::parse).transpose()?;
        Ok(Self {
            receipt: VERSION,
            statement,
            checkpoint: checkpoint.as_str().to_owned(),
            admitted: admitted.into(),
            finished: finished.into(),
            envelope: envelope.map(|envelope| envelope.into_dsse(&principal)),
            succession: Vec::new(),
        })
    }

    /// The same, for a job whose envelope is for `audience`. Of `keys`, which lead to the key that signed the receipt, it takes along those
    /// that come after the audience, if the envelope is in it; none when the two are one key.
    #[must_use]
    pub fn for_audience(self, audience: &PublicKey, keys: &[Succession]) -> Self {
        let from = keys.iter().position(|one| one.old_key() == audience).filter(|_| self.has_envelope());
        Self { succession: from.map_or_else(Vec::new, |from| keys[from..].to_vec()), ..self }
    }

    /// Reads a receipt; nothing is checked but its form, which has one spelling, and the statements about keys in it.
    ///
    /// # Errors
    /// When the bytes are no receipt, or not written as a host writes it.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let receipt: Self = strict::parse(bytes, MAX_RECEIPT_BYTES)?;
        if receipt.receipt != VERSION {
            return Err(ReceiptError::Version(receipt.receipt));
        }
        if receipt.to_bytes() == bytes { Ok(receipt) } else { Err(ReceiptError::NotAsWritten) }
    }

    /// The file: one line of JSON.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = to_json(self);
        bytes.push(b'\n');
        bytes
    }

    /// Whether the envelope is in it.
    #[must_use]
    pub const fn has_envelope(&self) -> bool {
        self.envelope.is_some()
    }

    /// The receipt without the envelope, for somebody who is not to see arguments, variables and input.
    #[must_use]
    pub fn without_envelope(self) -> Self {
        Self { envelope: None, succession: Vec::new(), ..self }
    }

    /// The DSSE envelope of the statement alone, for tools that know in-toto and not us.
    #[must_use]
    pub fn attestation(&self) -> Vec<u8> {
        to_json(&self.statement)
    }
}

fn place<T>(proven: &Proven, says: impl Fn(&Record) -> Option<T>) -> Result<Placed<'_, T>, IssueError> {
    let Proven { index, leaf, .. } = proven;
    let record = Record::from_leaf(leaf).map_err(|error| IssueError::Record { index: *index, error })?;
    let says = says(&record).ok_or(IssueError::OtherRecord(*index))?;
    Ok(Placed { index: *index, leaf, time: record.time, says })
}

fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "string keys and plain values always serialize; a Vec takes every write"
    )]
    serde_json::to_vec(value).expect("plain data serializes")
}

impl From<Proven> for Entry {
    fn from(proven: Proven) -> Self {
        let Proven { index, leaf, hashes } = proven;
        Self { index, leaf: Base64Bytes(leaf), proof: hashes.into_iter().map(HashText).collect() }
    }
}

impl Serialize for HashText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for HashText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let hash = Hash::from_base64(&text);
        hash.map(Self).ok_or_else(|| serde::de::Error::custom("not the base64 of a hash, 44 characters"))
    }
}
