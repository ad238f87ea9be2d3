//! What a rebuild finds to be gone.

use strongroom_job::{Digest, JobId, Timestamp};

use super::super::group::Group;
use super::super::past::PastJob;
use super::super::{ReadError, keys, read};
use super::replay::Gone;

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

    fn known_past(&self, job: &JobId) -> Result<Option<(strongroom_job::Name, PastJob)>, ReadError> {
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
