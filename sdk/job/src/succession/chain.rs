//! A line of keys, and where in it the one stands that somebody pinned.

use super::{KeyRole, Succession};
use crate::PublicKey;
use crate::note::{KeyName, VerifierKey};

/// Most statements of one line. Each costs two signatures to check.
pub const MAX_LINKS: usize = 32;

/// A key that somebody pinned, and those before and after it, as far as statements lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChain {
    role: KeyRole,
    /// Known for a log, and once statements were followed.
    origin: Option<KeyName>,
    pinned: PublicKey,
    /// The oldest first, never empty.
    keys: Vec<PublicKey>,
}

/// Why statements do not lead from a pinned key to another one. Statements are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// More than are followed.
    #[error("{0} statements; a line of keys has at most {MAX_LINKS}")]
    TooMany(usize),
    /// Of the other key of a host.
    #[error("statement {at} is about the {found} key, not about the {expected} key")]
    OtherRole {
        /// Which statement.
        at: usize,
        /// Which key is followed.
        expected: KeyRole,
        /// Which one it is about.
        found: KeyRole,
    },
    /// Of another log's host.
    #[error("statement {at} is of the host whose log is {found}, not {expected}")]
    OtherOrigin {
        /// Which statement.
        at: usize,
        /// Whose keys are followed.
        expected: Box<KeyName>,
        /// Whose it is.
        found: Box<KeyName>,
    },
    /// Its old key has a successor already.
    #[error(
        "statement {at} forks the line: {key} has a successor already, by an earlier statement. Somebody else has that key's secret"
    )]
    Fork {
        /// Which statement.
        at: usize,
        /// The key with two successors.
        key: Box<PublicKey>,
    },
    /// It does not begin where the one before it ends.
    #[error(
        "statement {at} begins with {found}, and the one before it ends with {expected}: one is missing between them, or they are in another order"
    )]
    Gap {
        /// Which statement.
        at: usize,
        /// The key that the line has come to.
        expected: Box<PublicKey>,
        /// The key that it begins with.
        found: Box<PublicKey>,
    },
    /// It leads back.
    #[error("statement {at} leads back to {key}, which was replaced before")]
    Cycle {
        /// Which statement.
        at: usize,
        /// The key that comes back.
        key: Box<PublicKey>,
    },
    /// The line is somebody else's.
    #[error(
        "{0} is not among the keys that the statements lead through: they are of another host, or some are missing"
    )]
    Unknown(Box<PublicKey>),
}

impl KeyChain {
    /// The key alone.
    #[must_use]
    pub fn pinned(role: KeyRole, key: PublicKey) -> Self {
        Self { role, origin: None, pinned: key, keys: vec![key] }
    }

    /// A log's key alone.
    #[must_use]
    pub fn of_log(log: &VerifierKey) -> Self {
        Self { origin: Some(log.name().clone()), ..Self::pinned(KeyRole::Log, *log.key()) }
    }

    /// Follows statements, the oldest first, through the pinned key: backwards and forwards. Without any, it is the key alone.
    ///
    /// # Errors
    /// The first statement that is wrong, or that the pinned key is in none of them.
    pub fn follow(self, statements: &[Succession]) -> Result<Self, ChainError> {
        let Some(first) = statements.first() else { return Ok(Self { keys: vec![self.pinned], ..self }) };
        if statements.len() > MAX_LINKS {
            return Err(ChainError::TooMany(statements.len()));
        }
        let Self { role, origin, pinned, .. } = self;
        let origin = origin.unwrap_or_else(|| first.origin().clone());
        let mut last = *first.old_key();
        let mut keys = vec![last];
        for (at, one) in (1..).zip(statements) {
            if one.role() != role {
                return Err(ChainError::OtherRole { at, expected: role, found: one.role() });
            }
            if *one.origin() != origin {
                let (expected, found) = (Box::new(origin), Box::new(one.origin().clone()));
                return Err(ChainError::OtherOrigin { at, expected, found });
            }
            // Somebody who was given the file twice has it once more in front of the new part.
            if keys.windows(2).any(|link| link == [*one.old_key(), *one.new_key()]) {
                continue;
            }
            if *one.old_key() != last {
                let key = Box::new(*one.old_key());
                return Err(match keys.contains(one.old_key()) {
                    true => ChainError::Fork { at, key },
                    false => ChainError::Gap { at, expected: Box::new(last), found: key },
                });
            }
            if keys.contains(one.new_key()) {
                return Err(ChainError::Cycle { at, key: Box::new(*one.new_key()) });
            }
            last = *one.new_key();
            keys.push(last);
        }
        if !keys.contains(&pinned) {
            return Err(ChainError::Unknown(Box::new(pinned)));
        }
        Ok(Self { role, origin: Some(origin), pinned, keys })
    }

    /// The same, with those statements of a file that are about this key; others are passed over.
    ///
    /// # Errors
    /// As [`follow`](Self::follow).
    pub fn follow_own(self, statements: &[Succession]) -> Result<Self, ChainError> {
        let own: Vec<_> = statements.iter().filter(|one| one.role() == self.role).cloned().collect();
        self.follow(&own)
    }

    /// The key that was pinned.
    #[must_use]
    pub const fn pin(&self) -> &PublicKey {
        &self.pinned
    }

    /// The name of the log, when it is known.
    #[must_use]
    pub const fn origin(&self) -> Option<&KeyName> {
        self.origin.as_ref()
    }

    /// The key that counts now: the last one.
    #[must_use]
    pub fn current(&self) -> &PublicKey {
        self.keys.last().unwrap_or(&self.pinned)
    }

    /// All keys, the oldest first.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// Where a key stands in the line, 0 being the oldest; none when it is in no statement.
    #[must_use]
    pub fn place(&self, key: &PublicKey) -> Option<usize> {
        self.keys.iter().position(|one| one == key)
    }

    /// Whether a key is the pinned one, or came before or after it.
    #[must_use]
    pub fn contains(&self, key: &PublicKey) -> bool {
        self.place(key).is_some()
    }
}

impl KeyChain {
    /// Whether this is the log, by one of its keys.
    #[must_use]
    pub fn is_of(&self, log: &VerifierKey) -> bool {
        self.origin.as_ref().is_none_or(|origin| origin == log.name()) && self.contains(log.key())
    }
}

impl From<VerifierKey> for KeyChain {
    fn from(log: VerifierKey) -> Self {
        Self::of_log(&log)
    }
}
