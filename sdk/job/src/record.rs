//! Audit records: what the log says happened, one strict JSON object per leaf.
//!
//! A record never holds an argument, a variable, an input or an output: those enter as salted hashes. The envelope's digest is
//! salted by the 128 random bits inside the signed body, outputs by a salt of the job's own (`opening`); neither enters the log. Erase
//! them, and the hashes say nothing any more, while every proof still verifies.
//!
//! *Spec:* `docs/formats/record.md`.

mod grant;
mod kind;
mod words;

use serde::{Deserialize, Serialize};

use crate::delegation::GrantId;
use crate::principal::CommandId;
use crate::strict::{self, StrictError};
use crate::text;
use crate::{
    ArtifactRecord, Base64Bytes, DeadReason, Denial, Digest, JobId, LeftRecord, Limits, MAX_REASON_BYTES,
    ModuleRef, Name, Outcome, OutputRecord, PublicKey, QueueMode, RefusalCode, Role, Timestamp, TrustVersion,
    Usage,
};

pub use grant::GrantRecord;
pub use words::{Change, ErasedJob, GrantEnd, StateFault};

/// Longest leaf that a log entry bundle can hold, in bytes.
pub const MAX_RECORD_BYTES: usize = 65_535;

/// Most jobs that one `forgotten` record names, or one `erased` record.
pub const MAX_FORGOTTEN: usize = 256;

/// The version that every record of this format carries.
const VERSION: u8 = 1;

/// Why a leaf is not taken as a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not the strict JSON of a record.
    #[error("the audit record is malformed: {0}")]
    Malformed(#[from] StrictError),
    /// A newer format.
    #[error("the audit record has version {0}; this program reads version {VERSION}")]
    Version(u64),
    /// The right content in another spelling, or with fields that version 1 does not have.
    #[error(
        "the audit record is not written as a host writes it: unknown fields, other order or white space"
    )]
    NotAsWritten,
}

#[derive(Deserialize)]
struct Versioned {
    v: u64,
}

/// One leaf of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The format's version, always 1.
    pub v: u8,
    /// The host's clock when the record was committed.
    pub time: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Event {
    /// The host began to serve.
    HostStarted {
        /// The host's transport key.
        host: PublicKey,
        /// The host's version.
        version: String,
        /// SHA-256 of the configuration file.
        config: Digest,
    },
    /// The host stopped in order.
    HostStopped {},
    /// A module was registered.
    ModuleRegistered {
        /// Who gave it.
        principal: PublicKey,
        /// Which.
        module: ModuleRef,
    },
    /// A known principal was refused.
    Refused {
        /// Who asked.
        principal: PublicKey,
        /// Which job, when that much could be read.
        job: Option<JobId>,
        /// Why.
        code: RefusalCode,
        /// Refusals of this principal since its last such record that were only counted: a flood must not fill the disk. For
        /// `missing-role`, of this principal and this role.
        suppressed: u64,
        /// The role that was missing, when the code is `missing-role`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<Role>,
    },
    /// A job was admitted: durable from here on, with everything that it was given.
    Admitted {
        /// Which job.
        job: JobId,
        /// Who signed it.
        principal: PublicKey,
        /// In whose name.
        tenant: Name,
        /// SHA-256 of the signed body (of the batch, when it came in one).
        envelope: Digest,
        /// What it runs.
        module: ModuleRef,
        /// What it may touch.
        grant: GrantRecord,
        /// What it may use up.
        limits: Limits,
    },
    /// An attempt began.
    Started {
        /// Which job.
        job: JobId,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// Somebody asked for a running or queued job to be stopped.
    CancelRequested {
        /// Which job.
        job: JobId,
        /// Who.
        principal: PublicKey,
    },
    /// A job that is signed as idempotent goes back to its queue, because the host went down while it ran.
    Requeued {
        /// Which job.
        job: JobId,
        /// The attempt that was cut off.
        attempt: u32,
    },
    /// Every job that this one waits for is over: it is ready.
    Released {
        /// Which job.
        job: JobId,
    },
    /// An attempt ended in a way that the job's plan tries again.
    Retried {
        /// Which job.
        job: JobId,
        /// The attempt that ended.
        attempt: u32,
        /// How.
        outcome: Outcome,
        /// What it used.
        usage: Usage,
        /// The next attempt does not begin earlier.
        ready_at: Timestamp,
    },
    /// A job was not run because another one has its unique key; whoever sent it was told of that one.
    Merged {
        /// The job that is not run.
        job: JobId,
        /// Who signed it.
        principal: PublicKey,
        /// SHA-256 of the signed body.
        envelope: Digest,
        /// The job that has the key.
        into: JobId,
    },
    /// A run was made of a series, for one of its due times. The run's own `admitted` record follows.
    Fired {
        /// The series.
        job: JobId,
        /// The run.
        run: JobId,
        /// When it was due.
        due: Timestamp,
    },
    /// Due times of a series passed of which no run was made: those from one up to another, which is not among them.
    Missed {
        /// The series.
        job: JobId,
        /// The first of them.
        from: Timestamp,
        /// Where the series goes on, or when it is over.
        until: Timestamp,
    },
    /// A queue was paused, drained or opened.
    QueueSet {
        /// Which.
        queue: Name,
        /// What it does from now on.
        mode: QueueMode,
        /// Who said so.
        principal: PublicKey,
    },
    /// The host let jobs go that are over, as its rules of retention say. Their other records stay.
    Forgotten {
        /// Whose.
        tenant: Name,
        /// Of these it keeps nothing more: not their end, not the envelope once the last job that came in it is among them.
        jobs: Vec<JobId>,
        /// Of these it keeps their end, and what they left no more. At most 256 in both lists.
        stripped: Vec<JobId>,
    },
    /// What was private of jobs that are over was erased for good, because somebody said so. Their other records stay.
    Erased {
        /// Whose.
        tenant: Name,
        /// The digest of the body of the envelope that they came in.
        envelope: Digest,
        /// Index of the first record that named this envelope: what it held may stand near that in the host's evidence, however much later
        /// these jobs came.
        first: u64,
        /// Of these the host keeps nothing more: no envelope, nothing that they left, no salt. At most 256.
        jobs: Vec<ErasedJob>,
        /// Who said so.
        principal: PublicKey,
    },
    /// The host's state was lost or damaged, and made anew from this log. What was acknowledged after the last checkpoint before it, at
    /// most the last moments, may be missing.
    StateRebuilt {
        /// What was found.
        found: StateFault,
        /// What was wrong with it, in words. Written and read without control characters, at most [`MAX_REASON_BYTES`].
        #[serde(
            serialize_with = "text::write::<MAX_REASON_BYTES, _>",
            deserialize_with = "text::read::<'de, MAX_REASON_BYTES, _>"
        )]
        problem: String,
        /// Records that it was made from: all those before this one.
        records: u64,
        /// Jobs that the state holds again.
        jobs: u64,
        /// Jobs of the log that it does not hold, because they were forgotten.
        forgotten: u64,
        /// The time of the last record that it was made from.
        last: Timestamp,
    },
    /// The system's clock was set, or stood still with the machine.
    ClockStepped {
        /// What it would have shown by the time that has passed.
        from: Timestamp,
        /// What it shows.
        to: Timestamp,
        /// Steps that this record tells of: more than one when it was set again shortly after, which is told together.
        steps: u64,
    },
    /// What governs the host is not what the log last said it was. Follows `host-started`, or comes when a host that
    /// runs has read its configuration again.
    ConfigurationChanged {
        /// Addresses, bounds, witnesses, destinations of the log: all that is in neither of the other two.
        configuration: Change,
        /// Who may connect, and what each may ask for.
        principals: Change,
        /// What holds for all jobs: queues, tenants, limits, volumes, labels, retention.
        policy: Change,
    },
    /// Another version of the trust file is in force: one record for each version, in order.
    TrustChanged {
        /// Which.
        version: u64,
        /// SHA-256 of what was signed.
        digest: Digest,
        /// From then on its operators may do nothing that others may not.
        expires: Timestamp,
        /// How many of its operators must sign it, and the version after it.
        threshold: u64,
        /// Who may operate the host. At most [`MAX_OPERATORS`](crate::trust::MAX_OPERATORS), ascending.
        operators: Vec<PublicKey>,
        /// The version that was in force until now; none when it is the first that this host has.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        old: Option<TrustVersion>,
    },
    /// One of the host's keys was replaced while nobody served.
    KeyRotated {
        /// Which.
        key: crate::succession::KeyRole,
        /// The one that went.
        old: PublicKey,
        /// The one that came.
        new: PublicKey,
        /// SHA-256 of the statement that both signed, as it is written.
        statement: Digest,
    },
    /// A principal, or a delegate, gave some of its rights to another key. The record holds all that was signed.
    GrantAdded {
        /// Which grant.
        grant: GrantId,
        /// Who handed it in: the delegator, or an operator.
        principal: PublicKey,
        /// Who gave.
        delegator: PublicKey,
        /// Who got.
        delegate: PublicKey,
        /// In whose name the delegate's jobs run.
        tenant: Name,
        /// The grant of the same delegator for the same key that ends with this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<GrantId>,
        /// The signed bytes.
        payload: Base64Bytes,
        /// The delegator's signature.
        signature: Base64Bytes,
    },
    /// Grants ended: one, and those below it, or some whose time was up.
    GrantsEnded {
        /// Whose: in whose name their delegates' jobs ran.
        tenant: Name,
        /// Which. At most [`MAX_FORGOTTEN`].
        grants: Vec<GrantId>,
        /// Why.
        why: GrantEnd,
        /// Who said so; the host itself when their time was up.
        principal: PublicKey,
    },
    /// An operator changed who is a principal. The record holds all that was signed.
    PrincipalChanged {
        /// Which command.
        command: CommandId,
        /// Who ordered it, signed it and handed it in.
        principal: PublicKey,
        /// The key that is out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revoked: Option<PublicKey>,
        /// The key that is out no more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        restored: Option<PublicKey>,
        /// The key that came.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        added: Option<PublicKey>,
        /// Earlier commands that the host lets go of: their time is up, and nothing of what they ordered is left. At most [`MAX_FORGOTTEN`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        forgets: Vec<CommandId>,
        /// The signed bytes.
        payload: Base64Bytes,
        /// The operator's signature.
        signature: Base64Bytes,
    },
    /// The running host has looked at its own log and files, and this is what came of it.
    Checked {
        /// How long it took, milliseconds.
        took_ms: u64,
        /// Records of the log that were verified, from the first one on; 0 when the log does not verify.
        records: u64,
        /// Files that the state names and that were read.
        files: u64,
        /// Their length, bytes.
        bytes: u64,
        /// What is wrong, counted.
        problems: u64,
        /// One problem in words; empty and left out when there is none. At most [`MAX_REASON_BYTES`], without control characters.
        #[serde(
            default,
            skip_serializing_if = "String::is_empty",
            serialize_with = "text::write::<MAX_REASON_BYTES, _>",
            deserialize_with = "text::read::<'de, MAX_REASON_BYTES, _>"
        )]
        first: String,
    },
    /// The job is over: it is in its one terminal state.
    Finished {
        /// Which job.
        job: JobId,
        /// The last attempt; 0 when it never started.
        attempt: u32,
        /// How it ended.
        outcome: Outcome,
        /// What it used.
        usage: Usage,
        /// Standard output.
        stdout: OutputRecord,
        /// Standard error.
        stderr: OutputRecord,
        /// What the last attempt asked for and was not granted.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        denied: Vec<Denial>,
        /// Files that the last attempt left, by name.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        artifacts: Vec<ArtifactRecord>,
        /// What the last attempt gave as its result, when it gave one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<OutputRecord>,
        /// Why it is not tried again, when its plan tries such an outcome again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dead: Option<DeadReason>,
    },
}

impl Record {
    /// A record of the current version.
    #[must_use]
    pub const fn new(time: Timestamp, event: Event) -> Self {
        Self { v: VERSION, time, event }
    }

    /// The leaf: one line of JSON, in which control characters of any text are escaped.
    #[must_use]
    pub fn to_leaf(&self) -> Vec<u8> {
        #[expect(
            clippy::expect_used,
            reason = "string keys and plain values always serialize; a Vec takes every write"
        )]
        serde_json::to_vec(self).expect("plain data serializes")
    }

    /// Reads a leaf back: exactly the bytes that [`Record::to_leaf`] writes, nothing looser.
    ///
    /// # Errors
    /// When the leaf is not a record of this format and version, or is not written the one way in which hosts write it.
    pub fn from_leaf(leaf: &[u8]) -> Result<Self, RecordError> {
        match strict::parse::<Self>(leaf, MAX_RECORD_BYTES) {
            Ok(record) if record.v == VERSION => {
                if record.to_leaf() == leaf {
                    Ok(record)
                } else {
                    Err(RecordError::NotAsWritten)
                }
            }
            not_ours => Err(Self::problem(leaf, not_ours.err())),
        }
    }

    /// Why a leaf is no record. Of its version alone first: a newer record should be called newer, not malformed.
    fn problem(leaf: &[u8], malformed: Option<StrictError>) -> RecordError {
        match (strict::parse(leaf, MAX_RECORD_BYTES), malformed) {
            (Ok(Versioned { v }), _) if v != u64::from(VERSION) => RecordError::Version(v),
            (Ok(_), None) => RecordError::NotAsWritten,
            (Err(error), _) | (Ok(_), Some(error)) => error.into(),
        }
    }

    /// The job that the record is about, if it is about one.
    #[must_use]
    pub const fn job(&self) -> Option<&JobId> {
        match &self.event {
            Event::Admitted { job, .. }
            | Event::Started { job, .. }
            | Event::CancelRequested { job, .. }
            | Event::Requeued { job, .. }
            | Event::Released { job }
            | Event::Retried { job, .. }
            | Event::Merged { job, .. }
            | Event::Fired { job, .. }
            | Event::Missed { job, .. }
            | Event::Finished { job, .. } => Some(job),
            Event::Refused { job, .. } => job.as_ref(),
            Event::HostStarted { .. }
            | Event::HostStopped {}
            | Event::ModuleRegistered { .. }
            | Event::QueueSet { .. }
            | Event::Forgotten { .. }
            | Event::ClockStepped { .. }
            | Event::ConfigurationChanged { .. }
            | Event::TrustChanged { .. }
            | Event::KeyRotated { .. }
            | Event::GrantAdded { .. }
            | Event::GrantsEnded { .. }
            | Event::PrincipalChanged { .. }
            | Event::Checked { .. }
            | Event::Erased { .. }
            | Event::StateRebuilt { .. } => None,
        }
    }

    /// Whether it says something of this job: it is about it, or names it among others.
    #[must_use]
    pub fn concerns(&self, job: &JobId) -> bool {
        match &self.event {
            Event::Forgotten { jobs, stripped, .. } => jobs.contains(job) || stripped.contains(job),
            Event::Erased { jobs, .. } => jobs.iter().any(|erased| erased.job == *job),
            _ => self.job() == Some(job),
        }
    }

    /// What the job left, if it is the record of an end.
    #[must_use]
    pub fn left(&self) -> Option<LeftRecord> {
        match &self.event {
            Event::Finished { stdout, stderr, artifacts, result, .. } => {
                let artifacts = artifacts.clone();
                Some(LeftRecord { stdout: *stdout, stderr: *stderr, artifacts, result: *result })
            }
            _ => None,
        }
    }
}
