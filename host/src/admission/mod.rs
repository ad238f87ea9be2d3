//! Admission: from a job that somebody signed to a job that this host has agreed to run.
//!
//! [`admit`] is the only maker of an [`AdmittedJob`] (a run of a series is a part of one: [`AdmittedJob::occurrence`]; the store and a rebuild of it take back
//! what it made before), and an `AdmittedJob` is the only way to a
//! [`Grant`](strongroom_runtime::Grant) for somebody else's job: no guest byte runs that did not come through here. The one other
//! maker of grants is `trial`, for what a user of this machine tries with their own rights.
//!
//! *Owns:* every yes and no. A request is granted in full or refused with the list of what is missing; it is never
//! narrowed. *Never:* I/O, clocks (`now` is passed in), the network, the store.

pub mod command;
pub mod delegation;
mod grant;
mod labels;
mod narrow;
mod network;
mod occurrence;
mod plan;
pub mod quota;
mod replay;
pub mod role;
mod steps;
mod terms;
mod trial;
mod window;

use serde::{Deserialize, Serialize};
use strongroom_job::{
    Context, Event, GrantRecord, JobId, Limits, Name, PublicKey, Refusal, RefusalCode, Task, Timestamp,
    VerifiedJob,
};

pub use narrow::max_limits;
pub use replay::replay;
pub use steps::{Answer, explain};
pub(crate) use terms::GrantTerms;
pub use trial::trial;

use crate::config::{Config, Principal};

/// What the host has and allows, as admission needs to know it.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// The host's own key: the only audience that it answers to.
    pub host: &'a PublicKey,
    /// The checked configuration.
    pub config: &'a Config,
}

/// A job that this host has agreed to run, with everything that it asked for.
///
/// It can be written down and read back, since a queue outlives the process; only `store` does that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdmittedJob {
    id: JobId,
    signer: PublicKey,
    envelope: strongroom_job::Digest,
    context: Context,
    task: Task,
}

/// Decides about one verified job of the principal who signed it.
///
/// Whether module and input were given to the host, whether the tenant has room for the job ([`quota`]) and whether the queue
/// is open ([`queue_closed`]) are the caller's to check, since that takes a look at the store.
///
/// # Errors
/// The refusal, in words for the principal.
pub fn admit(
    job: VerifiedJob,
    who: &Principal,
    policy: &Policy<'_>,
    now: Timestamp,
) -> Result<AdmittedJob, Refusal> {
    let (signer, envelope) = (*job.signer(), *job.envelope());
    let strongroom_job::JobBody { id, context, task, .. } = job.into_body();
    steps::judge(&steps::Asked { context: &context, task: &task, who, policy, now })?;
    Ok(AdmittedJob { id, signer, envelope, context, task })
}

/// A job that this host admitted before, from the envelope that it came in: for a rebuild of the store, which holds it against the
/// record of its admission, word by word. What it may touch is asked again before each attempt ([`AdmittedJob::grant`]).
#[must_use]
pub fn readmit(job: VerifiedJob) -> AdmittedJob {
    let (signer, envelope) = (*job.signer(), *job.envelope());
    readmit_kept(job.into_body(), signer, envelope)
}

/// A job that this host admitted before, from the envelope that the store has kept since: only the store knows that it was verified, and by whose key.
#[must_use]
pub(crate) fn readmit_kept(
    body: strongroom_job::JobBody,
    signer: PublicKey,
    envelope: strongroom_job::Digest,
) -> AdmittedJob {
    let strongroom_job::JobBody { id, context, task, .. } = body;
    AdmittedJob { id, signer, envelope, context, task }
}

/// Whether the host has this queue.
///
/// # Errors
/// The refusal, with the queues that it has.
pub fn check_queue(queue: &Name, config: &Config) -> Result<(), Refusal> {
    if config.queues.contains(queue) {
        return Ok(());
    }
    let known: Vec<&str> = config.queues.iter().map(Name::as_str).collect();
    let text = format!("this host has no queue {queue:?}; it has: {}", known.join(", "));
    Err(Refusal::new(RefusalCode::UnknownQueue, text))
}

/// What is said of a queue that drains.
#[must_use]
pub fn queue_closed(queue: &Name) -> Refusal {
    let text = format!(
        "queue {queue} is draining: it takes no jobs until an operator opens it; use another queue, or wait"
    );
    Refusal::new(RefusalCode::QueueClosed, text)
}

/// What is said of an envelope whose time ran out between its admission and its commit.
#[must_use]
pub fn came_too_late() -> Refusal {
    Refusal::new(RefusalCode::Expired, "the job expired while the host took it in: sign it again")
}

/// Whether limits are within those that its principal may ask for.
fn check_limits(asked: &Limits, max: &Limits) -> Result<(), Refusal> {
    let pairs = [
        ("memory_bytes", asked.memory_bytes, max.memory_bytes),
        ("wall_ms", asked.wall_ms, max.wall_ms),
        ("stdout_bytes", asked.stdout_bytes, max.stdout_bytes),
        ("stderr_bytes", asked.stderr_bytes, max.stderr_bytes),
        // A job without a bound on processor time is bounded by its wall time, on one core.
        ("cpu_ms", asked.cpu_ms.unwrap_or(asked.wall_ms), max.cpu_ms.unwrap_or(u64::MAX)),
        ("disk_bytes", asked.disk_bytes, max.disk_bytes),
        ("file_bytes", asked.file_bytes, max.file_bytes),
        ("files", asked.files.into(), max.files.into()),
        ("handles", asked.handles.into(), max.handles.into()),
        ("sockets", asked.sockets.into(), max.sockets.into()),
        ("http_bytes", asked.http_bytes, max.http_bytes),
        ("instances", asked.instances.into(), max.instances.into()),
        ("host_buffer_bytes", asked.host_buffer_bytes, max.host_buffer_bytes),
        // Where fuel is bounded, a job without a bound asks for all of it.
        ("fuel", asked.fuel.or(max.fuel.map(|_| u64::MAX)).unwrap_or(0), max.fuel.unwrap_or(u64::MAX)),
    ];
    let over: Vec<String> = pairs
        .iter()
        .filter(|(_, asked, max)| asked > max)
        .map(|(name, asked, max)| format!("{name}: asked for {asked}, this host allows at most {max}"))
        .collect();
    if over.is_empty() {
        return Ok(());
    }
    let text =
        format!("{}. Sign the job with lower limits, or ask this host's operator for more", over.join("; "));
    Err(Refusal::new(RefusalCode::LimitTooHigh, text))
}

impl AdmittedJob {
    /// Another job of the same envelope, with the same task.
    pub(crate) fn standing_for(self, id: JobId, signer: PublicKey) -> Self {
        Self { id, signer, ..self }
    }

    /// Which job.
    #[must_use]
    pub const fn id(&self) -> JobId {
        self.id
    }

    /// Who signed it.
    #[must_use]
    pub const fn signer(&self) -> &PublicKey {
        &self.signer
    }

    /// SHA-256 of the signed body.
    #[must_use]
    pub const fn envelope(&self) -> &strongroom_job::Digest {
        &self.envelope
    }

    /// For whom and when it was signed.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// What to run.
    #[must_use]
    pub const fn task(&self) -> &Task {
        &self.task
    }

    /// What the audit log says of the admission: the grant and the limits in full, and no private value.
    #[must_use]
    pub fn record(&self) -> Event {
        Event::Admitted {
            job: self.id,
            principal: self.signer,
            tenant: self.context.tenant.clone(),
            envelope: self.envelope,
            module: self.task.module,
            grant: GrantRecord::of(&self.task.capabilities),
            limits: self.task.limits.clone(),
        }
    }
}
