//! A guest's output on its way to disk, readable while it grows.
//!
//! Short output stays in memory and is committed together with the job's end, so that a small job costs no file. What
//! grows past that goes to a file as it comes, written by a task of its own: the guest waits for the disk, the threads
//! that guests run on do not.
//!
//! *Bound:* [`MAX_INLINE_BYTES`] and a few chunks per stream. *Crash:* nothing is kept of an attempt that did not finish.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use strongroom_job::{Digest, OutputStream, OutputSummary, Progress};
use strongroom_runtime::OutputSink;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::PollSender;

use crate::blobs::{Blobs, Draft};

/// Longest output that is kept in the store itself, in bytes.
pub(crate) const MAX_INLINE_BYTES: usize = 16 << 10;
/// Chunks (of at most 64 KiB) on their way to a file.
const CHUNKS_IN_FLIGHT: usize = 4;
/// Most bytes of one read.
const READ_BYTES: usize = 64 << 10;

/// Both output streams of one attempt, and how far it says that it has come.
#[derive(Debug)]
pub(crate) struct Outputs {
    pub(crate) stdout: Arc<Live>,
    pub(crate) stderr: Arc<Live>,
    /// The newest only: told to who asks, and kept nowhere.
    pub(super) progress: watch::Sender<Option<strongroom_runtime::Progress>>,
}

impl Outputs {
    pub(super) fn new() -> Self {
        Self { stdout: Arc::default(), stderr: Arc::default(), progress: watch::Sender::new(None) }
    }

    /// The guest's newest progress, once it has said any.
    pub(crate) fn progress(&self) -> Option<Progress> {
        let newest = self.progress.borrow();
        newest.as_ref().map(|said| Progress { percent: said.percent(), text: said.text().to_owned() })
    }

    /// No more will come on either stream.
    pub(super) fn close(&self) {
        self.stdout.close();
        self.stderr.close();
    }

    pub(crate) fn get(&self, stream: OutputStream) -> &Arc<Live> {
        match stream {
            OutputStream::Stdout => &self.stdout,
            // A result is there when the job is over, and then it is in the store.
            OutputStream::Stderr | OutputStream::Result => &self.stderr,
        }
    }
}

/// One stream that grows.
#[derive(Debug, Default)]
pub(crate) struct Live {
    held: Mutex<Held>,
    /// Told after each change.
    grown: watch::Sender<Grown>,
}

/// How far a stream has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Grown {
    /// Bytes that can be read.
    length: u64,
    /// No more will come.
    over: bool,
}

/// Where the bytes are: in memory, or all of them in the file.
#[derive(Debug)]
enum Held {
    Memory(Vec<u8>),
    File(Arc<File>),
}

impl Default for Held {
    fn default() -> Self {
        Self::Memory(Vec::new())
    }
}

impl Live {
    fn held(&self) -> MutexGuard<'_, Held> {
        // Every change of the value is a single assignment or append.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No more will come: readers end at what is there.
    pub(super) fn close(&self) {
        self.grown.send_modify(|grown| grown.over = true);
    }

    /// The next bytes from `offset` on; waits for them if `follow`. None at the end.
    pub(crate) async fn read(&self, offset: u64, follow: bool) -> io::Result<Option<Bytes>> {
        let mut grown = self.grown.subscribe();
        let enough = |grown: &Grown| grown.length > offset || grown.over || !follow;
        // The sender is `self`, so it cannot be gone.
        let length = grown.wait_for(enough).await.map_err(io::Error::other)?.length;
        let wanted = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX).min(READ_BYTES);
        if wanted == 0 {
            return Ok(None);
        }
        let file = match &*self.held() {
            Held::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let end = start.saturating_add(wanted).min(bytes.len());
                return Ok(Some(Bytes::copy_from_slice(&bytes[start..end])));
            }
            Held::File(file) => Arc::clone(file),
        };
        let read = tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; wanted];
            file.read_exact_at(&mut buffer, offset)?;
            Ok(Bytes::from(buffer))
        });
        read.await.map_err(io::Error::other)?.map(Some)
    }
}

/// Takes one stream of a guest.
pub(super) struct Spool {
    live: Arc<Live>,
    blobs: Blobs,
    /// The way to the file's writer, once there is one.
    chunks: Option<PollSender<Bytes>>,
    writer: Writer,
}

/// The task that writes the file, handed from the sink, which starts it, to the attempt, which waits for it.
type Writer = Arc<Mutex<Option<JoinHandle<io::Result<Draft>>>>>;

/// What is left of a stream when its sink is gone.
pub(super) struct Remains {
    live: Arc<Live>,
    writer: Writer,
}

/// What became of one stream.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) summary: OutputSummary,
    /// The bytes, when they are short enough for the store.
    pub(super) inline: Option<Vec<u8>>,
}

impl Spool {
    /// A sink for the sandbox, and what the attempt keeps of it.
    pub(super) fn new(live: &Arc<Live>, blobs: &Blobs) -> (Self, Remains) {
        let writer = Writer::default();
        let remains = Remains { live: Arc::clone(live), writer: Arc::clone(&writer) };
        (Self { live: Arc::clone(live), blobs: blobs.clone(), chunks: None, writer }, remains)
    }

    /// Starts the file with what was in memory so far.
    fn spill(&mut self, so_far: Vec<u8>) -> &mut PollSender<Bytes> {
        let (sender, receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let task = write_file(self.blobs.clone(), so_far, receiver, Arc::clone(&self.live));
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(tokio::spawn(task));
        self.chunks.insert(PollSender::new(sender))
    }
}

impl OutputSink for Spool {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.chunks {
            None => Poll::Ready(Ok(())),
            Some(chunks) => chunks.poll_reserve(cx).map_err(|_| writer_gone()),
        }
    }

    fn send(&mut self, chunk: Bytes) -> io::Result<()> {
        if let Some(chunks) = &mut self.chunks {
            return chunks.send_item(chunk).map_err(|_| writer_gone());
        }
        let mut held = self.live.held();
        let Held::Memory(bytes) = &mut *held else { return Err(writer_gone()) };
        bytes.extend_from_slice(&chunk);
        let length = bytes.len();
        if length > MAX_INLINE_BYTES {
            let so_far = bytes.clone();
            drop(held);
            self.spill(so_far);
            return Ok(());
        }
        drop(held);
        self.live.grown.send_modify(|grown| grown.length = length as u64);
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The writer ends when its channel does; the attempt waits for it.
        self.chunks = None;
        Poll::Ready(Ok(()))
    }
}

impl Remains {
    /// Makes the stream durable, or hands its bytes to whoever commits the job's end. The sink must be gone.
    pub(super) async fn keep(self) -> io::Result<Kept> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let kept = match writer {
            None => match &*self.live.held() {
                Held::Memory(bytes) => {
                    let summary = OutputSummary { length: bytes.len() as u64, digest: Digest::of(bytes) };
                    Kept { summary, inline: Some(bytes.clone()) }
                }
                Held::File(_) => return Err(writer_gone()),
            },
            Some(task) => {
                let draft = task.await.map_err(io::Error::other)??;
                let (digest, length) = draft.keep().await?;
                Kept { summary: OutputSummary { length, digest }, inline: None }
            }
        };
        Ok(kept)
    }
}

fn writer_gone() -> io::Error {
    io::Error::other("the output's file cannot be written")
}

async fn write_file(
    blobs: Blobs,
    so_far: Vec<u8>,
    mut chunks: mpsc::Receiver<Bytes>,
    live: Arc<Live>,
) -> io::Result<Draft> {
    let mut draft = blobs.draft().await?;
    let reader = Arc::new(File::open(draft.path())?);
    draft.write(&so_far).await?;
    draft.flush().await?;
    *live.held() = Held::File(reader);
    let readable = |draft: &Draft| live.grown.send_modify(|grown| grown.length = draft.length());
    readable(&draft);
    while let Some(chunk) = chunks.recv().await {
        draft.write(&chunk).await?;
        // Readers see whole bursts: flushing each chunk would cost a task switch each.
        if chunks.is_empty() {
            draft.flush().await?;
            readable(&draft);
        }
    }
    draft.flush().await?;
    readable(&draft);
    Ok(draft)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    async fn send(spool: &mut Spool, chunk: &'static [u8]) {
        std::future::poll_fn(|cx| spool.poll_ready(cx)).await.unwrap();
        spool.send(Bytes::from_static(chunk)).unwrap();
    }

    fn blobs(dir: &tempfile::TempDir) -> Blobs {
        Blobs::open(&dir.path().join("blobs"), &dir.path().join("tmp")).unwrap()
    }

    #[tokio::test]
    async fn short_output_stays_in_memory_and_can_be_followed() {
        let dir = tempfile::tempdir().unwrap();
        let live = Arc::new(Live::default());
        let (mut spool, remains) = Spool::new(&live, &blobs(&dir));
        send(&mut spool, b"abc").await;
        assert_eq!(live.read(1, true).await.unwrap().unwrap(), "bc");
        drop(spool);
        let kept = remains.keep().await.unwrap();
        live.close();
        assert_eq!(live.read(3, true).await.unwrap(), None);
        assert_eq!(kept.inline.as_deref(), Some(b"abc".as_slice()));
        assert_eq!(kept.summary, OutputSummary { length: 3, digest: Digest::of(b"abc") });
    }

    #[tokio::test]
    async fn long_output_goes_to_a_file_and_can_be_followed_on_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = blobs(&dir);
        let live = Arc::new(Live::default());
        let (mut spool, remains) = Spool::new(&live, &blobs);
        let chunk: &'static [u8] = &[7; 60_000];
        let follower = tokio::spawn({
            let live = Arc::clone(&live);
            async move {
                let mut bytes = Vec::new();
                while let Some(more) = live.read(bytes.len() as u64, true).await.unwrap() {
                    bytes.extend_from_slice(&more);
                }
                bytes
            }
        });
        for _ in 0..10 {
            send(&mut spool, chunk).await;
        }
        drop(spool);
        let kept = remains.keep().await.unwrap();
        live.close();
        let whole = vec![7; 600_000];
        assert_eq!(kept.summary, OutputSummary { length: 600_000, digest: Digest::of(&whole) });
        assert!(kept.inline.is_none());
        assert_eq!(blobs.load(&kept.summary.digest, 1 << 20).await.unwrap(), whole);
        assert_eq!(follower.await.unwrap(), whole);
    }
}
