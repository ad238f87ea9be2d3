//! From each record back to the transition that made it, and forward again.

use std::collections::HashMap;
use std::io;

use strongroom_job::delegation::SignedDelegation;
use strongroom_job::principal::SignedCommand;
use strongroom_job::{
    BlobKind, Digest, Event, JobId, JobState, Name, Opening, Outcome, OutputStream, OutputSummary, PublicKey,
    Record, Timestamp,
};

use super::super::evidence::Source;
use super::super::group::{Group, Refused};
use super::super::row::JobRow;
use super::super::unique::Merged;
use super::super::{CommitError, Outputs, Transition, keys};
use super::records::Records;
use super::{Ended, RebuildError, Rebuilt, Terms};
use crate::config::TenantRules;
use crate::lifecycle::{self, Finished, Stage, series};

/// A replay on its way.
pub(super) struct Replay<'a> {
    pub(super) records: Records<'a>,
    pub(super) ended: Ended<'a>,
    pub(super) source: &'a mut dyn Source,
    pub(super) terms: &'a Terms<'a>,
    /// Leaves from this index on are kept.
    keep_from: u64,
    /// Jobs of which there is no evidence, and that are not over yet.
    pub(super) gone: HashMap<JobId, Gone>,
    pub(super) told: Rebuilt,
    /// Jobs that left what is no longer there.
    strip: Vec<JobId>,
    /// Jobs that are over and of which nobody knows what they left.
    pub(super) unopened: Vec<JobId>,
}

/// What the records alone say of a job.
#[derive(Clone, Debug)]
pub(super) struct Gone {
    /// Whose it is; none where the record does not say, and nothing was computed.
    pub(super) tenant: Option<Name>,
    pub(super) signer: PublicKey,
    pub(super) envelope: Digest,
    pub(super) index: u64,
    pub(super) at: Timestamp,
}

impl Gone {
    /// As a job that was not run, since that one stands for it.
    pub(super) const fn merged(&self, into: JobId) -> Merged {
        Merged { signer: self.signer, envelope: self.envelope, into, log_index: self.index, at: self.at }
    }
}

/// What must happen before the next group.
#[derive(Default)]
pub(super) struct Again {
    /// Jobs whose ids the log takes for new ones: they were forgotten.
    pub(super) forget: Vec<JobId>,
    /// Jobs of which something that they left is gone.
    pub(super) strip: Vec<JobId>,
}

/// Whether a record was replayed.
pub(super) enum Done {
    Yes,
    /// Not yet: these must be forgotten first.
    Forget(Vec<JobId>),
}

impl<'a> Replay<'a> {
    pub(super) fn new(
        records: Records<'a>,
        ended: Ended<'a>,
        source: &'a mut dyn Source,
        terms: &'a Terms<'a>,
        keep_from: u64,
    ) -> Self {
        let (gone, told) = (HashMap::new(), Rebuilt::default());
        let (strip, unopened) = (Vec::new(), Vec::new());
        Self { records, ended, source, terms, keep_from, gone, told, strip, unopened }
    }

    /// Replays transitions into a group, until they have led to so many records: an envelope may bring ten thousand jobs.
    pub(super) fn group(
        &mut self,
        group: &mut Group<'_>,
        size: u64,
        most: u64,
    ) -> Result<Again, RebuildError> {
        let begun = group.log_size;
        loop {
            let at = group.log_size;
            if at >= size || at - begun >= most || !self.strip.is_empty() || !self.unopened.is_empty() {
                break;
            }
            let record = self.records.at(at)?.cloned();
            let record = record.ok_or_else(|| illegal(at, "the log ends before it"))?;
            if record.time < group.now {
                return Err(illegal(at, "it is older than the one before it"));
            }
            // These read rows that the group may have changed.
            let alone = is_of_series(&record.event)
                || matches!(record.event, Event::Forgotten { .. } | Event::Erased { .. });
            if alone && at > begun {
                break;
            }
            group.now = record.time;
            group.edges.next_transition();
            if let Done::Forget(forget) = self.event(group, at, &record)? {
                return Ok(Again { forget, strip: std::mem::take(&mut self.strip) });
            }
            self.compare(group, at)?;
            if alone {
                break;
            }
        }
        Ok(Again { forget: std::mem::take(&mut self.unopened), strip: std::mem::take(&mut self.strip) })
    }

    /// Lets jobs go that were forgotten, and what others left.
    pub(super) fn let_go(
        &mut self,
        group: &mut Group<'_>,
        forget: &[JobId],
        strip: &[JobId],
    ) -> Result<(), RebuildError> {
        for job in forget {
            let at = group.log_size;
            self.forget(group, at, job)?;
        }
        for job in strip {
            self.told.stripped += u64::from(group.strip_known(job)?);
        }
        Ok(())
    }

    /// What was replayed, once it is sure that nothing is missing that somebody waits for.
    pub(super) fn done(self) -> Result<Rebuilt, RebuildError> {
        match self.gone.iter().min_by_key(|(_, gone)| gone.index) {
            None => Ok(self.told),
            Some((job, gone)) => {
                Err(RebuildError::NoEvidence { count: self.gone.len(), job: *job, index: gone.index })
            }
        }
    }

    /// The records that came out must be the next ones of the log. Behind its end they complete what a checkpoint cut in two.
    fn compare(&mut self, group: &mut Group<'_>, at: u64) -> Result<(), RebuildError> {
        let leaves = group.batch.take_leaves(at);
        if leaves.is_empty() {
            return Err(illegal(at, "nothing happened that would be told so"));
        }
        for (index, leaf) in (at..).zip(leaves) {
            self.records.take(&leaf)?;
            if index >= self.keep_from {
                group.batch.insert(keys::leaf(index), leaf);
            }
        }
        Ok(())
    }

    fn event(&mut self, group: &mut Group<'_>, at: u64, record: &Record) -> Result<Done, RebuildError> {
        let step = |event| Some(Transition::Step { job: *record.job()?, event });
        let transition = match &record.event {
            Event::Admitted { job, principal, envelope, tenant, .. } => {
                let (tenant, signer, envelope) = (Some(tenant.clone()), *principal, *envelope);
                let gone = Gone { tenant, signer, envelope, index: at, at: record.time };
                return self.admitted(group, record, *job, gone);
            }
            Event::Merged { job, principal, envelope, .. } => {
                let (signer, envelope) = (*principal, *envelope);
                let gone = Gone { tenant: None, signer, envelope, index: at, at: record.time };
                return self.admitted(group, record, *job, gone);
            }
            Event::Fired { job, .. } | Event::Missed { job, .. } => {
                return self.fired(group, at, record, *job);
            }
            Event::Finished { job, .. } => return self.finished(group, at, record, *job),
            Event::Started { .. } => step(lifecycle::Event::Start),
            Event::CancelRequested { principal, .. } => step(lifecycle::Event::Cancel { by: *principal }),
            Event::Requeued { .. } => step(lifecycle::Event::Recover),
            Event::Released { .. } => step(lifecycle::Event::Met),
            Event::Retried { attempt, outcome, usage, .. } => {
                let end = Finished { usage: *usage, ..Finished::without_run(outcome.clone()) };
                step(lifecycle::Event::Finish { fence: *attempt, end: Box::new(end) })
            }
            Event::ModuleRegistered { module, .. } => {
                let tenants = self.source.tenants(at).map_err(|error| unreadable(at, error))?;
                for tenant in tenants {
                    let rules = TenantRules::default();
                    refused(at, group.register(BlobKind::Module, &tenant, module, None, &rules))?;
                }
                Some(Transition::Log(record.event.clone()))
            }
            Event::Forgotten { jobs, stripped, .. } => {
                self.forgotten(group, at, jobs, stripped)?;
                Some(Transition::Log(record.event.clone()))
            }
            Event::Erased { tenant, envelope, first, jobs, principal } => {
                self.erased(group, at, tenant, envelope, jobs)?;
                group.tell_erased(tenant, *envelope, *first, jobs, *principal)?;
                return Ok(Done::Yes);
            }
            Event::QueueSet { queue, mode, principal } => {
                Some(Transition::SetQueue { queue: queue.clone(), mode: *mode, by: *principal })
            }
            Event::GrantAdded { .. } => Some(grant_added(at, &record.event)?),
            Event::GrantsEnded { tenant, grants, why, principal } => Some(Transition::EndGrants {
                tenant: tenant.clone(),
                grants: grants.clone(),
                why: *why,
                by: *principal,
            }),
            Event::PrincipalChanged { forgets, payload, signature, .. } => {
                let signed = SignedCommand::from_parts(payload, signature);
                let signed = signed.map_err(|error| illegal(at, error.to_string()))?;
                Some(Transition::Command { signed: Box::new(signed), forgets: forgets.clone() })
            }
            Event::Refused { .. }
            | Event::HostStarted { .. }
            | Event::HostStopped {}
            | Event::ClockStepped { .. }
            | Event::ConfigurationChanged { .. }
            | Event::TrustChanged { .. }
            | Event::KeyRotated { .. }
            | Event::Checked { .. }
            | Event::StateRebuilt { .. } => Some(Transition::Log(record.event.clone())),
        };
        let transition = match transition {
            Some(Transition::Step { job, .. }) if self.is_gone(group, at, &job)? => {
                self.gone_computed(group, &job, &record.event);
                Transition::Log(record.event.clone())
            }
            Some(transition) => transition,
            None => return Err(illegal(at, "it is about no job")),
        };
        refused(at, group.take(transition))?;
        Ok(Done::Yes)
    }

    /// What the host let go then goes now. Of what is gone already, with its evidence, only records are left.
    fn forgotten(
        &mut self,
        group: &mut Group<'_>,
        at: u64,
        jobs: &[JobId],
        stripped: &[JobId],
    ) -> Result<(), RebuildError> {
        if let Some(job) = jobs.iter().chain(stripped).find(|job| self.gone.contains_key(*job)) {
            return Err(illegal(at, format!("job {job} is not over")));
        }
        for job in jobs {
            if group.row(job)?.is_some() {
                self.forget(group, at, job)?;
            }
        }
        for job in stripped {
            self.told.stripped += u64::from(group.strip_known(job)?);
        }
        Ok(())
    }

    pub(super) fn forget(&mut self, group: &mut Group<'_>, at: u64, job: &JobId) -> Result<(), RebuildError> {
        if !group.forget_known(job)? {
            return Err(illegal(at, format!("job {job} is not over")));
        }
        self.told.forgotten += 1;
        Ok(())
    }

    /// Whether there is no evidence of a job. One that nobody has admitted is an error.
    fn is_gone(&self, group: &Group<'_>, at: u64, job: &JobId) -> Result<bool, RebuildError> {
        if group.row(job)?.is_some() {
            return Ok(false);
        }
        match self.gone.contains_key(job) {
            true => Ok(true),
            false => Err(illegal(at, "no job that is not over has this id")),
        }
    }

    fn finished(
        &mut self,
        group: &mut Group<'_>,
        at: u64,
        record: &Record,
        job: JobId,
    ) -> Result<Done, RebuildError> {
        let Event::Finished { attempt, outcome, dead, .. } = &record.event else {
            return Err(illegal(at, "it is no end"));
        };
        let Some(row) = group.row(&job)? else {
            self.is_gone(group, at, &job)?;
            let state = lifecycle::terminal(outcome, *dead);
            refused(at, self.gone_ends(group, record, job, state))?;
            return Ok(Done::Yes);
        };
        let event = match (&row.life.stage, outcome) {
            (Stage::Running { .. }, Outcome::Interrupted) => lifecycle::Event::Recover,
            (Stage::Running { .. }, _) => return self.attempt_ends(group, at, record, job),
            (_, Outcome::Cancelled) => lifecycle::Event::Cancel { by: row.signer },
            (_, Outcome::Expired) => lifecycle::Event::Expire,
            (_, Outcome::Unmet { job }) => lifecycle::Event::Unmet { job: *job },
            (_, Outcome::Replaced { by }) => lifecycle::Event::Replace { by: *by },
            (_, _) if row.life.repeat.is_some() => return self.fire(group, at, record, &row),
            // It never began: the lifecycle says so.
            (_, _) => {
                let end = Box::new(Finished::without_run(outcome.clone()));
                lifecycle::Event::Finish { fence: *attempt, end }
            }
        };
        refused(at, group.take(Transition::Step { job, event }))?;
        Ok(Done::Yes)
    }

    /// An attempt ended, with what it left.
    fn attempt_ends(
        &mut self,
        group: &mut Group<'_>,
        at: u64,
        record: &Record,
        job: JobId,
    ) -> Result<Done, RebuildError> {
        let (Event::Finished { attempt, outcome, usage, denied, .. }, Some(left)) =
            (record.event.clone(), record.left())
        else {
            return Err(illegal(at, "it is no end"));
        };
        let opening = if left.is_hidden() {
            let bytes = self.source.opening(at, &job).map_err(|error| unreadable(at, error))?;
            let opening = bytes.and_then(|bytes| serde_json::from_slice::<Opening>(&bytes).ok());
            // It is found by the job's id, and may be that of another job that had the id.
            opening.filter(|opening| opening.told() == left)
        } else {
            Opening::of_plain(&left)
        };
        let Some(opening) = opening else { return self.ends_unopened(group, at, record, job) };
        let Opening { salt, stdout, stderr, artifacts, result } = opening;
        let mut kept = |stream, said: OutputSummary| {
            if said.length == 0 {
                return Ok((None, true));
            }
            let bytes = self.source.output(at, &job, stream).map_err(|error| unreadable(at, error))?;
            // It is found by the job's id: other bytes are those of another job that had the id, and what this one left is gone.
            let bytes = bytes.filter(|bytes| Digest::of(bytes) == said.digest);
            // A result is never a blob.
            let is_there =
                bytes.is_some() || (stream != OutputStream::Result && (self.terms.has_blob)(&said.digest));
            Ok::<_, RebuildError>((bytes, is_there))
        };
        let (stdout_bytes, has_stdout) = kept(OutputStream::Stdout, stdout)?;
        let (stderr_bytes, has_stderr) = kept(OutputStream::Stderr, stderr)?;
        let (result_bytes, has_result) = match result {
            Some(result) => kept(OutputStream::Result, result)?,
            None => (None, true),
        };
        let has_artifacts = artifacts.iter().all(|artifact| (self.terms.has_blob)(&artifact.digest));
        let end = Box::new(Finished { outcome, usage, stdout, stderr, denied, artifacts, result, salt });
        let event = lifecycle::Event::Finish { fence: attempt, end };
        let outputs = Outputs { stdout: stdout_bytes, stderr: stderr_bytes, result: result_bytes };
        refused(at, group.take(Transition::Finish { job, event, outputs }))?;
        // The host forgot what it left, or its files are lost: it is said not to be kept, in any case.
        if !(has_stdout && has_stderr && has_result && has_artifacts) {
            self.strip.push(job);
        }
        Ok(Done::Yes)
    }

    /// What an attempt of a job computed of which nothing but records is left: its tenant's quota of the day knows it.
    fn gone_computed(&self, group: &mut Group<'_>, job: &JobId, event: &Event) {
        let tenant = self.gone.get(job).and_then(|gone| gone.tenant.as_ref());
        if let (Some(tenant), Event::Finished { usage, .. } | Event::Retried { usage, .. }) = (tenant, event)
        {
            group.compute(tenant, usage.cpu_us);
        }
    }

    /// A job ends of which nothing but records is left.
    pub(super) fn gone_ends(
        &mut self,
        group: &mut Group<'_>,
        record: &Record,
        job: JobId,
        state: JobState,
    ) -> Result<(), Refused> {
        group.log(record.event.clone());
        self.gone_computed(group, &job, &record.event);
        if let Some(gone) = self.gone.remove(&job) {
            let until = gone.at.saturating_add(self.terms.submittable);
            if until >= self.terms.now {
                group.bar(job, &gone, until)?;
            }
        }
        group.tell_followers(job, state)
    }

    fn fired(
        &mut self,
        group: &mut Group<'_>,
        at: u64,
        record: &Record,
        job: JobId,
    ) -> Result<Done, RebuildError> {
        match group.row(&job)? {
            Some(row) => self.fire(group, at, record, &row),
            None => {
                self.is_gone(group, at, &job)?;
                group.log(record.event.clone());
                Ok(Done::Yes)
            }
        }
    }

    /// Fires a series with room for as many runs as it had then.
    fn fire(
        &mut self,
        group: &mut Group<'_>,
        at: u64,
        record: &Record,
        row: &JobRow,
    ) -> Result<Done, RebuildError> {
        let due = series::fire(row.job, &row.life, usize::MAX, record.time);
        let due = due.map_err(|error| illegal(at, error.to_string()))?.runs;
        let mut index = at + u64::from(matches!(record.event, Event::Missed { .. }));
        let mut last = None;
        let cut = loop {
            match self.records.at(index)? {
                // The run's own record stands behind it.
                Some(Record { time, event: Event::Fired { job, due, .. }, .. })
                    if *job == row.job && *time == record.time =>
                {
                    (last, index) = (Some(*due), index + 2);
                }
                Some(_) => break false,
                None => break true,
            }
        };
        let had = last.and_then(|last| due.iter().position(|due| *due == last)).map(|place| place + 1);
        let room = had.filter(|had| !cut && *had < due.len()).unwrap_or(usize::MAX);
        let tenant = row.slot.as_deref().map(|slot| group.counts.usage(&slot.tenant, group.now).active);
        let max_active = group.counts.active().saturating_add(room);
        let rules = TenantRules {
            max_queued: tenant.map(|active| active.saturating_add(room)),
            ..TenantRules::default()
        };
        let fired = group.fire(row.job, max_active, &rules);
        refused(at, fired)?;
        Ok(Done::Yes)
    }
}

/// Whether it may be what a series does, which reads rows that must be there.
const fn is_of_series(event: &Event) -> bool {
    match event {
        Event::Fired { .. } | Event::Missed { .. } => true,
        Event::Finished { attempt: 0, outcome, .. } => {
            matches!(outcome, Outcome::Exited { .. } | Outcome::Faulted { .. })
        }
        _ => false,
    }
}

pub(super) fn illegal(index: u64, problem: impl Into<String>) -> RebuildError {
    RebuildError::Illegal { index, problem: problem.into() }
}

pub(super) const fn unreadable(index: u64, error: io::Error) -> RebuildError {
    RebuildError::Unreadable { index, error }
}

/// What the store refuses now it would have refused then.
pub(super) fn refused<T>(at: u64, done: Result<T, Refused>) -> Result<T, RebuildError> {
    done.map_err(|refused| match refused {
        Refused::Asker(CommitError::Illegal(problem)) => illegal(at, problem.to_string()),
        Refused::Asker(error) => illegal(at, error.to_string()),
        Refused::Store(error) => error.into(),
    })
}

/// The grant that a record holds, signed as it was: no host keeps another.
fn grant_added(at: u64, event: &Event) -> Result<Transition, RebuildError> {
    let Event::GrantAdded { principal, replaces, payload, signature, .. } = event else {
        return Err(illegal(at, "it is no grant"));
    };
    let signed =
        SignedDelegation::from_parts(payload, signature).map_err(|error| illegal(at, error.to_string()))?;
    Ok(Transition::AddGrant { signed: Box::new(signed), replaces: *replaces, by: *principal })
}
