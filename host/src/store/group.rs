//! One group: transitions that are judged one after the other and committed together.

use std::collections::HashMap;
use std::time::Duration;

use strongroom_job::{
    AcceptedJob, Digest, Event, JobId, Name, OutputStream, PublicKey, QueueMode, Record, Timestamp,
};

use super::active::Active;
use super::counts::Counts;
use super::envelope::{CameIn, Envelopes};
use super::follow::Edges;
use super::given::Given;
use super::keys;
use super::pack;
use super::past::PastJob;
use super::read;
use super::recent::News;
use super::row::{JobRow, Slot};
use super::rows::{Batch, Rows};
use super::said;
use super::spec;
use super::unique::{Claim, Keys, Merged};
use super::unpublished::Leaf;
use super::{CommitError, Committed, Effect, ReadError, Transition};
use crate::admission::quota::{self, Asked};
use crate::admission::{self, AdmittedJob};
use crate::config::TenantRules;
use crate::lifecycle::{self, Illegal, Life, Stage};

/// What a group will write, and how the world looks to its later transitions.
pub(super) struct Group<'a> {
    pub(super) rows: &'a dyn Rows,
    pub(super) now: Timestamp,
    pub(super) batch: Batch,
    /// Rows that this group has changed: later transitions must see them before the disk does.
    changed: HashMap<JobId, JobRow>,
    /// Queues that do something else from this group on.
    modes: HashMap<Name, QueueMode>,
    /// Blobs that this group has registered, and inputs that it has let go.
    pub(super) given: Given,
    /// Unique keys that this group has given or taken away.
    pub(super) keys: Keys,
    /// Jobs that this group has merged into others.
    pub(super) merged: HashMap<JobId, Merged>,
    /// Places among the jobs that are over which this group has changed, or taken away.
    pub(super) pasts: HashMap<JobId, Option<PastJob>>,
    /// Edges between jobs that this group has added.
    pub(super) edges: Edges,
    /// How many jobs came in the envelopes that this group has seen.
    pub(super) envelopes: HashMap<Digest, Option<CameIn>>,
    /// What all of it means for the schedule, in order.
    pub(super) effects: Vec<Effect>,
    /// For whoever remembers what jobs are. A rebuild has nobody.
    pub(super) news: Vec<News>,
    /// What was logged, in order, for the publisher. A rebuild has its leaves from the log.
    pub(super) leaves: Vec<Leaf>,
    /// Index of the next leaf.
    pub(super) log_size: u64,
    /// What each tenant has.
    pub(super) counts: &'a Counts,
}

/// What a group comes to.
pub(super) struct Collected {
    pub(super) batch: Batch,
    pub(super) effects: Vec<Effect>,
    pub(super) news: Vec<News>,
    pub(super) leaves: Vec<Leaf>,
}

/// What one job of an envelope comes to, before anything is written.
pub(super) enum Verdict {
    /// It was accepted before, then and with this answer.
    Known(AcceptedJob, Timestamp),
    /// It is new, and takes its unique key from this job.
    New(Option<JobId>),
    /// It is not run: this job has its unique key.
    Existing(JobId),
}

impl Verdict {
    /// For whom those wait that wait for the job: for one that is not run, it is the one that has its key.
    pub(super) fn stands_for(&self, job: &AdmittedJob) -> JobId {
        match self {
            Self::Existing(holder) => *holder,
            Self::Known(..) | Self::New(_) => job.id(),
        }
    }
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
    pub(super) fn new(rows: &'a dyn Rows, now: Timestamp, log_size: u64, counts: &'a Counts) -> Self {
        Self {
            rows,
            now,
            batch: Batch::default(),
            changed: HashMap::new(),
            modes: HashMap::new(),
            given: Given::default(),
            keys: Keys::default(),
            merged: HashMap::new(),
            pasts: HashMap::new(),
            edges: Edges::default(),
            envelopes: HashMap::new(),
            effects: Vec::new(),
            news: Vec::new(),
            leaves: Vec::new(),
            log_size,
            counts,
        }
    }

    /// Judges one transition in the light of those before it, and writes it into the group if it may happen.
    pub(super) fn take(&mut self, transition: Transition) -> Result<Committed, Refused> {
        self.edges.next_transition();
        match transition {
            Transition::Admit { jobs, envelope, alone, max_active, rules } => {
                self.admit(&jobs, (&envelope, alone), max_active, &rules)
            }
            Transition::Step { job, event } => self.step(job, event),
            Transition::Fire { job, max_active, rules } => self.fire(job, max_active, &rules),
            Transition::Finish { job, event, outputs } => {
                let ran = match &event {
                    lifecycle::Event::Finish { end, .. } => Duration::from_micros(end.usage.wall_us),
                    _ => Duration::ZERO,
                };
                let at = self.effects.len();
                let row = self.change(job, event)?;
                // First it no longer runs, then it is over or waits again.
                self.effects.insert(at, Effect::Ran(job, ran));
                // What an attempt wrote that is followed by another is gone with it.
                if let Some(end) = row.life.end() {
                    self.tell_followers(job, end.state())?;
                    self.keep(row.admitted, OutputStream::Stdout, outputs.stdout);
                    self.keep(row.admitted, OutputStream::Stderr, outputs.stderr);
                    self.keep(row.admitted, OutputStream::Result, outputs.result);
                }
                Ok(Committed::Stepped(Box::new(row)))
            }
            Transition::Register { kind, tenant, blob, event, rules } => {
                self.register(kind, &tenant, &blob, event, &rules)
            }
            Transition::SetQueue { queue, mode, by } => self.set_queue(&queue, mode, by),
            Transition::Forget { tenant, jobs } => self.let_past_go(&tenant, &jobs),
            Transition::ForgetInputs { inputs } => self.let_inputs_go(&inputs),
            Transition::ForgetMerged { jobs } => self.let_merged_go(&jobs),
            Transition::Erase { doomed, by } => self.erase(&doomed, by),
            Transition::AddGrant { signed, replaces, by } => self.add_grant(&signed, replaces, by),
            Transition::EndGrants { tenant, grants, why, by } => Ok(self.end_grants(tenant, grants, why, by)),
            Transition::Command { signed, forgets } => self.command(&signed, forgets),
            Transition::Log(event) => {
                for (key, value) in said::rows(&event, self.now) {
                    self.batch.insert(key, value);
                }
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
    pub(super) fn finish(mut self) -> Collected {
        self.batch.insert(keys::LOG_SIZE, self.log_size.to_be_bytes());
        self.batch.insert(keys::LATEST, self.now.as_millis().to_be_bytes());
        let Self { batch, effects, news, leaves, .. } = self;
        Collected { batch, effects, news, leaves }
    }

    /// An envelope is taken as a whole: all of its jobs are judged before anything of it is written.
    fn admit(
        &mut self,
        jobs: &[AdmittedJob],
        (envelope, alone): (&[u8], bool),
        max_active: usize,
        rules: &TenantRules,
    ) -> Result<Committed, Refused> {
        let verdicts: Vec<_> = jobs.iter().map(|job| self.judge(job)).collect::<Result<_, _>>()?;
        let new = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::New(_))).count();
        if let Some(first) = jobs.first() {
            if new > 0 {
                // All jobs of an envelope wait in one queue.
                self.check_open(&first.task().queue)?;
            }
            // All jobs of an envelope are one tenant's: admission took each of them from the same principal.
            let tenant = &first.context().tenant;
            self.check_quota(tenant, rules, Asked { jobs: new, ..Asked::default() })?;
        }
        if self.counts.active() + new > max_active {
            return Err(self.full(max_active).into());
        }
        let mut envelopes = Envelopes::of(jobs, alone);
        for (job, verdict) in jobs.iter().zip(&verdicts) {
            if !matches!(verdict, Verdict::Known(..)) {
                envelopes.count(job.envelope());
            }
        }
        let ids: Vec<JobId> =
            jobs.iter().zip(&verdicts).map(|(job, verdict)| verdict.stands_for(job)).collect();
        let times = verdicts.iter().map(|verdict| match verdict {
            Verdict::Known(_, time) => *time,
            Verdict::New(_) | Verdict::Existing(_) => self.now,
        });
        let time = times.max().unwrap_or(self.now);
        let mut accepted = Vec::with_capacity(jobs.len());
        let mut holders = Vec::new();
        for (job, verdict) in jobs.iter().zip(verdicts) {
            if !matches!(verdict, Verdict::Known(..)) {
                self.keep_envelope(&mut envelopes, job.envelope(), envelope)?;
            }
            accepted.push(match verdict {
                Verdict::Known(answer, _) => answer,
                Verdict::Existing(holder) => {
                    holders.push(holder);
                    let log_index = self.merge(job, holder)?;
                    AcceptedJob { job: job.id(), log_index, existing: Some(holder) }
                }
                Verdict::New(replaced) => {
                    let base = self.stand_for(&mut envelopes, job)?;
                    let log_index = self.accept(job, &ids, base)?;
                    if let Some(replaced) = replaced {
                        self.replace(replaced, job.id())?;
                    }
                    AcceptedJob { job: job.id(), log_index, existing: None }
                }
            });
        }
        for holder in holders {
            // One that is over tells nobody any more: those who wait for it from now on must hear it now.
            let end = self.row(&holder)?.and_then(|row| row.life.end().map(lifecycle::End::state));
            if let Some(state) = end {
                self.tell_followers(holder, state)?;
            }
        }
        Ok(Committed::Admitted { jobs: accepted, time })
    }

    /// The decision about a quota: here, where nobody else can take the same room at the same time.
    pub(super) fn check_quota(
        &self,
        tenant: &Name,
        rules: &TenantRules,
        asked: Asked,
    ) -> Result<(), CommitError> {
        let used = self.counts.usage(tenant, self.now);
        quota::check(tenant, rules, &used, &asked).map_err(CommitError::Denied)
    }

    /// Whether a queue takes jobs now: decided here, so that nothing comes in once its operator was told that it drains.
    pub(super) fn check_open(&self, queue: &Name) -> Result<(), Refused> {
        let drains = match self.modes.get(queue) {
            Some(mode) => *mode == QueueMode::Draining,
            None => read::queue_mode(self.rows, queue)? == QueueMode::Draining,
        };
        if drains { Err(CommitError::Denied(admission::queue_closed(queue)).into()) } else { Ok(()) }
    }

    pub(super) fn full(&self, max: usize) -> CommitError {
        CommitError::Full { active: self.counts.active(), max }
    }

    fn judge(&self, job: &AdmittedJob) -> Result<Verdict, Refused> {
        if let Some(row) = self.row(&job.id())? {
            if !row.came_in(job.envelope(), job.signer()) {
                return Err(CommitError::Conflict(job.id()).into());
            }
            let answer = AcceptedJob { job: row.job, log_index: row.admitted, existing: None };
            return Ok(Verdict::Known(answer, row.admitted_at));
        }
        if let Some(merged) = self.merged(&job.id())? {
            if !merged.came_in(job.envelope(), job.signer()) {
                return Err(CommitError::Conflict(job.id()).into());
            }
            return Ok(Verdict::Known(merged.answer(job.id()), merged.at));
        }
        if job.context().not_after <= self.counts.forgotten() {
            return Err(CommitError::Denied(admission::came_too_late()).into());
        }
        self.check_input(job)?;
        Ok(match self.claim(job)? {
            Claim::Takes(from) => Verdict::New(from),
            Claim::Existing(holder) => Verdict::Existing(holder),
        })
    }

    /// Writes down a new job; says where its record is.
    pub(super) fn accept(
        &mut self,
        job: &AdmittedJob,
        ids: &[JobId],
        base: Option<&AdmittedJob>,
    ) -> Result<u64, ReadError> {
        let variation = spec::variation(job, base)?;
        let admitted = self.log(job.record());
        let waits_for = self.wait_for(job, ids);
        let tenant = &job.context().tenant;
        let row = JobRow {
            job: job.id(),
            signer: *job.signer(),
            envelope: *job.envelope(),
            admitted,
            admitted_at: self.now,
            touched: admitted,
            finished: None,
            slot: Some(Slot::of(job)),
            life: Life::accepted(job.task(), waits_for, self.now),
        };
        if let Some(variation) = variation {
            self.batch.insert(keys::variation(admitted), variation);
        }
        self.batch.insert(keys::place(&job.id()), admitted.to_be_bytes());
        self.batch.insert(keys::tenant_job(tenant, admitted), job.id().as_bytes().as_slice());
        self.name_input(job);
        if let Some(unique) = &job.task().plan.unique {
            self.hold(tenant, unique, job.id());
        }
        self.counts.add(tenant);
        self.put(row, true)?;
        Ok(admitted)
    }

    pub(super) fn replace(&mut self, job: JobId, by: JobId) -> Result<(), Refused> {
        match self.change_and_tell(job, lifecycle::Event::Replace { by }) {
            // It waited for a job that was replaced just now.
            Ok(_) | Err(Refused::Asker(CommitError::Illegal(Illegal::Over(_)))) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn step(&mut self, job: JobId, event: lifecycle::Event) -> Result<Committed, Refused> {
        let row = self.change_and_tell(job, event)?;
        Ok(Committed::Stepped(Box::new(row)))
    }

    fn change_and_tell(&mut self, job: JobId, event: lifecycle::Event) -> Result<JobRow, Refused> {
        let row = self.change(job, event)?;
        if let Some(end) = row.life.end() {
            self.tell_followers(job, end.state())?;
        }
        Ok(row)
    }

    /// Changes one job, and nobody who waits for it.
    pub(super) fn change(&mut self, job: JobId, event: lifecycle::Event) -> Result<JobRow, Refused> {
        let row = self.row(&job)?.ok_or(CommitError::UnknownJob)?;
        let computed = match &event {
            lifecycle::Event::Finish { end, .. } => end.usage.cpu_us,
            _ => 0,
        };
        let (life, said) = lifecycle::step(job, &row.life, event, self.now)?;
        if let Some(slot) = row.slot.as_deref() {
            self.compute(&slot.tenant, computed);
        }
        Ok(self.write(row, life, said)?)
    }

    /// An attempt of the tenant's ended that took so much processor time, microseconds.
    pub(super) fn compute(&mut self, tenant: &Name, cpu_us: u64) {
        if cpu_us > 0 {
            let today = self.counts.compute(tenant, cpu_us, self.now);
            self.batch.insert(keys::computed(tenant), today.value());
        }
    }

    /// Writes down how a job stands from now on, and all that goes with its end.
    pub(super) fn write(
        &mut self,
        mut row: JobRow,
        life: Life,
        said: Option<Event>,
    ) -> Result<JobRow, ReadError> {
        row.life = life;
        if let Some(said) = said {
            row.touched = self.log(said);
        }
        if row.life.end().is_some() {
            row.finished = Some(row.touched);
            self.batch.remove(keys::active(row.admitted));
            self.drop_sources(&row.job)?;
            let key_until = self.let_go(&row)?;
            if let Some(slot) = row.slot.take() {
                self.remember(&row, &slot, key_until);
            }
        }
        // A start is the schedule's own doing, and a job that waits for one other less is where it was.
        let moved = matches!(row.life.stage, Stage::Scheduled { .. } | Stage::Queued);
        self.put(row.clone(), moved)?;
        Ok(row)
    }

    fn keep(&mut self, admitted: u64, stream: OutputStream, output: Option<Vec<u8>>) {
        if let Some(bytes) = output.filter(|bytes| !bytes.is_empty()) {
            self.batch.insert(keys::output(admitted, stream), bytes);
        }
    }

    fn set_queue(&mut self, queue: &Name, mode: QueueMode, by: PublicKey) -> Result<Committed, Refused> {
        match mode {
            QueueMode::Open => self.batch.remove(keys::queue_mode(queue)),
            QueueMode::Paused | QueueMode::Draining => {
                let value = serde_json::to_vec(&mode).map_err(ReadError::from)?;
                self.batch.insert(keys::queue_mode(queue), value);
            }
        }
        self.modes.insert(queue.clone(), mode);
        self.effects.push(Effect::Queue(queue.clone(), mode));
        self.log(Event::QueueSet { queue: queue.clone(), mode, principal: by });
        Ok(Committed::Done)
    }

    fn forget(&mut self, below: u64) -> Result<Committed, Refused> {
        for leaf in self.rows.between(&keys::leaf(0), &keys::leaf(below)) {
            self.batch.remove(leaf?.0.to_vec());
        }
        Ok(Committed::Done)
    }

    /// Adds a leaf and says at which index.
    pub(super) fn log(&mut self, event: Event) -> u64 {
        let index = self.log_size;
        let leaf = Leaf::of(Record::new(self.now, event));
        self.batch.insert(keys::leaf(index), leaf.as_ref());
        self.leaves.push(leaf);
        self.log_size += 1;
        index
    }

    pub(super) fn row(&self, job: &JobId) -> Result<Option<JobRow>, ReadError> {
        match self.changed.get(job) {
            Some(row) => Ok(Some(row.clone())),
            None => read::row(self.rows, job),
        }
    }

    /// Writes a row, among those of jobs that are over or of those that are not, and what that means for the schedule.
    fn put(&mut self, row: JobRow, moved: bool) -> Result<(), ReadError> {
        let active = Active::of(&row);
        let key = if active.is_some() { keys::active(row.admitted) } else { keys::over(row.admitted) };
        self.batch.insert(key, pack::row(&row)?);
        match active {
            Some(active) if moved => self.effects.push(Effect::Waits(active.entry)),
            Some(_) => {}
            None => self.effects.push(Effect::Over(row.job)),
        }
        self.changed.insert(row.job, row);
        Ok(())
    }
}
