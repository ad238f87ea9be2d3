//! The shape of a proof: which parts of the tree it names, and on which side each of them joins.
//!
//! *Spec:* RFC 6962, sections 2.1.1 (PATH) and 2.1.2 (SUBPROOF), read from the leaf up to the root.

use super::{Hash, Node};

/// The side on which a hash of the proof joins what is already known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// The leaves `first..end` of the tree, a subtree of RFC 6962: complete, or the right edge of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) end: u64,
}

/// One hash of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sibling {
    pub(super) side: Side,
    pub(super) span: Span,
}

impl Span {
    /// Where RFC 6962 splits these leaves: after the largest power of two that is less than their number.
    fn split(self) -> u64 {
        debug_assert!(self.end - self.first > 1, "one leaf has no halves");
        self.first + (1 << (self.end - self.first - 1).ilog2())
    }

    /// The hash over the span, from the complete subtrees in it.
    pub(super) fn hash<E>(self, read: &mut impl FnMut(Node) -> Result<Hash, E>) -> Result<Hash, E> {
        let mut peaks = Vec::new();
        let mut first = self.first;
        while first < self.end {
            // `first` is a multiple of every power of two up to the span's length, so the subtree exists.
            let level = (self.end - first).ilog2();
            peaks.push(read(Node { level: level.to_le_bytes()[0], index: first >> level })?);
            first += 1 << level;
        }
        Ok(fold(&peaks))
    }
}

/// The hash over neighbouring complete subtrees of falling size, as RFC 6962 nests them.
pub(super) fn fold(peaks: &[Hash]) -> Hash {
    let Some((last, rest)) = peaks.split_last() else { return Hash::empty_root() };
    rest.iter().rev().fold(*last, |right, left| Hash::of_node(left, &right))
}

/// The siblings on the way from leaf `index` up to the root of a tree of `size` leaves.
pub(super) fn inclusion(index: u64, size: u64) -> Vec<Sibling> {
    let mut siblings = Vec::new();
    let mut span = Span { first: 0, end: size };
    while span.end - span.first > 1 {
        let middle = span.split();
        let (left, right) = halves(span, middle);
        if index < middle {
            siblings.push(Sibling { side: Side::Right, span: right });
            span = left;
        } else {
            siblings.push(Sibling { side: Side::Left, span: left });
            span = right;
        }
    }
    siblings.reverse();
    siblings
}

/// What a consistency proof from `old` to `new` leaves (0 < old < new) holds.
pub(super) struct Consistency {
    /// The subtree that both trees share and that the proof starts from; `None` when it is the old tree itself.
    pub(super) seed: Option<Span>,
    /// What joins the seed: on the left in both trees, on the right in the new tree only.
    pub(super) siblings: Vec<Sibling>,
}

pub(super) fn consistency(old: u64, new: u64) -> Consistency {
    let mut siblings = Vec::new();
    let mut span = Span { first: 0, end: new };
    while span.end != old {
        let middle = span.split();
        let (left, right) = halves(span, middle);
        if old <= middle {
            siblings.push(Sibling { side: Side::Right, span: right });
            span = left;
        } else {
            siblings.push(Sibling { side: Side::Left, span: left });
            span = right;
        }
    }
    siblings.reverse();
    Consistency { seed: (span.first != 0).then_some(span), siblings }
}

fn halves(span: Span, middle: u64) -> (Span, Span) {
    (Span { first: span.first, end: middle }, Span { first: middle, end: span.end })
}
