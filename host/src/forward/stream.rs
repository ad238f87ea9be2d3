//! Syslog over a connection: TCP, or TLS over it.
//!
//! Syslog has no answers: what was written may still be in some buffer when the receiver dies. So a connection is closed in order
//! now and then, and the receiver's own close in answer to ours says that it has read everything: one that has not is answered with
//! a reset. Only then does the place move on; after anything else all that went through this connection is sent again.
//!
//! A receiver may be slow: it has time for each piece that it takes, and when it has not read a whole connection in time, the next ones
//! are shorter ([`Budget`]). Otherwise it would get the same records for ever.
//!
//! *Never:* asks for less than that. What a receiver does after it has read is its own affair. *Bound:* the constants below.
//! *Spec:* RFC 6587 (octet counting), RFC 5425.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::sleep;

use super::Trouble;
use super::entry::Entry;
use super::syslog::Sender;
use super::tls::Tls;
use super::wire::{self, Wire};
use crate::config::Server;

/// Longest wait for a receiver to take something more.
const WRITE: Duration = Duration::from_secs(30);
/// Longest wait for a receiver's close.
const CLOSE: Duration = Duration::from_secs(20);
/// How long a reset may be behind a close: longer than any way there and back. A receiver that closed by itself, just when records were
/// on their way to it, has not read them.
const RESET: Duration = Duration::from_millis(1000);
/// Most bytes that a receiver may say before it closes. Syslog receivers say nothing.
const MOST_SAID: usize = 64 << 10;
/// Fewest bytes after which a connection is closed. A receiver that does not read so much in [`CLOSE`], or one longer record, gets no further.
const LEAST_BUDGET: u64 = 4 << 10;

pub(super) struct StreamSink {
    server: Server,
    tls: Option<Tls>,
    sender: Sender,
    open: Option<Wire>,
    /// Bytes that went through it.
    sent: u64,
    budget: Budget,
}

/// How many bytes may go through one connection: what a receiver has been seen to read in time. *Bound:* at least [`LEAST_BUDGET`].
#[derive(Debug, PartialEq, Eq)]
struct Budget(u64);

impl Budget {
    /// A connection of `sent` bytes was not read in time.
    fn halve(&mut self, sent: u64) {
        self.0 = (self.0.min(sent) / 2).max(LEAST_BUDGET);
    }

    /// A connection was. Slowly: each step too far is a connection that is repeated.
    const fn grow(&mut self) {
        self.0 = self.0.saturating_add(self.0 / 8);
    }
}

impl StreamSink {
    pub(super) const fn new(server: Server, tls: Option<Tls>, sender: Sender) -> Self {
        Self { server, tls, sender, open: None, sent: 0, budget: Budget(u64::MAX) }
    }

    /// Sends the first records of `batch`, as many as the connection may still have, and at least one; tells how many.
    pub(super) async fn send(&mut self, batch: &[Entry]) -> Result<usize, Trouble> {
        let mut frames = Vec::new();
        let mut taken = 0;
        for entry in batch {
            if taken > 0 && self.sent + frames.len() as u64 >= self.budget.0 {
                break;
            }
            let message = self.sender.message(entry);
            frames.extend(format!("{} ", message.len()).bytes());
            frames.extend(message);
            taken += 1;
        }
        let wire = match &mut self.open {
            Some(wire) => wire,
            none => none.insert(wire::connect(&self.server, self.tls.as_ref()).await?),
        };
        if is_closed(wire).await {
            return Err(Trouble::Later("the receiver has closed the connection".into()));
        }
        write(wire, &frames, || sleep(WRITE)).await?;
        self.sent += frames.len() as u64;
        Ok(taken)
    }

    /// Whether it is time to settle, since nothing more may go through this connection.
    pub(super) const fn is_full(&self) -> bool {
        self.sent >= self.budget.0
    }

    /// Closes the connection in order. When this returns without an error, the receiver has read everything.
    pub(super) async fn settle(&mut self) -> Result<(), Trouble> {
        self.settle_within(sleep(CLOSE)).await
    }

    async fn settle_within(&mut self, patience: impl Future<Output = ()>) -> Result<(), Trouble> {
        let sent = std::mem::take(&mut self.sent);
        let Some(mut wire) = self.open.take() else { return Ok(()) };
        if is_closed(&mut wire).await {
            return Err(Trouble::Later("the receiver has closed the connection".into()));
        }
        tokio::select! {
            biased;
            done = close(&mut wire) => {
                done.map_err(Trouble::later)?;
                self.budget.grow();
                Ok(())
            }
            () = patience => {
                self.budget.halve(sent);
                Err(Trouble::Later(format!(
                    "the receiver has not read {sent} bytes and closed within {} s; it gets fewer at a time",
                    CLOSE.as_secs()
                )))
            }
        }
    }

    /// Drops the connection, whatever is still on its way.
    pub(super) fn hang_up(&mut self) {
        self.open = None;
        self.sent = 0;
    }
}

/// Writes all of `bytes`. The receiver has `patience` for each piece that it takes, not for all of them.
async fn write<P: Future<Output = ()>>(
    wire: &mut (impl AsyncWrite + Unpin),
    mut bytes: &[u8],
    patience: impl Fn() -> P,
) -> Result<(), Trouble> {
    while !bytes.is_empty() {
        let taken = in_time(wire.write(bytes), patience()).await?;
        if taken == 0 {
            return Err(Trouble::Later("the receiver takes nothing more".into()));
        }
        bytes = &bytes[taken..];
    }
    in_time(wire.flush(), patience()).await
}

async fn in_time<T>(
    step: impl Future<Output = io::Result<T>>,
    patience: impl Future<Output = ()>,
) -> Result<T, Trouble> {
    tokio::select! {
        biased;
        done = step => done.map_err(Trouble::later),
        () = patience => {
            Err(Trouble::Later(format!("the receiver has taken nothing for {} s", WRITE.as_secs())))
        }
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

#[cfg(test)]
mod tests {
    use std::task::Context;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Takes one byte each second time that it is asked.
    #[derive(Default)]
    struct Slow {
        taken: Vec<u8>,
        asked: usize,
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.asked += 1;
            if self.asked % 2 == 1 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.taken.push(bytes[0]);
            Poll::Ready(Ok(1))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// A time that is over when it has been looked at so often.
    async fn looks(mut left: usize) {
        poll_fn(|_| match left.checked_sub(1) {
            Some(fewer) => {
                left = fewer;
                Poll::Pending
            }
            None => Poll::Ready(()),
        })
        .await;
    }

    // Red with one time for all pieces.
    #[tokio::test]
    async fn a_receiver_that_takes_a_little_each_time_has_time_for_all() {
        let mut slow = Slow::default();
        let bytes: Vec<u8> = (0..200).collect();
        write(&mut slow, &bytes, || looks(5)).await.unwrap();
        assert_eq!(slow.taken, bytes);
        let error = write(&mut slow, &bytes, || looks(0)).await.unwrap_err();
        assert!(error.to_string().contains("has taken nothing for 30 s"), "{error}");
    }

    fn batch(count: u64) -> Vec<Entry> {
        (0..count).map(|index| Entry::new(index, vec![b'x'; 3000])).collect()
    }

    async fn sink() -> (StreamSink, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
        (StreamSink::new(server, None, Sender::new("host", 7, "example.com/log".into())), listener)
    }

    async fn read_all(mut stream: TcpStream) -> usize {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all.len()
    }

    // Red without `halve`, and without the look at the budget in `send`: the same 60 records, for ever.
    #[tokio::test]
    async fn a_receiver_that_does_not_read_in_time_gets_fewer_records_at_a_time() {
        let (mut sink, listener) = sink().await;
        let batch = batch(60);
        assert_eq!(sink.send(&batch).await.unwrap(), 60);
        assert!(!sink.is_full());
        let (held, _) = listener.accept().await.unwrap();
        let error = sink.settle_within(std::future::ready(())).await.unwrap_err();
        assert!(error.to_string().contains("it gets fewer at a time"), "{error}");
        drop(held);
        let taken = sink.send(&batch).await.unwrap();
        assert!((25..=31).contains(&taken) && sink.is_full(), "{taken}");
        // One that reads it gets a little more next time.
        let (stream, _) = listener.accept().await.unwrap();
        let reading = tokio::spawn(read_all(stream));
        sink.settle().await.unwrap();
        assert!(reading.await.unwrap() > taken * 3000);
        let more = sink.send(&batch).await.unwrap();
        assert!(more > taken && more < 60, "{more} after {taken}");
        // Whatever happens, one record goes.
        for _ in 0..20 {
            sink.budget.halve(1);
        }
        sink.hang_up();
        assert_eq!((&sink.budget, sink.is_full()), (&Budget(LEAST_BUDGET), false));
        assert_eq!(sink.send(&batch).await.unwrap(), 2, "the first is shorter than that");
    }
}
