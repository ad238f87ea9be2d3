//! What the store can be asked. Reads go past the writer, so they could see a group that is not durable yet: how a job
//! stands is therefore only told once the record that says so is durable.

use std::collections::BTreeMap;

use strongroom_job::{
    BlobKind, Digest, JobId, ModuleRef, ModuleView, Name, OutputStream, QueueMode, Timestamp,
};

use super::active::Active;
use super::envelope::CameIn;
use super::erase::Erased;
use super::row::JobRow;
use super::rows::Rows;
use super::unique::Merged;
use super::unpublished::Leaf;
use super::{PublishedHead, ReadError, Store, follow, keys, pack, spec};
use crate::admission::AdmittedJob;
use crate::admission::quota::TenantUse;
use crate::lifecycle::End;

/// A place in a tenant's list of jobs, which runs from the newest to the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(u64);

impl Cursor {
    /// Before the newest job.
    pub const START: Self = Self(u64::MAX);

    /// Just after the job with this `admitted` record.
    #[must_use]
    pub const fn after(admitted: u64) -> Self {
        Self(admitted)
    }
}

impl Store {
    /// How a job stands, if there is such a job.
    ///
    /// # Errors
    /// When the store cannot be read, or can no longer make anything durable.
    pub async fn row(&self, job: &JobId) -> Result<Option<JobRow>, ReadError> {
        let Some(row) = row(&self.current, job)? else { return Ok(None) };
        let mut durable = self.durable.clone();
        durable.wait_for(|size| *size > row.touched).await.map_err(|_| ReadError::Stopped)?;
        Ok(Some(row))
    }

    /// What a job is, if there is such a job.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn spec(&self, job: &JobId) -> Result<Option<AdmittedJob>, ReadError> {
        match row(&self.current, job)? {
            Some(row) => self.spec_of(&row),
            None => Ok(None),
        }
    }

    /// What the job of this row is, if it is still known.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn spec_of(&self, row: &JobRow) -> Result<Option<AdmittedJob>, ReadError> {
        spec_of(&self.current, row, |first| self.recent.get(first))
    }

    /// A tenant's jobs from `from` on, newest first.
    pub fn tenant_jobs(&self, tenant: &Name, from: Cursor) -> impl Iterator<Item = Result<JobId, ReadError>> {
        let jobs = self.current.backwards(&keys::tenant(tenant), &keys::tenant_job(tenant, from.0));
        jobs.filter_map(|row| match row {
            Ok((_, id)) => <[u8; 16]>::try_from(id.as_ref()).ok().map(|id| Ok(JobId::from_bytes(id))),
            Err(error) => Some(Err(error)),
        })
    }

    /// What became of a job that was not run because another one had its unique key, if that is so.
    ///
    /// # Errors
    /// When the store cannot be read, or can no longer make anything durable.
    pub async fn merged(&self, job: &JobId) -> Result<Option<Merged>, ReadError> {
        let Some(merged) = merged(&self.current, job)? else { return Ok(None) };
        let mut durable = self.durable.clone();
        durable.wait_for(|size| *size > merged.log_index).await.map_err(|_| ReadError::Stopped)?;
        Ok(Some(merged))
    }

    /// Every job that is not over, in the order of admission.
    pub fn active(&self) -> impl Iterator<Item = Result<Active, ReadError>> {
        let active: Vec<_> = active(&self.current).collect();
        active.into_iter()
    }

    /// The jobs whose outputs are this one's input, in order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn sources(&self, job: &JobId) -> Result<Vec<JobId>, ReadError> {
        follow::sources(&self.current, job)
    }

    /// Every queue that is not simply open.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn queue_modes(&self) -> Result<BTreeMap<Name, QueueMode>, ReadError> {
        queue_modes(&self.current)
    }

    /// Whether a tenant gave this blob.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn has_blob(&self, kind: BlobKind, tenant: &Name, digest: &Digest) -> Result<bool, ReadError> {
        Ok(self.current.value(&keys::blob(kind, tenant, digest))?.is_some())
    }

    /// The output of a finished job, when it is short enough to be kept here.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn output(&self, job: &JobId, stream: OutputStream) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(output(&self.current, job, stream)?.map(|bytes| bytes.to_vec()))
    }

    /// What a tenant has now, as quotas count it. The writer may be ahead of it by what waits, so this is a first look only.
    #[must_use]
    pub fn usage(&self, tenant: &Name, now: Timestamp) -> TenantUse {
        self.counts.usage(tenant, now)
    }

    /// The modules that a tenant gave, by digest.
    pub fn modules(&self, tenant: &Name) -> impl Iterator<Item = Result<ModuleView, ReadError>> {
        let prefix = keys::blobs(BlobKind::Module, tenant);
        let skip = prefix.len();
        self.current.all_under(&prefix).filter_map(move |item| match item {
            Ok((key, value)) => module_view(&key[skip..], &value).map(Ok),
            Err(error) => Some(Err(error)),
        })
    }

    /// At most `most` durable leaves from `from` on.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn leaves(&self, from: u64, most: usize) -> Result<Vec<Vec<u8>>, ReadError> {
        leaves(&self.current, from, self.log_size(), most)
    }

    /// [`Store::leaves`], with what those say that this process wrote. For the publisher alone: the store keeps that until it was asked for once.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn take_unpublished(&self, from: u64, most: usize) -> Result<Vec<Leaf>, ReadError> {
        // Whatever the writer has, nothing is published that it has not told of as durable.
        let durable = usize::try_from(self.log_size().saturating_sub(from)).unwrap_or(usize::MAX);
        let leaves = self.unpublished.take(from, most.min(durable));
        if !leaves.is_empty() {
            return Ok(leaves);
        }
        Ok(self.leaves(from, most)?.into_iter().map(Leaf::from).collect())
    }

    /// The log as the store last heard that it was published.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn published(&self) -> Result<Option<PublishedHead>, ReadError> {
        let Some(bytes) = self.current.value(keys::PUBLISHED)? else { return Ok(None) };
        PublishedHead::from_bytes(&bytes).map(Some).ok_or(ReadError::Damaged("what was published"))
    }

    /// The envelope with this digest of its body: the evidence behind the records that name it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn envelope(&self, digest: &Digest) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(Some(envelope(&self.current, digest)?).filter(|bytes| !bytes.is_empty()))
    }
}

/// The pieces of an envelope in one; nothing when there are none.
pub(super) fn envelope(rows: &dyn Rows, digest: &Digest) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    let Some(came) = came_in(rows, digest)? else { return Ok(bytes) };
    for piece in rows.under(&keys::envelopes(came.first)) {
        bytes.extend_from_slice(&piece?.1);
    }
    // It may have been forgotten meanwhile, and then these are its first pieces.
    if came_in(rows, digest)?.is_none_or(|now| now.first != came.first) {
        bytes.clear();
    }
    Ok(bytes)
}

/// A short output of a job that is over.
pub(super) fn output(
    rows: &dyn Rows,
    job: &JobId,
    stream: OutputStream,
) -> Result<Option<sled::IVec>, ReadError> {
    let Some(admitted) = place(rows, job)? else { return Ok(None) };
    rows.value(&keys::output(admitted, stream))
}

/// What opens the record of a job's end, as JSON; nothing when there is no such end.
pub(super) fn opening(rows: &dyn Rows, job: &JobId) -> Result<Vec<u8>, ReadError> {
    let row = row(rows, job)?;
    let opening = row.as_ref().and_then(|row| row.life.end()).map(End::opening);
    Ok(opening.map(|opening| serde_json::to_vec(&opening)).transpose()?.unwrap_or_default())
}

/// What is known of a job that was erased.
pub(super) fn erased(rows: &dyn Rows, job: &JobId) -> Result<Option<Erased>, ReadError> {
    let bytes = rows.value(&keys::erased(job))?;
    Ok(bytes.map(|bytes| serde_json::from_slice(&bytes)).transpose()?)
}

/// Every job, run or not over.
pub(super) fn jobs(rows: &dyn Rows) -> impl Iterator<Item = Result<JobId, ReadError>> {
    rows.under(keys::PLACES).map(|row| {
        let job = row?.0[keys::PLACES.len()..].try_into();
        job.map(JobId::from_bytes).map_err(|_| ReadError::Damaged("the id of a job"))
    })
}

/// The index of a job's `admitted` record, under which its other rows are.
fn place(rows: &dyn Rows, job: &JobId) -> Result<Option<u64>, ReadError> {
    let Some(bytes) = rows.value(&keys::place(job))? else { return Ok(None) };
    let damaged = |_| ReadError::Damaged("the place of a job");
    bytes.as_ref().try_into().map(u64::from_be_bytes).map(Some).map_err(damaged)
}

pub(super) fn row(rows: &dyn Rows, job: &JobId) -> Result<Option<JobRow>, ReadError> {
    let Some(admitted) = place(rows, job)? else { return Ok(None) };
    // In this order: a job that ends meanwhile is not missed, since it only ever goes from the one to the other.
    for key in [keys::active(admitted), keys::over(admitted)] {
        if let Some(bytes) = rows.value(&key)? {
            return pack::unpack_row(admitted, &bytes).map(Some);
        }
    }
    // It was forgotten meanwhile.
    Ok(None)
}

pub(super) fn spec(rows: &dyn Rows, job: &JobId) -> Result<Option<AdmittedJob>, ReadError> {
    match row(rows, job)? {
        Some(row) => spec_of(rows, &row, |_| None),
        None => Ok(None),
    }
}

/// [`spec`], of a job whose row was read. `recent` has, now and then, the job that stands for an envelope whose rows begin there.
pub(super) fn spec_of(
    rows: &dyn Rows,
    row: &JobRow,
    recent: impl FnOnce(u64) -> Option<AdmittedJob>,
) -> Result<Option<AdmittedJob>, ReadError> {
    let Some(came) = came_in(rows, &row.envelope)? else { return Ok(None) };
    let recent = || recent(came.first).map(Ok);
    let job = if came.alone {
        let bytes = || envelope(rows, &row.envelope);
        recent().unwrap_or_else(|| spec::unpack_envelope(&bytes()?, row))
    } else {
        let Some(whole) = rows.value(&keys::whole(came.first))? else { return Ok(None) };
        match rows.value(&keys::variation(row.admitted))? {
            None => recent().unwrap_or_else(|| spec::unpack_whole(&whole)),
            Some(variation) => spec::unpack_variation(&whole, &variation),
        }
    };
    // It may have been forgotten while it was read: then what is missing is so for that, and not because it never was there.
    if place(rows, &row.job)? != Some(row.admitted) {
        return Ok(None);
    }
    Ok(Some(job?.standing_for(row.job, row.signer)))
}

/// What is known of an envelope.
pub(super) fn came_in(rows: &dyn Rows, digest: &Digest) -> Result<Option<CameIn>, ReadError> {
    let value = rows.value(&keys::came_in(digest))?;
    value.map(|bytes| CameIn::parse(&bytes)).transpose()
}

pub(super) fn merged(rows: &dyn Rows, job: &JobId) -> Result<Option<Merged>, ReadError> {
    let bytes = rows.value(&keys::merged(job))?;
    Ok(bytes.map(|bytes| serde_json::from_slice(&bytes)).transpose()?)
}

pub(super) fn active(rows: &dyn Rows) -> impl Iterator<Item = Result<Active, ReadError>> {
    active_rows(rows).map(|item| {
        let damaged = || ReadError::Damaged("an active job");
        Active::of(&item?).ok_or_else(damaged)
    })
}

/// The row of every job that is not over, in the order of admission.
pub(super) fn active_rows(rows: &dyn Rows) -> impl Iterator<Item = Result<JobRow, ReadError>> {
    rows.under(keys::ACTIVE).map(|item| {
        let (key, value) = item?;
        let damaged = |_| ReadError::Damaged("the place of a job");
        let admitted = key[keys::ACTIVE.len()..].try_into().map(u64::from_be_bytes).map_err(damaged)?;
        pack::unpack_row(admitted, &value)
    })
}

pub(super) fn queue_mode(rows: &dyn Rows, queue: &Name) -> Result<QueueMode, ReadError> {
    let mode = rows.value(&keys::queue_mode(queue))?;
    Ok(mode.map(|mode| serde_json::from_slice(&mode)).transpose()?.unwrap_or_default())
}

fn queue_modes(rows: &dyn Rows) -> Result<BTreeMap<Name, QueueMode>, ReadError> {
    let modes = rows.under(keys::QUEUE_MODES).map(|item| {
        let (key, value) = item?;
        Ok((name(&key[keys::QUEUE_MODES.len()..])?, serde_json::from_slice(&value)?))
    });
    modes.collect()
}

pub(super) fn leaves(rows: &dyn Rows, from: u64, to: u64, most: usize) -> Result<Vec<Vec<u8>>, ReadError> {
    let mut leaves = Vec::new();
    for (index, item) in (from..to).zip(rows.between(&keys::leaf(from), &keys::leaf(to))).take(most) {
        let (key, leaf) = item?;
        if key.as_ref() != keys::leaf(index) {
            break;
        }
        leaves.push(leaf.to_vec());
    }
    Ok(leaves)
}

/// The value of a registered blob: its length and the time.
pub(super) fn registration(length: u64, now: Timestamp) -> Vec<u8> {
    [length.to_be_bytes(), now.as_millis().to_be_bytes()].concat()
}

/// The tenant and the digest in the key of a registered blob.
pub(super) fn registered(key: &[u8]) -> Result<(Name, Digest), ReadError> {
    let damaged = || ReadError::Damaged("a registered blob");
    let (tenant, digest) = key.split_last_chunk::<32>().ok_or_else(damaged)?;
    Ok((name(tenant.strip_suffix(&[0]).ok_or_else(damaged)?)?, Digest::from_bytes(*digest)))
}

/// The opposite of [`registration`].
pub(super) fn registered_value(value: &[u8]) -> Result<(u64, Timestamp), ReadError> {
    let damaged = || ReadError::Damaged("a registered blob");
    let (length, time) = value.split_first_chunk::<8>().ok_or_else(damaged)?;
    let time = u64::from_be_bytes(time.try_into().map_err(|_| damaged())?);
    Ok((u64::from_be_bytes(*length), Timestamp::from_millis(time)))
}

/// A name in a key.
pub(super) fn name(bytes: &[u8]) -> Result<Name, ReadError> {
    let name = std::str::from_utf8(bytes).ok().and_then(|name| name.parse().ok());
    name.ok_or(ReadError::Damaged("a name"))
}

fn module_view(digest: &[u8], value: &[u8]) -> Option<ModuleView> {
    let digest = Digest::from_bytes(digest.try_into().ok()?);
    let (length, registered_at) = registered_value(value).ok()?;
    Some(ModuleView { module: ModuleRef { digest, length }, registered_at })
}
