//! One key takes the place of another: what both of them sign, so that who pinned the one can follow to the other.
//!
//! *Owns:* the statement and its one spelling; `chain` follows a line of them. *Never:* makes a key, or believes `keyid`.
//! *Spec:* DSSE v1; `docs/formats/succession.md`.

mod chain;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use chain::{ChainError, KeyChain, MAX_LINKS};

use crate::base64_bytes::Base64Bytes;
use crate::dsse::{Dsse, pae};
use crate::note::KeyName;
use crate::strict::{self, StrictError};
use crate::{Digest, Event, PublicKey, SecretKey, Signature, Timestamp, as_text};

/// DSSE payload type of a statement.
pub const SUCCESSION_PAYLOAD_TYPE: &str = "application/vnd.strongroom.succession.v1+json";
/// Longest statement, in bytes.
pub const MAX_SUCCESSION_BYTES: usize = 2048;
/// Most statements of one file: of both keys of a host.
pub const MAX_SUCCESSIONS: usize = 2 * MAX_LINKS;
/// Longest file of statements, in bytes.
pub const MAX_SUCCESSIONS_BYTES: usize = MAX_SUCCESSIONS * (MAX_SUCCESSION_BYTES + 1);

/// The version that every statement of this format carries.
const VERSION: u8 = 1;

/// Which of a host's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyRole {
    /// The one by which clients know the host, and which signs acceptances and receipts.
    Host,
    /// The one that signs the log's checkpoints.
    Log,
}

impl KeyRole {
    /// The word for it, as it is in a statement.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Log => "log",
        }
    }
}

impl fmt::Display for KeyRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The statement that one key takes the place of another. Both signatures were checked: there is no other way to have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succession {
    body: Body,
    dsse: Dsse,
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    version: u8,
    role: KeyRole,
    #[serde(with = "as_text")]
    origin: KeyName,
    old: PublicKey,
    new: PublicKey,
    time: Timestamp,
}

/// Why a statement is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuccessionError {
    /// Not the strict JSON of a statement.
    #[error("the statement is malformed: {0}")]
    Malformed(#[from] StrictError),
    /// Of another format.
    #[error("the statement has version {0}; this program reads version {VERSION}")]
    Version(u8),
    /// DSSE around something else.
    #[error("it has the type {0:?}, which is not {SUCCESSION_PAYLOAD_TYPE}")]
    Type(String),
    /// The right content in another spelling.
    #[error("the statement is not written as a host writes it: other order, white space or a changed byte")]
    NotAsWritten,
    /// A key cannot follow itself.
    #[error("{0} is named as its own successor")]
    SameKey(Box<PublicKey>),
    /// The old key did not sign.
    #[error("bad signature of the old key: {0} did not sign that it has this successor")]
    NotByOld(Box<PublicKey>),
    /// The new key did not sign.
    #[error("bad signature of the new key: {0} did not sign that it is this successor")]
    NotByNew(Box<PublicKey>),
}

/// A file of statements that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementsError {
    /// More than is read.
    #[error(
        "{found} bytes; a file of at most {MAX_SUCCESSIONS} statements has at most {MAX_SUCCESSIONS_BYTES}"
    )]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// More lines than are read.
    #[error("more than {MAX_SUCCESSIONS} statements")]
    TooMany,
    /// It ends within a line, or has none.
    #[error("line {0} is cut off: expected one statement in each line, and a line feed at its end")]
    CutOff(usize),
    /// A statement.
    #[error("line {line}: {error}")]
    Statement {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        error: SuccessionError,
    },
}

impl Succession {
    /// Says that `new` takes the place of `old`, with both keys.
    ///
    /// # Errors
    /// [`SameKey`](SuccessionError::SameKey).
    pub fn sign(
        role: KeyRole,
        origin: &KeyName,
        old: &SecretKey,
        new: &SecretKey,
        time: Timestamp,
    ) -> Result<Self, SuccessionError> {
        let body = Body {
            version: VERSION,
            role,
            origin: origin.clone(),
            old: old.public(),
            new: new.public(),
            time,
        };
        let payload = body.to_json();
        let message = pae(SUCCESSION_PAYLOAD_TYPE, &payload);
        let signatures = [old.sign(&message), new.sign(&message)];
        Self::check(body.dsse(&signatures))
    }

    /// Reads a statement and checks both signatures.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, SuccessionError> {
        let read = Self::check(strict::parse(bytes, MAX_SUCCESSION_BYTES)?)?;
        if read.to_bytes() == bytes { Ok(read) } else { Err(SuccessionError::NotAsWritten) }
    }

    /// Reads a file of statements, of any roles, one in each line. Whether they make a line is for [`KeyChain::follow`].
    ///
    /// # Errors
    /// With the first line that is wrong.
    pub fn parse_file(bytes: &[u8]) -> Result<Vec<Self>, StatementsError> {
        if bytes.len() > MAX_SUCCESSIONS_BYTES {
            return Err(StatementsError::TooLong { found: bytes.len() });
        }
        let mut read = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let number = read.len() + 1;
            if read.len() == MAX_SUCCESSIONS {
                return Err(StatementsError::TooMany);
            }
            let line = line.strip_suffix(b"\n").ok_or(StatementsError::CutOff(number))?;
            let statement = Self::parse(line);
            read.push(statement.map_err(|error| StatementsError::Statement { line: number, error })?);
        }
        if read.is_empty() { Err(StatementsError::CutOff(1)) } else { Ok(read) }
    }

    /// A file of these statements.
    #[must_use]
    pub fn to_file(statements: &[Self]) -> Vec<u8> {
        statements.iter().flat_map(|one| [one.to_bytes(), vec![b'\n']].concat()).collect()
    }

    fn check(dsse: Dsse) -> Result<Self, SuccessionError> {
        if dsse.payloadType != SUCCESSION_PAYLOAD_TYPE {
            return Err(SuccessionError::Type(crate::text::shown(&dsse.payloadType, 100)));
        }
        let body: Body = strict::parse(&dsse.payload.0, MAX_SUCCESSION_BYTES)?;
        if body.version != VERSION {
            return Err(SuccessionError::Version(body.version));
        }
        if body.old == body.new {
            return Err(SuccessionError::SameKey(Box::new(body.old)));
        }
        let [by_old, by_new] = dsse.signatures.as_slice() else { return Err(SuccessionError::NotAsWritten) };
        let message = pae(SUCCESSION_PAYLOAD_TYPE, &dsse.payload.0);
        let made = |signature: &Base64Bytes, key: &PublicKey| {
            let signature = <[u8; 64]>::try_from(signature.0.as_slice()).ok().map(Signature::from_bytes)?;
            key.verifies(&message, &signature).then_some(signature)
        };
        let by_old = made(&by_old.sig, &body.old);
        let by_old = by_old.ok_or_else(|| SuccessionError::NotByOld(Box::new(body.old)))?;
        let by_new = made(&by_new.sig, &body.new);
        let by_new = by_new.ok_or_else(|| SuccessionError::NotByNew(Box::new(body.new)))?;
        // No byte of it is free: not the hints, not the order of fields.
        if body.dsse(&[by_old, by_new]) != dsse {
            return Err(SuccessionError::NotAsWritten);
        }
        Ok(Self { body, dsse })
    }

    /// Which key of the host.
    #[must_use]
    pub const fn role(&self) -> KeyRole {
        self.body.role
    }

    /// The name of the host's log.
    #[must_use]
    pub const fn origin(&self) -> &KeyName {
        &self.body.origin
    }

    /// The key that goes.
    #[must_use]
    pub const fn old_key(&self) -> &PublicKey {
        &self.body.old
    }

    /// The key that comes.
    #[must_use]
    pub const fn new_key(&self) -> &PublicKey {
        &self.body.new
    }

    /// When, by the host's clock.
    #[must_use]
    pub const fn time(&self) -> Timestamp {
        self.body.time
    }

    /// The statement as it is written, without a line feed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        to_json(&self.dsse)
    }

    /// SHA-256 of the statement as it is written.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }
}

impl Body {
    fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }

    /// The envelope around it, in the one way in which we write it.
    fn dsse(&self, [by_old, by_new]: &[Signature; 2]) -> Dsse {
        let mut dsse = Dsse::signed(SUCCESSION_PAYLOAD_TYPE, self.to_json(), &self.old, by_old);
        dsse.signatures
            .extend(Dsse::signed(SUCCESSION_PAYLOAD_TYPE, Vec::new(), &self.new, by_new).signatures);
        dsse
    }
}

fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "string keys and plain values always serialize; a Vec takes every write"
    )]
    serde_json::to_vec(value).expect("plain data serializes")
}

/// As its DSSE envelope.
impl Serialize for Succession {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.dsse.serialize(serializer)
    }
}

/// From its DSSE envelope, checked.
impl<'de> Deserialize<'de> for Succession {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::check(Dsse::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// What the log says of it.
impl From<&Succession> for Event {
    fn from(one: &Succession) -> Self {
        let (key, old, new) = (one.role(), *one.old_key(), *one.new_key());
        Self::KeyRotated { key, old, new, statement: one.digest() }
    }
}
