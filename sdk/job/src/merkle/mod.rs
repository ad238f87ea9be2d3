//! The Merkle tree of the audit log: hashes, sizes, roots and proofs.
//!
//! A proof is made from hashes of complete subtrees that somebody else stores (tiles); the log itself is
//! never hashed again. Prover and verifier walk the same `plan`: the shape of a proof follows from
//! the sizes alone, so a proof of any other length is refused before a hash is computed.
//!
//! *Owns:* leaf and node hashing, the right edge of a growing tree, inclusion and consistency proofs.
//! *Never:* reads a file, or accepts a size above [`TreeSize::MAX`].
//! *Spec:* RFC 6962, section 2.1 (SHA-256); `docs/formats/tiles.md`.

mod consistency;
mod edge;
mod inclusion;
mod plan;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};

pub use consistency::{prove_consistency, verify_consistency};
pub use edge::RightEdge;
pub use inclusion::{prove_inclusion, verify_inclusion};

/// The bytes of one hash.
pub const HASH_BYTES: usize = 32;

/// The most hashes that an inclusion or consistency proof can hold: one for each level, and the seed of a
/// consistency proof.
pub const MAX_PROOF_HASHES: usize = 64;

/// A hash of the tree: of a leaf, of a node, or a root. Never the plain SHA-256 of something.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; HASH_BYTES]);

impl Hash {
    /// The root of the tree without leaves: SHA-256 of nothing.
    #[must_use]
    pub fn empty_root() -> Self {
        Self(Sha256::digest([]).into())
    }

    /// The hash of one log entry: SHA-256 of 0x00 and the entry.
    #[must_use]
    pub fn of_leaf(entry: &[u8]) -> Self {
        Self(Sha256::new_with_prefix([0]).chain_update(entry).finalize().into())
    }

    /// The hash of an inner node: SHA-256 of 0x01, the left and the right hash.
    #[must_use]
    pub fn of_node(left: &Self, right: &Self) -> Self {
        Self(Sha256::new_with_prefix([1]).chain_update(left.0).chain_update(right.0).finalize().into())
    }

    /// A hash from its 32 raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; HASH_BYTES]) -> Self {
        Self(bytes)
    }

    /// The 32 raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; HASH_BYTES] {
        &self.0
    }

    /// Parses the base64 form of checkpoints and proofs: 44 characters, one text for one hash.
    pub(crate) fn from_base64(text: &str) -> Option<Self> {
        const TEXT_LEN: usize = 44;
        if text.len() != TEXT_LEN {
            return None;
        }
        BASE64.decode(text).ok()?.try_into().ok().map(Self)
    }
}

/// The base64 form that checkpoints and proofs use.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How many entries a tree has: 0 to [`TreeSize::MAX`], so that arithmetic on it cannot overflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeSize(u64);

impl TreeSize {
    /// The tree without entries.
    pub const ZERO: Self = Self(0);
    /// The largest size: 2^63 - 1, the largest that other implementations can name too.
    pub const MAX: Self = Self(i64::MAX.unsigned_abs());

    /// A size from a number.
    ///
    /// # Errors
    /// When it is above [`TreeSize::MAX`].
    pub const fn new(size: u64) -> Result<Self, TreeSizeError> {
        if size > Self::MAX.0 { Err(TreeSizeError) } else { Ok(Self(size)) }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The place of the last entry, when there is one.
    #[must_use]
    pub fn last(self) -> Option<LeafIndex> {
        self.0.checked_sub(1).map(LeafIndex)
    }

    /// The place that the next entry gets.
    #[must_use]
    pub const fn next_index(self) -> LeafIndex {
        LeafIndex(self.0)
    }
}

impl fmt::Display for TreeSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number that is no tree size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a tree size: more than 2^63 - 1 entries")]
pub struct TreeSizeError;

/// The place of an entry in the log, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeafIndex(u64);

impl LeafIndex {
    /// The place of the first entry.
    pub const FIRST: Self = Self(0);

    /// A place from a number. Whether a tree has such an entry is checked where a size is known.
    #[must_use]
    pub const fn new(index: u64) -> Self {
        Self(index)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for LeafIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a tree of one size is: two heads of one size with different roots are two histories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// How many entries.
    pub size: TreeSize,
    /// The root over all of them.
    pub root: Hash,
}

/// A complete subtree: 2^`level` leaves, the first of them at `index` * 2^`level`.
///
/// Its hash never changes once its last leaf is in the log, which is what makes tiles immutable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// 0 for a leaf.
    pub level: u8,
    /// Counted from the left within the level.
    pub index: u64,
}

/// Why a proof could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProveError<E> {
    /// The question itself makes no sense.
    #[error("no such proof: entry {index} of a log of {size} entries")]
    OutOfTree {
        /// What was asked for.
        index: LeafIndex,
        /// The tree that was asked.
        size: TreeSize,
    },
    /// A consistency proof runs from a smaller tree to a larger one.
    #[error("no such proof: from {old} entries to {new}, a log only grows")]
    Shrinks {
        /// The older size that was asked for.
        old: TreeSize,
        /// The newer size that was asked for.
        new: TreeSize,
    },
    /// The stored hashes could not be read.
    #[error(transparent)]
    Read(E),
}

/// Why a proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The entry is outside of the tree.
    #[error("the proof is for entry {index}, but the log has {size} entries")]
    OutOfTree {
        /// The place that the proof names.
        index: LeafIndex,
        /// The size that the checkpoint signs.
        size: TreeSize,
    },
    /// The older tree is larger than the newer one.
    #[error("the log shrank from {old} to {new} entries: entries were cut off")]
    Shrank {
        /// The size seen earlier.
        old: TreeSize,
        /// The size seen now.
        new: TreeSize,
    },
    /// The proof has another number of hashes than its sizes call for.
    #[error("the proof has {found} hashes where the tree calls for {expected}")]
    Length {
        /// What the sizes call for.
        expected: usize,
        /// What is there.
        found: usize,
    },
    /// The hashes lead to another root than the one that was to be proven.
    #[error(
        "the proof leads to another root than the checkpoint's: the entry, the proof or the log was altered"
    )]
    Root,
    /// The proof leads to another root of the older tree.
    #[error("the log is not an extension of the older one: its history was rewritten")]
    OldRoot,
}
