//! Who is told of the ends of many jobs: one who listens for all of them, and not one for each.
//!
//! *Owns:* who listens for which job. *Never:* how a job ended: whoever is told of it looks. *Bound:* some 150 bytes for each job and each who listens
//! for it; the caller bounds how many those are.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strongroom_job::JobId;
use tokio::sync::mpsc;

/// The writer's thread tells of every end: nobody keeps it from that for longer than this many jobs take.
const LOCKED_FOR: usize = 256;

/// Who listens for which job, by the job and the listener's number.
type Jobs = BTreeMap<(JobId, u64), mpsc::UnboundedSender<JobId>>;

/// Everybody who listens.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    jobs: Mutex<Jobs>,
    /// Of the next listener.
    next: AtomicU64,
}

impl Listeners {
    /// Listens for the ends of these jobs. Look at the jobs afterwards: then no end is missed.
    pub(super) fn listen(self: &Arc<Self>, jobs: &[JobId]) -> Ends {
        let (sender, told) = mpsc::unbounded_channel();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        for some in jobs.chunks(LOCKED_FOR) {
            self.lock().extend(some.iter().map(|job| ((*job, number), sender.clone())));
        }
        Ends {
            listeners: Arc::clone(self),
            number,
            _sender: sender,
            told,
            left: jobs.iter().copied().collect(),
        }
    }

    /// A job is over, durably.
    pub(super) fn over(&self, job: &JobId) {
        let mut jobs = self.lock();
        while let Some((&key, _)) = jobs.range((*job, 0)..=(*job, u64::MAX)).next() {
            if let Some(listener) = jobs.remove(&key) {
                // Whoever listened may be gone.
                let _ = listener.send(*job);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        // Each change is one operation of the map.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ends of some jobs, each once, in the order in which they became durable.
#[derive(Debug)]
pub(crate) struct Ends {
    listeners: Arc<Listeners>,
    number: u64,
    told: mpsc::UnboundedReceiver<JobId>,
    /// Keeps the channel open when nobody else has it any more.
    _sender: mpsc::UnboundedSender<JobId>,
    /// Whose ends were not told of.
    left: HashSet<JobId>,
}

impl Ends {
    /// The next of them, at most so many; none when there are no more. Waits for the first.
    pub(crate) async fn next(&mut self, most: usize) -> Vec<JobId> {
        let mut over = Vec::new();
        while over.is_empty() && !self.left.is_empty() {
            self.told.recv_many(&mut over, most).await;
            over.retain(|job| self.left.remove(job));
        }
        over
    }

    /// A job was found to be over: it is not told of.
    pub(crate) fn is_known(&mut self, job: &JobId) {
        if self.left.remove(job) {
            self.listeners.lock().remove(&(*job, self.number));
        }
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        let left: Vec<JobId> = self.left.drain().collect();
        for some in left.chunks(LOCKED_FOR) {
            let mut jobs = self.listeners.lock();
            for job in some {
                jobs.remove(&(*job, self.number));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs<const COUNT: usize>(numbers: [u8; COUNT]) -> [JobId; COUNT] {
        numbers.map(|number| JobId::from_bytes([number; 16]))
    }

    #[tokio::test]
    async fn each_listener_is_told_once_of_each_end_in_their_order() {
        let listeners = Arc::<Listeners>::default();
        let [one, two, three] = jobs([1, 2, 3]);
        let mut all = listeners.listen(&[one, two, three]);
        let mut first = listeners.listen(&[one]);
        for job in [two, one, two, jobs([9])[0]] {
            listeners.over(&job);
        }
        assert_eq!(all.next(9).await, [two, one]);
        assert_eq!(first.next(9).await, [one]);
        assert!(first.next(9).await.is_empty(), "there are no more");
        listeners.over(&three);
        assert_eq!(all.next(9).await, [three]);
        assert!(all.next(9).await.is_empty());
        assert!(listeners.lock().is_empty());
    }

    // Red without `left` in `next`: it would be told twice, by who found it over and by who ended it meanwhile.
    #[tokio::test]
    async fn what_was_known_is_not_told() {
        let listeners = Arc::<Listeners>::default();
        let [one, two] = jobs([1, 2]);
        let mut ends = listeners.listen(&[one, two]);
        listeners.over(&one);
        ends.is_known(&one);
        listeners.over(&two);
        assert_eq!(ends.next(9).await, [two]);
        assert!(ends.next(9).await.is_empty());
    }

    // Red without the `Drop`.
    #[tokio::test]
    async fn who_leaves_is_forgotten_and_nobody_else() {
        let listeners = Arc::<Listeners>::default();
        let [one, two] = jobs([1, 2]);
        let mut stays = listeners.listen(&[one]);
        drop(listeners.listen(&[one, two]));
        assert_eq!(listeners.lock().len(), 1);
        listeners.over(&one);
        assert_eq!(stays.next(9).await, [one]);
        assert!(listeners.lock().is_empty());
    }
}
