//! How long sled's file would be if it were written anew, as far as one can tell without doing it.
//!
//! A file that has grown since it has more rows than before gets no shorter by that: with a million jobs in a queue a copy of one of 1.7 GB had 2.1 GB, and took
//! 90 s beside the work. So the bytes of what is in sled are counted as they change.
//!
//! *Owns:* `m/bytes`. *Never:* more than an estimate. A crash loses what the layer that was under way had changed; what a migration, a rebuild or the mending of a start puts into sled is not
//! counted; until the file is written anew the next time, when all of it is.

use super::journal::Change;
use super::keys;

/// So many bytes of a new file are there for each byte of rows. Measured with 3.6 million rows of 190 bytes: 3.0. Of rows of many KB it is less, and the file may grow somewhat longer.
const SPREAD: u64 = 3;

/// What the file has, and what it had when it was last written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proportion {
    /// Bytes of the keys and values in it.
    rows: u64,
    /// The length that it had.
    length_then: u64,
    /// Bytes of the keys and values that were in it.
    rows_then: u64,
}

impl Proportion {
    /// Right after a file was written anew.
    pub(super) const fn anew(length: u64, rows: u64) -> Self {
        Self { rows, length_then: length, rows_then: rows }
    }

    /// As the rows of this sled say. Of a file that an earlier version wrote anew, which did not count, the length tells what may have been in it.
    ///
    /// # Errors
    /// When sled cannot read.
    pub(super) fn read(db: &sled::Db) -> sled::Result<Self> {
        let numbers = |key: &[u8]| -> sled::Result<Vec<u64>> {
            let bytes = db.get(key)?.unwrap_or_default();
            Ok(bytes
                .chunks_exact(8)
                .filter_map(|bytes| bytes.try_into().ok())
                .map(u64::from_be_bytes)
                .collect())
        };
        let length_then = numbers(keys::RENEWED)?.first().copied().unwrap_or(0);
        Ok(match numbers(keys::BYTES)?[..] {
            [rows, rows_then, length] if length == length_then => Self { rows, length_then, rows_then },
            _ => Self::anew(length_then, length_then / SPREAD),
        })
    }

    /// The row that says it, beside the one with the length.
    pub(super) fn row(&self) -> Change {
        let numbers = [self.rows, self.rows_then, self.length_then].map(u64::to_be_bytes).concat();
        (keys::BYTES.into(), Some(numbers.into()))
    }

    /// sled has so many more bytes of rows, or fewer.
    pub(super) const fn changed(&mut self, more: i64) {
        self.rows = self.rows.saturating_add_signed(more);
    }

    /// Bytes of the keys and values in it.
    #[cfg(test)]
    pub(super) const fn now(&self) -> u64 {
        self.rows
    }

    /// The length that a new file would have. Never shorter than it was while no rows went: else it would be written anew for ever.
    pub(super) fn expected(&self) -> u64 {
        let grown = self.rows.saturating_sub(self.rows_then).saturating_mul(SPREAD);
        if self.rows >= self.rows_then {
            return self.length_then.saturating_add(grown);
        }
        let shrunk = u128::from(self.length_then) * u128::from(self.rows) / u128::from(self.rows_then);
        u64::try_from(shrunk).unwrap_or(self.length_then)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    // Red without either half of `expected`.
    #[test]
    fn a_file_is_expected_to_grow_and_to_shrink_with_its_rows() {
        let mut now = Proportion::anew(1000, 200);
        assert_eq!(now.expected(), 1000);
        now.changed(100);
        assert_eq!(now.expected(), 1300);
        now.changed(-250);
        assert_eq!(now.expected(), 250);
        now.changed(-9999);
        assert_eq!(now.expected(), 0);
        let mut first = Proportion::anew(0, 0);
        first.changed(7);
        assert_eq!(first.expected(), 21);
    }

    // Red without the length in `m/bytes`.
    #[test]
    fn it_is_known_to_the_next_start_and_an_earlier_version_did_not_count() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let read = || Proportion::read(&db).unwrap();
        let renewed = |length: u64| drop(db.insert(keys::RENEWED, &length.to_be_bytes()).unwrap());
        assert_eq!(read(), Proportion::anew(0, 0));
        renewed(900);
        assert_eq!(read(), Proportion::anew(900, 300));
        let mut now = Proportion::anew(900, 200);
        now.changed(-50);
        let (key, value) = now.row();
        db.insert(key, value.unwrap()).unwrap();
        assert_eq!(read(), now);
        // An earlier version has copied the row along.
        renewed(600);
        assert_eq!(read(), Proportion::anew(600, 200));
    }
}
