//! A grant that a principal signs for another key: some of its own rights, for a while.
//!
//! A [`DelegationBody`] is what is given; a [`SignedDelegation`] is a body whose delegator has signed these very bytes. Only
//! [`DelegationBody::sign`] and [`SignedDelegation::parse`] make one, so whoever has one has checked the signature and the form.
//!
//! *Never:* says whether the delegator has what it gives, or whether the grant is valid now: that is the host's to ask, at each use.
//! *Spec:* `docs/formats/delegation.md`; DSSE v1.

mod ceilings;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::signed::{NotSigned, Signed, SignedBody};
use crate::strict::{self, StrictError};
use crate::task::{TaskError, check_labels};
use crate::{Access, Destination, HttpRule, JobId, Listener, Name, PublicKey, Role, SecretKey, Timestamp};

pub use ceilings::Ceilings;

/// What is given, the bytes that say so, and the delegator's good signature under them.
pub type SignedDelegation = Signed<DelegationBody>;

/// DSSE payload type of a delegation.
pub const DELEGATION_PAYLOAD_TYPE: &str = "application/vnd.strongroom.delegation.v1+json";
/// Longest body, in bytes.
pub const MAX_DELEGATION_BYTES: usize = 16 << 10;
/// Longest envelope, in bytes: the longest body in base64, and room for what stands around it.
pub const MAX_DELEGATION_ENVELOPE_BYTES: usize = MAX_DELEGATION_BYTES.div_ceil(3) * 4 + 1024;
/// Longest chain of grants: a principal's delegate, its delegate, and two more.
pub const MAX_DELEGATION_DEPTH: u8 = 4;
/// Longest time from not-before to not-after.
pub const MAX_DELEGATION_LIFETIME: Duration = Duration::from_secs(366 * 24 * 3600);
/// Most entries of each list of a body.
pub const MAX_DELEGATED: usize = 64;

/// The format that every body carries.
const FORMAT: u8 = 1;

/// Which grant: 128 random bits, chosen by the delegator.
pub type GrantId = JobId;

/// What is given, by whom, to whom, and for how long. What a list does not name is not given; what a bound does not name is as it is for the
/// delegator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelegationBody {
    /// The format's version, always 1.
    pub delegation: u8,
    /// Which grant.
    pub id: GrantId,
    /// The key of the one host that it is for.
    pub audience: PublicKey,
    /// Who gives, and signs.
    pub delegator: PublicKey,
    /// Who gets it.
    pub delegate: PublicKey,
    /// What people call the delegate.
    pub name: Name,
    /// In whose name the delegate's jobs run: the delegator's own tenant.
    pub tenant: Name,
    /// Of no use earlier.
    pub not_before: Timestamp,
    /// Of no use from then on.
    pub not_after: Timestamp,
    /// How many further grants may hang below this one, one under the other: 0 when the delegate may give nothing on.
    pub further: u8,
    /// What the delegate may ask of the host: some of view, submit and operate, in this order.
    pub roles: Vec<Role>,
    /// Queues that its jobs may wait in, ascending; left out: those of the delegator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<Vec<Name>>,
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
    /// Highest limits that its jobs may ask for, where they are lower than the host's.
    #[serde(default, skip_serializing_if = "Ceilings::is_empty")]
    pub max_limits: Ceilings,
    /// Labels that each of its jobs must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Why a delegation is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DelegationError {
    /// Not the strict JSON of a delegation.
    #[error("the grant is malformed: {0}")]
    Malformed(#[from] StrictError),
    /// Something else that was signed, or a newer format.
    #[error("it is no grant of format {FORMAT}")]
    OtherType,
    /// Not exactly one signature of 64 bytes.
    #[error("the grant must carry exactly one signature of 64 bytes")]
    Signature,
    /// The signature is not the delegator's over these bytes.
    #[error("bad signature: {0}, who gives it by its own words, did not sign these bytes")]
    BadSignature(Box<PublicKey>),
    /// Another key was to sign than the one that gives.
    #[error("it is given by {0}: sign it with that key")]
    OtherSigner(Box<PublicKey>),
    /// A window that is empty, or too long.
    #[error("its time window must end after it begins, and within 366 days of that")]
    Window,
    /// Deeper than any chain.
    #[error(
        "it lets {0} further grants hang below it; a chain has {MAX_DELEGATION_DEPTH} at most, itself among them"
    )]
    Further(u8),
    /// No role, or one that cannot be given, or not in order.
    #[error(
        "its roles must be some of view, submit and operate, in this order, each once; admin is never given on"
    )]
    Roles,
    /// Somebody gives to himself.
    #[error("its delegate is its delegator")]
    ToItself,
    /// A list that is too long, not in order, or names something twice.
    #[error("its {0} must be in order, each once, at most {MAX_DELEGATED} of them")]
    List(&'static str),
    /// Labels that no job could carry.
    #[error("{0}")]
    Labels(#[from] TaskError),
}

impl DelegationBody {
    /// A body that gives one role and nothing else, to begin with.
    #[must_use]
    pub fn new(
        id: GrantId,
        audience: PublicKey,
        (delegator, delegate): (PublicKey, PublicKey),
        (name, tenant): (Name, Name),
        (not_before, not_after): (Timestamp, Timestamp),
        roles: &[Role],
    ) -> Self {
        let mut roles = roles.to_vec();
        roles.sort_unstable();
        roles.dedup();
        Self {
            delegation: FORMAT,
            id,
            audience,
            delegator,
            delegate,
            name,
            tenant,
            not_before,
            not_after,
            further: 0,
            roles,
            queues: None,
            volumes: BTreeMap::new(),
            connect: Vec::new(),
            listen: Vec::new(),
            http: Vec::new(),
            secrets: Vec::new(),
            max_limits: Ceilings::default(),
            labels: BTreeMap::new(),
        }
    }

    /// Signs it, as its delegator.
    ///
    /// # Errors
    /// When it breaks a rule of the format, or `key` is not the delegator's.
    pub fn sign(&self, key: &SecretKey) -> Result<SignedDelegation, DelegationError> {
        Signed::sign(self, key)
    }

    fn check(&self) -> Result<(), DelegationError> {
        if self.delegation != FORMAT {
            return Err(DelegationError::OtherType);
        }
        if self.delegator == self.delegate {
            return Err(DelegationError::ToItself);
        }
        let lifetime = self.not_after.since(self.not_before);
        if lifetime.is_zero() || lifetime > MAX_DELEGATION_LIFETIME {
            return Err(DelegationError::Window);
        }
        if self.further >= MAX_DELEGATION_DEPTH {
            return Err(DelegationError::Further(self.further));
        }
        if self.roles.is_empty() || !ascends(&self.roles) || self.roles.contains(&Role::Admin) {
            return Err(DelegationError::Roles);
        }
        let fits = |entries: usize| entries <= MAX_DELEGATED;
        let queues = self.queues.as_deref().unwrap_or_default();
        let lists = [
            ("queues", ascends(queues) && fits(queues.len())),
            ("volumes", fits(self.volumes.len())),
            ("connect", each_once(&self.connect)),
            ("listen", each_once(&self.listen)),
            ("http", each_once(&self.http)),
            ("secrets", ascends(&self.secrets) && fits(self.secrets.len())),
        ];
        if let Some((list, _)) = lists.into_iter().find(|(_, good)| !good) {
            return Err(DelegationError::List(list));
        }
        check_labels("labels", &self.labels)?;
        Ok(())
    }
}

impl SignedBody for DelegationBody {
    const PAYLOAD_TYPE: &'static str = DELEGATION_PAYLOAD_TYPE;
    const MAX_ENVELOPE_BYTES: usize = MAX_DELEGATION_ENVELOPE_BYTES;
    type Error = DelegationError;

    fn read(payload: &[u8]) -> Result<Self, DelegationError> {
        let body: Self = strict::parse(payload, MAX_DELEGATION_BYTES)?;
        body.check()?;
        Ok(body)
    }

    fn signer(&self) -> PublicKey {
        self.delegator
    }
}

impl From<NotSigned> for DelegationError {
    fn from(wrong: NotSigned) -> Self {
        match wrong {
            NotSigned::OtherType => Self::OtherType,
            NotSigned::Signature => Self::Signature,
            NotSigned::Bad(key) => Self::BadSignature(Box::new(key)),
            NotSigned::OtherSigner(key) => Self::OtherSigner(Box::new(key)),
        }
    }
}

pub(crate) fn ascends<T: Ord>(list: &[T]) -> bool {
    list.is_sorted_by(|one, next| one < next)
}

/// Their length is looked at first: what follows compares each with each.
pub(crate) fn each_once<T: PartialEq>(list: &[T]) -> bool {
    list.len() <= MAX_DELEGATED && list.iter().enumerate().all(|(at, one)| !list[..at].contains(one))
}
