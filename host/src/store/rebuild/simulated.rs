//! A simulated store, replayed from its own records: what comes out must be what is there.

use std::io;

use strongroom_job::{Digest, JobId, Name, OutputStream, StateFault, Timestamp};

use super::super::core::Simulated;
use super::super::evidence::Source;
use super::super::rows::Memory;
use super::super::{PublishedHead, keys, read};
use super::{History, Terms, replay};

/// Evidence of a store that has forgotten nothing is what is in its rows.
struct Own<'a>(&'a Memory);

impl Source for Own<'_> {
    fn envelope(&mut self, _: u64, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        let bytes = read::envelope(self.0, digest).map_err(io::Error::other)?;
        Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    fn output(&mut self, _: u64, job: &JobId, stream: OutputStream) -> io::Result<Option<Vec<u8>>> {
        let value = read::output(self.0, job, stream).map_err(io::Error::other)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn opening(&mut self, _: u64, job: &JobId) -> io::Result<Option<Vec<u8>>> {
        let bytes = read::opening(self.0, job).map_err(io::Error::other)?;
        Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    fn tenants(&mut self, _: u64) -> io::Result<Vec<Name>> {
        Ok(Vec::new())
    }
}

impl Simulated {
    /// Replays the first `size` records of a store that forgot nothing. The records that come out must be those that are there, also
    /// beyond `size`, up to the end of the transition that is cut in two; and with all of them, so must every row. Registrations of
    /// blobs, which a simulation does not have, are left out.
    ///
    /// # Errors
    /// In words, what differs.
    pub fn check_replay(&self, size: u64) -> Result<(), String> {
        let leaves =
            read::leaves(self.rows(), 0, self.log_size(), usize::MAX).map_err(|error| error.to_string())?;
        let mut rows = Memory::default();
        let first = leaves.iter().take(usize::try_from(size).unwrap_or(usize::MAX));
        let history = History {
            head: PublishedHead { size, root: [0; 32] },
            leaves: Box::new(first.cloned().map(Ok)),
            ended: Box::new(|_, _| Ok(None)),
        };
        let terms = Terms {
            now: Timestamp::default(),
            submittable: std::time::Duration::ZERO,
            has_blob: &|_| true,
            found: StateFault::Lost,
            problem: String::new(),
        };
        let replayed = replay(&mut rows, history, &mut Own(self.rows()), &terms);
        let (rebuilt, _, completed) = replayed.map_err(|error| error.to_string())?;
        let at = |size: u64| leaves.len().min(usize::try_from(size).unwrap_or(usize::MAX));
        let was = &leaves[at(size)..at(self.whole(size))];
        let is = read::leaves(&rows, size, completed, usize::MAX).map_err(|error| error.to_string())?;
        if is != was || rebuilt.forgotten > 0 {
            let text = |leaves: &[Vec<u8>]| -> Vec<String> {
                leaves.iter().map(|leaf| String::from_utf8_lossy(leaf).into_owned()).collect()
            };
            return Err(format!("a log that ends at {size} goes on {:#?}, not {:#?}", text(&is), text(was)));
        }
        if size < self.log_size() {
            return Ok(());
        }
        let told = |rows: &Memory| -> Vec<_> {
            let left_out: [&[u8]; 3] = [keys::LEAVES, b"m/", b"b/"];
            let rows = rows.all().filter(|(key, _)| !left_out.iter().any(|prefix| key.starts_with(prefix)));
            rows.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        let (is, was) = (told(&rows), told(self.rows()));
        if is == was {
            return Ok(());
        }
        match is.iter().find(|row| !was.contains(row)).or_else(|| was.iter().find(|row| !is.contains(row))) {
            None => Ok(()),
            Some((key, value)) => {
                let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(value));
                Err(format!("only one of the two has {key}: {value}"))
            }
        }
    }
}
