//! Whether records and answers can be true, by the promises alone.

use std::collections::BTreeMap;

use strongroom::admission::AdmittedJob;
use strongroom::store::Simulated;
use strongroom_job::{
    AcceptedJob, Event, JobId, JobState, On, Outcome, Plan, Record, RetryOn, RetryPolicy, Taken, Timestamp,
};

use crate::jobs::{Sent, pool, waits_for};

/// Jobs of the queue `narrow` that run at once.
pub(crate) const NARROW: u32 = 2;
/// Jobs of one group in it that run at once.
pub(crate) const PER_GROUP: u32 = 1;

/// What the records say of one job so far.
#[derive(Debug)]
struct Story {
    job: &'static AdmittedJob,
    sent: &'static Sent,
    accepted: Timestamp,
    index: u64,
    place: Place,
    attempts: u32,
    crashes: u32,
    /// The next attempt may not begin earlier.
    ready_at: Timestamp,
    released: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Waits,
    Runs,
    Over(JobState),
}

#[derive(Default)]
struct Judge {
    stories: BTreeMap<JobId, Story>,
    /// Jobs that are not run, and the ones that are in their place.
    merged: BTreeMap<JobId, (u64, JobId)>,
}

/// Panics where a promise is broken.
pub(crate) fn judge(
    records: &[Record],
    told: &BTreeMap<JobId, AcceptedJob>,
    store: &Simulated,
    now: Timestamp,
) {
    let mut judge = Judge::default();
    let mut latest = Timestamp::default();
    for (index, record) in (0u64..).zip(records) {
        assert!(latest <= record.time, "time went back at {index}");
        latest = record.time;
        judge.read(index, record);
    }
    for (job, accepted) in told {
        let promised = (accepted.log_index, accepted.existing);
        let kept = match judge.merged.get(job) {
            Some((index, into)) => (*index, Some(*into)),
            None => (judge.stories[job].index, None),
        };
        assert_eq!(promised, kept, "job {job} was acknowledged, and is not what was said");
    }
    for (job, story) in &judge.stories {
        let Place::Over(state) = story.place else { panic!("job {job} never came to an end: {story:?}") };
        let row = store.row(job).unwrap().expect("a job that has records has a row");
        assert_eq!((row.life.state(now), row.life.attempt), (state, story.attempts), "job {job}");
    }
}

/// No attempt may begin: it has expired, or is older than its plan allows.
fn has_expired(plan: &Plan, accepted: Timestamp, time: Timestamp) -> bool {
    let most = plan.retry.as_ref().and_then(|policy| policy.max_age_ms);
    plan.expires.is_some_and(|expires| expires <= time)
        || most.is_some_and(|most| time.since(accepted).as_millis() > u128::from(most))
}

/// Whether a policy names this end; said here once more, so that what is judged does not judge itself.
fn names(policy: &RetryPolicy, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Exited { code } => *code != 0 && policy.on.contains(&RetryOn::Failed),
        Outcome::Trapped { .. } => policy.on.contains(&RetryOn::Trapped),
        _ => false,
    }
}

fn find(job: &JobId) -> (&'static Sent, &'static AdmittedJob) {
    let found = pool().iter().find_map(|sent| Some((sent, sent.jobs.iter().find(|one| one.id() == *job)?)));
    found.expect("a job that somebody sent")
}

impl Judge {
    fn read(&mut self, index: u64, record: &Record) {
        let time = record.time;
        match &record.event {
            Event::Admitted { job, .. } => self.admit(index, *job, time),
            Event::Merged { job, into, .. } => {
                let unique = find(job).1.task().plan.unique.as_ref().expect("a unique key");
                assert_eq!(unique.taken, Taken::Existing);
                assert!(self.stories.contains_key(into), "merged into nothing");
                assert!(
                    self.merged.insert(*job, (index, *into)).is_none() && !self.stories.contains_key(job)
                );
            }
            Event::Released { job } => {
                for (before, on) in self.edges(job) {
                    let Place::Over(state) = self.stories[&before].place else {
                        panic!("{job} is released, and {before} is not over")
                    };
                    assert!(on.is_met_by(state), "{job} is released although {before} is {state}");
                }
                self.story(job).released = true;
            }
            Event::Started { job, attempt } => self.start(job, *attempt, time),
            Event::CancelRequested { job, .. } => assert_eq!(self.story(job).place, Place::Runs),
            Event::Requeued { job, attempt } => {
                let story = self.story(job);
                assert_eq!((story.place, story.attempts), (Place::Runs, *attempt));
                assert!(
                    story.job.task().idempotent,
                    "{job} is not idempotent, and is run again after a crash"
                );
                story.crashes += 1;
                assert!(story.crashes < 3, "{job} brings the host down for ever");
                story.place = Place::Waits;
            }
            Event::Retried { job, attempt, outcome, ready_at, .. } => {
                let story = self.story(job);
                assert_eq!((story.place, story.attempts), (Place::Runs, *attempt));
                let policy = story.job.task().plan.retry.as_ref().expect("a policy");
                assert!(
                    names(policy, outcome) && *attempt < policy.attempts,
                    "{job} is tried again: {outcome}"
                );
                let age = ready_at.since(story.accepted).as_millis();
                assert!(policy.max_age_ms.is_none_or(|most| age <= u128::from(most)), "{job} is too old");
                let pause = ready_at.since(time).as_millis();
                assert!(pause <= u128::from(policy.max_pause_ms));
                (story.place, story.ready_at) = (Place::Waits, *ready_at);
            }
            Event::Finished { job, attempt, outcome, dead, .. } => {
                let state = if dead.is_some() { JobState::Dead } else { outcome.state() };
                self.finish(job, *attempt, outcome, state, time);
            }
            Event::QueueSet { .. } => {}
            other => panic!("nobody logged this: {other:?}"),
        }
    }

    fn story(&mut self, job: &JobId) -> &mut Story {
        self.stories.get_mut(job).expect("a job that was admitted")
    }

    /// For whom a job waits: for the one in whose place another is, it waits for that.
    fn edges(&self, job: &JobId) -> Vec<(JobId, On)> {
        let story = &self.stories[job];
        let edges = waits_for(story.sent, story.job).into_iter();
        edges.map(|(before, on)| (self.merged.get(&before).map_or(before, |(_, into)| *into), on)).collect()
    }

    fn admit(&mut self, index: u64, id: JobId, time: Timestamp) {
        let (sent, job) = find(&id);
        if let Some(unique) = &job.task().plan.unique {
            let others = self.stories.values().filter(|story| story.job.id() != id);
            let same = others.filter(|story| {
                story.job.task().plan.unique.as_ref().is_some_and(|other| other.key == unique.key)
            });
            for story in same {
                // The record of a replacement stands right behind this one.
                let waits = story.place == Place::Waits && story.attempts == 0;
                let replaced = unique.taken == Taken::Replace && waits;
                assert!(
                    matches!(story.place, Place::Over(_)) || replaced,
                    "{id} has the key of {}, which is alive",
                    story.job.id()
                );
            }
        }
        let ready_at = job.task().plan.at.unwrap_or_default();
        let (place, released) = (Place::Waits, job.task().plan.after.is_empty());
        let story =
            Story { job, sent, accepted: time, index, place, attempts: 0, crashes: 0, ready_at, released };
        assert!(self.stories.insert(id, story).is_none(), "{id} is admitted twice");
    }

    fn start(&mut self, job: &JobId, attempt: u32, time: Timestamp) {
        let story = self.story(job);
        assert_eq!((story.place, story.attempts + 1), (Place::Waits, attempt), "{job}");
        assert!(story.released, "{job} starts before those that it waits for are over");
        assert!(story.ready_at <= time, "{job} starts too early");
        let plan = &story.job.task().plan;
        assert!(!has_expired(plan, story.accepted, time), "{job} starts too late");
        (story.attempts, story.place) = (attempt, Place::Runs);
        let narrow =
            |story: &&Story| story.place == Place::Runs && story.job.task().queue.as_str() == "narrow";
        let running: Vec<_> = self.stories.values().filter(narrow).collect();
        assert!(running.len() <= NARROW as usize, "too many of one queue run");
        for one in &running {
            let group = &one.job.task().plan.group;
            let same = running.iter().filter(|other| other.job.task().plan.group == *group).count();
            assert!(group.is_none() || same <= PER_GROUP as usize, "too many of one group run");
        }
    }

    fn finish(&mut self, job: &JobId, attempt: u32, outcome: &Outcome, state: JobState, time: Timestamp) {
        if let Outcome::Unmet { job: before } = outcome {
            let edges = self.edges(job);
            let on = edges.iter().find(|(one, _)| one == before).expect("a job that it waits for").1;
            let Place::Over(before) = self.stories[before].place else {
                panic!("unmet by a job that is not over")
            };
            assert!(!on.is_met_by(before));
        }
        let story = self.story(job);
        assert_eq!(attempt, story.attempts, "{job}");
        let waits = story.place == Place::Waits;
        let plan = &story.job.task().plan;
        let fits = match outcome {
            Outcome::Exited { .. } | Outcome::Trapped { .. } | Outcome::Interrupted => !waits,
            Outcome::Cancelled => true,
            Outcome::Expired => waits && has_expired(plan, story.accepted, time),
            Outcome::Unmet { .. } => waits && !story.released,
            Outcome::Replaced { .. } => waits && story.attempts == 0,
            Outcome::Exceeded { .. } | Outcome::Faulted { .. } => false,
        };
        assert!(fits, "{job} ended {outcome} from {:?}", story.place);
        assert!(!matches!(story.place, Place::Over(_)), "{job} has two ends");
        if state == JobState::Dead {
            let policy = plan.retry.as_ref().expect("a policy");
            assert!(names(policy, outcome));
        }
        story.place = Place::Over(state);
    }
}
