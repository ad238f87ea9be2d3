//! What jobs are that came a moment ago: a job is read when it starts and when its end is told, and the writer had it shortly before.
//!
//! *Owns:* copies. *Never:* an answer of its own: that there is such a job, and that nothing of it was erased, the rows say.
//! *Bound:* [`MAX_JOBS`], each of at most [`MAX_BYTES`] as it is written down.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::admission::AdmittedJob;

/// Jobs, each of which stands for its envelope.
const MAX_JOBS: usize = 1024;
/// The row of a job that is kept.
const MAX_BYTES: usize = 4 << 10;

/// What a group means for what is here.
pub(super) enum News {
    /// This job stands for the envelope whose rows begin here.
    Came(u64, Box<AdmittedJob>),
    /// The envelope whose rows begin here is gone.
    Went(u64),
}

impl News {
    /// Of a job with a row of so many bytes; none when that is too long to be kept.
    pub(super) fn of(first: u64, job: &AdmittedJob, bytes: usize) -> Option<Self> {
        (bytes <= MAX_BYTES).then(|| Self::Came(first, Box::new(job.clone())))
    }
}

/// Jobs by where the rows of their envelopes begin, which is the same for no two envelopes. Clones are handles to the same.
#[derive(Clone, Default)]
pub(super) struct Recent(Arc<Mutex<Jobs>>);

#[derive(Default)]
struct Jobs {
    jobs: HashMap<u64, Box<AdmittedJob>>,
    /// In the order in which they came; some went meanwhile.
    order: VecDeque<u64>,
}

impl Recent {
    /// The job that stands for the envelope whose rows begin here.
    pub(super) fn get(&self, first: u64) -> Option<AdmittedJob> {
        self.lock().jobs.get(&first).map(|job| AdmittedJob::clone(job))
    }

    /// Hears what a durable group means.
    pub(super) fn hear(&self, news: Vec<News>) {
        if news.is_empty() {
            return;
        }
        let mut jobs = self.lock();
        for news in news {
            match news {
                News::Came(first, job) => {
                    if jobs.jobs.insert(first, job).is_none() {
                        jobs.order.push_back(first);
                    }
                }
                News::Went(first) => drop(jobs.jobs.remove(&first)),
            }
            if jobs.order.len() > MAX_JOBS
                && let Some(oldest) = jobs.order.pop_front()
            {
                jobs.jobs.remove(&oldest);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use strongroom_job::{Envelope, JobId, Timestamp};

    use super::super::counts::Counts;
    use super::super::group::{Collected, Group};
    use super::super::rows::{Batch, Memory, Rows as _};
    use super::super::{NoFault, ReadError, Store, Transition, keys, read};
    use super::*;
    use crate::clock::Clock;

    fn job() -> AdmittedJob {
        let signed = include_bytes!("../../../sdk/job/golden/envelope/job.json");
        let signer = include_str!("../../../sdk/job/golden/envelope/principal.pub").trim().parse().unwrap();
        let mut jobs = Envelope::parse(signed).unwrap().verify(&signer).unwrap();
        crate::admission::readmit(jobs.remove(0))
    }

    /// In an envelope that is none.
    fn admit(job: &AdmittedJob, alone: bool) -> Transition {
        Transition::Admit {
            jobs: vec![job.clone()],
            envelope: b"an envelope".as_slice().into(),
            alone,
            max_active: 9,
            rules: Box::default(),
        }
    }

    // Red without `Went`: what was erased would stay in memory.
    #[test]
    fn what_went_is_not_here() {
        let (recent, job) = (Recent::default(), job());
        recent.hear(vec![News::of(1, &job, 400).unwrap(), News::of(2, &job, 400).unwrap()]);
        assert_eq!(recent.get(1), Some(job));
        recent.hear(vec![News::Went(1)]);
        assert_eq!(recent.get(1), None);
        assert!(recent.get(2).is_some());
    }

    // Red when the writer does not tell of a group, and when the store reads what it knows.
    #[tokio::test]
    async fn the_store_tells_what_a_job_is_without_reading_it() {
        for alone in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let opened = Store::open(dir.path()).unwrap();
            let (store, closing) = opened.start(Arc::new(Clock::default()), Box::new(NoFault)).unwrap();
            let job = job();
            store.commit(admit(&job, alone)).await.unwrap();
            let came = read::came_in(&store.current, job.envelope()).unwrap().unwrap();
            assert_eq!(store.recent.get(came.first).as_ref(), Some(&job));
            // Whoever reads the row, or the envelope, finds another task than this.
            let other = AdmittedJob::clone(&job).standing_for(JobId::from_bytes([6; 16]), *job.signer());
            let mut told = serde_json::to_value(&other).unwrap();
            told["task"]["args"] = serde_json::json!(["kept"]);
            let told: AdmittedJob = serde_json::from_value(told).unwrap();
            store.recent.hear(vec![News::of(came.first, &told, 400).unwrap()]);
            let spec = store.spec(&job.id()).unwrap().unwrap();
            assert_eq!((spec.id(), spec.task()), (job.id(), told.task()));
            drop(store);
            assert_eq!(closing.wait(), None);
        }
    }

    // Red when a group does not tell of what comes, and when it does not tell of what goes.
    #[test]
    fn groups_tell_what_comes_and_goes() {
        for alone in [false, true] {
            let (recent, job) = (Recent::default(), job());
            let (mut rows, counts, now) = (Memory::default(), Counts::default(), Timestamp::from_millis(1));
            let mut group = Group::new(&rows, now, 0, &counts);
            assert!(group.take(admit(&job, alone)).is_ok());
            let Collected { batch, news, .. } = group.finish();
            rows.apply(batch);
            recent.hear(news);
            let came = read::came_in(&rows, job.envelope()).unwrap().unwrap();
            assert_eq!(recent.get(came.first).as_ref(), Some(&job));
            assert_eq!((came.alone, rows.value(&keys::whole(came.first)).unwrap().is_none()), (alone, alone));
            let mut group = Group::new(&rows, now, 9, &counts);
            group.release_envelope(job.envelope()).unwrap();
            let Collected { batch, news, .. } = group.finish();
            rows.apply(batch);
            recent.hear(news);
            assert_eq!(recent.get(came.first), None);
            // Red when `release_envelope` leaves any of them.
            for left in [b"k/", b"w/", b"y/"] {
                assert_eq!(rows.under(left).count(), 0, "alone: {alone}");
            }
        }
    }

    // Red when `spec_of` does not ask whether the job is known, and when it says first that the envelope is damaged.
    #[test]
    fn of_what_is_forgotten_meanwhile_there_is_no_answer_and_no_damage() {
        let (mut rows, counts, job) = (Memory::default(), Counts::default(), job());
        let mut group = Group::new(&rows, Timestamp::from_millis(1), 0, &counts);
        assert!(group.take(admit(&job, true)).is_ok());
        let batch = group.finish().batch;
        rows.apply(batch);
        let row = read::row(&rows, &job.id()).unwrap().unwrap();
        let read = read::spec_of(&rows, &row, |_| None);
        assert!(matches!(read, Err(ReadError::Damaged("the envelope of a job"))), "{read:?}");
        let mut batch = Batch::default();
        batch.remove(keys::place(&job.id()));
        rows.apply(batch);
        assert_eq!(read::spec_of(&rows, &row, |_| None).unwrap(), None);
        assert_eq!(read::spec_of(&rows, &row, |_| Some(job)).unwrap(), None);
    }

    // Red without either bound.
    #[test]
    fn the_newest_stay_within_the_bounds() {
        let (recent, job) = (Recent::default(), job());
        assert!(News::of(1, &job, MAX_BYTES + 1).is_none());
        let many = 3 * MAX_JOBS as u64;
        for first in 0..many {
            recent.hear(vec![News::of(first, &job, MAX_BYTES).unwrap(), News::Went(first / 2)]);
        }
        let jobs = recent.lock();
        assert!(jobs.jobs.len() <= MAX_JOBS && jobs.order.len() <= MAX_JOBS);
        let oldest = many - MAX_JOBS as u64;
        assert!(jobs.jobs.contains_key(&oldest) && !jobs.jobs.contains_key(&(oldest - 1)));
    }
}
