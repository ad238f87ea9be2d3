//! The contract between a Strongroom client and a host: what is signed, sent, stored and proven.
//!
//! The road of a job, and the module that holds each step:
//!
//! 1. [`Task`] says what to run, with which capabilities and limits (`task`), and [`Plan`] when (`plan`);
//! 2. [`JobBody`] or [`BatchBody`] adds id, host, tenant and time window (`body`);
//! 3. [`sign_job`] or [`sign_batch`] puts it in a DSSE envelope (`envelope`);
//! 4. a [`Request`] frame carries it to the host, a [`Response`] comes back (`frame`, `message`, `refusal`);
//! 5. [`Envelope::verify`] turns bytes into a [`VerifiedJob`], the only type that the host admits;
//! 6. the host answers with a signed [`Acceptance`] (`acceptance`);
//! 7. a [`Record`] of every step becomes a leaf of the audit log (`record`, `outcome`), an [`Opening`] says what it hides (`opening`);
//! 8. a [`receipt`] proves to anybody how the job ended, without the host (`receipt`);
//! 9. a [`TrustFile`](trust::TrustFile) says who may operate the host (`trust`);
//! 10. a [`SignedDelegation`](delegation::SignedDelegation) gives some of a principal's rights to another key, for a while (`delegation`);
//! 11. a [`SignedCommand`](principal::SignedCommand) of an operator adds a principal, or takes one out (`principal`);
//! 12. whoever pinned a key of the host follows to the one that came after it ([`succession`]).
//!
//! *Never:* I/O, async, clocks, randomness. The caller passes them in as bytes and [`Timestamp`]s.
#![forbid(unsafe_code)]

mod acceptance;
mod as_hex;
mod as_text;
mod base64_bytes;
mod body;
mod capabilities;
pub mod checkpoint;
mod close;
pub mod cosignature;
pub mod delegation;
mod digest;
mod dsse;
mod envelope;
mod events;
mod expand;
mod flow;
pub mod frame;
mod id;
mod key;
mod limits;
pub mod merkle;
mod message;
mod name;
mod network;
pub mod note;
mod opening;
mod outcome;
mod plan;
pub mod principal;
pub mod receipt;
mod record;
mod refusal;
mod role;
pub mod signed;
mod spki;
pub mod strict;
pub mod succession;
mod task;
mod text;
pub mod tile;
mod time;
pub mod tlog_proof;
pub mod trust;
pub mod witness;

pub use acceptance::{
    ACCEPTANCE_PAYLOAD_TYPE, Acceptance, AcceptanceError, AcceptanceSignature, MAX_ACCEPTANCE_BYTES,
    SignedAcceptance,
};
pub use base64_bytes::Base64Bytes;
pub use body::{
    BatchBody, BodyError, Context, JobBody, MAX_BATCH_BODY_BYTES, MAX_BATCH_JOBS, MAX_EDGES,
    MAX_JOB_BODY_BYTES, Salt, Variation,
};
pub use capabilities::{
    ARTIFACTS_PATH, Access, Capabilities, MAX_MOUNTS, MAX_PATH_BYTES, MAX_PATHS_BYTES, MAX_RULES,
    MAX_RULES_BYTES, Mount, MountSource, SCRATCH_PATH, SECRETS_PATH, SecretForm, SecretUse,
};
pub use close::CloseCode;
pub use digest::{Digest, Digester, ParseDigestError};
pub use envelope::{
    BATCH_PAYLOAD_TYPE, Envelope, EnvelopeError, JOB_PAYLOAD_TYPE, MAX_ENVELOPE_BYTES, SignedEnvelope,
    VerifiedJob, sign_batch, sign_job,
};
pub use events::{EventLine, EventQuery, HostEvent, MAX_EVENT_LINE_BYTES};
pub use expand::MAX_EXPANDED_BYTES;
pub use id::{JobId, ParseJobIdError};
pub use key::{PublicKey, PublicKeyError, SecretKey, Signature};
pub use limits::Limits;
pub use message::{
    AcceptedJob, BlobKind, ErasedView, GrantView, HostView, JobEnd, JobView, MAX_LIST, MAX_RESULT_BYTES,
    ModuleView, OutputStream, Progress, QueueMode, QueueView, Request, Response,
};
pub use name::{MAX_NAME_BYTES, Name, ParseNameError};
pub use network::{Destination, Hosts, HttpRule, Listener, MAX_RULE_BYTES, ParseRuleError, Protocol};
pub use opening::{ArtifactRecord, Committed, LeftRecord, Opening, OutputRecord, OutputSalt};
pub use outcome::{
    Artifact, DeadReason, Denial, JobState, Limit, MAX_ARTIFACT_NAMES_BYTES, MAX_ARTIFACTS, MAX_DENIALS,
    MAX_REASON_BYTES, Outcome, OutputSummary, Usage,
};
pub use plan::{
    After, MAX_AFTER, MAX_ATTEMPTS, MAX_KEY_BYTES, MAX_MISSED, MAX_PAUSE_MS, MAX_REPEAT_CRON_BYTES,
    MAX_ZONE_BYTES, Missed, On, Plan, Repeat, RetryOn, RetryPolicy, Taken, Unique,
};
pub use principal::{PrincipalSource, PrincipalView};
pub use record::{
    Change, ErasedJob, Event, GrantEnd, GrantRecord, MAX_FORGOTTEN, MAX_RECORD_BYTES, Record, RecordError,
    StateFault,
};
pub use refusal::{MAX_MESSAGE_BYTES, MAX_MISSING, Refusal, RefusalCode};
pub use role::{ParseRoleError, Role};
pub use spki::SPKI_BYTES;
pub use task::{
    Entry, Input, MAX_ARGS, MAX_ENV, MAX_INLINE_INPUT_BYTES, MAX_LABEL_BYTES, MAX_LABELS, ModuleRef, Task,
    TaskError,
};
pub use time::Timestamp;
pub use trust::TrustVersion;
