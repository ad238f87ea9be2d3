//! Roots and proofs agree with two implementations that nobody here wrote, and no altered proof passes.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::cell::RefCell;
use std::convert::Infallible;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use proptest::prelude::*;
use sha2::Sha256;
use strongroom_job::merkle::{
    Hash, LeafIndex, Node, ProofError, ProveError, RightEdge, TreeHead, TreeSize, prove_consistency,
    prove_inclusion, verify_consistency, verify_inclusion,
};
use tlog_tiles::tlog;

const LARGEST: u64 = 70;

fn entry(index: u64) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

fn size(number: u64) -> TreeSize {
    TreeSize::new(number).unwrap()
}

/// A log that keeps every hash, and what the two oracles make of the same entries.
#[derive(Default)]
struct Logs {
    nodes: std::collections::HashMap<Node, Hash>,
    heads: Vec<TreeHead>,
    ct_roots: Vec<RootHash<Sha256>>,
    ct_trees: Vec<MemoryBackedTree<Sha256, Vec<u8>>>,
    stored: RefCell<Vec<tlog::Hash>>,
}

impl tlog::HashReader for Logs {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog::Error> {
        let stored = self.stored.borrow();
        Ok(indexes.iter().map(|index| stored[usize::try_from(*index).unwrap()]).collect())
    }
}

impl Logs {
    fn grown_to(largest: u64) -> Self {
        let mut logs = Self::default();
        let mut edge = RightEdge::new();
        let mut ct = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        logs.heads.push(edge.head());
        logs.ct_roots.push(ct.root());
        for index in 0..largest {
            let place = edge.push(Hash::of_leaf(&entry(index)), |node, hash| {
                assert_eq!(logs.nodes.insert(node, hash), None, "each subtree is completed once");
            });
            assert_eq!(place, Ok(LeafIndex::new(index)));
            logs.heads.push(edge.head());
            ct.push(entry(index));
            logs.ct_roots.push(ct.root());
            let new = tlog::stored_hashes(index, &entry(index), &logs).unwrap();
            logs.stored.borrow_mut().extend(new);
        }
        logs.ct_trees.push(ct);
        logs
    }

    fn node(&self, node: Node) -> Result<Hash, Infallible> {
        Ok(self.nodes[&node])
    }
}

fn ours(hashes: &[tlog::Hash]) -> Vec<Hash> {
    hashes.iter().map(|hash| Hash::from_bytes(hash.0)).collect()
}

fn theirs(hashes: &[Hash]) -> Vec<tlog::Hash> {
    hashes.iter().map(|hash| tlog::Hash(*hash.as_bytes())).collect()
}

fn bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

#[test]
fn roots_agree_with_both_oracles_at_every_size() {
    let logs = Logs::grown_to(600);
    for (size, head) in logs.heads.iter().enumerate() {
        assert_eq!(head.size.get(), size as u64);
        assert_eq!(head.root.as_bytes()[..], logs.ct_roots[size].as_bytes()[..], "ct-merkle at {size}");
        let tlog_root = tlog::tree_hash(size as u64, &logs).unwrap();
        assert_eq!(*head.root.as_bytes(), tlog_root.0, "tlog_tiles at {size}");
    }
}

#[test]
fn inclusion_proofs_agree_with_both_oracles_in_both_directions() {
    let logs = Logs::grown_to(LARGEST);
    for tree in 1..=LARGEST {
        let head = &logs.heads[usize::try_from(tree).unwrap()];
        let ct_root = &logs.ct_roots[usize::try_from(tree).unwrap()];
        for index in 0..tree {
            let proof = prove_inclusion(LeafIndex::new(index), size(tree), |node| logs.node(node)).unwrap();
            let their_proof = tlog::prove_record(tree, index, &logs).unwrap();
            assert_eq!(proof, ours(&their_proof), "entry {index} of {tree}");

            let leaf = Hash::of_leaf(&entry(index));
            assert_eq!(verify_inclusion(&leaf, LeafIndex::new(index), head, &ours(&their_proof)), Ok(()));
            let root = tlog::Hash(*head.root.as_bytes());
            tlog::check_record(&theirs(&proof), tree, root, index, tlog::record_hash(&entry(index))).unwrap();
            let ct_proof = InclusionProof::<Sha256>::try_from_bytes(bytes(&proof)).unwrap();
            ct_root.verify_inclusion(&entry(index), index, &ct_proof).unwrap();
        }
    }
}

#[test]
fn consistency_proofs_agree_with_both_oracles_in_both_directions() {
    let logs = Logs::grown_to(LARGEST);
    let heads = &logs.heads;
    for new in 1..=LARGEST {
        for old in 1..=new {
            let proof = prove_consistency(size(old), size(new), |node| logs.node(node)).unwrap();
            let their_proof = tlog::prove_tree(new, old, &logs).unwrap();
            assert_eq!(proof, ours(&their_proof), "from {old} to {new}");

            let (from, to) = (usize::try_from(old).unwrap(), usize::try_from(new).unwrap());
            assert_eq!(verify_consistency(&heads[from], &heads[to], &proof), Ok(()));
            let (old_root, new_root) =
                (tlog::Hash(*heads[from].root.as_bytes()), tlog::Hash(*heads[to].root.as_bytes()));
            tlog::check_tree(&theirs(&proof), new, new_root, old, old_root).unwrap();
            let ct_proof = ConsistencyProof::<Sha256>::try_from_bytes(bytes(&proof)).unwrap();
            logs.ct_roots[to].verify_consistency(&logs.ct_roots[from], &ct_proof).unwrap();
        }
    }
}

#[test]
fn every_log_extends_the_empty_one_by_an_empty_proof_only() {
    let logs = Logs::grown_to(5);
    let (empty, head) = (&logs.heads[0], &logs.heads[5]);
    let proof = prove_consistency(TreeSize::ZERO, size(5), |node| logs.node(node)).unwrap();
    assert_eq!(proof, []);
    assert_eq!(verify_consistency(empty, head, &[]), Ok(()));
    assert_eq!(
        verify_consistency(empty, head, &[head.root]),
        Err(ProofError::Length { expected: 0, found: 1 })
    );
    let forged = TreeHead { size: TreeSize::ZERO, root: head.root };
    assert_eq!(verify_consistency(&forged, head, &[]), Err(ProofError::OldRoot));
    let other = TreeHead { root: empty.root, ..*head };
    assert_eq!(verify_consistency(&other, head, &[]), Err(ProofError::OldRoot), "two histories of one size");
}

// Red without the comparison of `proof.len()` in `verify_inclusion` (a longer proof passes).
#[test]
fn an_altered_inclusion_proof_never_passes() {
    let logs = Logs::grown_to(LARGEST);
    for tree in [1, 2, 3, 7, 8, 21, 64, 70] {
        let head = &logs.heads[usize::try_from(tree).unwrap()];
        for index in 0..tree {
            let place = LeafIndex::new(index);
            let leaf = Hash::of_leaf(&entry(index));
            let proof = prove_inclusion(place, size(tree), |node| logs.node(node)).unwrap();
            for altered in alterations(&proof) {
                assert!(verify_inclusion(&leaf, place, head, &altered).is_err(), "{index} of {tree}");
                let root = tlog::Hash(*head.root.as_bytes());
                let leaf = tlog::record_hash(&entry(index));
                assert!(tlog::check_record(&theirs(&altered), tree, root, index, leaf).is_err());
            }
            assert!(verify_inclusion(&Hash::of_leaf(b"other"), place, head, &proof).is_err());
            for other in (0..tree).filter(|other| *other != index) {
                assert!(verify_inclusion(&leaf, LeafIndex::new(other), head, &proof).is_err());
            }
            let outside = verify_inclusion(&leaf, LeafIndex::new(tree), head, &proof);
            assert_eq!(outside, Err(ProofError::OutOfTree { index: LeafIndex::new(tree), size: size(tree) }));
        }
    }
}

// Red without the comparison of `proof.len()` in `verify_consistency`, and without that of `old_root`.
#[test]
fn an_altered_consistency_proof_never_passes() {
    let logs = Logs::grown_to(LARGEST);
    let forged = Hash::of_leaf(b"forged");
    for new in [2, 3, 7, 8, 21, 64, 70] {
        for old in 1..new {
            let (from, to) =
                (&logs.heads[usize::try_from(old).unwrap()], &logs.heads[usize::try_from(new).unwrap()]);
            let proof = prove_consistency(size(old), size(new), |node| logs.node(node)).unwrap();
            for altered in alterations(&proof) {
                assert!(verify_consistency(from, to, &altered).is_err(), "{old} to {new}");
            }
            let wrong_old = TreeHead { root: forged, ..*from };
            assert!(verify_consistency(&wrong_old, to, &proof).is_err());
            let wrong_new = TreeHead { root: forged, ..*to };
            assert!(verify_consistency(from, &wrong_new, &proof).is_err());
            let backwards = verify_consistency(to, from, &proof);
            assert_eq!(backwards, Err(ProofError::Shrank { old: size(new), new: size(old) }));
        }
    }
}

/// The proof with each hash altered, each dropped, each doubled, and one more at either end.
fn alterations(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let forged = Hash::of_leaf(b"forged");
    let mut altered = vec![[&[forged], proof].concat(), [proof, &[forged]].concat()];
    for place in 0..proof.len() {
        let (before, after) = proof.split_at(place);
        altered.push([before, &[forged], &after[1..]].concat());
        altered.push([before, &after[1..]].concat());
        altered.push([before, &after[..1], after].concat());
    }
    altered
}

#[test]
fn a_proof_reads_at_most_two_hashes_for_each_level() {
    let largest = TreeSize::MAX;
    let mut read = 0;
    let mut count = |_: Node| {
        read += 1;
        Ok::<_, Infallible>(Hash::of_leaf(b""))
    };
    let proof = prove_inclusion(LeafIndex::new(12_345_678), largest, &mut count).unwrap();
    assert_eq!(proof.len(), 63);
    prove_consistency(size(12_345_678), largest, &mut count).unwrap();
    assert!(read <= 4 * 63, "{read}");
}

#[test]
fn questions_without_an_answer_are_refused() {
    let none = |_: Node| -> Result<Hash, Infallible> { panic!("nothing may be read") };
    let outside = prove_inclusion(LeafIndex::new(3), size(3), none);
    assert_eq!(outside, Err(ProveError::OutOfTree { index: LeafIndex::new(3), size: size(3) }));
    let shrinking = prove_consistency(size(4), size(3), none);
    assert_eq!(shrinking, Err(ProveError::Shrinks { old: size(4), new: size(3) }));
    assert!(TreeSize::new(1 << 63).is_err());
}

#[test]
fn a_restored_edge_goes_on_like_the_one_it_was_made_from() {
    let logs = Logs::grown_to(300);
    for stop in 0..300u64 {
        let mut edge = RightEdge::restore(size(stop), |node| logs.node(node)).unwrap();
        assert_eq!(edge.head(), logs.heads[usize::try_from(stop).unwrap()]);
        edge.push(Hash::of_leaf(&entry(stop)), |_, _| ()).unwrap();
        assert_eq!(edge.head(), logs.heads[usize::try_from(stop).unwrap() + 1]);
    }
}

#[test]
fn the_largest_tree_is_full() {
    let mut edge = RightEdge::restore(TreeSize::MAX, |_| Ok::<_, Infallible>(Hash::of_leaf(b""))).unwrap();
    let before = edge.clone();
    assert!(edge.push(Hash::of_leaf(b""), |_, _| panic!("nothing may be completed")).is_err());
    assert_eq!(edge, before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the sizes, a verifier ends with an answer, and made-up hashes prove nothing.
    #[test]
    fn made_up_proofs_prove_nothing(
        old in 0..=TreeSize::MAX.get(),
        new in 0..=TreeSize::MAX.get(),
        index in any::<u64>(),
        hashes in prop::collection::vec(any::<[u8; 32]>(), 0..70),
    ) {
        let hashes: Vec<_> = hashes.into_iter().map(Hash::from_bytes).collect();
        let old = TreeHead { size: size(old), root: Hash::of_leaf(b"old") };
        let new = TreeHead { size: size(new), root: Hash::of_leaf(b"new") };
        prop_assert!(verify_inclusion(&Hash::of_leaf(b""), LeafIndex::new(index), &new, &hashes).is_err());
        prop_assert!(verify_consistency(&old, &new, &hashes).is_err());
    }
}
