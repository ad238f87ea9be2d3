//! Which jobs and inputs an erasure takes: looked for beside the writer, which only judges what was found.
//!
//! The jobs of a batch stand in its envelope. The runs of a series do not; they are looked for among the jobs of its tenant, which may be
//! many. So is who else reads an input. None of that may keep those waiting who submit jobs.
//!
//! *Never:* changes anything. *Bound:* one envelope and [`MAX_ERASED`] ids in memory.

use std::collections::HashSet;

use strongroom_job::{BlobKind, Digest, Envelope, Input, JobBody, JobId, MAX_FORGOTTEN, Name, Timestamp};

use super::erase::{denied, not_over};
use super::given::GivenInput;
use super::group::Refused;
use super::rows::Rows as _;
use super::{CommitError, ReadError, Store, keys, read};
use crate::lifecycle::End;

/// Jobs that are erased at once, at most: more than a batch may have. A series may have more runs; each is some 2 KiB of one commit.
pub const MAX_ERASED: usize = 16_384;

/// What an erasure takes, as it was found.
#[derive(Clone, Debug)]
pub struct Doomed {
    /// The job that was asked for.
    pub asked: JobId,
    /// The digest of the body of the envelope that it came in.
    pub envelope: Digest,
    /// Whose it is.
    pub tenant: Name,
    /// All that came in the envelope, and the runs of a series.
    pub jobs: Vec<DoomedJob>,
    /// What these read, and nobody else.
    pub inputs: Vec<GivenInput>,
    /// Jobs of them whose records say in clear what they left.
    pub in_clear: u32,
}

/// A job that is to be erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoomedJob {
    /// Which.
    pub job: JobId,
    /// Its unique key.
    pub unique: Option<String>,
}

/// The signed texts behind an erasure.
#[derive(Default)]
struct Found {
    jobs: Vec<DoomedJob>,
    inputs: HashSet<Digest>,
    is_series: bool,
}

impl Found {
    fn add(&mut self, job: JobId, plan: &strongroom_job::Plan, input: &Input) {
        self.jobs.push(DoomedJob { job, unique: plan.unique.as_ref().map(|unique| unique.key.clone()) });
        self.is_series |= plan.repeat.is_some();
        if let Input::Blob { digest, .. } = input {
            self.inputs.insert(*digest);
        }
    }
}

impl Store {
    /// Looks for all that an erasure of this job takes, at `now`. With `all` it takes what else came in the job's envelope. Blocks; may read
    /// the row of every job of the tenant, and of every job that is not over.
    ///
    /// # Errors
    /// [`CommitError::UnknownJob`], or in words for whoever asked why it cannot be erased; and when the store cannot be read.
    pub fn doomed(&self, asked: JobId, all: bool, now: Timestamp) -> Result<Doomed, CommitError> {
        self.look_for_doomed(asked, all, now).map_err(|refused| match refused {
            Refused::Asker(error) => error,
            Refused::Store(error) => CommitError::Failed(error.to_string()),
        })
    }

    fn look_for_doomed(&self, asked: JobId, all: bool, now: Timestamp) -> Result<Doomed, Refused> {
        let row = read::row(&self.current, &asked)?;
        let (envelope, signer) = match (&row, read::merged(&self.current, &asked)?) {
            (Some(row), _) => (row.envelope, row.signer),
            (None, Some(merged)) => (merged.envelope, merged.signer),
            (None, None) => return Err(CommitError::UnknownJob.into()),
        };
        let bytes = read::envelope(&self.current, &envelope)?;
        if bytes.is_empty() {
            // It stands for itself, or came with others that were erased.
            return Err(CommitError::UnknownJob.into());
        }
        let bodies = Envelope::parse(&bytes).and_then(|parsed| parsed.verify(&signer));
        let bodies = bodies.map_err(|_| ReadError::Damaged("an envelope"))?;
        let mut found = Found::default();
        let mut tenant = None;
        for job in bodies {
            let JobBody { id, context, task, .. } = job.into_body();
            found.add(id, &task.plan, &task.input);
            tenant = Some(context.tenant);
        }
        let tenant = tenant.ok_or(ReadError::Damaged("an envelope without a job"))?;
        if found.is_series {
            self.add_runs(&tenant, &envelope, &mut found)?;
        }
        let in_clear = self.check_over(&envelope, &mut found, now)?;
        if found.jobs.len() > 1 && !all {
            let others = found.jobs.len() - 1;
            return Err(denied(format!(
                "job {asked} came in one signed envelope with {others} others, which holds the arguments and inputs of all: they can only be \
                 erased together (--batch)"
            )));
        }
        let inputs = self.unread(&tenant, &found.inputs, now)?;
        Ok(Doomed { asked, envelope, tenant, jobs: found.jobs, inputs, in_clear })
    }

    /// The runs of a series are wherever it fired. What they are is in its own envelope.
    fn add_runs(&self, tenant: &Name, envelope: &Digest, found: &mut Found) -> Result<(), Refused> {
        let known: HashSet<JobId> = found.jobs.iter().map(|one| one.job).collect();
        let first = read::came_in(&self.current, envelope)?.map_or(0, |came| came.first);
        let (from, to) = (keys::tenant_job(tenant, first), keys::tenant_job(tenant, u64::MAX));
        for item in self.current.between(&from, &to) {
            let job = <[u8; 16]>::try_from(item?.1.as_ref());
            let job = JobId::from_bytes(job.map_err(|_| ReadError::Damaged("the id of a job"))?);
            if known.contains(&job)
                || read::row(&self.current, &job)?.is_none_or(|row| row.envelope != *envelope)
            {
                continue;
            }
            if found.jobs.len() >= MAX_ERASED {
                return Err(denied(format!(
                    "more than {MAX_ERASED} jobs came in one signed envelope, since it holds a series, and so many are not erased at once: \
                     wait until retention has forgotten some of its runs, or shorten it (retention.keep)"
                )));
            }
            if let Some(spec) = read::spec(&self.current, &job)? {
                found.add(job, &spec.task().plan, &spec.task().input);
            }
        }
        Ok(())
    }

    /// Leaves those out that are forgotten, and refuses when one is not over. Says how many records hold something in clear.
    fn check_over(&self, envelope: &Digest, found: &mut Found, now: Timestamp) -> Result<u32, Refused> {
        let mut in_clear = 0;
        let mut known = Vec::with_capacity(found.jobs.len());
        for one in found.jobs.drain(..) {
            match read::row(&self.current, &one.job)?.filter(|row| row.envelope == *envelope) {
                Some(row) => match row.life.end() {
                    Some(end) => {
                        in_clear += u32::from(is_in_clear(end));
                        known.push(one);
                    }
                    None => return Err(not_over(&one.job, row.life.state(now))),
                },
                None => {
                    let merged = read::merged(&self.current, &one.job)?;
                    known.extend(merged.filter(|merged| merged.envelope == *envelope).map(|_| one));
                }
            }
        }
        found.jobs = known;
        Ok(in_clear)
    }

    /// Those of these inputs that no job reads which is not over.
    fn unread(
        &self,
        tenant: &Name,
        inputs: &HashSet<Digest>,
        now: Timestamp,
    ) -> Result<Vec<GivenInput>, ReadError> {
        let mut unread = Vec::new();
        for digest in inputs {
            if let Some(value) = self.current.value(&keys::blob(BlobKind::Input, tenant, digest))? {
                let (length, named_at) = read::registered_value(&value)?;
                // One that was named in this very millisecond may have been named twice in it, which nobody could tell.
                if named_at < now {
                    unread.push(GivenInput { tenant: tenant.clone(), digest: *digest, length, named_at });
                }
            }
        }
        if unread.is_empty() {
            return Ok(unread);
        }
        let mut used = HashSet::new();
        for row in read::active_rows(&self.current) {
            used.extend(row?.slot.filter(|slot| slot.tenant == *tenant).and_then(|slot| slot.input));
        }
        unread.retain(|input| !used.contains(&input.digest));
        Ok(unread)
    }

    /// Jobs that were not run because one of these had their unique key, and whose envelopes are still here: at most [`MAX_FORGOTTEN`].
    /// Blocks; reads what is kept of every job that was not run.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn merged_into(&self, jobs: &[DoomedJob]) -> Result<Vec<JobId>, ReadError> {
        let holders: HashSet<JobId> =
            jobs.iter().filter(|one| one.unique.is_some()).map(|one| one.job).collect();
        let mut merged = Vec::new();
        if holders.is_empty() {
            return Ok(merged);
        }
        for row in self.current.under(keys::MERGED) {
            let (key, value) = row?;
            let known: super::Merged = serde_json::from_slice(&value)?;
            let job = <[u8; 16]>::try_from(&key[keys::MERGED.len()..]);
            let job = JobId::from_bytes(job.map_err(|_| ReadError::Damaged("a job that was not run"))?);
            if known.into != job && holders.contains(&known.into) && self.has_envelope(&known.envelope)? {
                merged.push(job);
                if merged.len() >= MAX_FORGOTTEN {
                    break;
                }
            }
        }
        Ok(merged)
    }
}

/// Whether the record of an end holds a digest, or a name, that nothing hides: as all did that earlier versions wrote.
fn is_in_clear(end: &End) -> bool {
    let streams = [end.stdout.length, end.stderr.length, end.result.map_or(0, |result| result.length)];
    end.salt.is_none() && (streams.iter().any(|length| *length > 0) || !end.artifacts.is_empty())
}

#[cfg(test)]
mod tests {
    use strongroom_job::{Outcome, OutputSalt, Usage};

    use super::*;

    // Red when it is always none.
    #[test]
    fn an_end_without_a_salt_that_left_something_is_in_clear() {
        let output = |bytes: &[u8]| strongroom_job::OutputSummary {
            length: bytes.len() as u64,
            digest: Digest::of(bytes),
        };
        let end = |stdout: &[u8], salt| End {
            at: Timestamp::default(),
            outcome: Outcome::Exited { code: 0 },
            usage: Usage::default(),
            stdout: output(stdout),
            stderr: output(b""),
            denied: Vec::new(),
            artifacts: Vec::new(),
            result: None,
            dead: None,
            salt,
        };
        assert!(is_in_clear(&end(b"yes", None)));
        assert!(!is_in_clear(&end(b"yes", Some(OutputSalt::from_bytes([7; 32])))));
        assert!(!is_in_clear(&end(b"", None)));
    }
}
