//! The course of one destination: from the log, in batches, to its sink, and the place kept.
//!
//! `sent` is the next record to hand over, `settled` the first that the destination may not have: a sink that gets no answers,
//! such as syslog over TCP, settles only now and then (`stream`). After any trouble the course goes back to `settled`.
//!
//! *Owns:* its place in the log. *Memory:* one batch and one bundle.
//! *Crash:* the cursor on disk is at most [`MOST_UNSAVED`] records behind; those come twice.

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

use super::cursor::Cursor;
use super::entry::{self, Entry};
use super::gaps::Rejected;
use super::tls::Tls;
use super::{Source, Trouble, datagram, file, json, otlp, problem, stream, syslog};
use crate::audit::read::LogReader;
use crate::config::{Begin, Forward, ForwardTo};

/// How long a stop waits for destinations to take what is left.
pub(super) const LAST: Duration = Duration::from_secs(4);
/// Records between two cursors, and the time, where every batch is answered.
const MOST_UNSAVED: u64 = 16_384;
const SAVE: Duration = Duration::from_secs(1);
/// The time between two settlements, where one costs a connection.
const SETTLE: Duration = Duration::from_secs(5);
/// First and longest wait after trouble. It doubles, and half of it is chance, so that many hosts do not come back at once.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Where records go.
enum Sink {
    Stream(stream::StreamSink),
    Datagram(datagram::DatagramSink),
    File(file::FileSink),
    Otlp(otlp::OtlpSink),
}

/// One destination's work.
pub(super) struct Course {
    forward: Forward,
    /// There when the destination has TLS.
    tls: Option<Tls>,
    source: Source,
    stop: watch::Receiver<bool>,
    /// Whether there was trouble that nobody has been told the end of.
    down: bool,
    pause: Duration,
}

/// What is known of the place once the log is open.
struct Progress {
    sink: Sink,
    cursor: std::path::PathBuf,
    sent: u64,
    settled: u64,
    saved: u64,
    /// When to settle and save; none while there is nothing to.
    due: Option<Pin<Box<Sleep>>>,
}

impl Course {
    pub(super) const fn new(
        forward: Forward,
        tls: Option<Tls>,
        source: Source,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self { forward, tls, source, stop, down: false, pause: FIRST_PAUSE }
    }

    pub(super) fn name(&self) -> &str {
        self.forward.name.as_str()
    }

    /// Goes on until it is told to stop, or needs somebody.
    pub(super) async fn run(mut self) {
        let mut stop = self.stop.clone();
        let out_of_time = async move {
            // A sender that is gone means the same as a sent word.
            let _ = stop.wait_for(|stop| *stop).await;
            sleep(LAST).await;
        };
        tokio::select! {
            () = self.work() => {}
            () = out_of_time => {}
        }
    }

    async fn work(&mut self) {
        let mut progress = None;
        problem::clear(&self.source.home, &self.forward.name);
        loop {
            let trouble = match self.rounds(&mut progress).await {
                Ok(()) => return,
                Err(trouble) => trouble,
            };
            let (name, to) = (self.name(), self.forward.to.to_string());
            if let Trouble::Stuck(problem) = trouble {
                problem::save(&self.source.home, &self.forward.name, &problem);
                tracing::error!(
                    destination = name,
                    to,
                    problem,
                    "the audit log is not forwarded any more, until somebody mends it and the host starts again"
                );
                return;
            }
            if self.down {
                tracing::debug!(destination = name, to, problem = %trouble, "the audit log still cannot be forwarded");
            } else {
                tracing::warn!(destination = name, to, problem = %trouble, "the audit log cannot be forwarded; its records wait, and it is tried again");
                self.down = true;
            }
            if let Some(progress) = &mut progress {
                progress.back();
            }
            if self.stopped_within(jittered(self.pause)).await {
                return;
            }
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits; whether a stop was asked for meanwhile.
    async fn stopped_within(&mut self, pause: Duration) -> bool {
        tokio::select! {
            // A sender that is gone means the same as a sent word.
            _ = self.stop.wait_for(|stop| *stop) => true,
            () = sleep(pause) => false,
        }
    }

    async fn rounds(&mut self, progress: &mut Option<Progress>) -> Result<(), Trouble> {
        let progress = match progress {
            Some(progress) => progress,
            none => none.insert(self.begin()?),
        };
        progress.resume(&self.open()?)?;
        loop {
            // Before the log is opened: what is published meanwhile wakes up the next round.
            self.source.published.borrow_and_update();
            // A host whose start failed drops the sender without a word.
            let stopping = *self.stop.borrow() || self.stop.has_changed().is_err();
            let log = self.open()?;
            let size = log.checkpoint().size().get();
            while progress.sent < size {
                let batch = entry::batch(&log, progress.sent)?;
                progress.send(&batch).await?;
                if progress.unsaved() >= MOST_UNSAVED || progress.is_due() {
                    self.settle(progress, &log).await?;
                }
                // A file takes all without a pause: timers, and the word to stop, must come through.
                tokio::task::yield_now().await;
            }
            if stopping {
                return self.settle(progress, &log).await;
            }
            let ended = tokio::select! {
                _ = self.stop.wait_for(|stop| *stop) => false,
                published = self.source.published.changed() => published.is_err(),
                () = progress.due() => {
                    progress.due = None;
                    false
                }
            };
            if ended {
                // The publisher has gone; the word to stop is on its way.
                let _ = self.stop.wait_for(|stop| *stop).await;
            }
            if progress.unsaved() > 0 && progress.due.is_none() {
                self.settle(progress, &log).await?;
            }
        }
    }

    fn open(&self) -> Result<LogReader, Trouble> {
        LogReader::open(&self.source.home.join("audit"), Some(&self.source.key)).map_err(Trouble::later)
    }

    /// Finds the place, and makes what records go through.
    fn begin(&self) -> Result<Progress, Trouble> {
        let log = self.open()?;
        let path = Cursor::path(&self.source.home, &self.forward.name);
        let cursor = match Cursor::load(&path)? {
            Some(cursor) => {
                cursor.fits(&log)?;
                cursor
            }
            None => {
                let next = match self.forward.from {
                    Begin::Start => 0,
                    Begin::Now => log.checkpoint().size().get(),
                };
                let cursor = Cursor::at(&log, next);
                cursor.save(&path)?;
                cursor
            }
        };
        let sink = self.sink(&log)?;
        let next = cursor.next;
        Ok(Progress { sink, cursor: path, sent: next, settled: next, saved: next, due: None })
    }

    fn sink(&self, log: &LogReader) -> Result<Sink, Trouble> {
        let origin = log.checkpoint().origin().to_string();
        let (hostname, pid) = (syslog::hostname(), std::process::id());
        let sender = syslog::Sender::new(&hostname, pid, origin.clone());
        Ok(match &self.forward.to {
            ForwardTo::Tcp(server) | ForwardTo::Tls(server) => {
                Sink::Stream(stream::StreamSink::new(server.clone(), self.tls.clone(), sender))
            }
            ForwardTo::Udp(server) => Sink::Datagram(datagram::DatagramSink::udp(server.clone(), sender)),
            ForwardTo::Unix(path) => Sink::Datagram(datagram::DatagramSink::unix(path.clone(), sender)),
            ForwardTo::File(rules) => Sink::File(file::FileSink::new(rules.clone())),
            ForwardTo::Otlp { server, path, .. } => {
                let resource = json::Resource::new(origin);
                let gaps = Rejected::path(&self.source.home, &self.forward.name);
                Sink::Otlp(otlp::OtlpSink::new(
                    server.clone(),
                    path.clone(),
                    self.tls.clone(),
                    resource,
                    gaps,
                )?)
            }
        })
    }

    /// Makes sure of what was sent, and keeps the place.
    async fn settle(&mut self, progress: &mut Progress, log: &LogReader) -> Result<(), Trouble> {
        progress.due = None;
        progress.settle().await?;
        if progress.settled > progress.saved {
            Cursor::at(log, progress.settled).save(&progress.cursor)?;
            progress.saved = progress.settled;
        }
        self.pause = FIRST_PAUSE;
        if std::mem::take(&mut self.down) {
            let behind = log.checkpoint().size().get().saturating_sub(progress.settled);
            let (name, to) = (self.name(), self.forward.to.to_string());
            tracing::info!(
                destination = name,
                to,
                behind,
                "the audit log is forwarded again; nothing was left out"
            );
        }
        Ok(())
    }
}

impl Progress {
    /// A sink that remembers what it has may be further than its cursor, or less far when it has lost some.
    fn resume(&mut self, log: &LogReader) -> Result<(), Trouble> {
        if let Sink::File(sink) = &mut self.sink {
            self.sent = sink.resume(log, self.sent)?;
            self.settled = self.sent;
            self.saved = self.saved.min(self.sent);
        }
        Ok(())
    }

    async fn send(&mut self, batch: &[Entry]) -> Result<(), Trouble> {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else {
            return Err(Trouble::Later(format!("the log has no record {}", self.sent)));
        };
        debug_assert_eq!(first.index, self.sent, "batches follow each other");
        let mut sent = last.index + 1;
        let after = match &mut self.sink {
            Sink::Stream(sink) => {
                sent = first.index + sink.send(batch).await? as u64;
                SETTLE
            }
            Sink::Datagram(sink) => {
                sink.send(batch).await?;
                SAVE
            }
            Sink::File(sink) => {
                sink.send(batch)?;
                SAVE
            }
            Sink::Otlp(sink) => {
                sink.send(batch).await?;
                SAVE
            }
        };
        self.sent = sent;
        if !matches!(self.sink, Sink::Stream(_)) {
            self.settled = self.sent;
        }
        self.due.get_or_insert_with(|| Box::pin(sleep(after)));
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), Trouble> {
        if let Sink::Stream(sink) = &mut self.sink {
            sink.settle().await?;
        }
        self.settled = self.sent;
        Ok(())
    }

    /// Goes back to what is certain.
    fn back(&mut self) {
        if let Sink::Stream(sink) = &mut self.sink {
            sink.hang_up();
        }
        self.sent = self.settled;
    }

    const fn unsaved(&self) -> u64 {
        self.sent - self.saved
    }

    fn is_due(&self) -> bool {
        let is_full = matches!(&self.sink, Sink::Stream(sink) if sink.is_full());
        is_full || self.due.as_ref().is_some_and(|due| due.is_elapsed())
    }

    /// Ends when it is time to settle; never while there is nothing to.
    async fn due(&mut self) {
        match &mut self.due {
            Some(due) => due.as_mut().await,
            None => std::future::pending().await,
        }
    }
}

/// Between half of it and all of it.
fn jittered(pause: Duration) -> Duration {
    // Without random bytes it is the whole pause.
    let share = getrandom::u32().unwrap_or(u32::MAX);
    pause / 2 + (pause / 2).mul_f64(f64::from(share) / f64::from(u32::MAX))
}
