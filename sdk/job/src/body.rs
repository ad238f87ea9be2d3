//! The signed body of a job, and of a batch of jobs that are signed once.
//!
//! *Spec:* `docs/formats/job.md`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::expand::{MAX_EXPANDED_BYTES, expand};
use crate::strict::{self, StrictError};
use crate::task::{self, TaskError};
use crate::{Capabilities, Input, JobId, Limits, ModuleRef, Name, Plan, PublicKey, Task, Timestamp};

/// Longest signed body of one job, in bytes.
pub const MAX_JOB_BODY_BYTES: usize = 64 << 10;
/// Longest signed body of a batch, in bytes.
pub const MAX_BATCH_BODY_BYTES: usize = 4 << 20;
/// Most jobs of a batch.
pub const MAX_BATCH_JOBS: usize = 10_000;

/// Most jobs that all jobs of a batch together wait for: a job counts once for each job that waits for it.
pub const MAX_EDGES: usize = 100_000;

/// The version that every body of this format carries.
const VERSION: u64 = 1;

/// One job, as it is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobBody {
    /// Always 1.
    pub version: u64,
    /// Chosen by the client, 128 random bits.
    pub id: JobId,
    /// For whom, by whom and when.
    pub context: Context,
    /// What to run.
    pub task: Task,
}

/// What a job or a batch is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// The key of the one host that may run it.
    pub audience: PublicKey,
    /// The tenant in whose name it runs.
    pub tenant: Name,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// Not to be accepted earlier.
    pub not_before: Timestamp,
    /// Not to be accepted later. The host remembers the job's id until then, so that it cannot be replayed.
    pub not_after: Timestamp,
    /// 128 random bits: they make the body's digest, which the audit log shows, useless for guessing its content.
    pub salt: Salt,
}

/// 128 random bits, 32 lowercase hex digits.
pub type Salt = JobId;

/// Many jobs under one signature: a template and what differs from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchBody {
    /// Always 1.
    pub version: u64,
    /// For whom, by whom and when.
    pub context: Context,
    /// What all jobs have in common.
    pub template: Task,
    /// The jobs, 1 to 10,000.
    pub jobs: Vec<Variation>,
}

/// One job of a batch: its id, and each part of the template that it replaces as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variation {
    /// Chosen by the client, 128 random bits.
    pub id: JobId,
    /// Replaces the template's arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Replaces the template's environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// Replaces the template's input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
    /// Replaces the template's module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<ModuleRef>,
    /// Replaces the template's capabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Box<Capabilities>>,
    /// Replaces the template's limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Box<Limits>>,
    /// Replaces the template's plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Box<Plan>>,
}

impl Variation {
    /// A job that is the template itself.
    #[must_use]
    pub const fn of(id: JobId) -> Self {
        let (args, env, input) = (None, None, None);
        Self { id, args, env, input, module: None, capabilities: None, limits: None, plan: None }
    }
}

/// Why a body is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not the strict JSON of this format.
    #[error("the signed body is malformed: {0}")]
    Malformed(#[from] StrictError),
    /// A newer or older format.
    #[error("the signed body has version {0}; this host reads version {VERSION}")]
    Version(u64),
    /// A rule of the task is broken.
    #[error("the signed body is wrong: {0}")]
    Task(#[from] TaskError),
    /// A batch of no jobs, or of too many.
    #[error("a batch of {0} jobs: 1 to {MAX_BATCH_JOBS} are allowed")]
    BatchSize(usize),
    /// One id twice in a batch.
    #[error("job id {0} stands twice in the batch")]
    DuplicateId(JobId),
    /// One of the jobs breaks a rule.
    #[error("job {index} of the batch ({id}) is wrong: {error}")]
    BatchTask {
        /// Its place in the batch, from 0.
        index: usize,
        /// Its id.
        id: JobId,
        /// The rule.
        error: TaskError,
    },
    /// One of the jobs is longer than a job that is signed alone may be.
    #[error(
        "job {index} of the batch ({id}) has {length} bytes with all that it takes from the template; at most \
         {MAX_JOB_BODY_BYTES} are allowed: give large data as blobs"
    )]
    JobTooLong {
        /// Its place in the batch, from 0.
        index: usize,
        /// Its id.
        id: JobId,
        /// Its length as a body of its own, written without white space, in bytes.
        length: usize,
    },
    /// All jobs together take too much memory.
    #[error(
        "the jobs of the batch take {0} bytes once each has its copy of the template; at most {MAX_EXPANDED_BYTES} are \
         allowed: sign several smaller batches"
    )]
    BatchTooLarge(usize),
    /// A job waits for a place that the batch does not have.
    #[error("job {index} of the batch waits for job {place}, and the batch has only {count}, counted from 0")]
    UnknownDependency {
        /// Its place in the batch, from 0.
        index: usize,
        /// The place that it names.
        place: u32,
        /// Jobs of the batch.
        count: usize,
    },
    /// Two jobs of the batch have the same unique key.
    #[error("job {index} of the batch has the unique key of an earlier one: a key can stand once in a batch")]
    KeyTwice {
        /// Place of the later one in the batch, from 0.
        index: usize,
    },
    /// A job waits twice for the same one.
    #[error("job {index} of the batch waits for job {place} twice: name it once")]
    DependencyTwice {
        /// Its place in the batch, from 0.
        index: usize,
        /// The place that it names twice.
        place: u32,
    },
    /// Jobs wait for each other in a circle.
    #[error(
        "jobs of the batch wait for each other in a circle, job {0} among them: none of them could ever start"
    )]
    Cycle(usize),
    /// All jobs together wait for too many.
    #[error("the jobs of the batch wait for {0} others in all; at most {MAX_EDGES} are allowed")]
    TooManyDependencies(usize),
}

impl JobBody {
    /// A body of the current version.
    #[must_use]
    pub const fn new(id: JobId, context: Context, task: Task) -> Self {
        Self { version: VERSION, id, context, task }
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BodyError> {
        let body: Self = strict::parse(bytes, MAX_JOB_BODY_BYTES)?;
        check_version(body.version)?;
        body.task.check()?;
        if !body.task.plan.after.is_empty() {
            return Err(task::fault("plan.after", "only a job of a batch can wait for others").into());
        }
        Ok(body)
    }
}

impl BatchBody {
    /// A body of the current version.
    #[must_use]
    pub const fn new(context: Context, template: Task, jobs: Vec<Variation>) -> Self {
        Self { version: VERSION, context, template, jobs }
    }

    /// Parses and expands: a batch is refused as a whole or taken as a whole.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<JobBody>, BodyError> {
        let body: Self = strict::parse(bytes, MAX_BATCH_BODY_BYTES)?;
        check_version(body.version)?;
        expand(body)
    }
}

impl Variation {
    /// Checks what this job replaces; the rest was checked with the template.
    pub(crate) fn check(&self) -> Result<(), TaskError> {
        self.args.as_deref().map_or(Ok(()), task::check_args)?;
        self.env.as_ref().map_or(Ok(()), task::check_env)?;
        self.input.as_ref().map_or(Ok(()), task::check_input)?;
        self.capabilities.as_ref().map_or(Ok(()), |asked| asked.check())?;
        self.limits.as_ref().map_or(Ok(()), |limits| limits.check())?;
        self.plan.as_ref().map_or(Ok(()), |plan| plan.check())
    }

    /// Checks the rules between parts, of which some are the template's.
    pub(crate) fn check_with(&self, template: &Task) -> Result<(), TaskError> {
        let asked = self.capabilities.as_deref().unwrap_or(&template.capabilities);
        asked.check_env(self.env.as_ref().unwrap_or(&template.env))?;
        let input = self.input.as_ref().unwrap_or(&template.input);
        task::check_sources(input, self.plan.as_deref().unwrap_or(&template.plan))
    }

    pub(crate) fn apply_to(self, template: &Task) -> Task {
        Task {
            module: self.module.unwrap_or(template.module),
            entry: template.entry,
            args: self.args.unwrap_or_else(|| template.args.clone()),
            env: self.env.unwrap_or_else(|| template.env.clone()),
            input: self.input.unwrap_or_else(|| template.input.clone()),
            capabilities: self.capabilities.map_or_else(|| template.capabilities.clone(), |asked| *asked),
            limits: self.limits.map_or_else(|| template.limits.clone(), |limits| *limits),
            queue: template.queue.clone(),
            priority: template.priority,
            idempotent: template.idempotent,
            labels: template.labels.clone(),
            plan: self.plan.map_or_else(|| template.plan.clone(), |plan| *plan),
        }
    }
}

fn check_version(version: u64) -> Result<(), BodyError> {
    if version == VERSION { Ok(()) } else { Err(BodyError::Version(version)) }
}
