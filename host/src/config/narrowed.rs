//! What a grant takes from a principal that is somebody's delegate: bounds that no line of the configuration sets.
//!
//! *Never:* how it comes about: that is `admission/delegation`.

use std::collections::{BTreeMap, BTreeSet};

use strongroom_job::delegation::{Ceilings, GrantId};
use strongroom_job::{Name, PublicKey, Timestamp};

/// What the grants above a delegate leave of what its root may do, besides what a [`Principal`](super::Principal) says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narrowed {
    /// The grant of the delegate itself.
    pub grant: GrantId,
    /// Everybody above, from the principal at the root to the delegator.
    pub chain: Vec<PublicKey>,
    /// Of no use earlier.
    pub from: Timestamp,
    /// Of no use from then on.
    pub until: Timestamp,
    /// How many grants may hang below, one under the other.
    pub further: u8,
    /// Queues that its jobs may wait in; none: any.
    pub queues: Option<BTreeSet<Name>>,
    /// Highest limits, where they are lower than the host's.
    pub max_limits: Ceilings,
    /// Labels that its jobs must carry.
    pub labels: BTreeMap<String, String>,
}

impl Narrowed {
    /// Whether it is good for anything at this time.
    #[must_use]
    pub fn is_good_at(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}
