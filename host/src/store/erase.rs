//! Jobs whose private values are erased for good, because somebody said so.
//!
//! What several jobs share is one signed text, their envelope: it holds the arguments and the input of each, so they are erased
//! together or not at all. What stays is what the log says anyway: which jobs, where their records are, and that they were erased.
//!
//! *Owns:* `er/`. *Never:* files (whoever asked removes them), evidence (`evidence` does when it publishes the record), the bytes
//! that sled still has in its file ([`compact`](super::compact)).
//! *Crash:* all of it is one batch with its record, and with the mark that makes the next start write sled's file anew.
//! *Spec:* `docs/formats/state.md`, "Jobs that were erased".

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use strongroom_job::{
    Digest, ErasedJob, Event, Input, JobId, MAX_FORGOTTEN, Name, PublicKey, Refusal, RefusalCode,
};

use super::group::{Group, Refused};
use super::past::PastJob;
use super::row::JobRow;
use super::unique::Merged;
use super::{CommitError, Committed, ReadError, Store, follow, keys, read};
use crate::admission::AdmittedJob;
use crate::lifecycle::End;

/// What is still known of a job that was erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erased {
    /// Whose it was.
    pub tenant: Name,
    /// Index of its `admitted` record.
    pub admitted: u64,
    /// Index of its `finished` record.
    pub finished: u64,
    /// Index of the `erased` record.
    pub erased: u64,
}

/// What a job of the envelope is, as far as it takes to erase it.
struct Doomed {
    row: JobRow,
    end: End,
    finished: u64,
    spec: AdmittedJob,
    past: PastJob,
}

impl Store {
    /// What is known of a job that was erased; none when it was not.
    ///
    /// # Errors
    /// When the store cannot be read, or can no longer make anything durable.
    pub async fn erased(&self, job: &JobId) -> Result<Option<Erased>, ReadError> {
        let Some(erased) = read::erased(&self.db, job)? else { return Ok(None) };
        let mut durable = self.durable.clone();
        durable.wait_for(|size| *size > erased.erased).await.map_err(|_| ReadError::Stopped)?;
        Ok(Some(erased))
    }
}

impl Group<'_> {
    /// Erases a job, and with `all` all that came in its envelope.
    pub(super) fn erase(&mut self, job: JobId, all: bool, by: PublicKey) -> Result<Committed, Refused> {
        let row = match self.row(&job)? {
            Some(row) if !self.merged.contains_key(&job) => row,
            _ => return Err(CommitError::UnknownJob.into()),
        };
        let doomed = self.doomed(&row, all)?;
        let mut files = HashSet::new();
        for one in &doomed {
            files.extend(self.erase_one(one)?);
        }
        let tenant = doomed.first().map(|one| one.spec.context().tenant.clone());
        let jobs: Vec<ErasedJob> = doomed.iter().map(Doomed::told).collect();
        self.drop_envelope(&row.envelope)?;
        let mut log_index = self.log_size;
        for jobs in jobs.chunks(MAX_FORGOTTEN) {
            // There is at least the one that was asked for.
            let Some(tenant) = &tenant else { break };
            log_index = self.tell_erased(tenant, row.envelope, jobs, by)?;
        }
        let jobs = jobs.into_iter().map(|one| one.job).collect();
        Ok(Committed::Erased { jobs, log_index, files: files.into_iter().collect() })
    }

    /// All that came in the envelope of this job and was run; refused when that cannot be erased now.
    fn doomed(&self, asked: &JobRow, all: bool) -> Result<Vec<Doomed>, Refused> {
        let mut rows = vec![asked.clone()];
        let came = self.came_in(&asked.envelope)?.map_or(1, |came| came.jobs);
        let Some(spec) = read::spec(self.rows, &asked.job)? else {
            return Err(denied(format!(
                "job {} was accepted just now: ask again when it is over",
                asked.job
            )));
        };
        if came > 1 {
            rows.clear();
            // In the order of admission, and so that of an envelope's jobs; none came before its first record.
            let tenant = keys::tenant(&spec.context().tenant);
            let from = self.came_in(&asked.envelope)?.map_or(0, |came| came.first);
            let from = keys::tenant_job(&spec.context().tenant, from);
            for item in self.rows.between(&from, &after(&tenant)) {
                let (_, job) = item?;
                let job =
                    <[u8; 16]>::try_from(job.as_ref()).map_err(|_| ReadError::Damaged("the id of a job"))?;
                let row = read::row(self.rows, &JobId::from_bytes(job))?;
                rows.extend(row.filter(|row| row.envelope == asked.envelope));
            }
        }
        if rows.len() > 1 && !all {
            let others = rows.len() - 1;
            return Err(denied(format!(
                "job {} came in one signed envelope with {others} others, which holds the arguments and inputs of all: they can only be \
                 erased together (--batch)",
                asked.job
            )));
        }
        let needed = follow::all_sources(self.rows)?;
        rows.into_iter().map(|row| self.doom(row, &needed)).collect()
    }

    fn doom(&self, row: JobRow, needed: &HashSet<JobId>) -> Result<Doomed, Refused> {
        let job = row.job;
        // What the disk says counts: what ends in this very group is not over for anybody who could have asked.
        let row = read::row(self.rows, &job)?.unwrap_or(row);
        let (Some(end), Some(finished)) = (row.life.end().cloned(), row.finished) else {
            let state = row.life.state(self.now);
            return Err(denied(format!(
                "job {job} is {state}: only what is over can be erased; cancel it, or wait until it is over"
            )));
        };
        if needed.contains(&job) || self.edges.names(&job) {
            return Err(denied(format!(
                "a job that is not over takes the output of job {job} as its input: cancel that job, or wait until it is over"
            )));
        }
        let missing = || ReadError::Damaged("a job that is over and not there");
        let spec = read::spec(self.rows, &job)?.ok_or_else(missing)?;
        let key = keys::past(&spec.context().tenant, end.at, &job);
        let value = self.rows.value(&key)?.ok_or_else(missing)?;
        let (_, past) = PastJob::parse(&key[keys::PAST.len()..], &value)?;
        Ok(Doomed { row, end, finished, spec, past })
    }

    /// Everything of a job goes but what its records say; gives the files that were its own or its input.
    fn erase_one(&mut self, doomed: &Doomed) -> Result<Vec<Digest>, Refused> {
        let Doomed { row, end, spec, past, .. } = doomed;
        let tenant = &spec.context().tenant;
        self.strip(tenant, past, row.admitted);
        self.counts.forget(tenant, 0);
        if let Some(unique) = &spec.task().plan.unique {
            self.take_key(tenant, &unique.key, row.job)?;
        }
        let rows = [
            keys::place(&row.job),
            keys::over(row.admitted),
            keys::variation(row.admitted),
            keys::tenant_job(tenant, row.admitted),
            past.key(tenant),
        ];
        for key in rows {
            self.batch.remove(key);
        }
        // Its id bars a second run for as long as somebody could submit it again.
        let JobRow { job, signer, envelope, admitted, admitted_at, .. } = *row;
        let stands = Merged { signer, envelope, into: job, log_index: admitted, at: admitted_at };
        self.remember_merged(job, stands, past.not_after)?;
        let mut files: Vec<Digest> = vec![end.stdout.digest, end.stderr.digest];
        files.extend(end.artifacts.iter().map(|artifact| artifact.digest));
        if let Input::Blob { digest, .. } = &spec.task().input
            && self.take_input(tenant, digest)?
        {
            files.push(*digest);
        }
        Ok(files)
    }

    /// An envelope goes, whatever came in it.
    fn drop_envelope(&mut self, digest: &Digest) -> Result<(), ReadError> {
        if let Some(came) = self.came_in(digest)? {
            self.set_came_in(digest, super::envelope::CameIn { jobs: 1, ..came });
        }
        self.release_envelope(digest)
    }

    /// The record, and what is known from now on of each job in it.
    pub(super) fn tell_erased(
        &mut self,
        tenant: &Name,
        envelope: Digest,
        jobs: &[ErasedJob],
        by: PublicKey,
    ) -> Result<u64, ReadError> {
        let event = Event::Erased { tenant: tenant.clone(), envelope, jobs: jobs.to_vec(), principal: by };
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

impl Doomed {
    const fn told(&self) -> ErasedJob {
        ErasedJob { job: self.row.job, admitted: self.row.admitted, finished: self.finished }
    }
}

/// The first key behind all that begin so.
fn after(prefix: &[u8]) -> Vec<u8> {
    let mut after = prefix.to_vec();
    // It ends with the NUL behind a name.
    if let Some(last) = after.last_mut() {
        *last += 1;
    }
    after
}

fn denied(text: String) -> Refused {
    CommitError::Denied(Refusal::new(RefusalCode::WrongState, text)).into()
}
