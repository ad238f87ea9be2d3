//! Leaves on their way from the writer to the publisher, with the records that they were written from.
//!
//! Reading a record out of its leaf is two fifths of what the publisher does for it, and the writer had it a moment before. That a leaf can be read, and says the same, is asked in
//! builds with debug assertions, which tests are.
//!
//! *Owns:* durable leaves that nobody has taken yet, the newest of them. *Never:* the only copy: what is not here is in the rows.
//! *Bound:* [`MAX_BYTES`].

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strongroom_job::{Record, RecordError};

/// Leaves and records, without what a record has elsewhere (names, lists, texts: less than its leaf has of them). Of a host that takes ten thousand jobs a second, what comes
/// between two publications.
const MAX_BYTES: usize = 8 << 20;

/// A leaf of the log, and what it says.
#[derive(Debug)]
pub struct Leaf {
    bytes: Vec<u8>,
    /// Known of a leaf that was written in this process.
    record: Option<Box<Record>>,
}

impl Leaf {
    /// The leaf of a record.
    pub(super) fn of(record: Record) -> Self {
        let bytes = record.to_leaf();
        debug_assert!(Record::from_leaf(&bytes).is_ok(), "{record:?}");
        Self { bytes, record: Some(Box::new(record)) }
    }

    fn cost(&self) -> usize {
        self.bytes.len() + size_of::<Record>()
    }

    /// What it says.
    ///
    /// # Errors
    /// When it was read, and is no record.
    pub fn record(&self) -> Result<Cow<'_, Record>, RecordError> {
        match &self.record {
            Some(record) => Ok(Cow::Borrowed(record)),
            None => Record::from_leaf(&self.bytes).map(Cow::Owned),
        }
    }
}

impl AsRef<[u8]> for Leaf {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Vec<u8>> for Leaf {
    /// A leaf as it was read.
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, record: None }
    }
}

/// Leaves that follow each other. Clones are handles to the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Unpublished(Arc<Mutex<Leaves>>);

#[derive(Debug, Default)]
struct Leaves {
    /// Index of the first.
    first: u64,
    leaves: VecDeque<Leaf>,
    bytes: usize,
}

impl Unpublished {
    /// Takes leaves that are durable, the first of which has this index.
    pub(super) fn put(&self, first: u64, leaves: Vec<Leaf>) {
        let mut all = self.lock();
        if all.next() != first {
            // The first of this process. Later ones follow each other; would they not, none may stand at another's place.
            *all = Leaves { first, ..Leaves::default() };
        }
        all.bytes += leaves.iter().map(Leaf::cost).sum::<usize>();
        all.leaves.extend(leaves);
        while all.bytes > MAX_BYTES {
            all.drop_first();
        }
    }

    /// Gives at most `most` leaves away from `from` on, and forgets those before. None when it does not have this one.
    pub(super) fn take(&self, from: u64, most: usize) -> Vec<Leaf> {
        let mut all = self.lock();
        while all.first < from && !all.leaves.is_empty() {
            all.drop_first();
        }
        if all.first != from {
            return Vec::new();
        }
        let most = most.min(all.leaves.len());
        let taken: Vec<_> = all.leaves.drain(..most).collect();
        all.first += taken.len() as u64;
        all.bytes -= taken.iter().map(Leaf::cost).sum::<usize>();
        taken
    }

    fn lock(&self) -> MutexGuard<'_, Leaves> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leaves {
    fn next(&self) -> u64 {
        self.first + self.leaves.len() as u64
    }

    fn drop_first(&mut self) {
        if let Some(leaf) = self.leaves.pop_front() {
            self.first += 1;
            self.bytes -= leaf.cost();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::io;
    use std::sync::mpsc;

    use strongroom_job::{Digest, Event, SecretKey, Timestamp};

    use super::super::{Step, Store, Transition};
    use super::*;
    use crate::clock::Clock;

    fn leaf(number: u64) -> Leaf {
        Leaf::of(Record::new(Timestamp::from_millis(number), Event::HostStopped {}))
    }

    fn numbers(leaves: &[Leaf]) -> Vec<u64> {
        leaves.iter().map(|leaf| leaf.record().unwrap().time.as_millis()).collect()
    }

    #[test]
    fn a_leaf_says_the_same_whether_it_was_written_or_read() {
        let host = SecretKey::from_seed(&[7; 32].into()).public();
        let said = Event::HostStarted { host, version: "0".into(), config: Digest::of(b"") };
        let written = Leaf::of(Record::new(Timestamp::from_millis(5), said));
        let read = Leaf::from(written.as_ref().to_vec());
        assert_eq!(written.record().unwrap(), read.record().unwrap());
        assert!(matches!(written.record().unwrap(), Cow::Borrowed(_)), "it is not read again");
        assert!(Leaf::from(b"{}".to_vec()).record().is_err());
    }

    #[test]
    fn leaves_are_given_away_in_order_and_once() {
        let all = Unpublished::default();
        all.put(10, vec![leaf(10), leaf(11)]);
        all.put(12, vec![leaf(12), leaf(13), leaf(14)]);
        assert!(all.take(9, 8).is_empty(), "it never had that one");
        assert_eq!(numbers(&all.take(10, 2)), [10, 11]);
        assert!(all.take(10, 8).is_empty(), "it has given that one away");
        assert_eq!(numbers(&all.take(13, 8)), [13, 14]);
        assert!(all.take(15, 8).is_empty());
        // What does not follow is not taken for what does: the publisher finds the others in the rows.
        all.put(15, vec![leaf(15)]);
        all.put(20, vec![leaf(20)]);
        assert!(all.take(16, 8).is_empty());
        assert_eq!(numbers(&all.take(20, 8)), [20]);
    }

    // Red when the writer gives leaves before they are durable; and when the store gives whatever there is.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_not_durable_is_not_given() {
        let dir = tempfile::tempdir().unwrap();
        let (reached, reaches) = mpsc::channel();
        let (go, goes) = mpsc::channel::<()>();
        let stands = move |step| {
            if step == Step::Flushed {
                reached.send(()).map_err(io::Error::other)?;
                goes.recv().map_err(io::Error::other)?;
            }
            Ok(())
        };
        let opened = Store::open(dir.path()).unwrap();
        let (store, closing) = opened.start(Arc::new(Clock::default()), Box::new(stands)).unwrap();
        let said = || Transition::Log(Event::HostStopped {});
        go.send(()).unwrap();
        store.commit(said()).await.unwrap();
        reaches.recv().unwrap();
        let second = {
            let store = store.clone();
            tokio::spawn(async move { store.commit(said()).await })
        };
        // The second group is written and not synced.
        reaches.recv().unwrap();
        assert_eq!(store.unpublished.lock().next(), 1);
        assert_eq!(store.take_unpublished(0, 9).unwrap().len(), 1);
        assert!(store.take_unpublished(1, 9).unwrap().is_empty());
        go.send(()).unwrap();
        second.await.unwrap().unwrap();
        store.unpublished.put(2, vec![leaf(2)]);
        let leaves = store.take_unpublished(1, 9).unwrap();
        assert!(matches!(leaves.as_slice(), [leaf] if leaf.record.is_some()), "{leaves:?}");
        assert!(store.take_unpublished(2, 9).unwrap().is_empty(), "the store has not told of it");
        drop(store);
        assert_eq!(closing.wait(), None);
    }

    // Red without the loop in `put`: a publisher that stands still would have the host take all memory.
    #[test]
    fn the_newest_stay_within_the_bound() {
        // Of one length.
        const FROM: u64 = 1_000_000_000;
        let all = Unpublished::default();
        let bytes = leaf(FROM).cost();
        let end = FROM + 2 * (MAX_BYTES / bytes) as u64;
        for number in FROM..end {
            all.put(number, vec![leaf(number)]);
        }
        {
            let all = all.lock();
            assert!(all.bytes <= MAX_BYTES && all.bytes + bytes > MAX_BYTES);
            assert_eq!(all.next(), end);
        }
        assert!(all.take(FROM, 1).is_empty());
        let first = all.lock().first;
        assert_eq!(numbers(&all.take(first, 1)), [first]);
    }
}
