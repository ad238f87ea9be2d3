//! The rows as they are, for whoever reads them: the layers in memory, over the sled that is in force, which is another one from the moment at
//! which the state's file was written anew ([`renew`](super::renew)).
//!
//! *Owns:* the handles. *Never:* keeps a reader waiting for more than the exchange of a handle.
//!
//! A row moves down only, and into every sled that is or will be in force before it leaves the layers, unless it is gone by then: whoever looks into the layers
//! first, and then into the sled of that moment, misses nothing.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};

use sled::IVec;

use super::overlay::{CHUNK, Chunk, Overlay};
use super::rows::{Row, Rows};
use super::{ReadError, keys};

/// The rows as they are now. Clones are handles to the same.
#[derive(Clone)]
pub(super) struct Current {
    overlay: Overlay,
    handles: Arc<RwLock<Handles>>,
}

struct Handles {
    now: sled::Db,
    /// The one that is being made to take its place.
    making: Option<sled::Db>,
}

impl Current {
    pub(super) fn new(overlay: Overlay, now: sled::Db) -> Self {
        Self { overlay, handles: Arc::new(RwLock::new(Handles { now, making: None })) }
    }

    pub(super) const fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    /// sled, as it is now.
    pub(super) fn base(&self) -> sled::Db {
        self.handles.read().unwrap_or_else(PoisonError::into_inner).now.clone()
    }

    /// Rows from the first key up to the second, which is not among them, in their order or backwards.
    fn range(&self, from: &[u8], to: Option<&[u8]>, backwards: bool) -> Range {
        Range {
            rows: self.clone(),
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

    /// [`Rows::under`], for as long as the caller likes.
    pub(super) fn all_under(&self, prefix: &[u8]) -> impl Iterator<Item = Row> + use<> {
        self.range(prefix, behind(prefix).as_deref(), false)
    }

    /// Lets go of sled's rows of records that a log of this size does not have. sled may have been given some before the entry of the journal that brought
    /// them was damaged, and nobody would tell it when a new record that has their number has come and gone ([`Overlay::take`]). sled has it durably when it
    /// has the next layer.
    pub(super) fn let_go_from(&self, log_size: u64) -> Result<(), ReadError> {
        for kind in keys::OF_RECORDS {
            for row in self.range(&keys::from_record(kind, log_size), behind(kind).as_deref(), false) {
                self.base().remove(row?.0)?;
            }
        }
        Ok(())
    }

    /// Looks which of the kinds that every job is looked for in have no row, and remembers it for as long as that is so. For whoever knows
    /// that nobody writes meanwhile.
    pub(super) fn look_for_rare(&self) -> Result<(), ReadError> {
        for kind in keys::RARE {
            if self.all_under(kind).next().transpose()?.is_none() {
                self.overlay.has_none(kind);
            }
        }
        Ok(())
    }

    /// Whether the files may hold what was erased.
    pub(super) fn is_stale(&self) -> Result<bool, ReadError> {
        Ok(self.value(keys::STALE)?.is_some())
    }

    /// Another sled is being made; or no longer.
    pub(super) fn make(&self, making: Option<sled::Db>) {
        let before = {
            let mut handles = self.handles.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut handles.making, making)
        };
        // The last handle may write, and sled panics when it cannot. Nobody needs what was given up, so that is no fault of the store's.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(before)));
    }

    /// From now on sled's rows are here. Gives back the handle to where they were.
    pub(super) fn put(&self, now: sled::Db) -> sled::Db {
        let mut handles = self.handles.write().unwrap_or_else(PoisonError::into_inner);
        // A second handle to what is now in force.
        handles.making = None;
        std::mem::replace(&mut handles.now, now)
    }

    /// Every sled that somebody may wait for.
    pub(super) fn all(&self) -> Vec<sled::Db> {
        let handles = self.handles.read().unwrap_or_else(PoisonError::into_inner);
        [Some(&handles.now), handles.making.as_ref()].into_iter().flatten().cloned().collect()
    }
}

impl Rows for Current {
    fn value(&self, key: &[u8]) -> Result<Option<IVec>, ReadError> {
        match self.overlay.get(key) {
            Some(value) => Ok(value),
            None => Ok(self.base().get(key)?),
        }
    }

    fn between(&self, from: &[u8], to: &[u8]) -> Box<dyn Iterator<Item = Row> + '_> {
        Box::new(self.range(from, Some(to), false))
    }

    fn under(&self, prefix: &[u8]) -> Box<dyn Iterator<Item = Row> + '_> {
        Box::new(self.all_under(prefix))
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
    rows: Current,
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
        let Chunk { rows: layers, are_all, are_nowhere_below } =
            self.rows.overlay.some(as_slice(&self.from), as_slice(&self.to), self.backwards);
        // sled is asked for what lies between here and the last of those; behind it there may be others above it.
        let (mut from, mut to) = (bound(&self.from), bound(&self.to));
        if !are_all && let Some((last, _)) = layers.last() {
            let edge = if self.backwards { &mut from } else { &mut to };
            *edge = Bound::Included(last.clone());
        }
        let mut rows: BTreeMap<IVec, Option<IVec>> = BTreeMap::new();
        let mut edge = layers.last().filter(|_| !are_all).map(|(key, _)| key.clone());
        let base = (!are_nowhere_below).then(|| self.rows.base());
        let mut below = base.map(|base| base.range::<IVec, _>((from, to)));
        while let Some(below) = &mut below
            && rows.len() < CHUNK
        {
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
    use strongroom_job::JobId;

    use super::*;

    /// As good as random.
    fn mix(number: u64) -> u64 {
        (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn key(number: u64) -> Vec<u8> {
        [b"t/".as_slice(), &(mix(number) % 700).to_be_bytes()[6..]].concat()
    }

    /// Layers, sled, and a map with the same rows.
    struct Case {
        rows: Current,
        db: sled::Db,
        expected: BTreeMap<Vec<u8>, Vec<u8>>,
        round: u64,
        passed_over: Vec<IVec>,
    }

    impl Case {
        fn new() -> Self {
            let db = sled::Config::new().temporary(true).open().unwrap();
            let rows = Current::new(Overlay::default(), db.clone());
            Self { rows, db, expected: BTreeMap::new(), round: 0, passed_over: Vec::new() }
        }

        /// Some keys get a value, others go.
        fn change(&mut self) {
            // sled has this one when the lower layer gives it again and the upper one takes it away, while a half of the lower is in sled.
            let (turn, value) = (b"t/turn", (self.round / 200 % 4 != 2).then_some(b"value".as_slice()));
            match value {
                Some(value) => drop(self.expected.insert(turn.into(), value.into())),
                None => drop(self.expected.remove(turn.as_slice())),
            }
            self.rows.overlay.take([(turn.into(), value.map(IVec::from))]);
            for _ in 0..200 {
                self.round += 1;
                let key = key(self.round);
                if mix(self.round).is_multiple_of(3) {
                    self.expected.remove(&key);
                    self.rows.overlay.take([(key.into(), None)]);
                } else {
                    let value = self.round.to_be_bytes();
                    self.expected.insert(key.clone(), value.to_vec());
                    self.rows.overlay.take([(key.into(), Some(value.as_slice().into()))]);
                }
                // Leaves come and go.
                let come = keys::leaf(self.round);
                self.expected.insert(come.clone(), b"leaf".to_vec());
                self.rows.overlay.take([(come.into(), Some(b"leaf".into()))]);
                let gone = keys::leaf(self.round.saturating_sub(150));
                self.expected.remove(&gone);
                self.rows.overlay.take([(gone.into(), None)]);
                // Of some records there are rows that stay, some of which are written late, and some go.
                for (record, stays) in
                    [(self.round, true), (self.round.saturating_sub(90), true), (self.round / 2, false)]
                {
                    let key = keys::envelope(record, 7);
                    let value = (stays && !mix(record).is_multiple_of(4)).then(|| b"piece".to_vec());
                    match value.clone() {
                        Some(value) => drop(self.expected.insert(key.clone(), value)),
                        None => drop(self.expected.remove(&key)),
                    }
                    self.rows.overlay.take([(key.into(), value.map(IVec::from))]);
                }
            }
        }

        /// The upper layer goes down; the lower one into sled if `whole`, or a half of it.
        fn lower(&mut self, whole: bool) {
            let lower = self.rows.overlay.lower(self.round + 1);
            let most = if whole { usize::MAX } else { lower.len() / 2 };
            self.give(lower.iter().take(most));
            if whole {
                self.clear();
            }
        }

        fn clear(&mut self) {
            self.rows.overlay.clear_lower(&std::mem::take(&mut self.passed_over));
        }

        /// Gives sled some rows of the lower layer, but for those that went meanwhile.
        fn give<'a>(&mut self, rows: impl Iterator<Item = (&'a IVec, &'a Option<IVec>)>) {
            let mut piece = rows.map(|(key, value)| (key.clone(), value.clone())).collect();
            self.rows.overlay.pass_over(&mut piece, &mut self.passed_over);
            for (key, value) in piece {
                match value {
                    Some(value) => drop(self.db.insert(key, value).unwrap()),
                    None => drop(self.db.remove(key).unwrap()),
                }
            }
        }

        fn check(&self) {
            let plain = |rows: &mut dyn Iterator<Item = Row>| -> Vec<(Vec<u8>, Vec<u8>)> {
                rows.map(|row| row.unwrap()).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
            };
            let (low, high) = (b"t/\x00\x50".to_vec(), b"t/\x02\x10".to_vec());
            let all: Vec<_> = self.expected.clone().into_iter().collect();
            let some: Vec<_> = self.expected.range(low.clone()..high.clone()).collect();
            let some: Vec<_> = some.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            assert!(plain(&mut self.rows.under(b"")) == all);
            assert!(plain(&mut self.rows.between(&low, &high)) == some);
            let mut back = plain(&mut self.rows.backwards(&low, &high));
            back.reverse();
            assert!(back == some);
            assert!(plain(&mut self.rows.between(&high, &low)).is_empty());
            for number in 0..700u64 {
                let key = [b"t/".as_slice(), &number.to_be_bytes()[6..]].concat();
                let value = self.rows.value(&key).unwrap().map(|value| value.to_vec());
                assert_eq!(value.as_ref(), self.expected.get(&key));
            }
            for record in 0..self.round + 100 {
                for key in [keys::envelope(record, 7), keys::leaf(record), keys::variation(record)] {
                    let value = self.rows.value(&key).unwrap().map(|value| value.to_vec());
                    assert_eq!(value.as_ref(), self.expected.get(&key), "record {record} of {}", self.round);
                }
            }
            for (from, to) in
                [(0, u64::MAX), (self.round.saturating_sub(300), self.round), (self.round, u64::MAX)]
            {
                let (from, to) = (keys::envelope(from, 0), keys::envelope(to, 0));
                let some = self.expected.range(from.clone()..to.clone());
                let some: Vec<_> = some.map(|(key, value)| (key.clone(), value.clone())).collect();
                assert!(plain(&mut self.rows.between(&from, &to)) == some);
                let mut back = plain(&mut self.rows.backwards(&from, &to));
                back.reverse();
                assert!(back == some);
            }
        }
    }

    // Red when a removal in a layer does not hide what is below it, when the lower layer hides the upper one, and when a chunk reaches
    // further than what it was merged with. And red when a leaf that went leaves nothing, whenever it came; and when a row that was passed over is not hidden
    // any more, whatever sled had of it.
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
                let lower = case.rows.overlay.lowered();
                case.give(lower.iter().skip(lower.len() / 2));
                case.clear();
            } else {
                case.lower(true);
            }
            case.check();
        }
    }

    // Red when `take` does not hear that there is one now, when `get` looks for those of a kind that is there, and when a range of them goes past sled.
    #[test]
    fn a_kind_that_is_missing_is_known_as_soon_as_it_is_there() {
        let mut case = Case::new();
        let (job, other) = (JobId::from_bytes([1; 16]), JobId::from_bytes([0x2f; 16]));
        case.db.insert(keys::follower(&job, &other), &[1]).unwrap();
        case.rows.look_for_rare().unwrap();
        let followers = || case.rows.under(&keys::followers(&job)).count();
        assert_eq!(followers(), 1, "sled has it");
        assert_eq!(case.rows.value(&keys::merged(&other)).unwrap(), None);
        // sled is not asked for what nobody has: what it should not have shows that.
        case.db.insert(keys::merged(&other), b"never told").unwrap();
        assert_eq!(case.rows.value(&keys::merged(&other)).unwrap(), None);
        assert_eq!(case.rows.under(&keys::merged(&other)).count(), 0);
        case.rows.overlay.take([(keys::merged(&job).into(), Some(b"told".into()))]);
        case.lower(true);
        assert_eq!(case.rows.value(&keys::merged(&job)).unwrap().unwrap(), b"told".as_slice());
        assert_eq!(case.rows.value(&keys::merged(&other)).unwrap().unwrap(), b"never told".as_slice());
        assert_eq!(case.rows.under(keys::MERGED).count(), 2);
        assert_eq!(case.rows.under(&keys::sources(&job)).count(), 0);
        case.rows.overlay.take([(keys::source(&job, 0).into(), Some(b"ids".into()))]);
        assert_eq!(case.rows.under(&keys::sources(&job)).count(), 1);
        case.lower(true);
        assert_eq!(case.rows.under(&keys::sources(&job)).count(), 1);
        case.rows.overlay.take([(keys::source(&job, 0).into(), None)]);
        case.lower(true);
        assert_eq!(case.rows.under(&keys::sources(&job)).count(), 0, "its end goes down");
    }

    // Red when a removal of what is missing already is elided: it takes the one away that sled has not heard of.
    #[test]
    fn what_was_removed_twice_does_not_come_back() {
        let mut case = Case::new();
        let queue = keys::queue_mode(&strongroom_job::Name::default_name());
        case.db.insert(&queue, b"paused").unwrap();
        // As a journal has it.
        case.rows.overlay.take([(queue.clone().into(), None)]);
        case.rows.look_for_rare().unwrap();
        case.rows.overlay.take([(queue.clone().into(), None)]);
        case.rows.overlay.take([(b"q/other".into(), Some(b"paused".into()))]);
        assert_eq!(case.rows.value(&queue).unwrap(), None);
        case.lower(true);
        assert_eq!((case.db.get(&queue).unwrap(), case.rows.under(keys::QUEUE_MODES).count()), (None, 1));
    }

    // Red without the removal in `let_go_from`.
    #[test]
    fn a_row_of_a_record_that_never_was_does_not_come_back() {
        let case = Case::new();
        for key in [keys::leaf(4), keys::leaf(5), keys::active(2), keys::active(7), keys::over(9)] {
            case.db.insert(key, b"given").unwrap();
        }
        case.rows.let_go_from(5).unwrap();
        case.rows.overlay.is_of(5);
        case.rows.overlay.take([(keys::leaf(5).into(), Some(b"leaf".into()))]);
        case.rows.overlay.take([(keys::leaf(5).into(), None)]);
        let left: Vec<_> = case.rows.under(b"").map(|row| row.unwrap().0.to_vec()).collect();
        assert_eq!(left, [keys::leaf(4), keys::active(2)]);
    }

    #[test]
    fn what_is_behind_a_prefix() {
        assert_eq!(behind(b"a/").unwrap(), b"a0");
        assert_eq!(behind(&[1, 255, 255]).unwrap(), [2]);
        assert_eq!(behind(&[255, 255]), None);
    }
}
