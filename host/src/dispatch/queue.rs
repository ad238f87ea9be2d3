//! The jobs that wait for a slot, best first: by priority, then by order of admission.
//!
//! *Bound:* holds at most as many jobs as the store lets be active, 32 bytes each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};

use strongroom_job::JobId;
use tokio::sync::Notify;

use crate::store::Waiting;

/// A priority queue that can be waited on.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: Mutex<BinaryHeap<(i8, Reverse<u64>, JobId)>>,
    more: Notify,
}

impl Queue {
    pub(super) fn push(&self, jobs: impl IntoIterator<Item = Waiting>) {
        let entries =
            jobs.into_iter().map(|Waiting { job, priority, admitted }| (priority, Reverse(admitted), job));
        self.lock().extend(entries);
        self.more.notify_one();
    }

    /// Takes the best job; waits until there is one. `taken` is told before anybody can see that the job is not queued any more:
    /// at every moment it is queued or taken.
    pub(super) async fn pop(&self, taken: impl Fn(JobId)) -> JobId {
        loop {
            {
                let mut heap = self.lock();
                if let Some((_, _, job)) = heap.pop() {
                    taken(job);
                    return job;
                }
            }
            self.more.notified().await;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BinaryHeap<(i8, Reverse<u64>, JobId)>> {
        // A panic between two heap operations leaves a whole heap.
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_best_comes_first_and_equals_in_order_of_admission() {
        let queue = Queue::default();
        let waiting =
            |id, priority, admitted| Waiting { job: JobId::from_bytes([id; 16]), priority, admitted };
        queue.push([waiting(1, 0, 10), waiting(2, 0, 9), waiting(3, 5, 11), waiting(4, -5, 1)]);
        for id in [3, 2, 1, 4] {
            assert_eq!(queue.pop(|_| ()).await, JobId::from_bytes([id; 16]));
        }
        assert_eq!(queue.len(), 0);
    }

    // Red with `taken` called after the lock is given back.
    #[tokio::test]
    async fn a_job_is_taken_before_it_is_gone() {
        let queue = Queue::default();
        queue.push([Waiting { job: JobId::from_bytes([1; 16]), priority: 0, admitted: 1 }]);
        queue.pop(|_| assert!(queue.heap.try_lock().is_err(), "others can look already")).await;
    }
}
