//! Where a guest's input comes from, before it is known in which process the guest runs.
//!
//! *Never:* holds a long input in memory. A file is handed over as it is; what is gathered from several goes through a pipe.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;

use bytes::Bytes;
use strongroom_runtime::Stdio;
use tokio::fs::File;
use tokio::io::AsyncRead;
use tokio::net::unix::pipe;

use super::message::Input;

/// A guest's standard input.
pub(crate) enum Source {
    Empty,
    Bytes(Bytes),
    /// From its beginning.
    File(File),
    Stream(Pin<Box<dyn AsyncRead + Send>>),
}

/// What a worker gets of it.
pub(super) struct Handed {
    pub(super) kind: Input,
    /// To be sent behind the order.
    pub(super) inline: Bytes,
    pub(super) fd: Option<OwnedFd>,
    /// What is to be poured into the pipe, if there is one.
    pub(super) pump: Option<Pump>,
}

/// A stream on its way into a pipe.
pub(super) struct Pump {
    from: Pin<Box<dyn AsyncRead + Send>>,
    /// None once the end was reached.
    to: Option<pipe::Sender>,
}

impl Source {
    /// For a guest of this process.
    pub(crate) fn stdio(self) -> Stdio {
        match self {
            Self::Empty => Stdio::null(),
            Self::Bytes(bytes) => Stdio::null().stdin_bytes(bytes),
            Self::File(file) => Stdio::null().stdin(file),
            Self::Stream(stream) => Stdio::null().stdin(stream),
        }
    }

    /// For a worker's.
    pub(super) async fn hand_over(self) -> io::Result<Handed> {
        let nothing = Handed { kind: Input::Empty, inline: Bytes::new(), fd: None, pump: None };
        Ok(match self {
            Self::Empty => nothing,
            Self::Bytes(inline) => Handed { kind: Input::Inline, inline, ..nothing },
            Self::File(file) => {
                let file = file.into_std().await;
                Handed { kind: Input::File, fd: Some(file.into()), ..nothing }
            }
            Self::Stream(from) => {
                let (to, out) = pipe::pipe()?;
                let out = out.into_nonblocking_fd()?;
                Handed {
                    kind: Input::Pipe,
                    fd: Some(out),
                    pump: Some(Pump { from, to: Some(to) }),
                    ..nothing
                }
            }
        })
    }
}

impl Pump {
    /// Pours until the end, or until nobody reads any more, and closes the pipe.
    ///
    /// # Errors
    /// What cannot be read. Then the pipe stays open, so that a guest does not take it for the end.
    pub(super) async fn pour(&mut self) -> io::Result<()> {
        let Some(to) = &mut self.to else { return Ok(()) };
        match tokio::io::copy(&mut self.from, to).await {
            // The guest is over, or has closed its input.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
        self.to = None;
        Ok(())
    }
}
