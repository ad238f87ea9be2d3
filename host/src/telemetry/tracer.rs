//! What the parts of the host note with what happens to a job. None of it waits, and without a collector there is none of it.

use std::sync::Arc;
use std::time::Duration;

use strongroom_job::{AcceptedJob, JobId, JobState, Limit, Name, Outcome, Timestamp};
use tokio::sync::mpsc;

use super::ids::Parent;
use crate::admission::AdmittedJob;
use crate::clock::Stopwatch;
use crate::meters::Meters;

/// Things that happened and are not sent yet: about 1 KiB each at most. What comes when there are so many is dropped, and counted.
pub(super) const MAX_WAITING: usize = 8192;

/// Notes what happens. Clones note in the same place.
#[derive(Clone, Debug)]
pub(crate) struct Tracer {
    items: mpsc::Sender<Told>,
    meters: Arc<Meters>,
}

/// Something that happened.
#[derive(Debug)]
pub(super) enum Told {
    /// A job was accepted.
    Accepted { subject: Subject, from: Timestamp, took: Duration },
    /// An attempt is over.
    Attempt(Box<Attempt>),
    /// A job is over; the exporter looks up the rest.
    Over(JobId),
}

/// An attempt, from the end of the wait before it to its durable end.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) subject: Subject,
    pub(super) attempt: u32,
    /// Since when it had been ready to run.
    pub(super) ready: Timestamp,
    pub(super) began: Timestamp,
    pub(super) took: Duration,
    pub(super) state: JobState,
    pub(super) limit: Option<Limit>,
    /// From the beginning of the attempt, in order.
    pub(super) parts: Vec<(Part, Duration, Duration)>,
}

/// Whom something is told of.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(super) job: JobId,
    pub(super) tenant: Name,
    pub(super) queue: Name,
    pub(super) parent: Option<Parent>,
}

/// An envelope that may come to be accepted.
#[derive(Debug)]
pub(crate) struct Accepting<'t> {
    tracer: &'t Tracer,
    from: Timestamp,
    watch: Stopwatch,
    subjects: Vec<Subject>,
}

impl Accepting<'_> {
    /// Says which jobs are in it.
    pub(crate) fn are(&mut self, jobs: &[AdmittedJob]) {
        self.subjects = jobs.iter().map(Subject::of).collect();
    }

    /// They are durable; this is the answer, in their order. One whose place another job has already is none.
    pub(crate) fn accepted(self, answer: &[AcceptedJob]) {
        let took = self.watch.passed();
        for (subject, accepted) in self.subjects.into_iter().zip(answer) {
            if subject.job == accepted.job && accepted.existing.is_none() {
                self.tracer.tell(Told::Accepted { subject, from: self.from, took });
            }
        }
    }
}

/// The parts of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The compiled module, from memory, from the cache on disk or from the compiler.
    Load,
    /// The grant, and what it is made of: directories, secrets, the input.
    Prepare,
    /// A thread for the guest, its world, its module's start function.
    Instantiate,
    /// The guest itself.
    Run,
    /// What it left.
    Keep,
    /// Its end, made durable.
    Commit,
}

impl Part {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Load => "load module",
            Self::Prepare => "prepare",
            Self::Instantiate => "instantiate",
            Self::Run => "run",
            Self::Keep => "keep output",
            Self::Commit => "commit",
        }
    }
}

/// The parts of an attempt as they come; nothing at all where nobody traces.
#[derive(Debug, Default)]
pub(crate) struct Steps(Option<Box<Taken>>);

#[derive(Debug)]
struct Taken {
    subject: Option<Subject>,
    ready: Timestamp,
    began: Timestamp,
    watch: Stopwatch,
    parts: Vec<(Part, Duration, Duration)>,
    now: Option<(Part, Duration)>,
}

impl Subject {
    pub(crate) fn of(job: &AdmittedJob) -> Self {
        let task = job.task();
        Self {
            job: job.id(),
            tenant: job.context().tenant.clone(),
            queue: task.queue.clone(),
            parent: Parent::of(&task.labels),
        }
    }
}

impl Tracer {
    pub(super) fn new(meters: Arc<Meters>) -> (Self, mpsc::Receiver<Told>) {
        let (items, received) = mpsc::channel(MAX_WAITING);
        (Self { items, meters }, received)
    }

    /// An envelope is here that was not looked at yet.
    pub(crate) fn accepting(&self, now: Timestamp) -> Accepting<'_> {
        Accepting { tracer: self, from: now, watch: Stopwatch::start(), subjects: Vec::new() }
    }

    /// A job is over, however that came.
    pub(crate) fn over(&self, job: JobId) {
        self.tell(Told::Over(job));
    }

    /// An attempt is over, and that is durable.
    pub(crate) fn attempt(&self, steps: Steps, attempt: u32, outcome: &Outcome) {
        let Some(mut taken) = steps.0 else { return };
        taken.close();
        let took = taken.watch.passed();
        let Taken { subject, ready, began, parts, .. } = *taken;
        // One whose job could not even be read is told of by its end.
        let Some(subject) = subject else { return };
        let limit = match outcome {
            Outcome::Exceeded { limit, .. } => Some(*limit),
            _ => None,
        };
        let state = outcome.state();
        self.tell(Told::Attempt(Box::new(Attempt {
            subject,
            attempt,
            ready,
            began,
            took,
            state,
            limit,
            parts,
        })));
    }

    fn tell(&self, told: Told) {
        // Also when nobody receives: the host stops.
        if self.items.try_send(told).is_err() {
            self.meters.telemetry.spans_dropped.add();
        }
    }
}

impl Steps {
    /// Those of an attempt that begins `now`, of a job that had been ready since `ready`.
    pub(crate) fn begin(ready: Timestamp, now: Timestamp) -> Self {
        Self(Some(Box::new(Taken {
            subject: None,
            ready: ready.min(now),
            began: now,
            watch: Stopwatch::start(),
            parts: Vec::with_capacity(6),
            now: None,
        })))
    }

    /// Says whose they are.
    pub(crate) fn are_of(&mut self, job: &AdmittedJob) {
        if let Some(taken) = &mut self.0 {
            taken.subject = Some(Subject::of(job));
        }
    }

    /// The part before it ends, and this one begins.
    pub(crate) fn next(&mut self, part: Part) {
        if let Some(taken) = &mut self.0 {
            taken.close();
            taken.now = Some((part, taken.watch.passed()));
        }
    }

    /// The part that is under way becomes another one for its last `time`, now that it is known.
    pub(crate) fn was(&mut self, part: Part, time: Duration) {
        if let Some(taken) = &mut self.0
            && let Some((before, from)) = taken.now
        {
            let split = taken.watch.passed().saturating_sub(time).max(from);
            taken.parts.push((before, from, split));
            taken.now = Some((part, split));
        }
    }
}

impl Taken {
    fn close(&mut self) {
        if let Some((part, from)) = self.now.take() {
            self.parts.push((part, from, self.watch.passed()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_dropped_and_counted() {
        let meters = Arc::new(Meters::default());
        let (tracer, received) = Tracer::new(Arc::clone(&meters));
        for _ in 0..MAX_WAITING + 3 {
            tracer.over(JobId::from_bytes([1; 16]));
        }
        assert_eq!((received.len(), meters.telemetry.spans_dropped.get()), (MAX_WAITING, 3));
    }

    #[test]
    fn parts_follow_each_other_without_a_hole() {
        let mut steps = Steps::begin(Timestamp::from_millis(5), Timestamp::from_millis(3));
        steps.next(Part::Load);
        steps.next(Part::Instantiate);
        steps.was(Part::Run, Duration::ZERO);
        steps.next(Part::Commit);
        let mut taken = steps.0.unwrap();
        taken.close();
        assert_eq!(taken.ready, taken.began, "a clock that was set back makes no wait");
        let parts: Vec<_> = taken.parts.iter().map(|(part, ..)| *part).collect();
        assert_eq!(parts, [Part::Load, Part::Instantiate, Part::Run, Part::Commit]);
        for pair in taken.parts.windows(2) {
            assert_eq!(pair[0].2.max(pair[1].1), pair[1].1, "{pair:?}");
        }
    }
}
