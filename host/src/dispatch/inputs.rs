//! A job's input that other jobs left: their outputs or artifacts, one after the other.
//!
//! *Bound:* one piece in memory. *Never:* a shorter input than there is: what cannot be read is an error for the guest, not an
//! end.

use std::io;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::stream;
use strongroom_job::{Digest, JobId, OutputStream};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::StreamReader;

use super::output::MAX_INLINE_BYTES;
use crate::blobs::Blobs;
use crate::store::{ReadError, Store};

/// Most bytes of one piece.
const PIECE_BYTES: usize = 64 << 10;

/// What is left to read.
struct Sources {
    store: Store,
    blobs: Blobs,
    /// The last one comes first.
    jobs: Vec<JobId>,
    artifact: Option<String>,
    file: Option<File>,
}

/// The standard outputs of the jobs that `job` waits for, or their artifacts of one name; a job that left none adds nothing.
///
/// # Errors
/// When the store cannot be read.
pub(super) fn outputs(
    store: &Store,
    blobs: &Blobs,
    job: &JobId,
    artifact: Option<&String>,
) -> Result<Pin<Box<dyn AsyncRead + Send>>, ReadError> {
    let mut jobs = store.sources(job)?;
    jobs.reverse();
    let (store, blobs) = (store.clone(), blobs.clone());
    let sources = Sources { store, blobs, jobs, artifact: artifact.cloned(), file: None };
    let pieces = stream::try_unfold(sources, |mut sources| async move {
        let piece = sources.piece().await?;
        io::Result::Ok(piece.map(|piece| (piece, sources)))
    });
    Ok(Box::pin(StreamReader::new(Box::pin(pieces))))
}

impl Sources {
    /// The next bytes, never none of them; `None` at the end.
    async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(file) = &mut self.file {
                let mut buffer = Vec::with_capacity(PIECE_BYTES);
                file.take(PIECE_BYTES as u64).read_to_end(&mut buffer).await?;
                if !buffer.is_empty() {
                    return Ok(Some(buffer.into()));
                }
                self.file = None;
            }
            let Some(job) = self.jobs.pop() else { return Ok(None) };
            if let Some(bytes) = self.open(job).await? {
                return Ok(Some(bytes));
            }
        }
    }

    /// Finds what a job left: bytes, or a file that is read from now on, or nothing.
    async fn open(&mut self, job: JobId) -> io::Result<Option<Bytes>> {
        let row = self.store.row(&job).await.map_err(io::Error::other)?;
        let Some(end) = row.as_ref().and_then(|row| row.life.end()) else {
            return Err(io::Error::other(format!("job {job}, whose output is to be read, is gone")));
        };
        let digest = match &self.artifact {
            Some(name) => {
                end.artifacts.iter().find(|artifact| artifact.name == *name).map(|found| found.digest)
            }
            None if end.stdout.length == 0 => None,
            None if end.stdout.length <= MAX_INLINE_BYTES as u64 => {
                let bytes = self.store.output(&job, OutputStream::Stdout).map_err(io::Error::other)?;
                let gone = || io::Error::other(format!("the output of job {job} is gone"));
                return Ok(Some(bytes.ok_or_else(gone)?.into()));
            }
            None => Some(end.stdout.digest),
        };
        self.file = match digest {
            // An empty artifact is a file of its own, which is read to its end at once.
            Some(digest) => Some(self.read(&digest).await?),
            None => None,
        };
        Ok(None)
    }

    async fn read(&self, digest: &Digest) -> io::Result<File> {
        self.blobs.read(digest).await
    }
}
