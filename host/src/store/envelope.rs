//! What is kept of envelopes: their bytes, how many jobs came in each, and the job that stands for the others.
//!
//! *Crash:* all of it is in the batch that takes the envelope's jobs.
//! *Bound:* one entry for each envelope of a transition, which is one, with at most as many jobs as an envelope may have.

use std::collections::HashMap;

use strongroom_job::Digest;

use super::group::Group;
use super::recent::News;
use super::{ReadError, keys, read, spec};
use crate::admission::AdmittedJob;

/// Longest value that an envelope is cut into: sled moves longer ones to files of their own.
const PIECE_BYTES: usize = 48 << 10;

/// What is known of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CameIn {
    /// Jobs that came in it, run or not, and are not forgotten.
    pub(super) jobs: u32,
    /// Its other rows are under this index.
    pub(super) first: u64,
}

impl CameIn {
    pub(super) fn value(self) -> Vec<u8> {
        [self.jobs.to_be_bytes().as_slice(), &self.first.to_be_bytes()].concat()
    }

    pub(super) fn parse(value: &[u8]) -> Result<Self, ReadError> {
        let damaged = || ReadError::Damaged("the number of jobs of an envelope");
        let (jobs, first) = value.split_first_chunk::<4>().ok_or_else(damaged)?;
        let first = u64::from_be_bytes(first.try_into().map_err(|_| damaged())?);
        Ok(Self { jobs: u32::from_be_bytes(*jobs), first })
    }
}

/// The envelopes that the jobs of one transition came in.
#[derive(Default)]
pub(super) struct Envelopes<'a> {
    known: HashMap<Digest, Standing<'a>>,
}

/// How far an envelope's rows are written.
enum Standing<'a> {
    /// So many jobs come in it, and nothing is written.
    Counted(usize),
    /// Its rows begin here, and its next job stands for the others.
    Held(u64),
    /// This job of the transition stands for the others.
    New(&'a AdmittedJob),
    /// A job that came before stands for them, if any does.
    Kept(Option<Box<AdmittedJob>>),
}

impl Envelopes<'_> {
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
        *standing = match came {
            None => Standing::Held(self.log_size),
            Some(came) => match self.base(came)? {
                // Until now all that came in it were jobs that were not run.
                None if !in_this_group => Standing::Held(came.first),
                base => Standing::Kept(base.map(Box::new)),
            },
        };
        let first = self.hold_as(digest, came, jobs);
        for (piece, bytes) in (0u32..).zip(bytes.chunks(PIECE_BYTES)) {
            self.batch.insert(keys::envelope(first, piece), bytes);
        }
        Ok(())
    }

    /// The job that stands for all which came in the envelope of this new one. The first does, and is written down whole.
    pub(super) fn stand_for<'a, 'b>(
        &mut self,
        envelopes: &'b mut Envelopes<'a>,
        job: &'a AdmittedJob,
    ) -> Result<Option<&'b AdmittedJob>, ReadError> {
        let Some(standing) = envelopes.known.get_mut(job.envelope()) else { return Ok(None) };
        if let Standing::Held(first) = *standing {
            let whole = spec::whole(job)?;
            self.news.extend(News::of(first, job, whole.len()));
            self.batch.insert(keys::whole(first), whole);
            *standing = Standing::New(job);
        }
        Ok(match standing {
            Standing::New(base) => Some(base),
            Standing::Kept(base) => base.as_deref(),
            Standing::Counted(_) | Standing::Held(_) => None,
        })
    }

    /// The job that stands for those which came in an envelope before this group.
    pub(super) fn base(&self, came: CameIn) -> Result<Option<AdmittedJob>, ReadError> {
        let whole = self.rows.value(&keys::whole(came.first))?;
        whole.map(|bytes| spec::unpack_whole(&bytes)).transpose()
    }

    /// So many jobs came in this envelope: it stays until the last of them is forgotten. Gives where its rows are: at its first job
    /// that was logged, which is the next one when the envelope is new.
    pub(super) fn hold_envelope(&mut self, digest: &Digest, jobs: usize) -> Result<u64, ReadError> {
        let came = self.came_in(digest)?;
        Ok(self.hold_as(digest, came, jobs))
    }

    /// [`Self::hold_envelope`], of which this is known.
    fn hold_as(&mut self, digest: &Digest, came: Option<CameIn>, jobs: usize) -> u64 {
        let came = came.unwrap_or(CameIn { jobs: 0, first: self.log_size });
        let jobs = u32::try_from(jobs).unwrap_or(u32::MAX);
        self.set_came_in(digest, CameIn { jobs: came.jobs.saturating_add(jobs), ..came });
        came.first
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
        self.batch.remove(keys::whole(came.first));
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
