//! Whose a job is, for who tells of it: also of one that was erased, as long as anything of it is known.

use strongroom_job::{JobId, Name};
use tokio::sync::watch;

use super::rows::Rows as _;
use super::{ReadError, Store, keys, read};
use crate::admission::AdmittedJob;

/// What is still known of a job.
#[derive(Debug)]
pub(crate) enum Whose {
    /// Everything.
    Job(Box<AdmittedJob>),
    /// It was erased, and this tenant's.
    Erased(Name),
}

impl Store {
    /// Durable leaves of the log: changes with every commit.
    pub(crate) fn grows(&self) -> watch::Receiver<u64> {
        self.durable.clone()
    }

    /// Whether a job is this tenant's; none when nothing is known of it any more. Reads two short keys.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn is_of(&self, job: &JobId, tenant: &Name) -> Result<Option<bool>, ReadError> {
        let rows = &self.current;
        let Some(place) = rows.value(&keys::place(job))? else {
            return Ok(read::erased(rows, job)?.map(|erased| erased.tenant == *tenant));
        };
        let damaged = |_| ReadError::Damaged("the place of a job");
        let admitted = place.as_ref().try_into().map(u64::from_be_bytes).map_err(damaged)?;
        if rows.value(&keys::tenant_job(tenant, admitted))?.is_some() {
            return Ok(Some(true));
        }
        // Somebody else's, or forgotten between these two looks.
        Ok(rows.value(&keys::place(job))?.map(|_| false))
    }

    /// Whose a job is, and what it is; none when nothing is known of it any more.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn whose(&self, job: &JobId) -> Result<Option<Whose>, ReadError> {
        if let Some(spec) = self.spec(job)? {
            return Ok(Some(Whose::Job(Box::new(spec))));
        }
        let erased = read::erased(&self.current, job)?;
        Ok(erased.map(|erased| Whose::Erased(erased.tenant)))
    }
}
