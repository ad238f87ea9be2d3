//! Jobs that are not over, and who signed them: to stop those of somebody who is no principal any more.

use strongroom_job::{JobId, PublicKey};

use super::rows::Rows as _;
use super::{ReadError, Store, keys, pack};

/// A job that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Which.
    pub job: JobId,
    /// Who signed it.
    pub signer: PublicKey,
    /// Its place in the order of admission.
    pub admitted: u64,
}

impl Store {
    /// The first `most` jobs that are not over and were admitted at `from` or later, in that order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn signed(&self, from: u64, most: usize) -> Result<Vec<Signed>, ReadError> {
        let rows = &self.current;
        let rows = rows.between(&keys::active(from), &keys::active(u64::MAX));
        let signed = rows.take(most).map(|item| {
            let (key, value) = item?;
            let damaged = |_| ReadError::Damaged("the place of a job");
            let admitted = key[keys::ACTIVE.len()..].try_into().map(u64::from_be_bytes).map_err(damaged)?;
            let row = pack::unpack_row(admitted, &value)?;
            Ok(Signed { job: row.job, signer: row.signer, admitted })
        });
        signed.collect()
    }
}
