//! What the store remembers of records that are about the host itself: what governs it, who may operate it, which keys it
//! has, and when it was last checked.
//!
//! *Never:* writes: the row is in the batch of the record that says it, so a replay brings both back.
//! *Spec:* `docs/formats/state.md`.

use strongroom_job::succession::KeyRole;
use strongroom_job::{Digest, Event, PublicKey, Record, Timestamp, TrustVersion};

use super::rows::Rows;
use super::{Opened, ReadError, Store, keys};
use crate::config::Governs;

/// What governed the host when the log last said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Governed {
    /// What it was.
    pub by: Governs,
    /// The time of that record.
    pub at: Timestamp,
}

impl Governed {
    /// What a record says of it, if that is what it says.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        let Event::ConfigurationChanged { configuration, principals, policy } = &record.event else {
            return None;
        };
        let by = Governs { configuration: configuration.new, principals: principals.new, policy: policy.new };
        Some(Self { by, at: record.time })
    }
}

/// What the latest `checked` record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its time.
    pub at: Timestamp,
    /// What was wrong.
    pub problems: u64,
    /// Whether the log was as it should be.
    pub log_verifies: bool,
}

/// The rows that go with a record, if any do.
pub(super) fn rows(event: &Event, now: Timestamp) -> impl Iterator<Item = (&'static [u8], Vec<u8>)> {
    let found = match event {
        Event::Checked { problems, records, .. } => {
            Some((keys::FOUND, [problems.to_be_bytes(), records.to_be_bytes()].concat()))
        }
        _ => None,
    };
    row(event, now).into_iter().chain(found)
}

fn row(event: &Event, now: Timestamp) -> Option<(&'static [u8], Vec<u8>)> {
    let at = now.as_millis().to_be_bytes();
    match event {
        Event::ConfigurationChanged { configuration, principals, policy } => {
            let digests = [configuration.new, principals.new, policy.new];
            let mut value = digests.map(|digest| *digest.as_bytes()).concat();
            value.extend(at);
            Some((keys::GOVERNS, value))
        }
        Event::TrustChanged { version, digest, .. } => {
            let mut value = version.to_be_bytes().to_vec();
            value.extend(digest.as_bytes());
            Some((keys::TRUST, value))
        }
        Event::Checked { .. } => Some((keys::CHECKED, at.to_vec())),
        Event::KeyRotated { key, new, .. } => Some((key_row(*key), new.as_bytes().to_vec())),
        _ => None,
    }
}

const fn key_row(role: KeyRole) -> &'static [u8] {
    match role {
        KeyRole::Host => keys::HOST_KEY,
        KeyRole::Log => keys::LOG_KEY,
    }
}

fn governed(rows: &dyn Rows) -> Result<Option<Governed>, ReadError> {
    let Some(bytes) = rows.value(keys::GOVERNS)? else { return Ok(None) };
    let parts = bytes.as_chunks::<32>();
    let ([configuration, principals, policy], Some(at)) = (parts.0, parts.1.first_chunk::<8>()) else {
        return Err(ReadError::Damaged("what governs the host"));
    };
    let digest = |bytes: &[u8; 32]| Digest::from_bytes(*bytes);
    let by = Governs {
        configuration: digest(configuration),
        principals: digest(principals),
        policy: digest(policy),
    };
    Ok(Some(Governed { by, at: Timestamp::from_millis(u64::from_be_bytes(*at)) }))
}

fn trusted(rows: &dyn Rows) -> Result<Option<TrustVersion>, ReadError> {
    let Some(bytes) = rows.value(keys::TRUST)? else { return Ok(None) };
    let damaged = || ReadError::Damaged("the version of the trust file");
    let (version, digest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
    let digest = Digest::from_bytes(digest.try_into().map_err(|_| damaged())?);
    Ok(Some(TrustVersion { version: u64::from_be_bytes(*version), digest }))
}

impl Store {
    /// What governed the host when the log last said it; none when it never did.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn governed(&self) -> Result<Option<Governed>, ReadError> {
        governed(&self.current)
    }

    /// The version of the trust file that the log says is in force; none when it never told of one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn trusted(&self) -> Result<Option<TrustVersion>, ReadError> {
        trusted(&self.current)
    }

    /// The time of the latest `checked` record; none when there is none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn checked_at(&self) -> Result<Option<Timestamp>, ReadError> {
        let Some(bytes) = self.current.value(keys::CHECKED)? else { return Ok(None) };
        let at = bytes.as_ref().try_into().map_err(|_| ReadError::Damaged("the time of the latest check"))?;
        Ok(Some(Timestamp::from_millis(u64::from_be_bytes(at))))
    }

    /// What the latest check of this host came to; none when there was none, or an earlier version made it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn checked(&self) -> Result<Option<Checked>, ReadError> {
        let Some(at) = self.checked_at()? else { return Ok(None) };
        let Some(bytes) = self.current.value(keys::FOUND)? else { return Ok(None) };
        let ([problems, records], []) = bytes.as_chunks::<8>() else {
            return Err(ReadError::Damaged("what the latest check found"));
        };
        let [problems, records] = [problems, records].map(|bytes| u64::from_be_bytes(*bytes));
        // One that does not verify has none that were verified.
        Ok(Some(Checked { at, problems, log_verifies: problems == 0 || records > 0 }))
    }

    /// The key that the latest `key-rotated` record about this role names; none when there is no such record.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn rotated_to(&self, role: KeyRole) -> Result<Option<PublicKey>, ReadError> {
        let Some(bytes) = self.current.value(key_row(role))? else { return Ok(None) };
        let key = bytes.as_ref().try_into().ok().and_then(|bytes| PublicKey::from_bytes(bytes).ok());
        key.map(Some).ok_or(ReadError::Damaged("the key of the latest rotation"))
    }
}

impl Opened {
    /// As [`Store::governed`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn governed(&self) -> Result<Option<Governed>, ReadError> {
        governed(&self.current)
    }

    /// As [`Store::trusted`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn trusted(&self) -> Result<Option<TrustVersion>, ReadError> {
        trusted(&self.current)
    }
}
