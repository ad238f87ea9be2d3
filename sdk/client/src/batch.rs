//! [`Batch`]: many jobs that differ in a few parts, under one signature.
//!
//! A signature costs more than everything else that a small job does; a batch pays for one. Jobs that wait for each other, or that
//! have little in common, are easier said as a [`Flow`](crate::Flow), which makes such a batch.

use std::collections::BTreeMap;

use strongroom_job::{Base64Bytes, Capabilities, Input, JobId, Limits, ModuleRef, Plan, Variation};

use crate::Job;

/// Jobs that have a template in common. A host takes all of them or none.
#[derive(Clone, Debug)]
#[must_use = "a batch does nothing until it is submitted"]
pub struct Batch {
    template: Job,
    jobs: Vec<BatchJob>,
}

/// One job of a batch: each part that it sets replaces the template's as a whole.
#[derive(Clone, Debug, Default)]
#[must_use = "a job of a batch does nothing until it is added"]
pub struct BatchJob {
    args: Option<Vec<String>>,
    env: Option<BTreeMap<String, String>>,
    input: Option<Input>,
    module: Option<ModuleRef>,
    capabilities: Option<Box<Capabilities>>,
    limits: Option<Box<Limits>>,
    plan: Option<Box<Plan>>,
}

impl Batch {
    /// A batch of no jobs yet. `template` says what all of them have in common, and its lifetime is the batch's.
    pub const fn new(template: Job) -> Self {
        Self { template, jobs: Vec::new() }
    }

    /// Adds a job.
    pub fn job(mut self, job: BatchJob) -> Self {
        self.jobs.push(job);
        self
    }

    /// Adds jobs.
    pub fn jobs(mut self, jobs: impl IntoIterator<Item = BatchJob>) -> Self {
        self.jobs.extend(jobs);
        self
    }

    /// Number of jobs; at most 10,000 fit one signature.
    #[must_use]
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether there are no jobs yet; such a batch is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(crate) const fn template(&self) -> &Job {
        &self.template
    }

    pub(crate) fn variations(&self, ids: &[JobId]) -> Vec<Variation> {
        let vary = |(job, id): (&BatchJob, &JobId)| Variation {
            args: job.args.clone(),
            env: job.env.clone(),
            input: job.input.clone(),
            module: job.module,
            capabilities: job.capabilities.clone(),
            limits: job.limits.clone(),
            plan: job.plan.clone(),
            id: *id,
        };
        self.jobs.iter().zip(ids).map(vary).collect()
    }
}

impl BatchJob {
    /// A job that is the template itself.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the template's arguments.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args = Some(args.into_iter().map(Into::into).collect());
        self
    }

    /// Replaces the template's environment.
    pub fn env<K: Into<String>, V: Into<String>>(mut self, env: impl IntoIterator<Item = (K, V)>) -> Self {
        self.env = Some(env.into_iter().map(|(name, value)| (name.into(), value.into())).collect());
        self
    }

    /// Replaces the template's input by bytes in the envelope, at most 16 KiB. A larger one goes through
    /// [`push_input`](crate::Client::push_input) and [`input`](Self::input); one of more than
    /// [`INLINE_INPUT_BYTES`](crate::INLINE_INPUT_BYTES) is better off there, too.
    pub fn stdin_bytes(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input(Input::Inline(Base64Bytes(bytes.into())))
    }

    /// Replaces the template's input by one that the host already has.
    pub fn input(mut self, input: Input) -> Self {
        self.input = Some(input);
        self
    }

    /// Replaces the template's module.
    pub const fn module(mut self, module: ModuleRef) -> Self {
        self.module = Some(module);
        self
    }

    /// Replaces all that the template asks for.
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = Some(Box::new(capabilities));
        self
    }

    /// Replaces all of the template's limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(Box::new(limits));
        self
    }

    /// Replaces the template's plan as a whole. Its `after` counts places in the batch, from 0.
    pub fn plan(mut self, plan: Plan) -> Self {
        self.plan = Some(Box::new(plan));
        self
    }
}

#[cfg(test)]
mod tests {
    use strongroom_job::{After, Digest};

    use super::*;

    #[test]
    fn a_job_replaces_what_it_sets_and_nothing_else() {
        let module = |bytes: &[u8]| ModuleRef { digest: Digest::of(bytes), length: 1 };
        let limits = Limits { memory_bytes: 1 << 20, ..Limits::default() };
        let capabilities = Capabilities { scratch: true, ..Capabilities::default() };
        let plan = Plan { after: vec![After::success_of(0)], ..Plan::default() };
        let all = BatchJob::new()
            .args(["a"])
            .env([("K", "V")])
            .stdin_bytes("in")
            .module(module(b"b"))
            .capabilities(capabilities.clone())
            .limits(limits.clone())
            .plan(plan.clone());
        let batch = Batch::new(Job::new(module(b"a"))).job(BatchJob::new()).job(all);
        let ids = [JobId::from_bytes([1; 16]), JobId::from_bytes([2; 16])];
        let expected = Variation {
            id: ids[1],
            args: Some(vec!["a".into()]),
            env: Some(BTreeMap::from([("K".into(), "V".into())])),
            input: Some(Input::Inline(Base64Bytes(b"in".to_vec()))),
            module: Some(module(b"b")),
            capabilities: Some(Box::new(capabilities)),
            limits: Some(Box::new(limits)),
            plan: Some(Box::new(plan)),
        };
        assert_eq!(batch.variations(&ids), [Variation::of(ids[0]), expected]);
    }
}
