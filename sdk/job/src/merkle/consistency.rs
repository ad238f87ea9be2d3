//! Consistency proofs: the newer log begins with everything that the older one held, in the same order.
//!
//! *Spec:* RFC 6962, section 2.1.2. Every log extends the empty one, and itself: both with an empty proof.

use super::plan::{self, Side};
use super::{Hash, Node, ProofError, ProveError, TreeHead, TreeSize};

/// The hashes that prove that the tree of `new` entries extends the one of `old` entries.
///
/// `read` gives the hash of a complete subtree of the newer tree. It is called at most twice for each level of
/// the tree.
///
/// # Errors
/// When `old` is larger than `new`, or `read` fails.
pub fn prove_consistency<E>(
    old: TreeSize,
    new: TreeSize,
    mut read: impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Vec<Hash>, ProveError<E>> {
    if old > new {
        return Err(ProveError::Shrinks { old, new });
    }
    if old == TreeSize::ZERO || old == new {
        return Ok(Vec::new());
    }
    let plan = plan::consistency(old.get(), new.get());
    plan.seed
        .into_iter()
        .chain(plan.siblings.iter().map(|sibling| sibling.span))
        .map(|span| span.hash(&mut read).map_err(ProveError::Read))
        .collect()
}

/// Checks that `proof` shows the tree of `new` to extend the tree of `old`.
///
/// # Errors
/// When the log shrank, the proof has the wrong number of hashes, or leads to another root of either tree.
pub fn verify_consistency(old: &TreeHead, new: &TreeHead, proof: &[Hash]) -> Result<(), ProofError> {
    if old.size > new.size {
        return Err(ProofError::Shrank { old: old.size, new: new.size });
    }
    if old.size == TreeSize::ZERO || old.size == new.size {
        return verify_trivial(old, new, proof);
    }
    let plan = plan::consistency(old.size.get(), new.size.get());
    let expected = plan.siblings.len() + usize::from(plan.seed.is_some());
    if proof.len() != expected {
        return Err(ProofError::Length { expected, found: proof.len() });
    }
    let (seed, rest) = match (plan.seed, proof.split_first()) {
        (Some(_), Some((seed, rest))) => (*seed, rest),
        _ => (old.root, proof),
    };
    let (mut old_root, mut new_root) = (seed, seed);
    for (sibling, hash) in plan.siblings.iter().zip(rest) {
        match sibling.side {
            Side::Left => {
                old_root = Hash::of_node(hash, &old_root);
                new_root = Hash::of_node(hash, &new_root);
            }
            Side::Right => new_root = Hash::of_node(&new_root, hash),
        }
    }
    if old_root != old.root {
        return Err(ProofError::OldRoot);
    }
    if new_root == new.root { Ok(()) } else { Err(ProofError::Root) }
}

/// From nothing to anything, or from a tree to itself.
fn verify_trivial(old: &TreeHead, new: &TreeHead, proof: &[Hash]) -> Result<(), ProofError> {
    if !proof.is_empty() {
        return Err(ProofError::Length { expected: 0, found: proof.len() });
    }
    if old.size == TreeSize::ZERO && old.root != Hash::empty_root() {
        return Err(ProofError::OldRoot);
    }
    if old.size == new.size && old.root != new.root {
        return Err(ProofError::OldRoot);
    }
    Ok(())
}
