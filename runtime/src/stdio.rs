//! Where a guest's input comes from and its output goes.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::sync::watch;

use crate::progress::Progress;
use crate::sinks::Discard;
use crate::stdin::Source;

/// Most bytes that a sink is given at once.
pub const MAX_CHUNK: usize = 64 << 10;

/// Takes a guest's output, piece by piece, as fast as it wants and no faster.
///
/// The guest waits while [`OutputSink::poll_ready`] is pending, so a slow sink holds one chunk, not the output. An error
/// ends the run with a `HostFault`; a panic does too, and harms no other run.
pub trait OutputSink: Send + 'static {
    /// Answers ready when one more chunk can be taken.
    ///
    /// # Errors
    ///
    /// The sink is broken; the run ends.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Takes one chunk of 1 to [`MAX_CHUNK`] bytes. Called once after each `poll_ready` that answered ready. Never blocks.
    ///
    /// # Errors
    ///
    /// The sink is broken; the run ends.
    fn send(&mut self, chunk: Bytes) -> io::Result<()>;

    /// Answers ready when everything that was sent is where it belongs. Called after the last chunk, before `run` returns; on
    /// a run that is stopped it gets 50 ms.
    ///
    /// # Errors
    ///
    /// The output is not complete; the run ends with a `HostFault`.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// The three streams of one run, and who watches how far it has come.
pub struct Stdio {
    pub(crate) stdin: Source,
    pub(crate) stdout: Box<dyn OutputSink>,
    pub(crate) stderr: Box<dyn OutputSink>,
    pub(crate) progress: Option<watch::Sender<Option<Progress>>>,
}

impl Stdio {
    /// Empty input; output is counted and dropped; nobody watches progress.
    pub fn null() -> Self {
        Self {
            stdin: Source::Bytes(Bytes::new()),
            stdout: Box::new(Discard),
            stderr: Box::new(Discard),
            progress: None,
        }
    }

    /// Input held in memory.
    #[must_use]
    pub fn stdin_bytes(mut self, bytes: impl Into<Bytes>) -> Self {
        self.stdin = Source::Bytes(bytes.into());
        self
    }

    /// Input read as the guest asks for it; at most 64 KiB are held.
    #[must_use]
    pub fn stdin(mut self, reader: impl AsyncRead + Send + Unpin + 'static) -> Self {
        self.stdin = Source::Reader(Box::new(reader));
        self
    }

    /// Where stdout goes.
    #[must_use]
    pub fn stdout(mut self, sink: impl OutputSink) -> Self {
        self.stdout = Box::new(sink);
        self
    }

    /// Where stderr goes.
    #[must_use]
    pub fn stderr(mut self, sink: impl OutputSink) -> Self {
        self.stderr = Box::new(sink);
        self
    }

    /// Where the newest progress of the guest goes; none until it says something. The sender is dropped before the report.
    ///
    /// A guest may say something new a million times a second: whoever waits for changes looks at his own pace. While a
    /// `borrow` of the value is held, the guest's thread waits.
    #[must_use]
    pub fn progress(mut self, newest: watch::Sender<Option<Progress>>) -> Self {
        self.progress = Some(newest);
        self
    }
}

impl std::fmt::Debug for Stdio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stdio")
    }
}
