//! How a batch becomes its jobs, and why 4 MiB of batch cannot become gigabytes of jobs.
//!
//! Every job of a batch holds a copy of what it takes from the template. Both bounds are therefore checked on sizes that
//! are computed from the parts, in time linear in the batch, before the first copy is made:
//!
//! - each job, written alone, must be a job body that a host would take ([`MAX_JOB_BODY_BYTES`]): the store keeps jobs one
//!   by one;
//! - all jobs together must fit [`MAX_EXPANDED_BYTES`] of memory.
//!
//! *Spec:* `docs/formats/job.md`, "Batch".

use std::collections::{BTreeMap, HashSet};
use std::io;

use serde::Serialize;

use crate::body::{BatchBody, BodyError, JobBody, MAX_BATCH_JOBS, MAX_JOB_BODY_BYTES, Variation};
use crate::{Capabilities, Context, Input, JobId, Limits, ModuleRef, Plan, Task, flow};

/// Most memory that the jobs of one batch may take once each has its own copy of the template, in bytes.
pub const MAX_EXPANDED_BYTES: usize = 32 << 20;

/// What a job takes besides its texts, in bytes: itself and its fixed-size parts.
const JOB_BYTES: usize = 1024;
/// What one argument takes besides its text: a string and its allocation.
const ARG_BYTES: usize = 64;
/// What one variable or label takes besides its texts: two strings, their allocations and a share of a tree node.
const ENTRY_BYTES: usize = 128;
/// What one mount takes besides its paths.
const MOUNT_BYTES: usize = 192;
/// What one range of jobs that are waited for takes.
const AFTER_BYTES: usize = 16;
/// The name of a plan and what stands around it: `,"plan":`.
const PLAN_NAME_BYTES: usize = 8;
/// What one destination, listener, HTTP rule or secret takes besides its text.
const RULE_BYTES: usize = 192;

const _: () =
    assert!(size_of::<crate::After>() <= AFTER_BYTES, "a range must not take more than it is counted for");
const _: () = assert!(size_of::<JobBody>() <= JOB_BYTES, "a job must not take more than it is counted for");

/// All jobs of `batch`, each checked and with its own copy of the template.
///
/// # Errors
/// Names the first rule that is broken; nothing of the batch is taken then.
pub(crate) fn expand(batch: BatchBody) -> Result<Vec<JobBody>, BodyError> {
    let BatchBody { version, context, template, jobs } = batch;
    if jobs.is_empty() || jobs.len() > MAX_BATCH_JOBS {
        return Err(BodyError::BatchSize(jobs.len()));
    }
    let mut ids = HashSet::with_capacity(jobs.len());
    if let Some(twice) = jobs.iter().find(|job| !ids.insert(job.id)) {
        return Err(BodyError::DuplicateId(twice.id));
    }
    template.check()?;
    for (index, job) in jobs.iter().enumerate() {
        let checked = job.check().and_then(|()| job.check_with(&template));
        checked.map_err(|error| BodyError::BatchTask { index, id: job.id, error })?;
    }
    flow::check(&template, &jobs)?;
    check_sizes(version, &context, &template, &jobs)?;
    let body = |job: Variation| JobBody {
        version,
        id: job.id,
        context: context.clone(),
        task: job.apply_to(&template),
    };
    Ok(jobs.into_iter().map(body).collect())
}

fn check_sizes(
    version: u64,
    context: &Context,
    template: &Task,
    jobs: &[Variation],
) -> Result<(), BodyError> {
    let alone =
        JobBody { version, id: JobId::from_bytes([0; 16]), context: context.clone(), task: template.clone() };
    let whole = Size { json: json_bytes(&alone), memory: task_memory(template) };
    let (args, env, input) = (of_args(&template.args), of_env(&template.env), of_input(&template.input));
    let (module, asked) = (of_module(&template.module), of_capabilities(&template.capabilities));
    let (limits, plan) = (of_limits(&template.limits), of_plan(&template.plan));
    let mut total: usize = 0;
    for (index, job) in jobs.iter().enumerate() {
        let size = whole
            .replace(args, job.args.as_deref().map(of_args))
            .replace(env, job.env.as_ref().map(of_env))
            .replace(input, job.input.as_ref().map(of_input))
            .replace(module, job.module.as_ref().map(of_module))
            .replace(asked, job.capabilities.as_deref().map(of_capabilities))
            .replace(limits, job.limits.as_deref().map(of_limits))
            .replace(plan, job.plan.as_deref().map(of_plan));
        if size.json > MAX_JOB_BODY_BYTES {
            return Err(BodyError::JobTooLong { index, id: job.id, length: size.json });
        }
        total = total.saturating_add(size.memory);
    }
    if total > MAX_EXPANDED_BYTES { Err(BodyError::BatchTooLarge(total)) } else { Ok(()) }
}

/// How long something is as JSON without white space, and about how much memory it takes; both in bytes.
#[derive(Clone, Copy)]
struct Size {
    json: usize,
    memory: usize,
}

impl Size {
    /// The size of a whole of which `old` is a part, once `new` stands in the part's place.
    const fn replace(self, old: Self, new: Option<Self>) -> Self {
        match new {
            Some(new) => {
                Self { json: self.json - old.json + new.json, memory: self.memory - old.memory + new.memory }
            }
            None => self,
        }
    }
}

fn of_args(args: &[String]) -> Size {
    Size { json: json_bytes(&args), memory: args.iter().map(|arg| ARG_BYTES + arg.len()).sum() }
}

fn of_env(env: &BTreeMap<String, String>) -> Size {
    Size { json: json_bytes(env), memory: entries_memory(env) }
}

fn of_input(input: &Input) -> Size {
    let memory = match input {
        Input::Inline(bytes) => bytes.0.len(),
        Input::Outputs { artifact } => artifact.as_ref().map_or(0, String::len),
        Input::Empty | Input::Blob { .. } => 0,
    };
    Size { json: json_bytes(input), memory }
}

fn of_module(module: &ModuleRef) -> Size {
    Size { json: json_bytes(module), memory: 0 }
}

fn of_capabilities(asked: &Capabilities) -> Size {
    let mounts = asked.mounts.iter();
    let mounts: usize = mounts.map(|mount| MOUNT_BYTES + mount.path.len() + mount.source.len()).sum();
    Size { json: json_bytes(asked), memory: mounts + rules_memory(asked) }
}

fn of_limits(limits: &Limits) -> Size {
    Size { json: json_bytes(limits), memory: 0 }
}

/// A plan that says nothing is left out, with its name.
fn of_plan(plan: &Plan) -> Size {
    let texts = plan.unique.as_ref().map_or(0, |unique| unique.key.len())
        + plan.group.as_ref().map_or(0, String::len)
        + plan.repeat.as_ref().map_or(0, |repeat| repeat.cron.len() + repeat.zone.len());
    let memory = texts + entries_memory(&plan.requires) + plan.after.len() * AFTER_BYTES;
    let json = if plan.is_default() { 0 } else { PLAN_NAME_BYTES + json_bytes(plan) };
    Size { json, memory }
}

fn entries_memory(entries: &BTreeMap<String, String>) -> usize {
    entries.iter().map(|(name, value)| ENTRY_BYTES + name.len() + value.len()).sum()
}

fn task_memory(task: &Task) -> usize {
    let parts = of_args(&task.args).memory + of_env(&task.env).memory + of_input(&task.input).memory;
    let more = of_capabilities(&task.capabilities).memory + of_plan(&task.plan).memory;
    JOB_BYTES + parts + more + entries_memory(&task.labels)
}

fn rules_memory(asked: &Capabilities) -> usize {
    fn each<T: ToString>(rules: &[T]) -> usize {
        rules.iter().map(|rule| RULE_BYTES + rule.to_string().len()).sum()
    }
    // Each method of a rule is a string of its own.
    let methods: usize = asked.http.iter().map(|rule| rule.methods.len() * ARG_BYTES).sum();
    each(&asked.connect) + each(&asked.listen) + each(&asked.http) + each(&asked.secrets) + methods
}

/// Counts the bytes of `value` as JSON without keeping them.
fn json_bytes<T: Serialize>(value: &T) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    #[expect(
        clippy::expect_used,
        reason = "string keys and plain values always serialize; counting takes every write"
    )]
    serde_json::to_writer(&mut count, value).expect("plain data serializes");
    count.0
}
