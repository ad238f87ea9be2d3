//! The store: job state, and the audit records that go with it, in one sled keyspace.
//!
//! *Owns:* the only sled, and the journal before it. One writer thread takes [`Transition`]s, puts as many as are waiting into one batch, makes the
//! batch durable as one entry of the journal and only then answers; sled gets the rows later, from another thread. A job's new state and its record
//! are in the same batch, so they are never apart.
//! *Never:* decides what is legal (`lifecycle`) or allowed (`admission`).
//! *Crash:* before the batch is durable nobody was told anything; after it, everything in it happened. There is no third
//! case, since an entry is whole or not there. What leaves the journal is durable in sled: `flush` alone does not survive power loss on Linux (it
//! ends in `sync_file_range`), so it is followed by `fdatasync` on sled's file through a descriptor held open since the start.
//! *Spec:* `docs/formats/state.md`.

mod active;
mod base;
mod bytes;
mod closing;
mod commands;
mod compact;
mod core;
mod counts;
mod current;
mod doomed;
mod envelope;
mod erase;
mod evidence;
mod fault;
mod follow;
mod fresh;
mod garbage;
mod given;
mod grants;
mod group;
mod headway;
mod journal;
mod keys;
mod leftovers;
mod migrate;
mod nudge;
mod opened;
mod overlay;
mod pace;
mod pack;
mod past;
mod proportion;
mod published;
mod read;
pub mod rebuild;
mod recent;
mod renew;
mod row;
mod rows;
mod said;
mod series;
mod settings;
mod signed;
mod spec;
mod statement;
mod unique;
mod unpublished;
mod whose;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use strongroom_job::delegation::{GrantId, SignedDelegation};
use strongroom_job::principal::{CommandId, SignedCommand};
use strongroom_job::{
    AcceptedJob, BlobKind, Digest, Event, GrantEnd, JobId, ModuleRef, Name, PublicKey, QueueMode, Refusal,
    Timestamp,
};
use tokio::sync::{mpsc, oneshot, watch};

pub use active::{Active, ActiveJobs};
pub use closing::Closing;
pub use core::{Answers, Simulated};
pub use doomed::{Doomed, DoomedJob, MAX_ERASED};
pub use erase::Erased;
pub use evidence::Source;
pub use fault::{Fault, NoFault, Step};
pub use given::GivenInput;
pub(crate) use given::unknown_input;
pub use opened::Opened;
pub use past::PastJob;
pub use published::PublishedHead;
pub use read::Cursor;
pub use row::{JobRow, Slot};
pub use said::{Checked, Governed};
pub use signed::Signed;
pub use unique::Merged;
pub use unpublished::Leaf;
pub(crate) use whose::Whose;

use crate::admission::AdmittedJob;
use crate::config::TenantRules;
use crate::lifecycle::{self, Illegal};
use crate::meters::Meters;
use crate::retention::Fate;
use crate::schedule::Entry;

/// Transitions that may wait for the writer; whoever comes later waits to hand his in.
const MAX_PENDING: usize = 8192;
/// A handle to the store; clones are handles to the same one.
#[derive(Clone)]
pub struct Store {
    current: current::Current,
    pending: mpsc::Sender<writer::Request>,
    /// Leaves that are durable: the size of the log that may be published.
    durable: watch::Receiver<u64>,
    recent: recent::Recent,
    unpublished: unpublished::Unpublished,
    failed: watch::Receiver<Option<String>>,
    /// The writer's, for a first look.
    counts: counts::Counts,
    meters: Arc<Meters>,
}

/// One thing that happens, and is logged, or does not happen at all.
#[derive(Debug)]
pub enum Transition {
    /// Jobs that were admitted together: all of them or none.
    Admit {
        /// The jobs, in their envelope's order.
        jobs: Vec<AdmittedJob>,
        /// The envelope as it came: the evidence behind the records.
        envelope: Arc<[u8]>,
        /// Whether that is the envelope of one job, and no batch: then what the job is can be read from it, and is not written down once more.
        alone: bool,
        /// Jobs that may wait or run at once.
        max_active: usize,
        /// What their tenant may have.
        rules: Box<TenantRules>,
    },
    /// Something happens to one job.
    Step {
        /// Which.
        job: JobId,
        /// What.
        event: lifecycle::Event,
    },
    /// A series is due: its runs are made, and it waits for its next due time.
    Fire {
        /// Which.
        job: JobId,
        /// Jobs that may wait or run at once.
        max_active: usize,
        /// What its tenant may have.
        rules: Box<TenantRules>,
    },
    /// An attempt is over: its end, and the output that is short enough to be kept here.
    Finish {
        /// Which job.
        job: JobId,
        /// A [`lifecycle::Event::Finish`].
        event: lifecycle::Event,
        /// Its short output.
        outputs: Outputs,
    },
    /// A tenant gave the host a blob whose bytes are durable already.
    Register {
        /// What for.
        kind: BlobKind,
        /// In whose name.
        tenant: Name,
        /// Digest and length.
        blob: ModuleRef,
        /// Logged for a module that the tenant did not have yet.
        event: Option<Event>,
        /// What the tenant may have.
        rules: Box<TenantRules>,
    },
    /// Jobs of a tenant that are over go, as far as `retention` says.
    Forget {
        /// Whose.
        tenant: Name,
        /// Which, and how much of each.
        jobs: Vec<(PastJob, Fate)>,
    },
    /// Inputs go that no job has named for a long time.
    ForgetInputs {
        /// Which, as they were looked at.
        inputs: Vec<GivenInput>,
    },
    /// Jobs go that were not run because others had their unique keys, and that nobody can submit again.
    ForgetMerged {
        /// Which, with the times when their signatures expired.
        jobs: Vec<(Timestamp, JobId)>,
    },
    /// A queue does something else from now on.
    SetQueue {
        /// Which.
        queue: Name,
        /// What it does.
        mode: QueueMode,
        /// Who said so.
        by: PublicKey,
    },
    /// What is private of jobs that are over goes for good.
    Erase {
        /// Which, as they were found.
        doomed: Box<Doomed>,
        /// Who said so.
        by: PublicKey,
    },
    /// A principal gave some of its rights to another key.
    AddGrant {
        /// What was signed.
        signed: Box<SignedDelegation>,
        /// The grant that ends with it.
        replaces: Option<GrantId>,
        /// Who handed it in.
        by: PublicKey,
    },
    /// Grants end.
    EndGrants {
        /// Whose they all are.
        tenant: Name,
        /// Which; at most as many as one record names.
        grants: Vec<GrantId>,
        /// Why.
        why: GrantEnd,
        /// Who said so.
        by: PublicKey,
    },
    /// An operator changed who is a principal.
    Command {
        /// What was signed.
        signed: Box<SignedCommand>,
        /// Earlier ones that go.
        forgets: Vec<CommandId>,
    },
    /// Nothing changes, but the log says it.
    Log(Event),
    /// The log was published up to here: remembered, so that a log that is put back to an earlier state is noticed.
    Published {
        /// Size and root.
        head: PublishedHead,
        /// Leaves below this index are in full, durable bundles: their copies here may go.
        forget_below: u64,
    },
}

/// Output of a finished attempt that is kept in the store; what is longer is a blob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    /// Standard output.
    pub stdout: Option<Vec<u8>>,
    /// Standard error.
    pub stderr: Option<Vec<u8>>,
    /// What it gave as its result.
    pub result: Option<Vec<u8>>,
}

/// What a committed group means for the schedule, told in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// An attempt is over, and has run so long.
    Ran(JobId, Duration),
    /// The job waits from now on, in place of whatever was known of it.
    Waits(Entry),
    /// The job is over.
    Over(JobId),
    /// The queue does something else from now on.
    Queue(Name, QueueMode),
}

/// Who is told what groups mean, by the store's writer, in their order. It must not block.
pub trait Listener: Send {
    /// What a group means so far that is about to be made durable, and that nobody may see before. The jobs that it gives start with it: the
    /// same commit that makes them ready says that they run.
    fn judged(&self, effects: &[Effect]) -> Vec<Box<dyn Starting>>;

    /// The group is durable, and nobody was answered. The first `known` effects are those that [`Listener::judged`] was told.
    fn durable(&self, effects: Vec<Effect>, known: usize);
}

/// Who is told of durable groups alone, and starts nothing with them.
impl<F: Fn(Vec<Effect>) + Send> Listener for F {
    fn judged(&self, _: &[Effect]) -> Vec<Box<dyn Starting>> {
        Vec::new()
    }

    fn durable(&self, effects: Vec<Effect>, _: usize) {
        self(effects);
    }
}

/// A job that is to start with a group. When the group cannot be made durable it is dropped, and has not started.
pub trait Starting: Send {
    /// Which.
    fn job(&self) -> JobId;

    /// What its start came to, durably.
    fn answer(self: Box<Self>, start: Result<Committed, CommitError>);
}

/// What a committed transition came to.
#[derive(Debug)]
pub enum Committed {
    /// The jobs' places in the log: a repeated envelope gets the first answer again.
    Admitted {
        /// In the order of the transition.
        jobs: Vec<AcceptedJob>,
        /// When the last of them was accepted, as in its record.
        time: Timestamp,
    },
    /// The job as it stands now.
    Stepped(Box<JobRow>),
    /// What was erased.
    Erased {
        /// How many jobs.
        jobs: usize,
        /// Index of the last `erased` record.
        log_index: u64,
        /// Files that these jobs left or read, if there are files of these names; others may still name them.
        files: Vec<Digest>,
    },
    /// The place in the log of a grant, or of a command.
    Granted {
        /// Index of its record.
        log_index: u64,
    },
    /// Done.
    Done,
}

/// Why a transition did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The job's state does not allow it.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// No such job.
    #[error("no such job")]
    UnknownJob,
    /// A job id that was used before, for other bytes.
    #[error("job id {0} was used before for another job: draw a new id")]
    Conflict(JobId),
    /// Another job has the unique key.
    #[error(
        "the unique key {key:?} is taken by job {holder}: wait until it is over, or sign the job to take its place or to be answered with it"
    )]
    NotUnique {
        /// The job that was not taken.
        job: JobId,
        /// The key.
        key: String,
        /// Who has it.
        holder: JobId,
    },
    /// The queue is full.
    #[error(
        "the queue is full: this host takes {max} jobs at once, waiting or running, and has {active}; try again later"
    )]
    Full {
        /// Jobs waiting or running.
        active: usize,
        /// Jobs allowed.
        max: usize,
    },
    /// The tenant may have no more, or names an input that is gone: in words for whoever asked.
    #[error(transparent)]
    Denied(Refusal),
    /// The store cannot write any more. The host stops.
    #[error("the store failed: {0}")]
    Failed(String),
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// sled refuses.
    #[error("cannot open the state in {path}: {error}")]
    Sled {
        /// The directory.
        path: PathBuf,
        /// sled's reason.
        error: sled::Error,
    },
    /// sled's file cannot be held open for `fdatasync`.
    #[error("cannot open {path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: std::io::Error,
    },
    /// Rows of another version.
    #[error("the state in {path} was written by another version: {problem}")]
    Version {
        /// The directory.
        path: PathBuf,
        /// What it has.
        problem: String,
    },
    /// Rows that no version wrote.
    #[error("the state in {path} is damaged: {problem}")]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },
}

/// Reading failed: the store is damaged or its disk is.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// sled could not read.
    #[error("the store cannot be read: {0}")]
    Sled(#[from] sled::Error),
    /// A row that is not what this version writes.
    #[error("the store holds a damaged row: {0}")]
    Row(#[from] serde_json::Error),
    /// A file beside it could not be read.
    #[error(transparent)]
    Io(std::io::Error),
    /// A value that is not what this version writes.
    #[error("the store holds a damaged value: {0}")]
    Damaged(&'static str),
    /// The writer is gone, so what was read may never become durable.
    #[error("the store has stopped")]
    Stopped,
}

impl Store {
    /// Hands a transition to the writer and waits until it is durable.
    ///
    /// # Errors
    /// When it is illegal, or the store failed.
    pub async fn commit(&self, transition: Transition) -> Result<Committed, CommitError> {
        let (answer, result) = oneshot::channel();
        let request = writer::Request { transition, answer };
        let gone = || CommitError::Failed(self.failure().unwrap_or_else(|| "the writer has stopped".into()));
        self.pending.send(request).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    /// Hands a transition to the writer if there is room, and does not wait. Says whether there was.
    #[must_use]
    pub fn offer(&self, transition: Transition) -> bool {
        let (answer, _) = oneshot::channel();
        self.pending.try_send(writer::Request { transition, answer }).is_ok()
    }

    /// Durable leaves of the log.
    #[must_use]
    pub fn log_size(&self) -> u64 {
        *self.durable.borrow()
    }

    /// What is counted of this host.
    pub(crate) fn meters(&self) -> &Arc<Meters> {
        &self.meters
    }

    /// What each tenant is counted for: modules and bytes that it gave or left, at most `most` of them, by name.
    pub(crate) fn kept(&self, most: usize) -> Vec<(Name, usize, u64)> {
        self.counts.kept(most)
    }

    /// Why the store cannot write any more, if so.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.failed.borrow().clone()
    }

    /// Waits until the store fails. The host must stop then.
    pub async fn wait_failed(&self) -> String {
        let mut failed = self.failed.clone();
        let state = failed.wait_for(Option::is_some).await;
        state.ok().and_then(|reason| reason.clone()).unwrap_or_else(|| "the writer has stopped".into())
    }
}

// By hand: sled's own `Debug` writes out every row.
impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("log_size", &self.log_size()).finish_non_exhaustive()
    }
}
