//! Jobs whose private values are erased for good, because somebody said so.
//!
//! What several jobs share is one signed text, their envelope: it holds the arguments and the input of each, so they are erased
//! together or not at all. What stays is what the log says anyway: which jobs, where their records are, and that they were erased.
//!
//! *Owns:* `er/`. *Never:* files (whoever asked removes them), evidence (`evidence` does when it publishes the record), the bytes
//! that sled still has in its file ([`compact`](super::compact)), nor looks for the jobs ([`doomed`](super::doomed) did).
//! *Crash:* all of it is one batch with its record, and with the mark that makes the next start write sled's file anew.
//! *Bound:* [`MAX_ERASED`](super::MAX_ERASED) jobs, none of whose texts is read.
//! *Spec:* `docs/formats/state.md`, "Jobs that were erased".

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use strongroom_job::{Digest, ErasedJob, Event, JobId, MAX_FORGOTTEN, Name, PublicKey, Refusal, RefusalCode};

use super::doomed::Doomed;
use super::envelope::CameIn;
use super::group::{Group, Refused};
use super::past::PastJob;
use super::row::JobRow;
use super::unique::Merged;
use super::{CommitError, Committed, ReadError, Store, follow, keys, read};
use crate::lifecycle::End;

/// What is still known of a job that was erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erased {
    /// Whose it was.
    pub tenant: Name,
    /// Index of its `admitted` record, or of its `merged` record.
    pub admitted: u64,
    /// Index of its `finished` record; none when it was not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<u64>,
    /// Index of the `erased` record.
    pub erased: u64,
}

/// A job that is over, as the disk has it.
pub(super) struct Over {
    pub(super) row: JobRow,
    pub(super) end: End,
    pub(super) finished: u64,
    pub(super) past: PastJob,
}

impl Store {
    /// What is known of a job that was erased; none when it was not.
    ///
    /// # Errors
    /// When the store cannot be read, or can no longer make anything durable.
    pub async fn erased(&self, job: &JobId) -> Result<Option<Erased>, ReadError> {
        let Some(erased) = read::erased(&self.current, job)? else { return Ok(None) };
        let mut durable = self.durable.clone();
        durable.wait_for(|size| *size > erased.erased).await.map_err(|_| ReadError::Stopped)?;
        Ok(Some(erased))
    }
}

impl Group<'_> {
    /// Erases what was found to come in an envelope. Judged once more, since all that was found may be otherwise now.
    pub(super) fn erase(&mut self, doomed: &Doomed, by: PublicKey) -> Result<Committed, Refused> {
        let Doomed { envelope, tenant, jobs, inputs, .. } = doomed;
        let came = self.came_in(envelope)?;
        let needed = follow::all_sources(self.rows)?;
        let (mut over, mut told) = (Vec::new(), Vec::new());
        for one in jobs {
            if let Some(found) = self.over(tenant, envelope, &one.job, &needed)? {
                let (admitted, finished) = (found.row.admitted, Some(found.finished));
                told.push(ErasedJob { job: one.job, admitted, finished });
                over.push((found, one.unique.as_deref()));
            } else if let Some(merged) = self.merged(&one.job)?.filter(|merged| merged.envelope == *envelope)
            {
                told.push(ErasedJob { job: one.job, admitted: merged.log_index, finished: None });
            }
        }
        // Somebody else may have erased them, or retention let them go, in this very group.
        if !told.iter().any(|one| one.job == doomed.asked) || (over.is_empty() && came.is_none()) {
            return Err(CommitError::UnknownJob.into());
        }
        let known = came.map_or(0, |came| came.jobs as usize);
        if known > told.len() {
            // Without its envelope a job that was overlooked would be one of which nobody knows what it is.
            return Err(denied(format!(
                "of {known} jobs that came in the envelope of job {} only {} were found: nothing was erased; ask again",
                doomed.asked,
                told.len()
            )));
        }
        let mut files = HashSet::new();
        for (one, unique) in &over {
            files.extend(self.erase_one(tenant, one, *unique)?);
        }
        files.extend(self.take_inputs(inputs)?);
        let first = came.map(|came| came.first).or_else(|| told.iter().map(|one| one.admitted).min());
        self.drop_envelope(envelope)?;
        told.sort_unstable_by_key(|one| one.admitted);
        let mut log_index = self.log_size;
        for jobs in told.chunks(MAX_FORGOTTEN) {
            log_index = self.tell_erased(tenant, *envelope, first.unwrap_or_default(), jobs, by)?;
        }
        Ok(Committed::Erased { jobs: told.len(), log_index, files: files.into_iter().collect() })
    }

    /// A job of the envelope that was run, if it is known; refused when it cannot be erased now.
    fn over(
        &self,
        tenant: &Name,
        envelope: &Digest,
        job: &JobId,
        needed: &HashSet<JobId>,
    ) -> Result<Option<Over>, Refused> {
        // What the disk says counts: what ends in this very group is not over for anybody who could have asked.
        let Some(row) = read::row(self.rows, job)?.filter(|row| row.envelope == *envelope) else {
            return Ok(None);
        };
        let (Some(end), Some(finished)) = (row.life.end().cloned(), row.finished) else {
            return Err(not_over(job, row.life.state(self.now)));
        };
        if needed.contains(job) || self.edges.names(job) {
            return Err(denied(format!(
                "a job that is not over takes the output of job {job} as its input: cancel that job, or wait until it is over"
            )));
        }
        let past = self.past_of(tenant, &end, job)?;
        Ok(past.map(|past| Over { row, end, finished, past }))
    }

    /// Everything of a job goes but what its records say; gives the files that were its own.
    pub(super) fn erase_one(
        &mut self,
        tenant: &Name,
        over: &Over,
        unique: Option<&str>,
    ) -> Result<Vec<Digest>, ReadError> {
        let Over { row, end, past, .. } = over;
        self.strip(tenant, past, row.admitted);
        self.counts.forget(tenant, 0);
        // One that is not kept for longer than its job went with the end.
        if let (Some(unique), Some(_)) = (unique, past.key_until) {
            self.take_key(tenant, unique, row.job)?;
        }
        self.remove_past(tenant, past, row.admitted);
        // Its id bars a second run for as long as somebody could submit it again.
        let JobRow { job, signer, envelope, admitted, admitted_at, .. } = *row;
        let stands = Merged { signer, envelope, into: job, log_index: admitted, at: admitted_at };
        self.remember_merged(job, stands, past.not_after)?;
        let streams = [end.stdout.digest, end.stderr.digest];
        Ok(streams.into_iter().chain(end.artifacts.iter().map(|artifact| artifact.digest)).collect())
    }

    /// An envelope goes, whatever came in it.
    pub(super) fn drop_envelope(&mut self, digest: &Digest) -> Result<(), ReadError> {
        if let Some(came) = self.came_in(digest)? {
            self.set_came_in(digest, CameIn { jobs: 1, ..came });
        }
        self.release_envelope(digest)
    }

    /// The record, and what is known from now on of each job in it.
    pub(super) fn tell_erased(
        &mut self,
        tenant: &Name,
        envelope: Digest,
        first: u64,
        jobs: &[ErasedJob],
        by: PublicKey,
    ) -> Result<u64, ReadError> {
        let event =
            Event::Erased { tenant: tenant.clone(), envelope, first, jobs: jobs.to_vec(), principal: by };
        let erased = self.log(event);
        for ErasedJob { job, admitted, finished } in jobs {
            let known = Erased { tenant: tenant.clone(), admitted: *admitted, finished: *finished, erased };
            self.batch.insert(keys::erased(job), serde_json::to_vec(&known)?);
        }
        // What sled replaced is still in its file: the next start writes that anew.
        self.batch.insert(keys::STALE, [1]);
        Ok(erased)
    }
}

/// Only what is over can be erased.
pub(super) fn not_over(job: &JobId, state: strongroom_job::JobState) -> Refused {
    denied(format!(
        "job {job} is {state}: only what is over can be erased, and all of its envelope with it; cancel it, or wait until it is over"
    ))
}

pub(super) fn denied(text: String) -> Refused {
    CommitError::Denied(Refusal::new(RefusalCode::WrongState, text)).into()
}
