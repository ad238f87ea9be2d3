//! Inclusion proofs: this entry is at this place of the log that this root stands for.
//!
//! *Spec:* RFC 6962, section 2.1.1.

use super::plan::{self, Side};
use super::{Hash, LeafIndex, Node, ProofError, ProveError, TreeHead, TreeSize};

/// The hashes that prove entry `index` in the tree of `size` entries, the leaf's sibling first.
///
/// `read` gives the hash of a complete subtree of that tree. It is called at most twice for each level of the
/// tree, so the cost is O(log n).
///
/// # Errors
/// When the tree has no such entry, or `read` fails.
pub fn prove_inclusion<E>(
    index: LeafIndex,
    size: TreeSize,
    mut read: impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Vec<Hash>, ProveError<E>> {
    if index.get() >= size.get() {
        return Err(ProveError::OutOfTree { index, size });
    }
    plan::inclusion(index.get(), size.get())
        .into_iter()
        .map(|sibling| sibling.span.hash(&mut read).map_err(ProveError::Read))
        .collect()
}

/// Checks that `proof` leads from `leaf` at `index` to the root of `head`.
///
/// # Errors
/// When the place is outside of the tree, the proof has the wrong number of hashes, or leads elsewhere.
pub fn verify_inclusion(
    leaf: &Hash,
    index: LeafIndex,
    head: &TreeHead,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if index.get() >= head.size.get() {
        return Err(ProofError::OutOfTree { index, size: head.size });
    }
    let siblings = plan::inclusion(index.get(), head.size.get());
    if proof.len() != siblings.len() {
        return Err(ProofError::Length { expected: siblings.len(), found: proof.len() });
    }
    let root = siblings.iter().zip(proof).fold(*leaf, |known, (sibling, hash)| match sibling.side {
        Side::Left => Hash::of_node(hash, &known),
        Side::Right => Hash::of_node(&known, hash),
    });
    if root == head.root { Ok(()) } else { Err(ProofError::Root) }
}
