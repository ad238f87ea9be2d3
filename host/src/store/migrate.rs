//! States of earlier layouts, brought to this one when they are opened.
//!
//! *Crash:* a state has its old layout until the one batch that changes all of it is durable.
//! *Spec:* `docs/formats/state.md`, "How it changes".

use std::collections::HashMap;

use strongroom_job::Digest;

use super::active::Active;
use super::past::PastJob;
use super::row::{JobRow, Slot};
use super::rows::{Batch, Rows};
use super::writer::LayoutError;
use super::{ReadError, keys, read};

/// Rows that are written at once ahead of the batch that ends a migration.
const PIECE_ROWS: usize = 1000;

/// Layout 1 kept of an active job only its priority, and nothing of its place in the row; and of jobs that are over no index. That
/// index and the counts of envelopes are written ahead, in pieces: layout 1 knows no such rows, and a second try writes the same.
pub(super) fn from_1(db: &sled::Db, version: u8) -> Result<(), LayoutError> {
    index_past(db)?;
    let mut batch = Batch::default();
    for row in db.under(keys::ACTIVE) {
        let (key, _) = row?;
        let job = key[keys::ACTIVE.len()..].split_first_chunk::<8>().and_then(|(_, job)| job.try_into().ok());
        let damaged = || ReadError::Damaged("an active job");
        let job = strongroom_job::JobId::from_bytes(job.ok_or_else(damaged)?);
        let mut row = read::row(db, &job)?.ok_or_else(damaged)?;
        let spec = read::spec(db, &job)?.ok_or_else(damaged)?;
        row.slot = Some(Slot::of(&spec));
        let active = Active::of(&row).ok_or_else(damaged)?;
        batch.insert(active.key(), active.value());
        batch.insert(keys::life(&job), serde_json::to_vec(&row).map_err(ReadError::from)?);
    }
    batch.insert(keys::LAYOUT, [version]);
    db.apply_batch(batch.into()).map_err(ReadError::from)?;
    db.flush().map_err(ReadError::from)?;
    Ok(())
}

fn index_past(db: &sled::Db) -> Result<(), LayoutError> {
    let mut envelopes: HashMap<Digest, u32> = HashMap::new();
    let mut rows = Vec::new();
    for item in db.under(keys::LIVES) {
        let (_, value) = item?;
        let row: JobRow = serde_json::from_slice(&value).map_err(ReadError::from)?;
        *envelopes.entry(row.envelope).or_default() += 1;
        let Some(end) = row.life.end() else { continue };
        let damaged = || ReadError::Damaged("a job that is over and not there");
        let spec = read::spec(db, &row.job)?.ok_or_else(damaged)?;
        // Layout 1 knew no unique keys.
        let past = PastJob::of(&row, end, spec.context().not_after, None);
        rows.push((past.key(&spec.context().tenant), past.value()));
        write_pieces(db, &mut rows, PIECE_ROWS)?;
    }
    for (digest, count) in envelopes {
        rows.push((keys::came_in(&digest), count.to_be_bytes().to_vec()));
        write_pieces(db, &mut rows, PIECE_ROWS)?;
    }
    write_pieces(db, &mut rows, 1)
}

/// Writes the rows when they are so many.
fn write_pieces(
    db: &sled::Db,
    rows: &mut Vec<(Vec<u8>, Vec<u8>)>,
    at_least: usize,
) -> Result<(), LayoutError> {
    if rows.len() >= at_least {
        let mut batch = Batch::default();
        rows.drain(..).for_each(|(key, value)| batch.insert(key, value));
        db.apply_batch(batch.into()).map_err(ReadError::from)?;
    }
    Ok(())
}
