//! Random bits from the system, for ids, salts, keys and jitter.

use std::time::Duration;

use strongroom_job::JobId;

use crate::Error;

/// Fills `bytes`.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(Error::Random)
}

/// A fresh id, also used as a salt.
pub(crate) fn id() -> Result<JobId, Error> {
    let mut bytes = [0; 16];
    fill(&mut bytes)?;
    Ok(JobId::from_bytes(bytes))
}

/// Fresh ids, drawn in one call.
pub(crate) fn ids(count: usize) -> Result<Vec<JobId>, Error> {
    let mut bytes = vec![[0; 16]; count];
    fill(bytes.as_flattened_mut())?;
    Ok(bytes.into_iter().map(JobId::from_bytes).collect())
}

/// Between half of `pause` and all of it, so that many clients do not come back in step.
pub(crate) fn jitter(pause: Duration) -> Duration {
    let mut byte = [128];
    // Jitter without randomness is a fixed pause: worse spread, nothing wrong.
    let _ = getrandom::fill(&mut byte);
    pause / 2 + pause * u32::from(byte[0]) / 510
}
