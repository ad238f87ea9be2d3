//! One group: transitions that are judged one after the other and committed together.

use std::collections::{HashMap, HashSet};

use strongroom_job::{AcceptedJob, BlobKind, Event, JobId, ModuleRef, Name, OutputStream, Record, Timestamp};

use super::keys;
use super::read::{self, Waiting};
use super::row::JobRow;
use super::{CommitError, Committed, ReadError, Transition};
use crate::admission::AdmittedJob;
use crate::lifecycle::{self, Illegal, Life};

/// Longest value that an envelope is cut into: sled moves longer ones to files of their own.
const ENVELOPE_PIECE_BYTES: usize = 48 << 10;

/// What a group will write, and how the world looks to its later transitions.
pub(super) struct Group<'a> {
    db: &'a sled::Db,
    now: Timestamp,
    batch: sled::Batch,
    /// Rows that this group has changed: later transitions must see them before the disk does.
    changed: HashMap<JobId, JobRow>,
    /// Blobs that this group has registered.
    registered: HashSet<Vec<u8>>,
    /// Index of the next leaf.
    pub(super) log_size: u64,
    /// Jobs queued or running.
    pub(super) active: usize,
}

/// A transition that did not happen; only the second kind is the store's own trouble.
pub(super) enum Refused {
    /// Tell the one who asked.
    Asker(CommitError),
    /// Stop.
    Store(ReadError),
}

impl From<ReadError> for Refused {
    fn from(error: ReadError) -> Self {
        Self::Store(error)
    }
}

impl From<CommitError> for Refused {
    fn from(error: CommitError) -> Self {
        Self::Asker(error)
    }
}

impl From<Illegal> for Refused {
    fn from(error: Illegal) -> Self {
        Self::Asker(error.into())
    }
}

impl<'a> Group<'a> {
    pub(super) fn new(db: &'a sled::Db, now: Timestamp, log_size: u64, active: usize) -> Self {
        Self {
            db,
            now,
            batch: sled::Batch::default(),
            changed: HashMap::new(),
            registered: HashSet::new(),
            log_size,
            active,
        }
    }

    /// Judges one transition in the light of those before it, and writes it into the group if it may happen.
    pub(super) fn take(&mut self, transition: Transition) -> Result<Committed, Refused> {
        match transition {
            Transition::Admit { jobs, envelope, max_active } => self.admit(&jobs, &envelope, max_active),
            Transition::Step { job, event } => self.step(job, event),
            Transition::Finish { job, event, outputs } => {
                let done = self.step(job, event)?;
                self.keep(job, OutputStream::Stdout, outputs.stdout);
                self.keep(job, OutputStream::Stderr, outputs.stderr);
                Ok(done)
            }
            Transition::Register { kind, tenant, blob, event } => self.register(kind, &tenant, &blob, event),
            Transition::Log(event) => {
                self.log(event);
                Ok(Committed::Done)
            }
            Transition::Published { head, forget_below } => {
                self.batch.insert(keys::PUBLISHED, head.as_bytes());
                self.forget(forget_below)
            }
        }
    }

    /// Everything that the group writes, with the log's new size.
    pub(super) fn finish(mut self) -> sled::Batch {
        self.batch.insert(keys::LOG_SIZE, &self.log_size.to_be_bytes());
        self.batch.insert(keys::LATEST, &self.now.as_millis().to_be_bytes());
        self.batch
    }

    fn admit(
        &mut self,
        jobs: &[AdmittedJob],
        envelope: &[u8],
        max_active: usize,
    ) -> Result<Committed, Refused> {
        // Judge all jobs before writing any: an envelope is taken as a whole.
        let mut known = Vec::with_capacity(jobs.len());
        for job in jobs {
            let row = self.row(&job.id())?;
            if row.as_ref().is_some_and(|row| !row.came_in(job.envelope(), job.signer())) {
                return Err(CommitError::Conflict(job.id()).into());
            }
            known.push(row);
        }
        let new = known.iter().filter(|row| row.is_none()).count();
        if self.active + new > max_active {
            return Err(CommitError::Full { active: self.active, max: max_active }.into());
        }
        if let (Some(first), true) = (jobs.first(), new > 0) {
            for (piece, bytes) in (0u32..).zip(envelope.chunks(ENVELOPE_PIECE_BYTES)) {
                self.batch.insert(keys::envelope(first.envelope(), piece), bytes);
            }
        }
        let mut accepted = Vec::with_capacity(jobs.len());
        let mut fresh = Vec::new();
        for (job, row) in jobs.iter().zip(known) {
            let log_index = match row {
                Some(row) => row.admitted,
                None => {
                    let waiting = self.enqueue(job)?;
                    fresh.push(waiting);
                    waiting.admitted
                }
            };
            accepted.push(AcceptedJob { job: job.id(), log_index });
        }
        Ok(Committed::Admitted { jobs: accepted, fresh })
    }

    fn enqueue(&mut self, job: &AdmittedJob) -> Result<Waiting, ReadError> {
        let admitted = self.log(job.record());
        let task = job.task();
        let row = JobRow {
            job: job.id(),
            signer: *job.signer(),
            envelope: *job.envelope(),
            admitted,
            admitted_at: self.now,
            touched: admitted,
            finished: None,
            life: Life::queued(task.idempotent),
        };
        let waiting = Waiting { job: job.id(), priority: task.priority, admitted };
        self.batch.insert(keys::spec(&job.id()), serde_json::to_vec(job)?);
        self.batch.insert(keys::tenant_job(&job.context().tenant, admitted), job.id().as_bytes().as_slice());
        self.batch.insert(keys::active(admitted, &job.id()), &task.priority.to_be_bytes());
        self.active += 1;
        self.put(row)?;
        Ok(waiting)
    }

    fn step(&mut self, job: JobId, event: lifecycle::Event) -> Result<Committed, Refused> {
        let mut row = self.row(&job)?.ok_or(CommitError::UnknownJob)?;
        let (life, said) = lifecycle::step(job, &row.life, event, self.now)?;
        let index = self.log(said);
        row.life = life;
        row.touched = index;
        if row.life.end().is_some() {
            row.finished = Some(index);
            self.batch.remove(keys::active(row.admitted, &job));
            self.active = self.active.saturating_sub(1);
        }
        self.put(row.clone())?;
        Ok(Committed::Stepped(Box::new(row)))
    }

    fn keep(&mut self, job: JobId, stream: OutputStream, output: Option<Vec<u8>>) {
        if let Some(bytes) = output.filter(|bytes| !bytes.is_empty()) {
            self.batch.insert(keys::output(&job, stream), bytes);
        }
    }

    fn register(
        &mut self,
        kind: BlobKind,
        tenant: &Name,
        blob: &ModuleRef,
        event: Option<Event>,
    ) -> Result<Committed, Refused> {
        let key = keys::blob(kind, tenant, &blob.digest);
        let known = self.db.contains_key(&key).map_err(ReadError::from)?;
        // Two who push the same blob at once may meet in one group.
        if !known && self.registered.insert(key.clone()) {
            self.batch.insert(key, read::registration(blob.length, self.now));
            if let Some(event) = event {
                self.log(event);
            }
        }
        Ok(Committed::Done)
    }

    fn forget(&mut self, below: u64) -> Result<Committed, Refused> {
        for key in self.db.range(keys::leaf(0)..keys::leaf(below)).keys() {
            self.batch.remove(key.map_err(ReadError::from)?);
        }
        Ok(Committed::Done)
    }

    /// Adds a leaf and says at which index.
    fn log(&mut self, event: Event) -> u64 {
        let index = self.log_size;
        self.batch.insert(keys::leaf(index), Record::new(self.now, event).to_leaf());
        self.log_size += 1;
        index
    }

    fn row(&self, job: &JobId) -> Result<Option<JobRow>, ReadError> {
        match self.changed.get(job) {
            Some(row) => Ok(Some(row.clone())),
            None => read::row(self.db, job),
        }
    }

    fn put(&mut self, row: JobRow) -> Result<(), ReadError> {
        self.batch.insert(keys::life(&row.job), serde_json::to_vec(&row)?);
        self.changed.insert(row.job, row);
        Ok(())
    }
}
