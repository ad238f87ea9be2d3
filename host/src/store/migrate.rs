//! States of earlier layouts, brought to this one when they are opened.
//!
//! *Crash:* a state has its old layout until the one batch that changes all of it is durable.
//! *Spec:* `docs/formats/state.md`, "How it changes".

use super::active::Active;
use super::row::Slot;
use super::rows::{Batch, Rows};
use super::writer::LayoutError;
use super::{ReadError, keys, read};

/// Layout 1 kept of an active job only its priority, and nothing of its place in the row.
pub(super) fn from_1(db: &sled::Db, version: u8) -> Result<(), LayoutError> {
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
