//! What evidence and a rebuild ask of the store, and what a rebuild asks of evidence.

use std::io;
use std::path::{Path, PathBuf};

use strongroom_job::{Digest, JobId, Name, Opening, OutputStream, Timestamp};

use super::rows::Rows as _;
use super::{ReadError, Store, compact, fresh, keys, read};
use crate::lifecycle::End;

/// What records refer to and do not hold, as it was written down when they were published. `at` is the index of the record that
/// refers to it, and never goes back.
pub trait Source {
    /// The envelope with this digest of its body; none when it was forgotten.
    ///
    /// # Errors
    /// When it cannot be read.
    fn envelope(&mut self, at: u64, digest: &Digest) -> io::Result<Option<Vec<u8>>>;

    /// A short output of a job that is over.
    ///
    /// # Errors
    /// When it cannot be read.
    fn output(&mut self, at: u64, job: &JobId, stream: OutputStream) -> io::Result<Option<Vec<u8>>>;

    /// What opens the record of a job's end, as the JSON of an [`Opening`].
    ///
    /// # Errors
    /// When it cannot be read.
    fn opening(&mut self, at: u64, job: &JobId) -> io::Result<Option<Vec<u8>>>;

    /// The tenants that gave a module, by the index of its record.
    ///
    /// # Errors
    /// When they cannot be read.
    fn tenants(&mut self, at: u64) -> io::Result<Vec<Name>>;
}

impl Store {
    /// Whether there is nothing in `path`: no state, not even an empty one.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn is_missing(path: &Path) -> io::Result<bool> {
        Ok(Self::standing(path)?.is_none())
    }

    /// Where the state of `path` stands: there, or, after a crash while it was replaced, beside it, from where the next opening puts it
    /// back. None when there is none.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn standing(path: &Path) -> io::Result<Option<PathBuf>> {
        for place in [path.to_path_buf(), compact::stale(path)] {
            if !fresh::is_empty(&place)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Whether sled's error is about what is in its files, and not about the operating system, or about who else has them open.
    #[must_use]
    pub fn is_damage(error: &sled::Error) -> bool {
        match error {
            sled::Error::Io(error) => {
                let refused = error.raw_os_error().is_some() && error.kind() != io::ErrorKind::NotFound;
                !refused && !error.to_string().contains("acquire lock")
            }
            _ => true,
        }
    }

    /// Whether the envelope with this digest of its body is here.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn has_envelope(&self, digest: &Digest) -> Result<bool, ReadError> {
        let Some(came) = read::came_in(&self.current, digest)? else { return Ok(false) };
        Ok(self.current.value(&keys::envelope(came.first, 0))?.is_some())
    }

    /// Whether this output of a finished job is here.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn has_output(&self, job: &JobId, stream: OutputStream) -> Result<bool, ReadError> {
        Ok(read::output(&self.current, job, stream)?.is_some())
    }

    /// What opens the record of a job's end: what it left, and what hides that. None of a job that is not over, or not known.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn opening(&self, job: &JobId) -> Result<Option<Opening>, ReadError> {
        Ok(read::row(&self.current, job)?.and_then(|row| row.life.end().map(End::opening)))
    }

    /// The tenants that gave a module at this time, to the millisecond: as a rule one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn module_tenants(&self, module: &Digest, at: Timestamp) -> Result<Vec<Name>, ReadError> {
        let mut tenants = Vec::new();
        let prefix = keys::MODULES;
        for row in self.current.under(prefix) {
            let (key, value) = row?;
            let (tenant, digest) = read::registered(&key[prefix.len()..])?;
            if digest == *module && read::registered_value(&value)?.1 == at {
                tenants.push(tenant);
            }
        }
        Ok(tenants)
    }
}
