//! The right edge of a growing tree: all that appending needs, in at most 63 hashes.

use super::plan::fold;
use super::{Hash, LeafIndex, Node, TreeHead, TreeSize, TreeSizeError};

/// A tree that only remembers its complete subtrees, the largest first: one for each bit of its size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RightEdge {
    size: TreeSize,
    peaks: Vec<Hash>,
}

impl RightEdge {
    /// The edge of the empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The edge of a tree of `size` entries from its stored complete subtrees.
    ///
    /// # Errors
    /// When `read` fails.
    pub fn restore<E>(size: TreeSize, mut read: impl FnMut(Node) -> Result<Hash, E>) -> Result<Self, E> {
        let mut peaks = Vec::new();
        for level in (0..u64::BITS).rev().filter(|level| size.get() >> level & 1 == 1) {
            // The subtree of this bit lies behind those of all higher bits.
            let index = (size.get() >> level) - 1;
            peaks.push(read(Node { level: level.to_le_bytes()[0], index })?);
        }
        Ok(Self { size, peaks })
    }

    /// Appends the hash of the next entry and reports every subtree that it completes, the leaf itself first.
    ///
    /// # Errors
    /// When the tree has [`TreeSize::MAX`] entries.
    pub fn push(
        &mut self,
        leaf: Hash,
        mut completed: impl FnMut(Node, Hash),
    ) -> Result<LeafIndex, TreeSizeError> {
        let place = self.size.next_index();
        let size = TreeSize::new(place.get() + 1)?;
        let (mut node, mut hash) = (Node { level: 0, index: place.get() }, leaf);
        completed(node, hash);
        // An odd node is the right child of a node that is complete now; its left sibling is the last peak.
        while node.index & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            hash = Hash::of_node(&left, &hash);
            node = Node { level: node.level + 1, index: node.index >> 1 };
            completed(node, hash);
        }
        self.peaks.push(hash);
        self.size = size;
        Ok(place)
    }

    /// How many entries were appended.
    #[must_use]
    pub const fn size(&self) -> TreeSize {
        self.size
    }

    /// Size and root of the tree as it is now.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        TreeHead { size: self.size, root: fold(&self.peaks) }
    }
}
