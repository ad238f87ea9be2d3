//! Syslog over a connection: TCP, or TLS over it.
//!
//! Syslog has no answers: what was written may still be in some buffer when the receiver dies. So a connection is closed in order
//! now and then, and the receiver's own close in answer to ours says that it has read everything: one that has not is answered with
//! a reset. Only then does the place move on; after anything else all that went through this connection is sent again.
//!
//! *Never:* asks for less than that. What a receiver does after it has read is its own affair. *Bound:* the constants below.
//! *Spec:* RFC 6587 (octet counting), RFC 5425.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::{sleep, timeout};

use super::Trouble;
use super::entry::Entry;
use super::syslog::Sender;
use super::tls::Tls;
use super::wire::{self, Wire};
use crate::config::Server;

/// Longest wait for a receiver that takes nothing.
const WRITE: Duration = Duration::from_secs(30);
/// Longest wait for a receiver's close.
const CLOSE: Duration = Duration::from_secs(20);
/// How long a reset may be behind a close: longer than any way there and back. A receiver that closed by itself, just when records were
/// on their way to it, has not read them.
const RESET: Duration = Duration::from_millis(1000);
/// Most bytes that a receiver may say before it closes. Syslog receivers say nothing.
const MOST_SAID: usize = 64 << 10;

pub(super) struct StreamSink {
    server: Server,
    tls: Option<Tls>,
    sender: Sender,
    open: Option<Wire>,
}

impl StreamSink {
    pub(super) const fn new(server: Server, tls: Option<Tls>, sender: Sender) -> Self {
        Self { server, tls, sender, open: None }
    }

    pub(super) async fn send(&mut self, batch: &[Entry]) -> Result<(), Trouble> {
        let mut frames = Vec::new();
        for entry in batch {
            let message = self.sender.message(entry);
            frames.extend(format!("{} ", message.len()).bytes());
            frames.extend(message);
        }
        let wire = match &mut self.open {
            Some(wire) => wire,
            none => none.insert(wire::connect(&self.server, self.tls.as_ref()).await?),
        };
        if is_closed(wire).await {
            return Err(Trouble::Later("the receiver has closed the connection".into()));
        }
        let write = async {
            wire.write_all(&frames).await?;
            wire.flush().await
        };
        match timeout(WRITE, write).await {
            Ok(done) => done.map_err(Trouble::later),
            Err(_) => {
                Err(Trouble::Later(format!("the receiver has taken nothing for {} s", WRITE.as_secs())))
            }
        }
    }

    /// Closes the connection in order. When this returns without an error, the receiver has read everything.
    pub(super) async fn settle(&mut self) -> Result<(), Trouble> {
        let Some(mut wire) = self.open.take() else { return Ok(()) };
        if is_closed(&mut wire).await {
            return Err(Trouble::Later("the receiver has closed the connection".into()));
        }
        match timeout(CLOSE, close(&mut wire)).await {
            Ok(done) => done.map_err(Trouble::later),
            Err(_) => {
                Err(Trouble::Later(format!("the receiver does not close within {} s", CLOSE.as_secs())))
            }
        }
    }

    /// Drops the connection, whatever is still on its way.
    pub(super) fn hang_up(&mut self) {
        self.open = None;
    }
}

/// Whether the receiver has closed. Takes and forgets what it said.
async fn is_closed(wire: &mut Wire) -> bool {
    let mut said = [0; 512];
    let mut left = MOST_SAID;
    poll_fn(|cx| {
        loop {
            let mut read = ReadBuf::new(&mut said);
            match Pin::new(&mut *wire).poll_read(cx, &mut read) {
                Poll::Pending => return Poll::Ready(false),
                Poll::Ready(Err(_)) => return Poll::Ready(true),
                Poll::Ready(Ok(())) if read.filled().is_empty() => return Poll::Ready(true),
                Poll::Ready(Ok(())) => match left.checked_sub(read.filled().len()) {
                    Some(fewer) => left = fewer,
                    None => return Poll::Ready(true),
                },
            }
        }
    })
    .await
}

async fn close(wire: &mut Wire) -> io::Result<()> {
    wire.shutdown().await?;
    let mut said = [0; 512];
    let mut left = MOST_SAID;
    loop {
        match wire.read(&mut said).await {
            Ok(0) => break,
            Ok(some) => {
                left = left
                    .checked_sub(some)
                    .ok_or_else(|| io::Error::other("the receiver talks back without an end"))?;
            }
            // Many close TCP without a last word of TLS. Who is on the way could do the same; the index in each record
            // then shows the receiver a gap.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    sleep(RESET).await;
    wire.tcp().take_error()?.map_or(Ok(()), Err)
}
