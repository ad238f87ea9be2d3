//! Who a host's operators are, in versions that are signed by the operators themselves.
//!
//! In reading order: a [`TrustBody`] is what one version says; a [`SignedTrust`] is a body with signatures under it, checked against
//! the version before (`signed`); a [`TrustDraft`] is a file whose last version may still lack signatures, a [`TrustFile`] one in which
//! every version has them (`file`). Only [`TrustDraft::finish`] makes a [`TrustFile`], so whoever has one has checked it.
//!
//! *Never:* says whether a version has expired: the caller has the clock.
//! *Spec:* `docs/formats/trust.md`, after the root role of The Update Framework; DSSE v1.

mod file;
mod signed;

use serde::{Deserialize, Serialize};

use crate::note::KeyName;
use crate::strict::{self, StrictError};
use crate::{Digest, PublicKey, Timestamp, as_text};

pub use file::{TrustDraft, TrustFile, TrustFileError};
pub use signed::{Missing, SignedTrust};

/// DSSE payload type of one version of a trust file.
pub const TRUST_PAYLOAD_TYPE: &str = "application/vnd.strongroom.trust.v1+json";
/// Most operators of one host.
pub const MAX_OPERATORS: usize = 32;
/// Most versions of one trust file: one a week for almost twenty years.
pub const MAX_TRUST_VERSIONS: usize = 1024;
/// Longest version with its signatures, in bytes: room for the longest origin, every operator, and a signature of each old and new one.
pub const MAX_TRUST_VERSION_BYTES: usize = 20 << 10;
/// Longest trust file, in bytes.
pub const MAX_TRUST_FILE_BYTES: usize = MAX_TRUST_VERSIONS * (MAX_TRUST_VERSION_BYTES + 1);

/// The format that every body carries.
const FORMAT: u8 = 1;

/// What one version of a trust file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustBody {
    /// The format's version, always 1.
    trust: u8,
    /// The host that it is for, by the origin of its audit log: that name stays when keys change.
    #[serde(with = "as_text")]
    log: KeyName,
    version: u64,
    expires: Timestamp,
    threshold: u64,
    operators: Vec<PublicKey>,
}

/// One version of the trust file, by its number and the SHA-256 of what was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustVersion {
    /// Counted from 1.
    pub version: u64,
    /// Of its body.
    pub digest: Digest,
}

/// Why a body, or a version that is made of it, is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Not the strict JSON of a version.
    #[error("it is malformed: {0}")]
    Malformed(#[from] StrictError),
    /// The right content in another spelling.
    #[error("it is not written as Strongroom writes it: other order or white space")]
    NotAsWritten,
    /// Something else that was signed, or a newer format.
    #[error("it is no version of a trust file of format {FORMAT}")]
    OtherType,
    /// No operators, or too many.
    #[error("it names {0} operators; 1 to {MAX_OPERATORS} are allowed")]
    Operators(usize),
    /// Keys that are not in ascending order, or one that stands twice.
    #[error("its operators are not in ascending order, or one stands twice")]
    NotSorted,
    /// A threshold that nobody, or anybody, meets.
    #[error("its threshold is {threshold}; with {operators} operators it must be 1 to {operators}")]
    Threshold {
        /// What it says.
        threshold: u64,
        /// Operators that it names.
        operators: usize,
    },
    /// A version number that does not come next.
    #[error("it calls itself version {found} where version {expected} comes next")]
    WrongVersion {
        /// What it says.
        found: u64,
        /// What comes next.
        expected: u64,
    },
    /// Another host's.
    #[error("it is for the host whose log is {found}, and not for {expected}")]
    OtherLog {
        /// What it says.
        found: KeyName,
        /// Whose it should be.
        expected: KeyName,
    },
    /// More signatures than there are operators, old and new.
    #[error("it carries {0} signatures, more than there can be operators in two versions")]
    Signatures(usize),
    /// Signatures that are not in the order of their keys, or two by one key.
    #[error("its signatures are not in the ascending order of their keys, or one key signed twice")]
    SignatureOrder,
    /// A signature without the name of its key, or of another length than 64 bytes.
    #[error("one of its signatures has no key's name, or not 64 bytes")]
    SignatureForm,
    /// Somebody signed who may not.
    #[error("{0} signed it, and is an operator neither of it nor of the version before")]
    Stranger(Box<PublicKey>),
    /// A signature that its key did not make.
    #[error("bad signature by {0}: what it says was altered, or the signature")]
    BadSignature(Box<PublicKey>),
    /// Too few signed.
    #[error("it lacks signatures: {0}")]
    Missing(Missing),
}

impl TrustBody {
    /// A version for the host whose log has this origin. The order of `operators` does not matter, and a key that stands twice in them counts
    /// once.
    ///
    /// # Errors
    /// [`Operators`](TrustError::Operators), [`Threshold`](TrustError::Threshold), or [`WrongVersion`](TrustError::WrongVersion) for a
    /// version of 0.
    pub fn new(
        log: KeyName,
        version: u64,
        expires: Timestamp,
        threshold: u64,
        operators: &[PublicKey],
    ) -> Result<Self, TrustError> {
        let mut operators = operators.to_vec();
        operators.sort_unstable();
        operators.dedup();
        let body = Self { trust: FORMAT, log, version, expires, threshold, operators };
        body.check()?;
        Ok(body)
    }

    /// Reads a body. That it has its one spelling is for whoever compares the line that it stands in with what would be written.
    fn parse(json: &[u8]) -> Result<Self, TrustError> {
        let body: Self = strict::parse(json, MAX_TRUST_VERSION_BYTES)?;
        body.check()?;
        Ok(body)
    }

    fn check(&self) -> Result<(), TrustError> {
        if self.trust != FORMAT {
            return Err(TrustError::OtherType);
        }
        let operators = self.operators.len();
        if operators == 0 || operators > MAX_OPERATORS {
            return Err(TrustError::Operators(operators));
        }
        if !self.operators.is_sorted_by(|one, next| one < next) {
            return Err(TrustError::NotSorted);
        }
        if self.threshold == 0 || self.threshold > operators as u64 {
            return Err(TrustError::Threshold { threshold: self.threshold, operators });
        }
        if self.version == 0 {
            return Err(TrustError::WrongVersion { found: 0, expected: 1 });
        }
        Ok(())
    }

    fn to_json(&self) -> Vec<u8> {
        #[expect(
            clippy::expect_used,
            reason = "string keys and plain values always serialize; a Vec takes every write"
        )]
        serde_json::to_vec(self).expect("plain data serializes")
    }

    /// The origin of the log of the host that it is for.
    #[must_use]
    pub const fn log(&self) -> &KeyName {
        &self.log
    }

    /// Counted from 1, without gaps.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// From this moment on its operators may do nothing that others may not.
    #[must_use]
    pub const fn expires(&self) -> Timestamp {
        self.expires
    }

    /// Whether that moment has come.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        now >= self.expires
    }

    /// How many of its operators must sign it, and the version after it.
    #[must_use]
    pub const fn threshold(&self) -> u64 {
        self.threshold
    }

    /// Who may operate the host; ascending, at least one, at most [`MAX_OPERATORS`].
    #[must_use]
    pub fn operators(&self) -> &[PublicKey] {
        &self.operators
    }

    /// Whether this key is one of its operators.
    #[must_use]
    pub fn names(&self, key: &PublicKey) -> bool {
        self.operators.binary_search(key).is_ok()
    }

    /// Its number and its digest.
    #[must_use]
    pub fn id(&self) -> TrustVersion {
        TrustVersion { version: self.version, digest: self.digest() }
    }

    /// SHA-256 of the bytes that are signed: what a version is called in the audit log. More signatures do not change it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_json())
    }
}
