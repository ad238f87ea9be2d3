//! Jobs that were admitted, taken from their envelope once more; and those whose envelope was forgotten.

use std::io;

use strongroom_job::{
    BlobKind, Envelope, Event, Input, JobId, JobState, ModuleRef, Outcome, Record, VerifiedJob,
};

use super::super::envelope::Envelopes;
use super::super::group::{Group, Verdict};
use super::super::unique::Claim;
use super::RebuildError;
use super::replay::{Done, Gone, Replay, illegal, refused, unreadable};
use crate::admission::{AdmittedJob, readmit};
use crate::config::TenantRules;
use crate::lifecycle;

impl Replay<'_> {
    /// The first record of an envelope: all of its jobs, as they were taken then. The records that come out are held against those
    /// of the log by the caller, so a job of the envelope is what was admitted, in every word.
    pub(super) fn admitted(
        &mut self,
        group: &mut Group<'_>,
        record: &Record,
        job: JobId,
        gone: Gone,
    ) -> Result<Done, RebuildError> {
        let at = gone.index;
        let bytes = self.source.envelope(at, &gone.envelope).map_err(|error| unreadable(at, error))?;
        let (verified, alone) = match &bytes {
            Some(bytes) => believed(at, bytes, &gone)?,
            None => (Vec::new(), false),
        };
        // In the middle of an envelope: its beginning was forgotten, and so is the rest.
        if verified.first().is_none_or(|first| first.body().id != job) {
            return self.unknown(group, record, job, gone);
        }
        let mut known = Vec::new();
        for id in verified.iter().map(|job| job.body().id) {
            if group.row(&id)?.is_some() || group.merged(&id)?.is_some() {
                known.push(id);
            }
        }
        if !known.is_empty() {
            return Ok(Done::Forget(known));
        }
        self.take_in(group, &gone, verified, (&bytes.unwrap_or_default(), alone))?;
        Ok(Done::Yes)
    }

    /// Nobody knows the job any more.
    fn unknown(
        &mut self,
        group: &mut Group<'_>,
        record: &Record,
        job: JobId,
        gone: Gone,
    ) -> Result<Done, RebuildError> {
        if group.row(&job)?.is_some() || group.merged(&job)?.is_some() {
            return Ok(Done::Forget(vec![job]));
        }
        group.log(record.event.clone());
        if let Event::Merged { into, .. } = record.event {
            let until = gone.at.saturating_add(self.terms.submittable);
            if until >= self.terms.now {
                group.remember_merged(job, gone.merged(into), until)?;
            }
            return Ok(Done::Yes);
        }
        self.told.forgotten += 1;
        let index = gone.index;
        match self.gone.insert(job, gone) {
            None => Ok(Done::Yes),
            Some(_) => Err(illegal(index, "the job is not over, and its id is used again")),
        }
    }

    fn take_in(
        &mut self,
        group: &mut Group<'_>,
        gone: &Gone,
        verified: Vec<VerifiedJob>,
        (envelope, alone): (&[u8], bool),
    ) -> Result<(), RebuildError> {
        let at = gone.index;
        let jobs: Vec<AdmittedJob> = verified.into_iter().map(readmit).collect();
        let verdicts = self.verdicts(group, at, &jobs)?;
        let mut envelopes = Envelopes::of(&jobs, alone);
        for job in &jobs {
            envelopes.count(job.envelope());
        }
        let ids: Vec<JobId> =
            jobs.iter().zip(&verdicts).map(|(job, verdict)| verdict.stands_for(job)).collect();
        let mut holders = Vec::new();
        for (job, verdict) in jobs.iter().zip(verdicts) {
            group.keep_envelope(&mut envelopes, job.envelope(), envelope)?;
            match verdict {
                Verdict::New(claimed) => {
                    register(group, at, job)?;
                    let base = group.stand_for(&mut envelopes, job)?;
                    group.accept(job, &ids, base)?;
                    self.replace(group, job.id(), claimed)?;
                }
                Verdict::Existing(holder) => {
                    group.merge(job, holder)?;
                    holders.push(holder);
                }
                Verdict::Known(..) => return Err(illegal(at, "a job of its envelope was admitted before")),
            }
        }
        for holder in holders {
            let end = match group.row(&holder)? {
                Some(row) => row.life.end().map(lifecycle::End::state),
                None if self.gone.contains_key(&holder) => None,
                None => (self.ended)(&holder, at).map_err(|error| unreadable(at, error))?,
            };
            if let Some(state) = end {
                refused(at, group.tell_followers(holder, state))?;
            }
        }
        Ok(())
    }

    /// What each job of an envelope came to, as the log says. Where it ends before it has said all of it, what they come to now.
    fn verdicts(
        &mut self,
        group: &Group<'_>,
        at: u64,
        jobs: &[AdmittedJob],
    ) -> Result<Vec<Verdict>, RebuildError> {
        let mut verdicts = Vec::with_capacity(jobs.len());
        let mut index = at;
        for job in jobs {
            verdicts.push(loop {
                let Some(record) = self.records.at(index)? else { break comes_to(group, at, job)? };
                index += 1;
                let into = match &record.event {
                    Event::Admitted { job: id, .. } if *id == job.id() => None,
                    Event::Merged { job: id, into, .. } if *id == job.id() => Some(*into),
                    // Somebody gave his key to one of them.
                    Event::Finished { .. } | Event::Released { .. } => continue,
                    _ => {
                        return Err(illegal(index - 1, "the jobs of an envelope before it are not complete"));
                    }
                };
                break match into {
                    Some(into) => Verdict::Existing(into),
                    // Who gave it his key, the next record says.
                    None if self.records.at(index)?.is_some() => Verdict::New(None),
                    None => comes_to(group, at, job)?,
                };
            });
        }
        Ok(verdicts)
    }

    /// The job that gave its key to the one that was just taken, if the log says so.
    fn replace(
        &mut self,
        group: &mut Group<'_>,
        by: JobId,
        claimed: Option<JobId>,
    ) -> Result<(), RebuildError> {
        let at = group.log_size;
        let record = self.records.at(at)?.cloned();
        let replaced = match &record {
            Some(Record {
                event: Event::Finished { job, outcome: Outcome::Replaced { by: taken }, .. },
                ..
            }) if *taken == by => Some(*job),
            Some(_) => None,
            None => claimed,
        };
        let Some(replaced) = replaced else { return Ok(()) };
        match (group.row(&replaced)?, record) {
            (None, Some(record)) => {
                refused(at, self.gone_ends(group, &record, replaced, JobState::Cancelled))
            }
            (_, _) => refused(at, group.replace(replaced, by)),
        }
    }
}

/// What a job comes to, by the rows: the log ended too early to say it.
fn comes_to(group: &Group<'_>, at: u64, job: &AdmittedJob) -> Result<Verdict, RebuildError> {
    Ok(match refused(at, group.claim(job))? {
        Claim::Takes(from) => Verdict::New(from),
        Claim::Existing(holder) => Verdict::Existing(holder),
    })
}

/// What was taken then was there: the inputs that jobs name have no record of their own.
fn register(group: &mut Group<'_>, at: u64, job: &AdmittedJob) -> Result<(), RebuildError> {
    let (tenant, rules) = (&job.context().tenant, TenantRules::default());
    refused(at, group.register(BlobKind::Module, tenant, &job.task().module, None, &rules))?;
    if let Input::Blob { digest, length } = job.task().input {
        let input = ModuleRef { digest, length };
        refused(at, group.register(BlobKind::Input, tenant, &input, None, &rules))?;
    }
    Ok(())
}

/// The jobs of an envelope, once it is sure that who is said to have signed it did.
fn believed(at: u64, bytes: &[u8], gone: &Gone) -> Result<(Vec<VerifiedJob>, bool), RebuildError> {
    let damaged = |problem: String| unreadable(at, io::Error::new(io::ErrorKind::InvalidData, problem));
    let verified = Envelope::parse(bytes).and_then(|envelope| {
        let alone = envelope.is_of_one_job();
        Ok((envelope.verify(&gone.signer)?, alone))
    });
    let (verified, alone) = verified.map_err(|error| damaged(format!("its envelope: {error}")))?;
    if verified.iter().any(|job| *job.envelope() != gone.envelope) {
        return Err(damaged("its evidence holds another envelope".into()));
    }
    Ok((verified, alone))
}
