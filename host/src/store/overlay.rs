//! The rows as they are: what was committed and is not in sled yet, over what is in sled.
//!
//! *Owns:* two layers in memory. The upper one takes what is committed. When it is long enough it becomes the lower one, which does not
//! change any more, and goes when sled has it durably. *Never:* a disk. *Bound:* the layers' lengths are the writer's affair.
//!
//! A row moves down only: whoever looks into the layers first and into sled afterwards misses nothing.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use sled::IVec;

use super::ReadError;
use super::rows::{Row, Rows};

/// Rows that a reader takes out of the layers at once.
const CHUNK: usize = 64;

/// What became of some keys.
type Layer = BTreeMap<IVec, Option<IVec>>;

#[derive(Debug, Default)]
struct Layers {
    upper: Layer,
    upper_bytes: usize,
    lower: Arc<Layer>,
}

/// The layers over one sled. Clones are handles to the same.
#[derive(Clone, Default)]
pub(super) struct Overlay(Arc<RwLock<Layers>>);

impl Overlay {
    /// Takes what was committed; gives the bytes that the upper layer has now.
    pub(super) fn take(&self, changes: impl IntoIterator<Item = (IVec, Option<IVec>)>) -> usize {
        let mut layers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in changes {
            layers.upper_bytes += key.len() + value.as_ref().map_or(0, |value| value.len());
            if let Some(Some(before)) = layers.upper.insert(key, value) {
                layers.upper_bytes -= before.len();
            }
        }
        layers.upper_bytes
    }

    /// Makes the upper layer the lower one, and gives it. The one before must be in sled, durably.
    pub(super) fn lower(&self) -> Arc<Layer> {
        let mut layers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        layers.lower = Arc::new(std::mem::take(&mut layers.upper));
        layers.upper_bytes = 0;
        Arc::clone(&layers.lower)
    }

    /// sled has the lower layer.
    pub(super) fn clear_lower(&self) {
        let before = {
            let mut layers = self.0.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut layers.lower)
        };
        drop(before);
    }

    /// What became of a key; none when sled has it, or nobody.
    fn get(&self, key: &[u8]) -> Option<Option<IVec>> {
        let layers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        layers.upper.get(key).or_else(|| layers.lower.get(key)).cloned()
    }

    /// What became of some of the keys within these bounds, the first or the last of them in their order; and whether those are all.
    fn some(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        backwards: bool,
    ) -> (Vec<(IVec, Option<IVec>)>, bool) {
        let layers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (upper, lower) =
            (layers.upper.range::<[u8], _>((from, to)), layers.lower.range::<[u8], _>((from, to)));
        let mut merged: Vec<_> = if backwards {
            merge(upper.rev(), lower.rev(), |a, b| b.cmp(a)).take(CHUNK + 1).collect()
        } else {
            merge(upper, lower, Ord::cmp).take(CHUNK + 1).collect()
        };
        let all = merged.len() <= CHUNK;
        merged.truncate(CHUNK);
        (merged, all)
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

/// The rows at this moment and later: what a reader takes.
#[derive(Clone)]
pub(super) struct View {
    overlay: Overlay,
    db: sled::Db,
}

impl View {
    pub(super) const fn new(overlay: Overlay, db: sled::Db) -> Self {
        Self { overlay, db }
    }

    /// Rows from the first key up to the second, which is not among them, in their order or backwards.
    fn range(&self, from: &[u8], to: Option<&[u8]>, backwards: bool) -> Range {
        Range {
            view: self.clone(),
            from: Bound::Included(from.into()),
            to: to.map_or(Bound::Unbounded, |to| Bound::Excluded(to.into())),
            backwards,
            ready: Vec::new(),
            is_over: to.is_some_and(|to| to <= from),
        }
    }

    /// [`Rows::between`], from the last to the first.
    pub(super) fn backwards(&self, from: &[u8], to: &[u8]) -> impl Iterator<Item = Row> + use<> {
        self.range(from, Some(to), true)
    }
}

impl Rows for View {
    fn value(&self, key: &[u8]) -> Result<Option<IVec>, ReadError> {
        match self.overlay.get(key) {
            Some(value) => Ok(value),
            None => Ok(self.db.get(key)?),
        }
    }

    fn between(&self, from: &[u8], to: &[u8]) -> Box<dyn Iterator<Item = Row> + '_> {
        Box::new(self.range(from, Some(to), false))
    }

    fn under(&self, prefix: &[u8]) -> Box<dyn Iterator<Item = Row> + '_> {
        Box::new(self.range(prefix, behind(prefix).as_deref(), false))
    }
}

/// The first key behind all that begin so; none when there is none.
fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut behind = prefix[..=last].to_vec();
    behind[last] += 1;
    Some(behind)
}

/// Rows of a range, taken out in chunks, so that nobody who writes waits for a reader.
struct Range {
    view: View,
    from: Bound<IVec>,
    to: Bound<IVec>,
    backwards: bool,
    /// The next ones, the very next last.
    ready: Vec<(IVec, IVec)>,
    is_over: bool,
}

impl Range {
    /// Looks for more.
    fn fill(&mut self) -> Result<(), ReadError> {
        let bound = |bound: &Bound<IVec>| bound.clone();
        let (layers, all) = self.view.overlay.some(as_slice(&self.from), as_slice(&self.to), self.backwards);
        // sled is asked for what lies between here and the last of those; behind it there may be others above it.
        let (mut from, mut to) = (bound(&self.from), bound(&self.to));
        if !all && let Some((last, _)) = layers.last() {
            let edge = if self.backwards { &mut from } else { &mut to };
            *edge = Bound::Included(last.clone());
        }
        let mut below = self.view.db.range::<IVec, _>((from, to));
        let mut rows: BTreeMap<IVec, Option<IVec>> = BTreeMap::new();
        let mut edge = layers.last().filter(|_| !all).map(|(key, _)| key.clone());
        for _ in 0..CHUNK {
            let row = if self.backwards { below.next_back() } else { below.next() };
            let Some(row) = row else { break };
            let (key, value) = row?;
            rows.insert(key, Some(value));
        }
        if rows.len() == CHUNK {
            // There may be more in sled: so far and no further this time.
            let last = if self.backwards { rows.first_key_value() } else { rows.last_key_value() };
            edge = last.map(|(key, _)| key.clone());
        }
        let is_within = |key: &IVec| match &edge {
            None => true,
            Some(edge) if self.backwards => key >= edge,
            Some(edge) => key <= edge,
        };
        for (key, value) in layers {
            if is_within(&key) {
                rows.insert(key, value);
            }
        }
        match edge {
            None => self.is_over = true,
            Some(edge) if self.backwards => self.to = Bound::Excluded(edge),
            Some(edge) => self.from = Bound::Excluded(edge),
        }
        self.ready = rows.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        if !self.backwards {
            self.ready.reverse();
        }
        Ok(())
    }
}

impl Iterator for Range {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        loop {
            if let Some(row) = self.ready.pop() {
                return Some(Ok(row));
            }
            if self.is_over {
                return None;
            }
            if let Err(error) = self.fill() {
                self.is_over = true;
                return Some(Err(error));
            }
        }
    }
}

fn as_slice(bound: &Bound<IVec>) -> Bound<&[u8]> {
    bound.as_ref().map(AsRef::as_ref)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    /// As good as random.
    fn mix(number: u64) -> u64 {
        (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn key(number: u64) -> Vec<u8> {
        [b"k/".as_slice(), &(mix(number) % 700).to_be_bytes()[6..]].concat()
    }

    /// Layers, sled, and a map with the same rows.
    struct Case {
        view: View,
        expected: BTreeMap<Vec<u8>, Vec<u8>>,
        round: u64,
    }

    impl Case {
        fn new() -> Self {
            let db = sled::Config::new().temporary(true).open().unwrap();
            Self { view: View::new(Overlay::default(), db), expected: BTreeMap::new(), round: 0 }
        }

        /// Some keys get a value, others go.
        fn change(&mut self) {
            for _ in 0..200 {
                self.round += 1;
                let key = key(self.round);
                if mix(self.round) % 3 == 0 {
                    self.expected.remove(&key);
                    self.view.overlay.take([(key.into(), None)]);
                } else {
                    let value = self.round.to_be_bytes();
                    self.expected.insert(key.clone(), value.to_vec());
                    self.view.overlay.take([(key.into(), Some(value.as_slice().into()))]);
                }
            }
        }

        /// The upper layer goes down; the lower one into sled if `whole`, or a half of it.
        fn lower(&self, whole: bool) {
            let lower = self.view.overlay.lower();
            let most = if whole { usize::MAX } else { lower.len() / 2 };
            for (key, value) in lower.iter().take(most) {
                match value {
                    Some(value) => drop(self.view.db.insert(key, value).unwrap()),
                    None => drop(self.view.db.remove(key).unwrap()),
                }
            }
            if whole {
                self.view.overlay.clear_lower();
            }
        }

        fn check(&self) {
            let plain = |rows: &mut dyn Iterator<Item = Row>| -> Vec<(Vec<u8>, Vec<u8>)> {
                rows.map(|row| row.unwrap()).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
            };
            let (low, high) = (b"k/\x00\x50".to_vec(), b"k/\x02\x10".to_vec());
            let all: Vec<_> = self.expected.clone().into_iter().collect();
            let some: Vec<_> = self.expected.range(low.clone()..high.clone()).collect();
            let some: Vec<_> = some.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            assert!(plain(&mut self.view.under(b"k/")) == all);
            assert!(plain(&mut self.view.between(&low, &high)) == some);
            let mut back = plain(&mut self.view.backwards(&low, &high));
            back.reverse();
            assert!(back == some);
            assert!(plain(&mut self.view.between(&high, &low)).is_empty());
            for number in 0..700u64 {
                let key = [b"k/".as_slice(), &number.to_be_bytes()[6..]].concat();
                let value = self.view.value(&key).unwrap().map(|value| value.to_vec());
                assert_eq!(value.as_ref(), self.expected.get(&key));
            }
        }
    }

    // Red when a removal in a layer does not hide what is below it, when the lower layer hides the upper one, and when a chunk reaches
    // further than what it was merged with.
    #[test]
    fn layers_and_sled_are_one_table() {
        let mut case = Case::new();
        for round in 0..12 {
            case.change();
            case.check();
            // Between this and the next, sled has a half of what is in the lower layer, as it has while it is given it.
            if round % 3 == 1 {
                case.lower(false);
                case.check();
                case.change();
                case.check();
                // Its other half follows.
                let lower = Arc::clone(&case.view.overlay.0.read().unwrap().lower);
                for (key, value) in lower.iter() {
                    match value {
                        Some(value) => drop(case.view.db.insert(key, value).unwrap()),
                        None => drop(case.view.db.remove(key).unwrap()),
                    }
                }
                case.view.overlay.clear_lower();
            } else {
                case.lower(true);
            }
            case.check();
        }
    }

    #[test]
    fn what_is_behind_a_prefix() {
        assert_eq!(behind(b"a/").unwrap(), b"a0");
        assert_eq!(behind(&[1, 255, 255]).unwrap(), [2]);
        assert_eq!(behind(&[255, 255]), None);
    }
}
