//! What a client asks and what a host answers.
//!
//! *Spec:* `docs/formats/wire.md`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::delegation::GrantId;
use crate::principal::PrincipalView;
use crate::{
    AcceptanceSignature, Artifact, DeadReason, Denial, Digest, EventQuery, JobId, JobState, Limits,
    ModuleRef, Name, Outcome, OutputSummary, PublicKey, Refusal, Role, Timestamp, Usage, text,
};

/// Most jobs in one answer to [`Request::List`].
pub const MAX_LIST: u32 = 500;
/// Longest result that a guest may give, in bytes.
pub const MAX_RESULT_BYTES: usize = 64 << 10;
/// Longest text of a progress, in bytes.
const MAX_PROGRESS_BYTES: usize = 200;

/// A request: the first and only header that a client sends on a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Who are you, and what do you allow? → [`Response::Host`].
    Host {},
    /// Take these signed jobs. The envelope follows. → [`Response::Accepted`].
    Submit {
        /// Bytes of the envelope that follows.
        length: u64,
    },
    /// Is this blob there already? → [`Response::Stored`].
    Has {
        /// What it is for.
        kind: BlobKind,
        /// SHA-256 of the bytes.
        digest: Digest,
    },
    /// Keep this blob. Its bytes follow. → [`Response::Stored`].
    Push {
        /// What it is for.
        kind: BlobKind,
        /// SHA-256 of the bytes that follow.
        digest: Digest,
        /// Their number.
        length: u64,
    },
    /// How does this job stand? → [`Response::Job`].
    Show {
        /// Which.
        job: JobId,
    },
    /// Tell me when this job is over. → [`Response::Job`], once it is.
    Wait {
        /// Which.
        job: JobId,
    },
    /// Tell me of each of these jobs when it is over. Their ids follow, 16 bytes each. → a [`Response::Job`] for each, in the order in which they end.
    Ends {
        /// How many, 1 to [`MAX_BATCH_JOBS`](crate::MAX_BATCH_JOBS), none twice.
        count: u32,
    },
    /// Stop this job. → [`Response::Job`], as it stood when the request was recorded.
    Cancel {
        /// Which.
        job: JobId,
    },
    /// My tenant's jobs, newest first. → [`Response::Jobs`].
    List {
        /// Only jobs accepted before this one.
        before: Option<JobId>,
        /// Only jobs in this state.
        state: Option<JobState>,
        /// At most this many, 1 to 500.
        limit: u32,
    },
    /// Output bytes from `offset` on. → [`Response::Output`], then the bytes.
    Output {
        /// Which job.
        job: JobId,
        /// Which stream.
        stream: OutputStream,
        /// Bytes to leave out at the beginning.
        offset: u64,
        /// Keep sending what comes until the job is over.
        follow: bool,
    },
    /// The registered modules. → [`Response::Modules`].
    Modules {},
    /// The bytes of an artifact from `offset` on. → [`Response::Output`], then the bytes.
    Artifact {
        /// Which job.
        job: JobId,
        /// The artifact's name.
        name: String,
        /// Bytes to leave out at the beginning.
        offset: u64,
    },
    /// The task of a job as it was signed, so that it can be signed again. → [`Response::Output`], then the task in JSON.
    Task {
        /// Which job.
        job: JobId,
    },
    /// The receipt of a job that is over. → [`Response::Output`], then the receipt ([`crate::receipt`]).
    Receipt {
        /// Which job.
        job: JobId,
        /// With the envelope that it came in, and so with arguments, variables and input.
        envelope: bool,
    },
    /// Erase what is private of a job that is over, for good; for operators. → [`Response::Erased`].
    Erase {
        /// Which, of any tenant.
        job: JobId,
        /// With all others that came in its envelope. Without this it is refused when there are any.
        batch: bool,
    },
    /// The queues, and how many jobs of my tenant are in each. → [`Response::Queues`].
    Queues {},
    /// Pause, drain or open a queue; for operators. → [`Response::Queues`], with this queue alone.
    SetQueue {
        /// Which.
        queue: Name,
        /// What it does from now on.
        mode: QueueMode,
    },
    /// What happens to my tenant's jobs, from some record on. → [`Response::Events`], then lines.
    Events(EventQuery),
    /// What happens on the host, to anybody's jobs; for operators. → [`Response::Events`], then lines.
    AllEvents(EventQuery),
    /// Take this signed grant ([`crate::delegation`]). The envelope follows. → [`Response::Grants`], with this one alone.
    AddGrant {
        /// Bytes of the envelope that follows.
        length: u64,
    },
    /// The grants of my tenant, in the order of their ids. → [`Response::Grants`].
    Grants {
        /// Only those behind this one.
        after: Option<GrantId>,
    },
    /// End this grant, and all below it; for its delegator, those above, and operators. → [`Response::Grants`], with those that ended.
    RevokeGrant {
        /// Which.
        grant: GrantId,
    },
    /// Do what this signed command orders ([`crate::principal`]); for operators. The envelope follows. → [`Response::Principals`], with the keys that
    /// it speaks of.
    ChangePrincipal {
        /// Bytes of the envelope that follows.
        length: u64,
    },
    /// The principals of the host, in the order of their keys; for operators. → [`Response::Principals`].
    Principals {
        /// Only those behind this one.
        after: Option<PublicKey>,
    },
}

/// An answer: the first header that a host sends on a stream; for [`Request::Ends`] each of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[expect(
    clippy::large_enum_variant,
    reason = "one is alive per request, and `Host` is asked for once per connection"
)]
pub enum Response {
    /// The host and the bounds that it sets.
    Host(HostView),
    /// All jobs of the envelope are durable and logged.
    Accepted {
        /// In the envelope's order.
        jobs: Vec<AcceptedJob>,
        /// The host's signature under it, over an [`Acceptance`](crate::Acceptance). Every host of this version gives it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        acceptance: Option<AcceptanceSignature>,
    },
    /// Whether the blob is there, and what it is when it is a module.
    Stored {
        /// Whether the host has it now.
        present: bool,
        /// Whether the host had it before this request.
        known: bool,
    },
    /// One job.
    Job(Box<JobView>),
    /// Some jobs.
    Jobs {
        /// Newest first.
        jobs: Vec<JobView>,
        /// Whether there may be older ones.
        more: bool,
        /// Older ones are those before this one, when they are not those before the last of `jobs`: the host looked at as many as it
        /// does at once, and few or none of them were asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<JobId>,
    },
    /// Output bytes follow until the stream ends.
    Output {
        /// How many, when it is known because the job is over.
        length: Option<u64>,
    },
    /// Registered modules.
    Modules {
        /// In the order of their digests.
        modules: Vec<ModuleView>,
    },
    /// What was private of the job is erased.
    Erased(ErasedView),
    /// Queues.
    Queues {
        /// In the order of their names.
        queues: Vec<QueueView>,
    },
    /// Lines follow, each an [`EventLine`](crate::EventLine), until the stream ends.
    Events {
        /// All records from this index on are told, as far as they are asked for.
        from: u64,
    },
    /// Grants.
    Grants {
        /// In the order of their ids.
        grants: Vec<GrantView>,
        /// Whether there are more behind the last of them.
        more: bool,
    },
    /// Principals.
    Principals {
        /// In the order of their keys.
        principals: Vec<PrincipalView>,
        /// Whether there are more behind the last of them.
        more: bool,
    },
    /// Not done, and why.
    Refused(Refusal),
}

/// A grant that the host keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantView {
    /// Which.
    pub grant: GrantId,
    /// What people call the delegate.
    pub name: Name,
    /// Who gave.
    pub delegator: PublicKey,
    /// Who got.
    pub delegate: PublicKey,
    /// In whose name the delegate's jobs run.
    pub tenant: Name,
    /// Of no use earlier.
    pub not_before: Timestamp,
    /// Of no use from then on.
    pub not_after: Timestamp,
    /// How many further grants may hang below it.
    pub further: u8,
    /// The roles that it names.
    pub roles: Vec<Role>,
    /// Whether the delegate has any right by it now: its time has come, and nobody above has lost what it gives.
    pub in_force: bool,
    /// The index of its `grant-added` record in the audit log.
    pub log_index: u64,
}

/// What was erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedView {
    /// How many jobs went: the one that was named, and with it those that came in its envelope. 0 when it was erased before.
    pub jobs: u32,
    /// The index of the last record of the audit log that says so.
    pub log_index: u64,
    /// Files of which the host cannot tell yet whether another job names them, or is about to: they go a little later.
    pub files_waiting: u32,
    /// Whether a checkpoint covers the record. Before one does, evidence may still hold what was erased; asking again waits once more.
    pub published: bool,
    /// Jobs that ended under an earlier version, which logged what they left without a salt: digests, and names of artifacts, stay in
    /// clear.
    pub in_clear: u32,
    /// Files of evidence that are damaged: what stands behind the damage could not be looked at, and stays.
    pub damaged: u32,
    /// Jobs that were not run because one of these had their unique key, in envelopes of their own, which the host still has (erase those,
    /// too): at most [`MAX_FORGOTTEN`](crate::MAX_FORGOTTEN) of them.
    pub merged: Vec<JobId>,
}

/// What a queue does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueMode {
    /// Takes jobs and starts them.
    #[default]
    Open,
    /// Takes jobs and starts none.
    Paused,
    /// Takes no jobs and starts those that it has.
    Draining,
}

impl fmt::Display for QueueMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Paused => "paused",
            Self::Draining => "draining",
        })
    }
}

/// A queue, as one tenant sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueView {
    /// Its name.
    pub queue: Name,
    /// What it does.
    pub mode: QueueMode,
    /// Jobs that wait for other jobs.
    pub accepted: u64,
    /// Jobs that wait for their time.
    pub scheduled: u64,
    /// Jobs that are ready.
    pub queued: u64,
    /// Jobs that run.
    pub running: u64,
    /// Since when the oldest of the ready ones is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
}

/// What a blob is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlobKind {
    /// A WebAssembly module or component.
    Module,
    /// A job's standard input.
    Input,
}

/// An output stream of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// What the guest gave as its result; there once the job is over.
    Result,
}

/// A host and what it allows the asking principal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostView {
    /// The host's version.
    pub version: String,
    /// The name of its audit log.
    pub log_origin: String,
    /// The key of its audit log.
    pub log_key: PublicKey,
    /// The asking principal's tenant.
    pub tenant: Name,
    /// Highest limits that a job may ask for.
    pub max_limits: Limits,
    /// Largest module, bytes.
    pub max_module_bytes: u64,
    /// Largest input, bytes.
    pub max_input_bytes: u64,
    /// Longest time window of a job, milliseconds.
    pub max_lifetime_ms: u64,
}

/// One accepted job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedJob {
    /// Which.
    pub job: JobId,
    /// The index of its `admitted` record in the audit log; of its `merged` record when `existing` is there.
    pub log_index: u64,
    /// The job is not run, because this one has its unique key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing: Option<JobId>,
}

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// Which.
    pub job: JobId,
    /// In whose name.
    pub tenant: Name,
    /// Who signed it.
    pub principal: PublicKey,
    /// What it runs.
    pub module: ModuleRef,
    /// Where it waits or waited.
    pub queue: Name,
    /// Its place there.
    pub priority: i8,
    /// How it stands.
    pub state: JobState,
    /// Attempts so far.
    pub attempt: u32,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When the last attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Index of the `admitted` record.
    pub log_index: u64,
    /// While it is `scheduled`: when it becomes ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Timestamp>,
    /// While it is `accepted`: how many jobs it still waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<u32>,
    /// While it is `running`: how far it says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What is only known when it is over.
    pub end: Option<JobEnd>,
}

/// How far a guest says it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// 0 to 100.
    pub percent: u8,
    /// The guest's own words, which may be empty. Written and read without control characters, at most 200 bytes.
    #[serde(
        serialize_with = "text::write::<MAX_PROGRESS_BYTES, _>",
        deserialize_with = "text::read::<'de, MAX_PROGRESS_BYTES, _>"
    )]
    pub text: String,
}

impl JobView {
    /// The view as it stands in a list: without denials and artifacts, of which hundreds of jobs would fit no answer.
    #[must_use]
    pub fn brief(mut self) -> Self {
        if let Some(end) = &mut self.end {
            end.denied.clear();
            end.artifacts.clear();
        }
        self
    }
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEnd {
    /// How the last attempt ended.
    pub outcome: Outcome,
    /// What it used.
    pub usage: Usage,
    /// Standard output.
    pub stdout: OutputSummary,
    /// Standard error.
    pub stderr: OutputSummary,
    /// What it asked for and was not granted; none in a list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<Denial>,
    /// Files that it left, by name; none in a list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// What it gave as its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<OutputSummary>,
    /// Why it is not tried again; then its state is `dead`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead: Option<DeadReason>,
    /// Index of the `finished` record.
    pub log_index: u64,
}

/// A registered module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleView {
    /// Digest and length.
    pub module: ModuleRef,
    /// When it was first given.
    pub registered_at: Timestamp,
}
