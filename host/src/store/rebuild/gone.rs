//! What a rebuild finds to be gone.

use strongroom_job::{BlobKind, Digest, ErasedJob, Event, Input, JobId, Name, Record, Timestamp};

use super::super::erase::Over;
use super::super::given::GivenInput;
use super::super::group::Group;
use super::super::past::PastJob;
use super::super::row::JobRow;
use super::super::{Outputs, ReadError, Transition, keys, read};
use super::RebuildError;
use super::replay::{Done, Gone, Replay, illegal, refused};
use crate::admission::AdmittedJob;
use crate::lifecycle::{self, Finished};

impl Replay<'_> {
    /// What was erased then is not in evidence any more, so its jobs are gone already. What somebody put back goes again, as it went then.
    pub(super) fn erased(
        &mut self,
        group: &mut Group<'_>,
        at: u64,
        tenant: &Name,
        envelope: &Digest,
        jobs: &[ErasedJob],
    ) -> Result<(), RebuildError> {
        let mut inputs = Vec::new();
        for ErasedJob { job, admitted, finished } in jobs {
            if self.gone.contains_key(job) {
                return Err(illegal(at, format!("job {job} is not over")));
            }
            let Some(row) = group.row(job)?.filter(|row| row.admitted == *admitted) else { continue };
            if row.envelope != *envelope || row.finished != *finished {
                return Err(illegal(at, format!("the records of job {job} are others")));
            }
            let known = self.over(group, &row, tenant)?;
            let (over, spec) = known.ok_or_else(|| illegal(at, format!("job {job} is not over")))?;
            if let Input::Blob { digest, .. } = &spec.task().input {
                inputs.push(*digest);
            }
            let unique = spec.task().plan.unique.as_ref().map(|unique| unique.key.as_str());
            group.erase_one(tenant, &over, unique)?;
            group.release_envelope(envelope)?;
            self.told.forgotten += 1;
        }
        group.take_unread(tenant, &inputs)?;
        // A batch takes several records. Its text must be there until the last of them, to say what its jobs were.
        let next = self.records.at(at + 1)?;
        if !matches!(next, Some(Record { event: Event::Erased { envelope: next, .. }, .. }) if next == envelope)
        {
            group.drop_envelope(envelope)?;
        }
        Ok(())
    }

    fn over(
        &self,
        group: &Group<'_>,
        row: &JobRow,
        tenant: &Name,
    ) -> Result<Option<(Over, AdmittedJob)>, RebuildError> {
        let (Some(end), Some(finished)) = (row.life.end().cloned(), row.finished) else { return Ok(None) };
        let (Some(past), Some(spec)) =
            (group.past_of(tenant, &end, &row.job)?, read::spec(group.rows, &row.job)?)
        else {
            return Ok(None);
        };
        Ok(Some((Over { row: row.clone(), end, finished, past }, spec)))
    }

    /// An attempt ended, and what it left is known to nobody any more, since its evidence was damaged: the job goes as if it had been
    /// forgotten, and its id bars a second run.
    pub(super) fn ends_unopened(
        &mut self,
        group: &mut Group<'_>,
        at: u64,
        record: &Record,
        job: JobId,
    ) -> Result<Done, RebuildError> {
        let (Event::Finished { attempt, outcome, usage, .. }, Some(row)) = (&record.event, group.row(&job)?)
        else {
            return Err(illegal(at, "no job that is not over has this id"));
        };
        let end = Finished { usage: *usage, ..Finished::without_run(outcome.clone()) };
        let event = lifecycle::Event::Finish { fence: *attempt, end: Box::new(end) };
        refused(at, group.take(Transition::Finish { job, event, outputs: Outputs::default() }))?;
        group.batch.insert(keys::leaf(at), record.to_leaf());
        // What bars the id counts as one that came in the envelope, until it goes.
        group.hold_envelope(&row.envelope, 1)?;
        self.bar_known(group, &row)?;
        self.unopened.push(job);
        Ok(Done::Yes)
    }

    /// The id of a job that goes bars a second run for as long as somebody could submit it again.
    fn bar_known(&self, group: &mut Group<'_>, row: &JobRow) -> Result<(), RebuildError> {
        let JobRow { job, signer, envelope, admitted, admitted_at, .. } = *row;
        let gone = Gone { tenant: None, signer, envelope, index: admitted, at: admitted_at };
        let until = admitted_at.saturating_add(self.terms.submittable);
        if until >= self.terms.now {
            group.bar(job, &gone, until)?;
        }
        Ok(())
    }
}

impl Group<'_> {
    /// Forgets a job that is over, or was not run. False when it is neither.
    pub(super) fn forget_known(&mut self, job: &JobId) -> Result<bool, ReadError> {
        if let Some((tenant, past)) = self.known_past(job)? {
            self.forget_past(&tenant, &past)?;
            return Ok(true);
        }
        if read::merged(self.rows, job)?.is_none() {
            return Ok(false);
        }
        let mut until = None;
        for row in self.rows.under(keys::MERGED_UNTIL) {
            let (key, _) = row?;
            if let Some(time) = key[keys::MERGED_UNTIL.len()..].strip_suffix(job.as_bytes().as_slice()) {
                let time = time.try_into().map_err(|_| ReadError::Damaged("a job that was not run"))?;
                until = Some(Timestamp::from_millis(u64::from_be_bytes(time)));
            }
        }
        self.forget_merged(until.unwrap_or_default(), job)?;
        Ok(true)
    }

    /// What a job left is gone. False when it left nothing, or is not over.
    pub(super) fn strip_known(&mut self, job: &JobId) -> Result<bool, ReadError> {
        let Some((tenant, past)) = self.known_past(job)?.filter(|(_, past)| past.bytes > 0) else {
            return Ok(false);
        };
        let row = self.past_row(&past)?;
        self.strip(&tenant, &past, row.admitted);
        Ok(true)
    }

    /// Of inputs of jobs that were erased, those go that no job reads which is not over.
    pub(super) fn take_unread(&mut self, tenant: &Name, inputs: &[Digest]) -> Result<(), ReadError> {
        let mut unread = Vec::new();
        for digest in inputs {
            if let Some(value) = self.rows.value(&keys::blob(BlobKind::Input, tenant, digest))? {
                let (length, named_at) = read::registered_value(&value)?;
                unread.push(GivenInput { tenant: tenant.clone(), digest: *digest, length, named_at });
            }
        }
        if unread.is_empty() {
            return Ok(());
        }
        for row in read::active_rows(self.rows) {
            if let Some(slot) = row?.slot {
                unread.retain(|input| slot.tenant != *tenant || slot.input != Some(input.digest));
            }
        }
        self.take_inputs(&unread)?;
        Ok(())
    }

    fn known_past(&self, job: &JobId) -> Result<Option<(Name, PastJob)>, ReadError> {
        let Some(row) = read::row(self.rows, job)? else { return Ok(None) };
        let (Some(end), Some(spec)) = (row.life.end(), read::spec(self.rows, job)?) else { return Ok(None) };
        let tenant = spec.context().tenant.clone();
        let key = keys::past(&tenant, end.at, job);
        let Some(value) = self.rows.value(&key)? else { return Ok(None) };
        Ok(Some(PastJob::parse(&key[keys::PAST.len()..], &value)?))
    }

    /// A job that is not known any more keeps its id until nobody can submit it again: the same envelope gets the first answer, any
    /// other is a conflict.
    pub(super) fn bar(&mut self, job: JobId, gone: &Gone, until: Timestamp) -> Result<(), ReadError> {
        self.remember_merged(job, gone.merged(job), until)
    }

    /// Registrations whose files are not there go: whoever gave them is asked for them again. Says how many.
    pub(super) fn drop_missing(&mut self, has_blob: &dyn Fn(&Digest) -> bool) -> Result<u64, ReadError> {
        let mut dropped = 0;
        for prefix in [keys::MODULES, keys::INPUTS] {
            for row in self.rows.under(prefix) {
                let (key, _) = row?;
                if !has_blob(&read::registered(&key[prefix.len()..])?.1) {
                    self.batch.remove(key.to_vec());
                    dropped += 1;
                }
            }
        }
        Ok(dropped)
    }
}
