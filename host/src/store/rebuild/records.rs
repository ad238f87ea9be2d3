//! The log's records, with a look ahead.

use std::collections::VecDeque;
use std::io;

use strongroom_job::Record;

use super::RebuildError;

/// Records from the first one on. What lies ahead is kept until it is taken.
pub(super) struct Records<'a> {
    leaves: Box<dyn Iterator<Item = io::Result<Vec<u8>>> + 'a>,
    ahead: VecDeque<(Vec<u8>, Record)>,
    /// Index of the next one that is taken.
    next: u64,
}

impl<'a> Records<'a> {
    pub(super) fn new(leaves: Box<dyn Iterator<Item = io::Result<Vec<u8>>> + 'a>) -> Self {
        Self { leaves, ahead: VecDeque::new(), next: 0 }
    }

    /// The record with this index; none behind the end of the log, and of one that was taken.
    pub(super) fn at(&mut self, index: u64) -> Result<Option<&Record>, RebuildError> {
        let Some(place) = index.checked_sub(self.next).and_then(|place| usize::try_from(place).ok()) else {
            return Ok(None);
        };
        while self.ahead.len() <= place {
            let index = self.next + self.ahead.len() as u64;
            let Some(leaf) = self.leaves.next() else { return Ok(None) };
            let leaf = leaf.map_err(|error| RebuildError::Unreadable { index, error })?;
            let record = Record::from_leaf(&leaf).map_err(|error| RebuildError::Record { index, error })?;
            self.ahead.push_back((leaf, record));
        }
        Ok(self.ahead.get(place).map(|(_, record)| record))
    }

    /// Takes the next record: the log must have this one there, if it does not end before it.
    pub(super) fn take(&mut self, leaf: &[u8]) -> Result<(), RebuildError> {
        let index = self.next;
        self.at(index)?;
        self.next += 1;
        match self.ahead.pop_front() {
            None => Ok(()),
            Some((expected, _)) if expected == leaf => Ok(()),
            Some((expected, _)) => {
                let text = |leaf: &[u8]| String::from_utf8_lossy(leaf).chars().take(300).collect::<String>();
                let problem = format!("{} instead of {}", text(&expected), text(leaf));
                Err(RebuildError::Illegal { index, problem })
            }
        }
    }
}
