//! Unique keys: at most one job of a tenant has a key at a time.
//!
//! *Spec:* `docs/formats/state.md`, "Unique keys".

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use strongroom_job::{AcceptedJob, Digest, JobId, Name, PublicKey, Taken, Timestamp, Unique};

use super::group::{Group, Refused};
use super::row::JobRow;
use super::{CommitError, ReadError, keys, read};
use crate::admission::AdmittedJob;

/// A job that was not run because another one had its unique key: kept, so that the same envelope gets the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merged {
    /// Who signed it.
    pub signer: PublicKey,
    /// SHA-256 of the signed body.
    pub envelope: Digest,
    /// The job that had the key.
    pub into: JobId,
    /// Index of its `merged` record.
    pub log_index: u64,
    /// When that was. An older host did not keep it: then it is 0.
    #[serde(default)]
    pub at: Timestamp,
}

impl Merged {
    /// Whether an envelope with this signer and this digest is the one that the job came in.
    #[must_use]
    pub fn came_in(&self, envelope: &Digest, signer: &PublicKey) -> bool {
        self.envelope == *envelope && self.signer == *signer
    }

    /// The first answer again. A job that stands for itself was run and is not known any more, since the state was rebuilt.
    #[must_use]
    pub fn answer(&self, job: JobId) -> AcceptedJob {
        AcceptedJob { job, log_index: self.log_index, existing: Some(self.into).filter(|into| *into != job) }
    }
}

/// Who has a key.
#[derive(Clone, Copy)]
pub(super) struct Holder {
    job: JobId,
    /// It keeps the key until then, also when it is over.
    until: Timestamp,
}

/// What keys mean within one group: what it has given away, before the disk knows.
#[derive(Default)]
pub(super) struct Keys {
    given: HashMap<Vec<u8>, Option<Holder>>,
}

/// What a job with a unique key comes to.
pub(super) enum Claim {
    /// It gets the key, from a job that has not started if there is one.
    Takes(Option<JobId>),
    /// This job has the key, and the new one is not run.
    Existing(JobId),
}

impl Group<'_> {
    /// Decides what becomes of a new job. Writes nothing: a later job of its envelope may still be refused, and all with it. No
    /// other job of its envelope has the key.
    pub(super) fn claim(&self, job: &AdmittedJob) -> Result<Claim, Refused> {
        let Some(unique) = &job.task().plan.unique else { return Ok(Claim::Takes(None)) };
        let key = keys::unique(&job.context().tenant, &unique.key);
        let Some(holder) = self.holder(&key)? else { return Ok(Claim::Takes(None)) };
        let row = self.row(&holder.job)?;
        if row.as_ref().is_none_or(|row| row.life.end().is_some()) && holder.until <= self.now {
            return Ok(Claim::Takes(None));
        }
        match unique.taken {
            Taken::Existing => Ok(Claim::Existing(holder.job)),
            Taken::Replace if row.is_some_and(|row| row.life.has_not_begun()) => {
                Ok(Claim::Takes(Some(holder.job)))
            }
            Taken::Refuse | Taken::Replace => {
                let (job, key) = (job.id(), unique.key.clone());
                Err(CommitError::NotUnique { job, key, holder: holder.job }.into())
            }
        }
    }

    /// The job has its key from now on.
    pub(super) fn hold(&mut self, tenant: &Name, unique: &Unique, job: JobId) {
        let key = keys::unique(tenant, &unique.key);
        let until = self.now.saturating_add(Duration::from_millis(unique.window_ms));
        self.batch
            .insert(key.clone(), [job.as_bytes().as_slice(), &until.as_millis().to_be_bytes()].concat());
        self.keys.given.insert(key, Some(Holder { job, until }));
    }

    /// A job is over: its key is forgotten, unless it is kept for longer or somebody else has it. Gives until when it is kept.
    pub(super) fn let_go(&mut self, row: &JobRow) -> Result<Option<Timestamp>, ReadError> {
        let Some(slot) = row.slot.as_deref() else { return Ok(None) };
        let Some(unique) = &slot.unique else { return Ok(None) };
        self.drop_key(&slot.tenant, unique, row.job)
    }

    /// Forgets a job's key, if the job still has it and its time is over; gives until when it is kept otherwise.
    pub(super) fn drop_key(
        &mut self,
        tenant: &Name,
        unique: &str,
        of: JobId,
    ) -> Result<Option<Timestamp>, ReadError> {
        let key = keys::unique(tenant, unique);
        match self.holder(&key)? {
            Some(Holder { job, until }) if job == of && until > self.now => Ok(Some(until)),
            Some(Holder { job, .. }) if job == of => {
                self.batch.remove(key.clone());
                self.keys.given.insert(key, None);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Takes a job's key away, whether or not its time is over: nothing is left that says what it was.
    pub(super) fn take_key(&mut self, tenant: &Name, unique: &str, of: JobId) -> Result<(), ReadError> {
        let key = keys::unique(tenant, unique);
        if self.holder(&key)?.is_some_and(|holder| holder.job == of) {
            self.batch.remove(key.clone());
            self.keys.given.insert(key, None);
        }
        Ok(())
    }

    /// Remembers a job that is not run.
    pub(super) fn merge(&mut self, job: &AdmittedJob, into: JobId) -> Result<u64, ReadError> {
        let (envelope, principal) = (*job.envelope(), *job.signer());
        let log_index = self.log(strongroom_job::Event::Merged { job: job.id(), principal, envelope, into });
        let merged = Merged { signer: principal, envelope, into, log_index, at: self.now };
        self.remember_merged(job.id(), merged, job.context().not_after)?;
        Ok(log_index)
    }

    /// Writes down that a job is not run, until its signature expires.
    pub(super) fn remember_merged(
        &mut self,
        job: JobId,
        merged: Merged,
        not_after: Timestamp,
    ) -> Result<(), ReadError> {
        self.batch.insert(keys::merged(&job), serde_json::to_vec(&merged)?);
        self.batch.insert(keys::merged_until(not_after, &job), []);
        self.merged.insert(job, merged);
        Ok(())
    }

    pub(super) fn merged(&self, job: &JobId) -> Result<Option<Merged>, ReadError> {
        match self.merged.get(job) {
            Some(merged) => Ok(Some(merged.clone())),
            None => read::merged(self.rows, job),
        }
    }

    fn holder(&self, key: &[u8]) -> Result<Option<Holder>, ReadError> {
        if let Some(given) = self.keys.given.get(key) {
            return Ok(*given);
        }
        let Some(bytes) = self.rows.value(key)? else { return Ok(None) };
        let damaged = || ReadError::Damaged("the holder of a unique key");
        let (job, until) = bytes.split_first_chunk::<16>().ok_or_else(damaged)?;
        let until = u64::from_be_bytes(until.try_into().map_err(|_| damaged())?);
        Ok(Some(Holder { job: JobId::from_bytes(*job), until: Timestamp::from_millis(until) }))
    }
}
