//! The rows under a store: what can be asked of them, and what a group changes in them.
//!
//! sled has them on a disk; [`Memory`] has them in a map, for simulations. Nothing that judges a transition knows which.

use std::collections::BTreeMap;

use sled::IVec;

use super::{ReadError, keys};

/// A key and its value.
pub(super) type Row = Result<(IVec, IVec), ReadError>;

/// What can be asked of rows.
pub(super) trait Rows {
    /// The value of a key.
    fn value(&self, key: &[u8]) -> Result<Option<IVec>, ReadError>;

    /// Rows from the first key up to the second, in order; the second is not among them.
    fn between(&self, from: &[u8], to: &[u8]) -> Box<dyn Iterator<Item = Row> + '_>;

    /// Rows whose key begins so, in order.
    fn under(&self, prefix: &[u8]) -> Box<dyn Iterator<Item = Row> + '_>;
}

impl Rows for sled::Db {
    fn value(&self, key: &[u8]) -> Result<Option<IVec>, ReadError> {
        Ok(sled::Tree::get(self, key)?)
    }

    fn between(&self, from: &[u8], to: &[u8]) -> Box<dyn Iterator<Item = Row> + '_> {
        Box::new(sled::Tree::range(self, from..to).map(|row| Ok(row?)))
    }

    fn under(&self, prefix: &[u8]) -> Box<dyn Iterator<Item = Row> + '_> {
        Box::new(self.scan_prefix(prefix).map(|row| Ok(row?)))
    }
}

/// Rows in a map.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Memory {
    /// Every row, in order.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Vec<u8>, &Vec<u8>)> {
        self.rows.iter()
    }

    pub(super) fn apply(&mut self, batch: Batch) {
        for (key, value) in batch.changes {
            match value {
                Some(value) => drop(self.rows.insert(key, value)),
                None => drop(self.rows.remove(&key)),
            }
        }
    }
}

impl Rows for Memory {
    fn value(&self, key: &[u8]) -> Result<Option<IVec>, ReadError> {
        Ok(self.rows.get(key).map(|value| value.as_slice().into()))
    }

    fn between(&self, from: &[u8], to: &[u8]) -> Box<dyn Iterator<Item = Row> + '_> {
        let rows = self.rows.range(from.to_vec()..to.to_vec());
        Box::new(rows.map(|(key, value)| Ok((key.as_slice().into(), value.as_slice().into()))))
    }

    fn under(&self, prefix: &[u8]) -> Box<dyn Iterator<Item = Row> + '_> {
        let (from, prefix) = (prefix.to_vec(), prefix.to_vec());
        let rows = self.rows.range(from..).take_while(move |(key, _)| key.starts_with(&prefix));
        Box::new(rows.map(|(key, value)| Ok((key.as_slice().into(), value.as_slice().into()))))
    }
}

/// What a group changes. Of each key only the last change is kept: one end may change the row of one job that waits ten thousand
/// times.
#[derive(Debug, Default)]
pub(super) struct Batch {
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Batch {
    pub(super) fn insert(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.insert(key.into(), Some(value.into()));
    }

    pub(super) fn remove(&mut self, key: impl Into<Vec<u8>>) {
        self.changes.insert(key.into(), None);
    }

    /// Every change, in the order of the keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    /// Every change, as the layers take it.
    pub(super) fn into_changes(self) -> impl Iterator<Item = (IVec, Option<IVec>)> {
        self.changes.into_iter().map(|(key, value)| (key.into(), value.map(IVec::from)))
    }

    /// How many keys it changes.
    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// Takes the leaves out from this index on; in their order.
    pub(super) fn take_leaves(&mut self, from: u64) -> Vec<Vec<u8>> {
        let leaves = self.changes.extract_if(keys::leaf(from)..=keys::leaf(u64::MAX), |_, _| true);
        leaves.filter_map(|(_, leaf)| leaf).collect()
    }
}

impl From<Batch> for sled::Batch {
    fn from(batch: Batch) -> Self {
        let mut sled = Self::default();
        for (key, value) in batch.changes {
            match value {
                Some(value) => sled.insert(key, value),
                None => sled.remove(key),
            }
        }
        sled
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    // Red with a list of changes: 512 cancels, each the end of a hundred thousand edges, would be tens of gigabytes.
    #[test]
    fn a_batch_is_as_large_as_what_it_changes() {
        let mut batch = Batch::default();
        for waits_for in (0..10_000u32).rev() {
            batch.insert(*b"row", waits_for.to_be_bytes());
            batch.insert(*b"edge", waits_for.to_be_bytes());
            batch.remove(*b"edge");
        }
        assert_eq!(batch.changes.len(), 2);
        let mut rows = Memory::default();
        rows.rows.insert(b"edge".to_vec(), Vec::new());
        rows.apply(batch);
        assert_eq!(rows.value(b"row").unwrap().unwrap().as_ref(), [0; 4], "the last change counts");
        assert_eq!(rows.value(b"edge").unwrap(), None);
    }
}
