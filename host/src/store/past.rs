//! Jobs that are over, in the order of their ends, and what becomes of them.
//!
//! *Owns:* the index of jobs that are over. *Never:* which jobs go (`retention`).
//! *Crash:* a job's end and its place here are one batch; so is all that goes when it is forgotten, except its files, which the
//! next sweep of them finds (`host/keeper.rs`).
//! *Spec:* `docs/formats/state.md`, "Jobs that are over".

use std::collections::HashSet;

use strongroom_job::{Digest, Event, JobId, MAX_FORGOTTEN, Name, OutputStream, Timestamp};

use super::group::{Group, Refused};
use super::row::{JobRow, Slot};
use super::rows::Rows;
use super::{Committed, ReadError, Store, follow, keys, read};
use crate::lifecycle::End;
use crate::retention::Fate;

/// A job that is over, as its index has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastJob {
    /// Which.
    pub job: JobId,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What it left and the host still keeps, bytes.
    pub bytes: u64,
    /// When its signature expires.
    pub not_after: Timestamp,
    /// Until when its unique key stays taken, if it has one with a window that was not over at its end.
    pub key_until: Option<Timestamp>,
}

impl PastJob {
    pub(super) fn of(row: &JobRow, end: &End, not_after: Timestamp, key_until: Option<Timestamp>) -> Self {
        Self { job: row.job, ended_at: end.at, bytes: left(end), not_after, key_until }
    }

    pub(super) fn key(&self, tenant: &Name) -> Vec<u8> {
        keys::past(tenant, self.ended_at, &self.job)
    }

    pub(super) fn value(&self) -> Vec<u8> {
        let until = self.key_until.map_or(0, Timestamp::as_millis);
        [self.bytes, self.not_after.as_millis(), until].map(u64::to_be_bytes).concat()
    }

    /// The opposite of [`PastJob::key`] without its prefix, and [`PastJob::value`].
    pub(super) fn parse(key: &[u8], value: &[u8]) -> Result<(Name, Self), ReadError> {
        let damaged = || ReadError::Damaged("a job that is over");
        let end = key.iter().position(|byte| *byte == 0).ok_or_else(damaged)?;
        let tenant = read::name(&key[..end])?;
        let (ended_at, job) = key[end + 1..].split_first_chunk::<8>().ok_or_else(damaged)?;
        let job = JobId::from_bytes(job.try_into().map_err(|_| damaged())?);
        let (numbers, rest) = value.as_chunks::<8>();
        let ([bytes, not_after, until], []) = (numbers, rest) else { return Err(damaged()) };
        let time = |bytes: &[u8; 8]| Timestamp::from_millis(u64::from_be_bytes(*bytes));
        let past = Self {
            job,
            ended_at: time(ended_at),
            bytes: u64::from_be_bytes(*bytes),
            not_after: time(not_after),
            key_until: Some(time(until)).filter(|until| until.as_millis() > 0),
        };
        Ok((tenant, past))
    }
}

/// Bytes of everything that a job left. Equal files of two jobs count twice, since each would stay without the other.
fn left(end: &End) -> u64 {
    let artifacts = end.artifacts.iter().map(|artifact| artifact.length);
    let streams = [end.stdout.length, end.stderr.length, end.result.map_or(0, |result| result.length)];
    artifacts.chain(streams).fold(0, u64::saturating_add)
}

impl Store {
    /// Every tenant that has jobs which are over, with their number and the bytes that they left.
    #[must_use]
    pub fn past_tenants(&self) -> Vec<(Name, usize, u64)> {
        self.counts.past()
    }

    /// Whether the host still has what a job left. A job that is not over, or left nothing, has lost nothing.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn is_kept(&self, tenant: &Name, row: &JobRow) -> Result<bool, ReadError> {
        let Some(end) = row.life.end().filter(|end| left(end) > 0) else { return Ok(true) };
        let key = keys::past(tenant, end.at, &row.job);
        let Some(value) = self.current.value(&key)? else { return Ok(false) };
        Ok(PastJob::parse(&key[keys::PAST.len()..], &value)?.1.bytes > 0)
    }

    /// At most `most` jobs of a tenant that are over, oldest end first, after the one that is named.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn past(
        &self,
        tenant: &Name,
        after: Option<&PastJob>,
        most: usize,
    ) -> Result<Vec<PastJob>, ReadError> {
        let mut from = after.map_or_else(|| keys::pasts(tenant), |past| past.key(tenant));
        if after.is_some() {
            // The first key behind it.
            from.push(0);
        }
        let to = keys::past(tenant, Timestamp::from_millis(u64::MAX), &JobId::from_bytes([u8::MAX; 16]));
        let rows = self.current.between(&from, &to).take(most);
        rows.map(|row| {
            let (key, value) = row?;
            Ok(PastJob::parse(&key[keys::PAST.len()..], &value)?.1)
        })
        .collect()
    }

    /// Jobs whose output or artifacts a job that is not over takes.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn needed(&self) -> Result<HashSet<JobId>, ReadError> {
        follow::all_sources(&self.current)
    }

    /// Takes every blob out of the set that a registration or a job which is over names. Blocks; reads the row of every job that left
    /// something.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn drop_named(&self, blobs: &mut HashSet<Digest>) -> Result<(), ReadError> {
        for prefix in [keys::MODULES, keys::INPUTS] {
            for row in self.current.under(prefix) {
                blobs.remove(&read::registered(&row?.0[prefix.len()..])?.1);
            }
        }
        if blobs.is_empty() {
            return Ok(());
        }
        files(&self.current, |digest| {
            blobs.remove(&digest);
        })
    }

    /// At most `most` jobs that were not run and whose signatures expired before `before`, with the times when they did.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn merged_before(
        &self,
        before: Timestamp,
        most: usize,
    ) -> Result<Vec<(Timestamp, JobId)>, ReadError> {
        let damaged = || ReadError::Damaged("a job that was not run");
        let to = keys::merged_until(before, &JobId::from_bytes([0; 16]));
        let rows = self.current.between(keys::MERGED_UNTIL, &to).take(most);
        rows.map(|row| {
            let (key, _) = row?;
            let (time, job) = key[keys::MERGED_UNTIL.len()..].split_first_chunk::<8>().ok_or_else(damaged)?;
            let job = JobId::from_bytes(job.try_into().map_err(|_| damaged())?);
            Ok((Timestamp::from_millis(u64::from_be_bytes(*time)), job))
        })
        .collect()
    }
}

impl Group<'_> {
    /// A job is over: it gets its place in the index, and its tenant's figures are those of a job that is over.
    pub(super) fn remember(&mut self, row: &JobRow, slot: &Slot, key_until: Option<Timestamp>) {
        let Some(end) = row.life.end() else { return };
        let past = PastJob::of(row, end, slot.not_after, key_until);
        self.batch.insert(past.key(&slot.tenant), past.value());
        self.counts.remove(&slot.tenant);
        self.counts.end(&slot.tenant, past.bytes);
    }

    /// Lets jobs go that are over. One that is needed after all stays as it is: whoever needs it may have come since the rules
    /// were asked.
    pub(super) fn let_past_go(
        &mut self,
        tenant: &Name,
        jobs: &[(PastJob, Fate)],
    ) -> Result<Committed, Refused> {
        let needed = follow::all_sources(self.rows)?;
        for jobs in jobs.chunks(MAX_FORGOTTEN) {
            let (mut forgotten, mut stripped) = (Vec::new(), Vec::new());
            for (past, fate) in jobs {
                let free = !needed.contains(&past.job) && !self.edges.names(&past.job);
                // What the index says is what the figures count: of a job that changed meanwhile nothing goes now.
                let known = self.past_known(tenant, past)? == Some(*past);
                if !free || !known {
                    continue;
                }
                match fate {
                    Fate::Stays => {}
                    Fate::Stripped => {
                        let row = self.past_row(past)?;
                        self.strip(tenant, past, row.admitted);
                        stripped.push(past.job);
                    }
                    Fate::Forgotten => {
                        self.forget_past(tenant, past)?;
                        forgotten.push(past.job);
                    }
                }
            }
            if !(forgotten.is_empty() && stripped.is_empty()) {
                // Whoever misses a job, or the envelope behind its records, finds out why.
                self.log(Event::Forgotten { tenant: tenant.clone(), jobs: forgotten, stripped });
            }
        }
        Ok(Committed::Done)
    }

    /// A job's place in the index, in the light of what this group did.
    fn past_known(&self, tenant: &Name, past: &PastJob) -> Result<Option<PastJob>, ReadError> {
        if let Some(changed) = self.pasts.get(&past.job) {
            return Ok(*changed);
        }
        let key = past.key(tenant);
        let value = self.rows.value(&key)?;
        value.map(|value| Ok(PastJob::parse(&key[keys::PAST.len()..], &value)?.1)).transpose()
    }

    /// The place in the index of a job that ended so; none when it is forgotten, be it in this group.
    pub(super) fn past_of(
        &self,
        tenant: &Name,
        end: &End,
        job: &JobId,
    ) -> Result<Option<PastJob>, ReadError> {
        let (ended_at, nothing) = (end.at, Timestamp::default());
        self.past_known(
            tenant,
            &PastJob { job: *job, ended_at, bytes: 0, not_after: nothing, key_until: None },
        )
    }

    pub(super) fn past_row(&self, past: &PastJob) -> Result<JobRow, ReadError> {
        read::row(self.rows, &past.job)?.ok_or(ReadError::Damaged("a job that is over and not there"))
    }

    pub(super) fn strip(&mut self, tenant: &Name, past: &PastJob, admitted: u64) {
        for stream in [OutputStream::Stdout, OutputStream::Stderr, OutputStream::Result] {
            self.batch.remove(keys::output(admitted, stream));
        }
        let stripped = PastJob { bytes: 0, ..*past };
        self.batch.insert(past.key(tenant), stripped.value());
        self.pasts.insert(past.job, Some(stripped));
        self.counts.strip(tenant, past.bytes);
    }

    pub(super) fn forget_past(&mut self, tenant: &Name, past: &PastJob) -> Result<(), ReadError> {
        let row = self.past_row(past)?;
        self.strip(tenant, past, row.admitted);
        self.counts.forget(tenant, 0);
        self.counts.forget_until(past.not_after);
        if past.key_until.is_some()
            && let Some(unique) =
                read::spec(self.rows, &past.job)?.and_then(|job| job.task().plan.unique.clone())
        {
            self.drop_key(tenant, &unique.key, past.job)?;
        }
        self.remove_past(tenant, past, row.admitted);
        self.release_envelope(&row.envelope)
    }

    /// The rows of a job that is over go, but for what others share and what it left.
    pub(super) fn remove_past(&mut self, tenant: &Name, past: &PastJob, admitted: u64) {
        let rows = [
            keys::place(&past.job),
            keys::over(admitted),
            keys::variation(admitted),
            keys::tenant_job(tenant, admitted),
            past.key(tenant),
        ];
        for key in rows {
            self.batch.remove(key);
        }
        self.pasts.insert(past.job, None);
    }

    /// Forgets jobs that were not run.
    pub(super) fn let_merged_go(&mut self, jobs: &[(Timestamp, JobId)]) -> Result<Committed, Refused> {
        for (not_after, job) in jobs {
            self.counts.forget_until(*not_after);
            self.forget_merged(*not_after, job)?;
        }
        Ok(Committed::Done)
    }

    pub(super) fn forget_merged(&mut self, not_after: Timestamp, job: &JobId) -> Result<(), ReadError> {
        self.batch.remove(keys::merged_until(not_after, job));
        if let Some(merged) = read::merged(self.rows, job)? {
            self.batch.remove(keys::merged(job));
            self.release_envelope(&merged.envelope)?;
        }
        Ok(())
    }
}

/// Every file that a job which is over left and the host still keeps.
fn files(rows: &dyn Rows, mut each: impl FnMut(Digest)) -> Result<(), ReadError> {
    for item in rows.under(keys::PAST) {
        let (key, value) = item?;
        let (_, past) = PastJob::parse(&key[keys::PAST.len()..], &value)?;
        if past.bytes == 0 {
            continue;
        }
        // It may have been forgotten since.
        let Some(row) = read::row(rows, &past.job)? else { continue };
        let Some(end) = row.life.end() else { continue };
        // A short output has no file of this name; to say that it has keeps nothing that would go.
        each(end.stdout.digest);
        each(end.stderr.digest);
        end.artifacts.iter().for_each(|artifact| each(artifact.digest));
    }
    Ok(())
}
