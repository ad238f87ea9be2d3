//! States of earlier layouts, brought to this one when they are opened.
//!
//! Layout 1 kept of an active job only its priority, nothing of its place in the row, and no index of jobs that are over. Layouts 1
//! and 2 kept rows by job ids and envelopes by digests, each row in JSON.
//!
//! *Crash:* rows of this layout have first letters that earlier ones do not use, and are written ahead in pieces: a second try writes
//! the same. The state has its old layout until the version is durable; the old rows go after that, at this start or the next.
//! *Spec:* `docs/formats/state.md`, "How it changes".

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use strongroom_job::{Digest, JobId, OutputStream};

use super::envelope::CameIn;
use super::past::PastJob;
use super::row::{JobRow, Slot};
use super::rows::{Batch, Rows};
use super::unique::Merged;
use super::writer::LayoutError;
use super::{ReadError, garbage, keys, pack, read, spec};
use crate::admission::AdmittedJob;

/// Rows that are written or removed at once.
const PIECE_ROWS: usize = 1000;

/// What layouts 1 and 2 kept under other keys than this one: jobs that are not over, how jobs stand, what they are, envelopes, how
/// many jobs came in them, short outputs.
const OLD: [&[u8]; 6] = [b"a/", b"j/", b"s/", b"e/", b"n/", b"o/"];

/// What only this layout has.
const NEW: [&[u8]; 8] = [b"i/", b"r/", b"h/", b"w/", b"v/", b"y/", b"z/", b"k/"];

/// Writes all rows of this layout, and then its version.
pub(super) fn from(db: &sled::Db, state: &Path, layout: u8, to: u8) -> Result<(), LayoutError> {
    // Of a try that was cut off: the host may have gone on with its old layout since, and these rows are of before.
    remove(db, &NEW)?;
    if layout == 1 {
        count_envelopes(db)?;
    }
    let mut migration =
        Migration { db, batch: Batch::default(), came_in: HashMap::new(), whole: HashMap::new() };
    for item in db.under(b"j/") {
        let (_, value) = item?;
        migration.bring(serde_json::from_slice(&value).map_err(ReadError::from)?)?;
    }
    for item in db.under(b"x/") {
        let merged: Merged = serde_json::from_slice(&item?.1).map_err(ReadError::from)?;
        // Of some envelopes only jobs are left that were not run; where all were such from the start, nothing was kept.
        if db.value(&old(b"n/", &[merged.envelope.as_bytes()]))?.is_none() {
            continue;
        }
        migration.envelope(&merged.envelope, merged.log_index)?;
    }
    migration.write(1)?;
    sync(db, state)?;
    name(db, state, to)
}

/// Writes the layout's version, durably.
pub(super) fn name(db: &sled::Db, state: &Path, to: u8) -> Result<(), LayoutError> {
    db.insert(keys::LAYOUT, &[to])?;
    sync(db, state)?;
    Ok(())
}

/// Durable, as the writer makes it.
fn sync(db: &sled::Db, state: &Path) -> sled::Result<()> {
    db.flush()?;
    Ok(File::open(state.join("db"))?.sync_all()?)
}

/// Removes what an earlier layout kept elsewhere. Only in a state of this layout.
pub(super) fn clean(db: &sled::Db) -> Result<(), LayoutError> {
    remove(db, &OLD)
}

fn remove(db: &sled::Db, prefixes: &[&[u8]]) -> Result<(), LayoutError> {
    for prefix in prefixes {
        loop {
            let keys: Vec<_> = db.scan_prefix(prefix).keys().take(PIECE_ROWS).collect::<Result<_, _>>()?;
            if keys.is_empty() {
                break;
            }
            let mut batch = Batch::default();
            keys.iter().for_each(|key| batch.remove(key.to_vec()));
            apply(db, batch)?;
        }
    }
    Ok(())
}

/// Layout 1 counted no jobs. Layout 2 does, in rows that layout 1 does not know.
fn count_envelopes(db: &sled::Db) -> Result<(), LayoutError> {
    let mut envelopes: HashMap<Digest, u32> = HashMap::new();
    for item in db.under(b"j/") {
        let row: JobRow = serde_json::from_slice(&item?.1).map_err(ReadError::from)?;
        *envelopes.entry(row.envelope).or_default() += 1;
    }
    let mut batch = Batch::default();
    for (digest, count) in envelopes {
        batch.insert(old(b"n/", &[digest.as_bytes()]), count.to_be_bytes());
        if batch.len() >= PIECE_ROWS {
            apply(db, std::mem::take(&mut batch))?;
        }
    }
    apply(db, batch)
}

/// Rows that are not written yet, and what is known of their envelopes.
struct Migration<'a> {
    db: &'a sled::Db,
    batch: Batch,
    came_in: HashMap<Digest, CameIn>,
    whole: HashMap<Digest, AdmittedJob>,
}

impl Migration<'_> {
    /// One job, with all that is kept of it.
    fn bring(&mut self, mut row: JobRow) -> Result<(), LayoutError> {
        let damaged = || ReadError::Damaged("a job that is not there");
        let job = row.job;
        let bytes = self.db.value(&old(b"s/", &[job.as_bytes()]))?.ok_or_else(damaged)?;
        let spec = spec::unpack_whole(&bytes)?;
        self.stand_for(&row, &spec)?;
        self.batch.insert(keys::place(&job), row.admitted.to_be_bytes());
        let key = match row.life.end() {
            Some(end) => {
                let past = PastJob::of(&row, end, spec.context().not_after, None);
                let key = past.key(&spec.context().tenant);
                // Layout 1 knew no unique keys, so what is not there yet is this.
                if self.db.value(&key)?.is_none() {
                    self.batch.insert(key, past.value());
                }
                keys::over(row.admitted)
            }
            None => {
                row.slot = Some(Slot::of(&spec));
                keys::active(row.admitted)
            }
        };
        self.batch.insert(key, pack::row(&row)?);
        self.outputs(&job, row.admitted)?;
        self.write(PIECE_ROWS)
    }

    /// The first job of an envelope that is met stands for the others, at the first try and at the next.
    fn stand_for(&mut self, row: &JobRow, job: &AdmittedJob) -> Result<(), LayoutError> {
        let came = self.envelope(&row.envelope, row.admitted)?;
        let base = match self.whole.get(&row.envelope) {
            Some(base) => Some(base.clone()),
            None => self
                .db
                .value(&keys::whole(came.first))?
                .map(|bytes| spec::unpack_whole(&bytes))
                .transpose()?,
        };
        if base.is_none() {
            self.batch.insert(keys::whole(came.first), spec::whole(job)?);
            self.whole.insert(row.envelope, job.clone());
        }
        if let Some(variation) = spec::variation(job, Some(base.as_ref().unwrap_or(job)))? {
            self.batch.insert(keys::variation(row.admitted), variation);
        }
        Ok(())
    }

    /// An envelope, with its bytes, at the first job of it that is met.
    fn envelope(&mut self, digest: &Digest, at: u64) -> Result<CameIn, LayoutError> {
        if let Some(came) = self.came_in.get(digest) {
            return Ok(*came);
        }
        if let Some(came) = read::came_in(self.db, digest)? {
            return Ok(came);
        }
        let count = self.db.value(&old(b"n/", &[digest.as_bytes()]))?;
        let damaged = || ReadError::Damaged("the number of jobs of an envelope");
        // Nobody knows who else came in an envelope without a count: it stays.
        let jobs = count.map(|count| count.as_ref().try_into().map(u32::from_be_bytes));
        let jobs = jobs.unwrap_or(Ok(u32::MAX)).map_err(|_| damaged())?;
        let came = CameIn { jobs, first: at, alone: false };
        self.batch.insert(keys::came_in(digest), came.value());
        for (piece, item) in (0u32..).zip(self.db.under(&old(b"e/", &[digest.as_bytes()]))) {
            self.batch.insert(keys::envelope(at, piece), item?.1.to_vec());
        }
        self.came_in.insert(*digest, came);
        Ok(came)
    }

    fn outputs(&mut self, job: &JobId, admitted: u64) -> Result<(), LayoutError> {
        for (code, stream) in
            [(1, OutputStream::Stdout), (2, OutputStream::Stderr), (3, OutputStream::Result)]
        {
            if let Some(output) = self.db.value(&old(b"o/", &[job.as_bytes(), &[code]]))? {
                self.batch.insert(keys::output(admitted, stream), output.to_vec());
            }
        }
        Ok(())
    }

    /// Writes the rows when they are so many.
    fn write(&mut self, at_least: usize) -> Result<(), LayoutError> {
        if self.batch.len() >= at_least {
            apply(self.db, std::mem::take(&mut self.batch))?;
            // From now on the rows say it.
            self.came_in.clear();
            self.whole.clear();
        }
        Ok(())
    }
}

fn apply(db: &sled::Db, batch: Batch) -> Result<(), LayoutError> {
    let rows = batch.len();
    db.apply_batch(batch.into())?;
    garbage::free(rows);
    Ok(())
}

/// A key of layout 1 or 2.
fn old(prefix: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    [prefix, &parts.concat()].concat()
}
