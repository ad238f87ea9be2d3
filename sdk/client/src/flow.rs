//! [`Flow`]: jobs that wait for each other, under one signature. A workflow as data: nothing of the caller's has to stay alive.
//!
//! ```
//! # use strongroom_sdk::{Digest, Flow, Job, ModuleRef};
//! # let module = || ModuleRef { digest: Digest::of(b""), length: 0 };
//! # let (split, count, sum, alarm) = (module(), module(), module(), module());
//! let mut flow = Flow::new();
//! let split = flow.add(Job::new(split).read_volume("docs", "/docs"));
//! let counts = flow.group((0..100).map(|part| Job::new(count.clone()).arg(part.to_string()).after(split)));
//! let sum = flow.add(Job::new(sum).after_all(counts).stdin_from_outputs());
//! flow.add(Job::new(alarm).after_failure_of(sum));
//! ```
//!
//! A handle exists only once its job was added, so a job can wait for earlier ones only, and a circle cannot be said.

mod compile;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use strongroom_job::{Input, On};

pub(crate) use compile::{Compiled, compile};

use crate::{Error, Job};

/// Jobs that wait for each other. A host takes all of them or none; at most 10,000.
///
/// All jobs of a flow have queue, priority, labels and [`idempotent`](Job::idempotent) in common, because one signature says
/// them once. All else is each job's own. The flow may be accepted for as long as its shortest [`lifetime`](Job::lifetime) says.
#[derive(Debug)]
#[must_use = "a flow does nothing until it is submitted"]
pub struct Flow {
    /// Tells its handles from those of other flows.
    number: u64,
    jobs: Vec<FlowJob>,
}

/// A job of a flow that others can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    flow: u64,
    place: u32,
}

/// A [`Job`] and what it waits for. The words of a job come first, then those of this.
#[derive(Clone, Debug)]
#[must_use = "a job of a flow does nothing until it is added"]
pub struct FlowJob {
    job: Job,
    after: Vec<(Handle, On)>,
    input: Option<Input>,
}

impl Flow {
    /// A flow of no jobs yet.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { number: NEXT.fetch_add(1, Ordering::Relaxed), jobs: Vec::new() }
    }

    /// Adds a job, and says how others can wait for it.
    pub fn add(&mut self, job: impl Into<FlowJob>) -> Handle {
        // A flow of more than four billion jobs is refused by its size; its handles need not be right.
        let place = u32::try_from(self.jobs.len()).unwrap_or(u32::MAX);
        self.jobs.push(job.into());
        Handle { flow: self.number, place }
    }

    /// Adds jobs that do not wait for each other.
    pub fn group<J: Into<FlowJob>>(&mut self, jobs: impl IntoIterator<Item = J>) -> Vec<Handle> {
        jobs.into_iter().map(|job| self.add(job)).collect()
    }

    /// Adds jobs of which each waits for the one before to succeed; the last one's handle, if there is any.
    pub fn chain<J: Into<FlowJob>>(&mut self, jobs: impl IntoIterator<Item = J>) -> Option<Handle> {
        let mut last = None;
        for job in jobs {
            let job = job.into();
            last = Some(self.add(match last {
                Some(before) => job.after(before),
                None => job,
            }));
        }
        last
    }

    /// Number of jobs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether there are no jobs yet; such a flow is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(crate) fn jobs(&self) -> &[FlowJob] {
        &self.jobs
    }

    /// The places of the jobs that each job waits for, each once.
    fn edges(&self) -> Result<Vec<Vec<(u32, On)>>, Error> {
        self.jobs.iter().enumerate().map(|(place, job)| self.edges_of(place, job)).collect()
    }

    fn edges_of(&self, place: usize, job: &FlowJob) -> Result<Vec<(u32, On)>, Error> {
        let wrong = |problem: String| {
            Err(Error::InvalidField { field: "after", problem: format!("job {place} of the flow {problem}") })
        };
        let mut edges = Vec::with_capacity(job.after.len());
        let mut known = HashMap::with_capacity(job.after.len());
        for (before, on) in &job.after {
            if before.flow != self.number || before.index() >= place {
                return wrong("waits for a job of another flow".into());
            }
            match known.insert(before.place, *on) {
                None => edges.push((before.place, *on)),
                Some(earlier) if earlier == *on => {}
                Some(_) => return wrong(format!("waits for two different ends of job {}", before.place)),
            }
        }
        Ok(edges)
    }

    /// The shortest lifetime that a job says.
    pub(crate) fn lifetime(&self) -> Option<Duration> {
        self.jobs.iter().filter_map(|job| job.job.said_lifetime()).min()
    }
}

impl Default for Flow {
    fn default() -> Self {
        Self::new()
    }
}

impl Handle {
    /// The job's place in the flow, from 0, and in what is returned for the flow.
    #[must_use]
    pub const fn index(self) -> usize {
        self.place as usize
    }
}

impl Job {
    /// In a [`Flow`]: waits until `before` has succeeded; if it ends otherwise, this job is cancelled.
    pub fn after(self, before: Handle) -> FlowJob {
        FlowJob::from(self).after(before)
    }

    /// In a [`Flow`]: waits until all of them have succeeded.
    pub fn after_all(self, before: impl IntoIterator<Item = Handle>) -> FlowJob {
        FlowJob::from(self).after_all(before)
    }

    /// In a [`Flow`]: waits until `before` has ended without success; if it succeeds, this job is cancelled.
    pub fn after_failure_of(self, before: Handle) -> FlowJob {
        FlowJob::from(self).after_failure_of(before)
    }

    /// In a [`Flow`]: waits until `before` is over, however it ends.
    pub fn after_end_of(self, before: Handle) -> FlowJob {
        FlowJob::from(self).after_end_of(before)
    }
}

impl FlowJob {
    /// Waits until `before` has succeeded; if it ends otherwise, this job is cancelled.
    pub fn after(self, before: Handle) -> Self {
        self.edge(before, On::Success)
    }

    /// Waits until all of them have succeeded.
    pub fn after_all(self, before: impl IntoIterator<Item = Handle>) -> Self {
        before.into_iter().fold(self, Self::after)
    }

    /// Waits until `before` has ended without success; if it succeeds, this job is cancelled.
    pub fn after_failure_of(self, before: Handle) -> Self {
        self.edge(before, On::Failure)
    }

    /// Waits until `before` is over, however it ends.
    pub fn after_end_of(self, before: Handle) -> Self {
        self.edge(before, On::End)
    }

    /// Standard input is what all jobs that it waits for wrote to standard output, one after the other in the order in which
    /// they were named. In place of whatever input the job has.
    pub fn stdin_from_outputs(mut self) -> Self {
        self.input = Some(Input::Outputs { artifact: None });
        self
    }

    /// Standard input is the artifact `name` of all jobs that it waits for, one after the other in the order in which they were
    /// named; a job that left none adds nothing.
    pub fn stdin_from_artifacts(mut self, name: impl Into<String>) -> Self {
        self.input = Some(Input::Outputs { artifact: Some(name.into()) });
        self
    }

    fn edge(mut self, before: Handle, on: On) -> Self {
        self.after.push((before, on));
        self
    }

    pub(crate) const fn job(&self) -> &Job {
        &self.job
    }

    /// The input that it takes from other jobs.
    pub(crate) const fn input(&self) -> Option<&Input> {
        self.input.as_ref()
    }
}

impl From<Job> for FlowJob {
    fn from(job: Job) -> Self {
        Self { job, after: Vec::new(), input: None }
    }
}
