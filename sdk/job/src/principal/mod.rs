//! Commands of operators: who else is a principal of a host, and who is not any more.
//!
//! A [`CommandBody`] is what is ordered; a [`SignedCommand`] is a body whose operator has signed these very bytes. Only
//! [`CommandBody::sign`] and [`SignedCommand::parse`] make one, so whoever has one has checked the signature and the form.
//!
//! *Never:* says whether who signed is an operator, or whether the host can do it: that is the host's to ask.
//! *Spec:* `docs/formats/principal.md`; DSSE v1.

mod view;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::delegation::{MAX_DELEGATED, ascends, each_once};
use crate::signed::{NotSigned, Signed, SignedBody};
use crate::strict::{self, StrictError};
use crate::{Access, Destination, HttpRule, JobId, Listener, Name, PublicKey, Role, SecretKey, Timestamp};

pub use view::{PrincipalSource, PrincipalView};

/// What is ordered, the bytes that say so, and the operator's good signature under them.
pub type SignedCommand = Signed<CommandBody>;

/// DSSE payload type of a command.
pub const COMMAND_PAYLOAD_TYPE: &str = "application/vnd.strongroom.principal.v1+json";
/// Longest body, in bytes.
pub const MAX_COMMAND_BYTES: usize = 16 << 10;
/// Longest envelope, in bytes: the longest body in base64, and room for what stands around it.
pub const MAX_COMMAND_ENVELOPE_BYTES: usize = MAX_COMMAND_BYTES.div_ceil(3) * 4 + 1024;
/// Longest time from not-before to not-after: in it, the command may be handed in.
pub const MAX_COMMAND_LIFETIME: Duration = Duration::from_secs(31 * 24 * 3600);

/// The format that every body carries.
const FORMAT: u8 = 1;

/// Which command: 128 random bits, chosen by the operator.
pub type CommandId = JobId;

/// What an operator orders: one key out, one key back, one key in, or one out and another in at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandBody {
    /// The format's version, always 1.
    pub command: u8,
    /// Which command.
    pub id: CommandId,
    /// The key of the one host that it is for.
    pub audience: PublicKey,
    /// Who orders it, and signs.
    pub operator: PublicKey,
    /// Not taken earlier.
    pub not_before: Timestamp,
    /// Not taken from then on. What it did stays.
    pub not_after: Timestamp,
    /// This key is out, whatever else names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke: Option<PublicKey>,
    /// This key was out, and is so no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<PublicKey>,
    /// This is a principal from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add: Option<Box<Entry>>,
}

/// A principal, as a command makes one. What a list does not name is not given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its key.
    pub key: PublicKey,
    /// What people call it.
    pub name: Name,
    /// In whose name its jobs run.
    pub tenant: Name,
    /// What it may ask of the host: some of view, submit, operate and admin, in this order.
    pub roles: Vec<Role>,
    /// Volumes that its jobs may ask for, and how far at most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<Name, Access>,
    /// Where its jobs may connect or send to, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connect: Vec<Destination>,
    /// Where its jobs may listen, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<Listener>,
    /// HTTP requests that its jobs may make, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpRule>,
    /// Secrets that its jobs may ask for, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Name>,
}

/// Why a command is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Not the strict JSON of a command.
    #[error("the command is malformed: {0}")]
    Malformed(#[from] StrictError),
    /// Something else that was signed, or a newer format.
    #[error("it is no operator's command of format {FORMAT}")]
    OtherType,
    /// Not exactly one signature of 64 bytes.
    #[error("the command must carry exactly one signature of 64 bytes")]
    Signature,
    /// The signature is not the operator's over these bytes.
    #[error("bad signature: {0}, who orders it by its own words, did not sign these bytes")]
    BadSignature(Box<PublicKey>),
    /// Another key was to sign than the one that orders.
    #[error("it is ordered by {0}: sign it with that key")]
    OtherSigner(Box<PublicKey>),
    /// A window that is empty, or too long.
    #[error("its time window must end after it begins, and within 31 days of that")]
    Window,
    /// Not one thing.
    #[error(
        "it must order one thing: a key to revoke, a key to restore, a principal to add, or one to revoke and another one to add"
    )]
    OneThing,
    /// No role, or not in order.
    #[error("its roles must be some of view, submit, operate and admin, in this order, each once")]
    Roles,
    /// A list that is too long, not in order, or names something twice.
    #[error("its {0} must be in order, each once, at most {MAX_DELEGATED} of them")]
    List(&'static str),
}

impl CommandBody {
    /// A body that orders nothing yet.
    #[must_use]
    pub const fn new(
        id: CommandId,
        audience: PublicKey,
        operator: PublicKey,
        (not_before, not_after): (Timestamp, Timestamp),
    ) -> Self {
        Self {
            command: FORMAT,
            id,
            audience,
            operator,
            not_before,
            not_after,
            revoke: None,
            restore: None,
            add: None,
        }
    }

    /// Signs it, as its operator.
    ///
    /// # Errors
    /// When it breaks a rule of the format, or `key` is not the operator's.
    pub fn sign(&self, key: &SecretKey) -> Result<SignedCommand, CommandError> {
        Signed::sign(self, key)
    }

    /// Every key that it speaks of.
    pub fn keys(&self) -> impl Iterator<Item = PublicKey> {
        let added = self.add.as_ref().map(|entry| entry.key);
        [self.revoke, self.restore, added].into_iter().flatten()
    }
}

impl SignedBody for CommandBody {
    const PAYLOAD_TYPE: &'static str = COMMAND_PAYLOAD_TYPE;
    const MAX_ENVELOPE_BYTES: usize = MAX_COMMAND_ENVELOPE_BYTES;
    type Error = CommandError;

    fn read(payload: &[u8]) -> Result<Self, CommandError> {
        let body: Self = strict::parse(payload, MAX_COMMAND_BYTES)?;
        if body.command != FORMAT {
            return Err(CommandError::OtherType);
        }
        let lifetime = body.not_after.since(body.not_before);
        if lifetime.is_zero() || lifetime > MAX_COMMAND_LIFETIME {
            return Err(CommandError::Window);
        }
        match (&body.revoke, &body.restore, &body.add) {
            (Some(_), None, None) | (None, Some(_), None) | (None, None, Some(_)) => {}
            (Some(revoke), None, Some(add)) if *revoke != add.key => {}
            _ => return Err(CommandError::OneThing),
        }
        body.add.as_ref().map_or(Ok(()), |entry| entry.check())?;
        Ok(body)
    }

    fn signer(&self) -> PublicKey {
        self.operator
    }
}

impl From<NotSigned> for CommandError {
    fn from(wrong: NotSigned) -> Self {
        match wrong {
            NotSigned::OtherType => Self::OtherType,
            NotSigned::Signature => Self::Signature,
            NotSigned::Bad(key) => Self::BadSignature(Box::new(key)),
            NotSigned::OtherSigner(key) => Self::OtherSigner(Box::new(key)),
        }
    }
}

impl Entry {
    /// Whether a command could say this.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self) -> Result<(), CommandError> {
        if self.roles.is_empty() || !ascends(&self.roles) {
            return Err(CommandError::Roles);
        }
        let lists = [
            ("volumes", self.volumes.len() <= MAX_DELEGATED),
            ("connect", each_once(&self.connect)),
            ("listen", each_once(&self.listen)),
            ("http", each_once(&self.http)),
            ("secrets", ascends(&self.secrets) && self.secrets.len() <= MAX_DELEGATED),
        ];
        lists.into_iter().find(|(_, good)| !good).map_or(Ok(()), |(list, _)| Err(CommandError::List(list)))
    }
}
