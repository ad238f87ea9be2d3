//! What the store can be asked. Reads go past the writer, so they could see a group that is not durable yet: how a job
//! stands is therefore only told once the record that says so is durable.

use strongroom_job::{BlobKind, Digest, JobId, ModuleRef, ModuleView, Name, OutputStream, Timestamp};

use super::row::JobRow;
use super::{ReadError, Store, keys};
use crate::admission::AdmittedJob;

/// A job in the queue: as little as it takes to order it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which job.
    pub job: JobId,
    /// Higher starts earlier.
    pub priority: i8,
    /// Index of its `admitted` record: among equals, the lower starts earlier.
    pub admitted: u64,
}

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
        let Some(row) = row(&self.db, job)? else { return Ok(None) };
        let mut durable = self.durable.clone();
        durable.wait_for(|size| *size > row.touched).await.map_err(|_| ReadError::Stopped)?;
        Ok(Some(row))
    }

    /// What a job is, if there is such a job.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn spec(&self, job: &JobId) -> Result<Option<AdmittedJob>, ReadError> {
        let bytes = self.db.get(keys::spec(job))?;
        Ok(bytes.map(|bytes| serde_json::from_slice(&bytes)).transpose()?)
    }

    /// A tenant's jobs from `from` on, newest first.
    pub fn tenant_jobs(&self, tenant: &Name, from: Cursor) -> impl Iterator<Item = Result<JobId, ReadError>> {
        let range = self.db.range(keys::tenant(tenant)..keys::tenant_job(tenant, from.0));
        range.values().rev().filter_map(|value| match value {
            Ok(bytes) => <[u8; 16]>::try_from(bytes.as_ref()).ok().map(|bytes| Ok(JobId::from_bytes(bytes))),
            Err(error) => Some(Err(error.into())),
        })
    }

    /// Every job that is queued or running, in the order of admission.
    pub fn active(&self) -> impl Iterator<Item = Result<Waiting, ReadError>> {
        active(&self.db)
    }

    /// Whether a tenant gave this blob.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn has_blob(&self, kind: BlobKind, tenant: &Name, digest: &Digest) -> Result<bool, ReadError> {
        Ok(self.db.contains_key(keys::blob(kind, tenant, digest))?)
    }

    /// The output of a finished job, when it is short enough to be kept here.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn output(&self, job: &JobId, stream: OutputStream) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.db.get(keys::output(job, stream))?.map(|bytes| bytes.to_vec()))
    }

    /// The modules that a tenant gave, by digest.
    pub fn modules(&self, tenant: &Name) -> impl Iterator<Item = Result<ModuleView, ReadError>> {
        let prefix = keys::blobs(BlobKind::Module, tenant);
        let skip = prefix.len();
        self.db.scan_prefix(prefix).filter_map(move |item| match item {
            Ok((key, value)) => module_view(&key[skip..], &value).map(Ok),
            Err(error) => Some(Err(error.into())),
        })
    }

    /// At most `most` durable leaves from `from` on.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn leaves(&self, from: u64, most: usize) -> Result<Vec<Vec<u8>>, ReadError> {
        leaves(&self.db, from, self.log_size(), most)
    }

    /// The envelope with this digest of its body: the evidence behind the records that name it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn envelope(&self, digest: &Digest) -> Result<Option<Vec<u8>>, ReadError> {
        let mut bytes = Vec::new();
        for piece in self.db.range(keys::envelope(digest, 0)..=keys::envelope(digest, u32::MAX)).values() {
            bytes.extend_from_slice(&piece?);
        }
        Ok(if bytes.is_empty() { None } else { Some(bytes) })
    }
}

pub(super) fn row(db: &sled::Db, job: &JobId) -> Result<Option<JobRow>, ReadError> {
    let bytes = db.get(keys::life(job))?;
    Ok(bytes.map(|bytes| serde_json::from_slice(&bytes)).transpose()?)
}

pub(super) fn active(db: &sled::Db) -> impl Iterator<Item = Result<Waiting, ReadError>> + use<> {
    db.scan_prefix(keys::ACTIVE).filter_map(|item| match item {
        Ok((key, value)) => waiting(&key[keys::ACTIVE.len()..], &value).map(Ok),
        Err(error) => Some(Err(error.into())),
    })
}

fn waiting(key: &[u8], value: &[u8]) -> Option<Waiting> {
    let (admitted, job) = key.split_first_chunk::<8>()?;
    let job = JobId::from_bytes(job.try_into().ok()?);
    let priority = i8::from_be_bytes(value.try_into().ok()?);
    Some(Waiting { job, priority, admitted: u64::from_be_bytes(*admitted) })
}

pub(super) fn leaves(db: &sled::Db, from: u64, to: u64, most: usize) -> Result<Vec<Vec<u8>>, ReadError> {
    let mut leaves = Vec::new();
    for (index, item) in (from..to).zip(db.range(keys::leaf(from)..keys::leaf(to))).take(most) {
        let (key, leaf) = item?;
        if key != keys::leaf(index) {
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

fn module_view(digest: &[u8], value: &[u8]) -> Option<ModuleView> {
    let digest = Digest::from_bytes(digest.try_into().ok()?);
    let (length, time) = value.split_first_chunk::<8>()?;
    let registered_at = Timestamp::from_millis(u64::from_be_bytes(time.try_into().ok()?));
    Some(ModuleView { module: ModuleRef { digest, length: u64::from_be_bytes(*length) }, registered_at })
}
