//! A job's output on its way out: while it grows, or from where it is kept.

use std::io::SeekFrom;
use std::sync::Arc;

use bytes::Bytes;
use strongroom_job::{JobId, OutputStream, OutputSummary, Refusal, RefusalCode};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::blobs::Blobs;
use crate::dispatch::{Dispatcher, Live, MAX_INLINE_BYTES};
use crate::intake::OutputReader;
use crate::store::{JobRow, ReadError, Store};

/// Most bytes of one piece.
const PIECE_BYTES: usize = 64 << 10;

/// The output of one job from an offset on.
#[derive(Debug)]
pub(crate) struct Output {
    source: Source,
    offset: u64,
    follow: bool,
    /// Bytes from the offset on, when the job is over.
    length: Option<u64>,
}

#[derive(Debug)]
enum Source {
    /// Nothing, or nothing more.
    Empty,
    /// The job waits for a slot, and the reader for the job.
    Waiting(Box<Places>),
    /// The attempt runs, or has just ended.
    Live(Arc<Live>),
    /// The job is over and its output short.
    Memory(Bytes),
    /// The job is over and its output long.
    File(File),
}

/// Where output can be.
#[derive(Debug)]
struct Places {
    store: Store,
    blobs: Blobs,
    dispatcher: Dispatcher,
    job: JobId,
    stream: OutputStream,
}

impl Output {
    pub(super) async fn open(
        store: Store,
        blobs: Blobs,
        dispatcher: Dispatcher,
        job: JobId,
        stream: OutputStream,
        offset: u64,
        follow: bool,
    ) -> Result<Self, Refusal> {
        let places = Places { store, blobs, dispatcher, job, stream };
        let (source, length) = places.find(offset, follow).await?;
        Ok(Self { source, offset, follow, length })
    }

    /// Something that is in memory already.
    pub(super) fn of_bytes(bytes: Vec<u8>) -> Self {
        let length = Some(bytes.len() as u64);
        Self { source: Source::Memory(bytes.into()), offset: 0, follow: false, length }
    }

    pub(super) async fn of_artifact(
        blobs: &Blobs,
        row: &JobRow,
        name: &str,
        offset: u64,
    ) -> Result<Self, Refusal> {
        let Some(end) = row.life.end() else {
            let text = format!("job {} is not over yet: its artifacts are there when it is", row.job);
            return Err(Refusal::new(RefusalCode::WrongState, text));
        };
        let Some(artifact) = end.artifacts.iter().find(|artifact| artifact.name == name) else {
            let left: Vec<&str> = end.artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
            let left = if left.is_empty() { "none".to_owned() } else { left.join(", ") };
            let text = format!("job {} left no artifact {name:?}; it left {left}", row.job);
            return Err(Refusal::new(RefusalCode::UnknownArtifact, text));
        };
        let length = Some(artifact.length.saturating_sub(offset));
        let source = if offset >= artifact.length {
            Source::Empty
        } else {
            let gone = |error| {
                tracing::error!(%error, job = %row.job, "an artifact cannot be read");
                Refusal::new(RefusalCode::HostFault, "the host cannot read the artifact; its log says why")
            };
            let mut file = blobs.read(&artifact.digest).await.map_err(gone)?;
            file.seek(SeekFrom::Start(offset)).await.map_err(gone)?;
            Source::File(file)
        };
        Ok(Self { source, offset, follow: false, length })
    }
}

impl Places {
    /// Where the output is now, and how much of it there is from `offset` on if that is known.
    async fn find(self, offset: u64, follow: bool) -> Result<(Source, Option<u64>), Refusal> {
        // The attempt first, the row second: an attempt leaves after its row is over.
        let live = self.dispatcher.outputs(&self.job);
        let row = self.store.row(&self.job).await.map_err(|error| refuse_read(&error))?;
        let Some(end) = row.as_ref().and_then(|row| row.life.end()) else {
            // What the job is told to have written in the end is what its last attempt wrote: as long as another attempt may follow,
            // whoever wants the whole has to wait. A result is there at the end only.
            let is_last = row.as_ref().is_some_and(|row| row.life.is_last_attempt());
            let live = live.filter(|_| self.stream != OutputStream::Result && (is_last || !follow));
            return Ok(match live {
                Some(outputs) => (Source::Live(Arc::clone(outputs.get(self.stream))), None),
                None if follow => (Source::Waiting(Box::new(self)), None),
                None => (Source::Empty, None),
            });
        };
        let summary = match self.stream {
            OutputStream::Stdout => end.stdout,
            OutputStream::Stderr => end.stderr,
            OutputStream::Result => end.result.unwrap_or_else(OutputSummary::nothing),
        };
        let source = self.kept(&summary, offset).await?;
        Ok((source, Some(summary.length.saturating_sub(offset))))
    }

    async fn kept(&self, summary: &OutputSummary, offset: u64) -> Result<Source, Refusal> {
        if offset >= summary.length {
            return Ok(Source::Empty);
        }
        let gone = |error: &dyn std::fmt::Display| {
            Refusal::new(
                RefusalCode::HostFault,
                format!("the host's own fault: the output of job {} cannot be read: {error}", self.job),
            )
        };
        if self.stream == OutputStream::Result || summary.length <= MAX_INLINE_BYTES as u64 {
            let bytes = self.store.output(&self.job, self.stream).map_err(|error| gone(&error))?;
            let mut bytes = Bytes::from(bytes.ok_or_else(|| gone(&"it is missing"))?);
            let skip = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            return Ok(Source::Memory(bytes.split_off(skip)));
        }
        let mut file = self.blobs.read(&summary.digest).await.map_err(|error| gone(&error))?;
        file.seek(SeekFrom::Start(offset)).await.map_err(|error| gone(&error))?;
        Ok(Source::File(file))
    }

    /// Waits until the job has moved on, then looks again.
    async fn wait(self, offset: u64) -> Result<(Source, Option<u64>), Refusal> {
        let mut watching = self.dispatcher.watch(self.job);
        // Subscribed before this look, so no change is missed.
        match self.find(offset, true).await? {
            (Source::Waiting(places), _) => {
                watching.changed().await;
                Box::pin(places.find(offset, true)).await
            }
            found => Ok(found),
        }
    }
}

impl OutputReader for Output {
    fn length(&self) -> Option<u64> {
        self.length
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let unreadable = |error: std::io::Error| {
                tracing::error!(%error, "an output cannot be read");
                Refusal::new(RefusalCode::HostFault, format!("the output cannot be read: {error}"))
            };
            let piece = match &mut self.source {
                Source::Empty => None,
                Source::Waiting(_) => {
                    let Source::Waiting(places) = std::mem::replace(&mut self.source, Source::Empty) else {
                        return Ok(None);
                    };
                    (self.source, _) = places.wait(self.offset).await?;
                    continue;
                }
                Source::Live(live) => live.read(self.offset, self.follow).await.map_err(unreadable)?,
                Source::Memory(bytes) => Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty()),
                Source::File(file) => {
                    let mut buffer = Vec::with_capacity(PIECE_BYTES);
                    file.take(PIECE_BYTES as u64).read_to_end(&mut buffer).await.map_err(unreadable)?;
                    Some(Bytes::from(buffer)).filter(|bytes| !bytes.is_empty())
                }
            };
            if let Some(bytes) = &piece {
                self.offset += bytes.len() as u64;
            }
            return Ok(piece);
        }
    }
}

/// The host's own trouble with its store, in words for the principal; the log has the details.
pub(super) fn refuse_read(error: &ReadError) -> Refusal {
    tracing::error!(%error, "the store cannot be read");
    Refusal::new(RefusalCode::HostFault, "the host cannot read its state; its log says why")
}
