//! The rows as they are: what was committed and is not in sled yet, over what is in sled.
//!
//! *Owns:* two layers in memory. The upper one takes what is committed. When it is long enough it becomes the lower one, which does not
//! change any more, and goes when sled has it durably. *Never:* a disk. *Bound:* the layers' lengths are the writer's affair.
//!
//! A row moves down only, or goes where the layer above it says that it is gone: whoever looks into the layers first and into sled afterwards misses nothing.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use sled::IVec;

use super::keys;

/// Rows that a reader takes out at once.
pub(super) const CHUNK: usize = 64;

/// What a row takes besides its bytes: its place in the map and those of its key and value, about.
const ROW_BYTES: usize = 96;

/// What became of some keys.
pub(super) type Layer = BTreeMap<IVec, Option<IVec>>;

/// Some of the keys of a range, in their order, from where it begins.
pub(super) struct Chunk {
    pub(super) rows: Vec<(IVec, Option<IVec>)>,
    /// The layers have no other of the range.
    pub(super) are_all: bool,
    /// sled need not be asked for the range.
    pub(super) are_nowhere_below: bool,
}

#[derive(Debug, Default)]
struct Layers {
    upper: Layer,
    upper_bytes: usize,
    lower: Arc<Layer>,
    /// The log's size when the lower layer began, as far as that is known.
    lower_since: Option<u64>,
    /// The log's size when the upper layer began, as far as that is known: rows of records from there on are in no layer below it, and not in sled.
    since: Option<u64>,
    /// Kinds of which there is no row, though sled may still have one that a layer takes away.
    missing: Vec<&'static [u8]>,
}

impl Layers {
    /// Whether nothing below the upper layer can have this key.
    fn is_above_all(&self, key: &[u8]) -> bool {
        is_since(self.since, key)
    }

    /// Whether nothing below the upper layer gives this key a value.
    fn is_nowhere_below(&self, key: &[u8]) -> bool {
        self.is_above_all(key) || self.missing.contains(&keys::kind(key))
    }

    /// Whether nothing below the upper layer gives a key within these bounds a value.
    fn are_nowhere_below(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
        let (Bound::Included(from) | Bound::Excluded(from)) = from else { return false };
        let (Bound::Included(to) | Bound::Excluded(to)) = to else { return false };
        // A kind's keys follow each other, and the records in them go up. The bound behind all of a kind is no key of it, and is left to sled.
        keys::kind(from) == keys::kind(to) && self.is_nowhere_below(from)
    }
}

/// Whether this is a row of a record that the log did not have when it had this size.
fn is_since(size: Option<u64>, key: &[u8]) -> bool {
    size.zip(keys::record_of(key)).is_some_and(|(size, record)| record >= size)
}

/// The layers over one sled. Clones are handles to the same.
#[derive(Clone, Default)]
pub(super) struct Overlay(Arc<RwLock<Layers>>);

impl Overlay {
    /// Takes what was committed; gives the bytes that the upper layer has now.
    pub(super) fn take(&self, changes: impl IntoIterator<Item = (IVec, Option<IVec>)>) -> usize {
        let mut layers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in changes {
            if value.is_some() && !layers.missing.is_empty() {
                layers.missing.retain(|kind| *kind != keys::kind(&key));
            }
            let key_bytes = key.len() + ROW_BYTES;
            let before = if value.is_none() && layers.is_above_all(&key) {
                // It came and went: nobody below needs to hear of it.
                layers.upper.remove(&key)
            } else {
                layers.upper_bytes += key_bytes + value.as_ref().map_or(0, |value| value.len());
                layers.upper.insert(key, value)
            };
            if let Some(before) = before {
                layers.upper_bytes -= key_bytes + before.map_or(0, |before| before.len());
            }
        }
        layers.upper_bytes
    }

    /// The bytes of the upper layer.
    pub(super) fn bytes(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).upper_bytes
    }

    /// Whether the upper layer gives this key a value.
    pub(super) fn sets(&self, key: &[u8]) -> bool {
        let layers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        layers.upper.get(key).is_some_and(Option::is_some)
    }

    /// What comes from now on is of a log that has this size: rows of its next records are nowhere yet.
    pub(super) fn is_of(&self, log_size: u64) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).since = Some(log_size);
    }

    /// Makes the upper layer the lower one, and gives it. The one before must be in sled, durably. What comes from now on is of a log that has this size.
    pub(super) fn lower(&self, log_size: u64) -> Arc<Layer> {
        let mut layers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        layers.lower_since = layers.since.replace(log_size);
        layers.lower = Arc::new(std::mem::take(&mut layers.upper));
        layers.upper_bytes = 0;
        let lower = Arc::clone(&layers.lower);
        drop(layers);
        debug_assert!(lower.keys().filter_map(|key| keys::record_of(key)).all(|record| record < log_size));
        lower
    }

    /// There is no row of this kind: none in sled but what a layer takes away.
    pub(super) fn has_none(&self, kind: &'static [u8]) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).missing.push(kind);
    }

    /// The lower layer.
    #[cfg(test)]
    pub(super) fn lowered(&self) -> Arc<Layer> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).lower)
    }

    /// Takes out of a piece of the lower layer, of which nothing was given before, what the upper one takes away again. That stands in the journal behind all that
    /// is in the lower layer, as durable as whatever is here: after a crash nobody would miss it either. Keys of rows that
    /// are nowhere then are added to `passed_over`.
    pub(super) fn pass_over(&self, piece: &mut Vec<(IVec, Option<IVec>)>, passed_over: &mut Vec<IVec>) {
        let layers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        piece.retain(|(key, value)| {
            if value.is_none() || layers.upper.get(key) != Some(&None) {
                return true;
            }
            // Of others sled may have what they were before the lower layer.
            if is_since(layers.lower_since, key) {
                passed_over.push(key.clone());
            }
            false
        });
    }

    /// sled has the lower layer, but for what was passed over.
    pub(super) fn clear_lower(&self, passed_over: &[IVec]) {
        let before = {
            let mut layers = self.0.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut layers.lower)
        };
        // Now that they are nowhere, nobody need take them away. There may be ten thousand of them, and readers and the writer come in between.
        for keys in passed_over.chunks(CHUNK) {
            let mut layers = self.0.write().unwrap_or_else(PoisonError::into_inner);
            for key in keys {
                if layers.upper.get(key) == Some(&None) {
                    layers.upper.remove(key);
                    layers.upper_bytes -= key.len() + ROW_BYTES;
                }
            }
        }
        drop(before);
    }

    /// What became of a key; none when only sled can tell.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<IVec>> {
        let layers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = layers.upper.get(key) {
            return Some(value.clone());
        }
        // Most questions are about what is not there: whether a new job is known, and of one that just ended whether it still runs.
        if layers.is_nowhere_below(key) { Some(None) } else { layers.lower.get(key).cloned() }
    }

    /// What became of some of the keys within these bounds, the first or the last of them in their order.
    pub(super) fn some(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, backwards: bool) -> Chunk {
        let layers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (upper, lower) =
            (layers.upper.range::<[u8], _>((from, to)), layers.lower.range::<[u8], _>((from, to)));
        let mut merged: Vec<_> = if backwards {
            merge(upper.rev(), lower.rev(), |a, b| b.cmp(a)).take(CHUNK + 1).collect()
        } else {
            merge(upper, lower, Ord::cmp).take(CHUNK + 1).collect()
        };
        let are_all = merged.len() <= CHUNK;
        merged.truncate(CHUNK);
        Chunk { rows: merged, are_all, are_nowhere_below: layers.are_nowhere_below(from, to) }
    }
}

/// Two sorted runs in one; of a key that is in both, the first run's value.
fn merge<'a>(
    first: impl Iterator<Item = (&'a IVec, &'a Option<IVec>)>,
    second: impl Iterator<Item = (&'a IVec, &'a Option<IVec>)>,
    order: impl Fn(&IVec, &IVec) -> Ordering,
) -> impl Iterator<Item = (IVec, Option<IVec>)> {
    let (mut first, mut second) = (first.peekable(), second.peekable());
    std::iter::from_fn(move || {
        let which = match (first.peek(), second.peek()) {
            (Some((one, _)), Some((other, _))) => order(one, other),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        if which == Ordering::Equal {
            second.next();
        }
        let (key, value) = if which == Ordering::Greater { second.next()? } else { first.next()? };
        Some((key.clone(), value.clone()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    // Red without `is_above_all` in `take`: sled would be told to remove what it never had. Red, too, when `lower` says nothing about the log.
    #[test]
    fn what_came_and_went_in_a_layer_is_not_handed_down() {
        let overlay = Overlay::default();
        let come = |record| overlay.take([(keys::leaf(record).into(), Some(IVec::from(b"leaf")))]);
        let go = |record| overlay.take([(keys::leaf(record).into(), None)]);
        // Before anybody said how long the log is, such as while a journal is read.
        come(4);
        let kept = go(4);
        overlay.is_of(5);
        come(5);
        assert_eq!(go(5), kept, "its bytes are not counted any more");
        come(6);
        let lower = overlay.lower(7);
        assert_eq!(lower.keys().collect::<Vec<_>>(), [&keys::leaf(4), &keys::leaf(6)]);
        // This one is below.
        go(6);
        come(7);
        go(7);
        assert_eq!(overlay.lower(8).iter().collect::<Vec<_>>(), [(&keys::leaf(6).into(), &None)]);
    }

    // Red without `pass_over`, when it leaves what a later layer takes away with nothing to show for it in a row that sled may have, and without what
    // `clear_lower` does with the others.
    #[test]
    fn what_goes_while_it_is_handed_down_is_passed_over() {
        let overlay = Overlay::default();
        let (old, new) = (keys::active(4), keys::active(6));
        let come = |key: &[u8]| overlay.take([(key.into(), Some(b"row".into()))]);
        let go = |key: &[u8]| overlay.take([(key.into(), None)]);
        overlay.is_of(5);
        for key in [&old, &new, &keys::leaf(5), &keys::leaf(6)] {
            come(key);
        }
        let lower = overlay.lower(7);
        let before = overlay.bytes();
        for key in [&keys::leaf(5), &new] {
            go(key);
        }
        go(&old);
        let mut piece = lower.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let mut passed_over = Vec::new();
        overlay.pass_over(&mut piece, &mut passed_over);
        assert_eq!(piece, [(keys::leaf(6).into(), Some(b"row".into()))]);
        // Until all of the lower layer is where it belongs, the upper one hides what is in it.
        assert_eq!(overlay.get(&new), Some(None));
        overlay.clear_lower(&passed_over);
        // sled may have another row with this key, and has none with the others.
        assert_eq!(overlay.bytes() - before, old.len() + ROW_BYTES);
        assert_eq!(overlay.lower(8).iter().collect::<Vec<_>>(), [(&old.into(), &None)]);
    }

    // Red without `is_above_all` in `get`: sled is asked several times for each job.
    #[test]
    fn what_no_earlier_record_can_have_is_not_looked_for_below() {
        let overlay = Overlay::default();
        let at = |record| overlay.get(&keys::variation(record));
        assert_eq!(at(4), None, "nobody said how long the log is");
        overlay.is_of(5);
        assert_eq!((at(4), at(5)), (None, Some(None)));
        overlay.take([(keys::variation(5).into(), Some(b"more".into()))]);
        assert_eq!(at(5), Some(Some(b"more".into())));
        overlay.lower(7);
        assert_eq!((at(5), at(6), at(7)), (Some(Some(b"more".into())), None, Some(None)));
        // A name has no index of a record, and a kind that is not there says nothing about others.
        overlay.has_none(keys::MERGED);
        assert_eq!(overlay.get(b"t/12345678"), None);
        assert_eq!(overlay.get(b"x/12345678"), Some(None));
        assert_eq!(overlay.get(b"xx/2345678"), None);
    }
}
