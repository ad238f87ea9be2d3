//! What is kept of envelopes: their bytes, how many jobs came in each, and the job that stands for the others.
//!
//! *Crash:* all of it is in the batch that takes the envelope's jobs.
//! *Bound:* one entry for each envelope of a transition, which is one, with at most as many jobs as an envelope may have.

use std::collections::HashMap;

use strongroom_job::{Digest, MAX_JOB_BODY_BYTES};

use super::group::Group;
use super::recent::News;
use super::{ReadError, keys, read, spec};
use crate::admission::AdmittedJob;

/// Longest value that an envelope is cut into: sled moves longer ones to files of their own.
const PIECE_BYTES: usize = 48 << 10;

/// Longest envelope of which a job is read: the longest job in base64, and what stands around it. What is more than that is space, which nobody signed, and nobody
/// should read each time.
const MAX_READ_BYTES: usize = MAX_JOB_BODY_BYTES.div_ceil(3) * 4 + 1024;

/// Behind the numbers of an envelope whose one job is what it says.
const ALONE: [u8; 1] = [1];

/// What is known of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CameIn {
    /// Jobs that came in it, run or not, and are not forgotten.
    pub(super) jobs: u32,
    /// Its other rows are under this index.
    pub(super) first: u64,
    /// Its one job is what the envelope says, and no other row does.
    pub(super) alone: bool,
}

impl CameIn {
    pub(super) fn value(self) -> Vec<u8> {
        let alone: &[u8] = if self.alone { &ALONE } else { &[] };
        [self.jobs.to_be_bytes().as_slice(), &self.first.to_be_bytes(), alone].concat()
    }

    pub(super) fn parse(value: &[u8]) -> Result<Self, ReadError> {
        let damaged = || ReadError::Damaged("the number of jobs of an envelope");
        let (jobs, first) = value.split_first_chunk::<4>().ok_or_else(damaged)?;
        let (first, alone) = first.split_first_chunk::<8>().ok_or_else(damaged)?;
        let alone = match alone {
            [] => false,
            _ if alone == ALONE => true,
            _ => return Err(damaged()),
        };
        Ok(Self { jobs: u32::from_be_bytes(*jobs), first: u64::from_be_bytes(*first), alone })
    }
}

/// The envelopes that the jobs of one transition came in.
pub(super) struct Envelopes<'a> {
    known: HashMap<Digest, Standing<'a>>,
    /// Each is of one job that needs no other row.
    alone: bool,
}

/// How far an envelope's rows are written.
enum Standing<'a> {
    /// So many jobs come in it, and nothing is written.
    Counted(usize),
    /// It has so many bytes, and its next job stands for the others.
    Held(CameIn, usize),
    /// This job of the transition stands for the others.
    New(&'a AdmittedJob),
    /// A job that came before stands for them, if any does.
    Kept(Option<Box<AdmittedJob>>),
}

impl Envelopes<'_> {
    /// Of these jobs; `alone` if they are one, and came in no batch. The runs of a series come in its envelope, and are written down as what they have that the series has
    /// not: so that is there to be read, whole.
    pub(super) fn of(jobs: &[AdmittedJob], alone: bool) -> Self {
        let alone = alone && matches!(jobs, [job] if job.task().plan.repeat.is_none());
        Self { known: HashMap::new(), alone }
    }

    /// One more job comes in this envelope.
    pub(super) fn count(&mut self, digest: &Digest) {
        if let Standing::Counted(jobs) = self.known.entry(*digest).or_insert(Standing::Counted(0)) {
            *jobs += 1;
        }
    }
}

impl Group<'_> {
    /// Writes an envelope down, unless that is done or none of its jobs is new.
    pub(super) fn keep_envelope(
        &mut self,
        envelopes: &mut Envelopes<'_>,
        digest: &Digest,
        bytes: &[u8],
    ) -> Result<(), ReadError> {
        let Some(standing) = envelopes.known.get_mut(digest) else { return Ok(()) };
        let Standing::Counted(jobs) = *standing else { return Ok(()) };
        let in_this_group = self.envelopes.contains_key(digest);
        let came = self.came_in(digest)?;
        let base = came.map(|came| self.base(came)).transpose()?.flatten();
        let alone = envelopes.alone && bytes.len() <= MAX_READ_BYTES;
        let new = CameIn { jobs: 0, first: self.log_size, alone };
        let held = self.hold_as(digest, came.unwrap_or(new), jobs);
        *standing = match base {
            // Until now all that came in it were jobs that were not run.
            None if came.is_none() || !in_this_group => Standing::Held(held, bytes.len()),
            base => Standing::Kept(base.map(Box::new)),
        };
        let first = held.first;
        for (piece, bytes) in (0u32..).zip(bytes.chunks(PIECE_BYTES)) {
            self.batch.insert(keys::envelope(first, piece), bytes);
        }
        Ok(())
    }

    /// The job that stands for all which came in the envelope of this new one. The first does, and is written down whole, unless it came alone.
    pub(super) fn stand_for<'a, 'b>(
        &mut self,
        envelopes: &'b mut Envelopes<'a>,
        job: &'a AdmittedJob,
    ) -> Result<Option<&'b AdmittedJob>, ReadError> {
        let Some(standing) = envelopes.known.get_mut(job.envelope()) else { return Ok(None) };
        if let Standing::Held(CameIn { first, alone, .. }, bytes) = *standing {
            if alone {
                // In base64, and more stands around it than a row takes for the job's names.
                self.news.extend(News::of(first, job, bytes / 4 * 3));
            } else {
                let whole = spec::whole(job)?;
                self.news.extend(News::of(first, job, whole.len()));
                self.batch.insert(keys::whole(first), whole);
            }
            *standing = Standing::New(job);
        }
        Ok(match standing {
            Standing::New(base) => Some(base),
            Standing::Kept(base) => base.as_deref(),
            Standing::Counted(_) | Standing::Held(..) => None,
        })
    }

    /// The job that stands for those which came in an envelope before this group; none for one that came alone.
    pub(super) fn base(&self, came: CameIn) -> Result<Option<AdmittedJob>, ReadError> {
        let whole = self.rows.value(&keys::whole(came.first))?;
        whole.map(|bytes| spec::unpack_whole(&bytes)).transpose()
    }

    /// So many jobs came in this envelope: it stays until the last of them is forgotten.
    pub(super) fn hold_envelope(&mut self, digest: &Digest, jobs: usize) -> Result<(), ReadError> {
        let new = CameIn { jobs: 0, first: self.log_size, alone: false };
        let came = self.came_in(digest)?.unwrap_or(new);
        self.hold_as(digest, came, jobs);
        Ok(())
    }

    /// [`Self::hold_envelope`], of which this was known.
    fn hold_as(&mut self, digest: &Digest, came: CameIn, jobs: usize) -> CameIn {
        let jobs = u32::try_from(jobs).unwrap_or(u32::MAX);
        let came = CameIn { jobs: came.jobs.saturating_add(jobs), ..came };
        self.set_came_in(digest, came);
        came
    }

    /// A job of an envelope is forgotten, and with the last one the envelope.
    pub(super) fn release_envelope(&mut self, digest: &Digest) -> Result<(), ReadError> {
        // Without a count nobody wrote it down.
        let Some(came) = self.came_in(digest)? else { return Ok(()) };
        if came.jobs > 1 {
            self.set_came_in(digest, CameIn { jobs: came.jobs - 1, ..came });
            return Ok(());
        }
        self.batch.remove(keys::came_in(digest));
        if !came.alone {
            self.batch.remove(keys::whole(came.first));
        }
        self.news.push(News::Went(came.first));
        self.envelopes.insert(*digest, None);
        for piece in self.rows.under(&keys::envelopes(came.first)) {
            self.batch.remove(piece?.0.to_vec());
        }
        Ok(())
    }

    /// What is known of an envelope, in the light of what this group did.
    pub(super) fn came_in(&self, digest: &Digest) -> Result<Option<CameIn>, ReadError> {
        match self.envelopes.get(digest) {
            Some(came) => Ok(*came),
            None => read::came_in(self.rows, digest),
        }
    }

    pub(super) fn set_came_in(&mut self, digest: &Digest, came: CameIn) {
        self.batch.insert(keys::came_in(digest), came.value());
        self.envelopes.insert(*digest, Some(came));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    // Red when what stands behind the numbers is not read, or anything may stand there.
    #[test]
    fn what_is_known_of_an_envelope_is_read_as_it_was_written() {
        for alone in [false, true] {
            let came = CameIn { jobs: 3, first: 1 << 40, alone };
            assert_eq!(CameIn::parse(&came.value()).unwrap(), came);
        }
        // As `docs/formats/state.md` says.
        let bytes = [0, 0, 0, 3, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        assert_eq!(CameIn { jobs: 3, first: 1 << 40, alone: true }.value(), bytes);
        let [without, with] = [false, true].map(|alone| CameIn { jobs: 3, first: 1 << 40, alone }.value());
        for wrong in [
            &without[..11],
            &[&without[..], &[0]].concat(),
            &[&without[..], &[2]].concat(),
            &[&with[..], &[1]].concat(),
        ] {
            assert!(CameIn::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
