//! The one loop of what is exported: gathers, writes a request, waits for its answer, and goes slower while there is trouble.
//!
//! Of the metrics only the newest reading is worth anything: one that does not get through is dropped, and counted. A request of spans
//! that does not get through is held, and sent again after a pause that grows to a minute; meanwhile new ones wait, as far as there is
//! room. A collector that says that the request itself is wrong does not get it again.

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, Sleep, interval, sleep, timeout};

use super::spans::Span;
use super::tracer::Told;
use super::{Source, numbers, spans};
use crate::forward::{Collector, Resource, rejected};

/// How long a stop waits for the collector to take what is left.
pub(super) const LAST: Duration = Duration::from_secs(2);
/// Things that go into one request, up to eight spans each: some MiB at most.
const MOST: usize = 512;
/// How long the first of them waits for others.
const GATHER: Duration = Duration::from_millis(500);
/// Longest exchange with the collector: one kind of request must not keep the other waiting for long.
const EXCHANGE: Duration = Duration::from_secs(10);
/// First and longest pause after trouble. It doubles, and half of it is chance, so that many hosts do not come back at once.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Answers after which the protocol has a request sent again.
const AGAIN: [u16; 4] = [429, 502, 503, 504];

/// Spans and where they go; what is written into a request only when it is one's turn.
type Traces = (Collector, mpsc::Receiver<Told>);

/// The work of the thread.
pub(super) struct Exporter {
    traces: Option<Traces>,
    metrics: Option<(Collector, Duration)>,
    resource: Resource,
    source: Source,
    stop: watch::Receiver<bool>,
    /// What happened, and waits for more to go with.
    waiting: Vec<Told>,
    /// A request that the collector has not taken, with its number of spans, and the pause before it is sent again.
    held: Option<(Vec<u8>, u64)>,
    pause: Duration,
    /// Whether there was trouble that nobody has been told the end of: with traces, with metrics.
    down: [bool; 2],
}

/// Why a request came to nothing.
enum Failed {
    /// It may go through later.
    Later(String),
    /// It never will.
    Refused(u16),
}

/// What there is to do.
enum Due {
    Again,
    Spans,
    Reading,
}

impl Exporter {
    pub(super) fn new(
        traces: Option<Traces>,
        metrics: Option<(Collector, Duration)>,
        resource: Resource,
        source: Source,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let (waiting, held, pause) = (Vec::new(), None, FIRST_PAUSE);
        Self { traces, metrics, resource, source, stop, waiting, held, pause, down: [false; 2] }
    }

    /// Goes on until it is told to stop, and then sends what is left.
    pub(super) async fn run(mut self) {
        let mut ticks = self.metrics.as_ref().map(|(_, every)| {
            let mut ticks = interval(*every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        let mut again = None;
        let mut stop = self.stop.clone();
        loop {
            let due = tokio::select! {
                // A sender that is gone means the same as a sent word.
                _ = stop.wait_for(|stop| *stop) => break,
                due = self.due(&mut ticks, &mut again) => due,
            };
            if matches!(due, Due::Spans) {
                self.hold().await;
            }
            let exchange = async {
                match due {
                    Due::Spans | Due::Again => self.send_held().await,
                    Due::Reading => self.read().await,
                }
            };
            tokio::select! {
                () = exchange => {}
                // The rest of its time belongs to the last requests.
                _ = stop.wait_for(|stop| *stop) => break,
            }
            if matches!(due, Due::Reading) {
                // However long it took: what waits to be sent has its turn in between.
                ticks.iter_mut().for_each(Interval::reset);
            } else {
                again = self.held.is_some().then(|| Box::pin(sleep(jittered(self.pause))));
                self.pause = if again.is_some() { (self.pause * 2).min(LONGEST_PAUSE) } else { FIRST_PAUSE };
            }
        }
        if timeout(LAST, self.last()).await.is_err() {
            tracing::info!("the collector does not take the last traces and metrics in time; they are lost");
        }
    }

    async fn due(&mut self, ticks: &mut Option<Interval>, again: &mut Option<Pin<Box<Sleep>>>) -> Due {
        tokio::select! {
            () = maybe(again), if again.is_some() => Due::Again,
            () = gather(&mut self.traces, &mut self.waiting), if self.held.is_none() => Due::Spans,
            () = tick(ticks) => Due::Reading,
        }
    }

    /// What waits, once more, and how everything stands.
    async fn last(&mut self) {
        loop {
            if self.held.is_none() {
                if let Some((_, items)) = &mut self.traces {
                    fill(items, &mut self.waiting);
                }
                if self.waiting.is_empty() {
                    break;
                }
                self.hold().await;
            }
            self.send_held().await;
            if self.held.is_some() {
                break;
            }
        }
        self.read().await;
    }

    /// Writes what waits into a request of spans.
    async fn hold(&mut self) {
        let items = std::mem::take(&mut self.waiting);
        let mut told: Vec<Span> = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Told::Accepted { subject, from, took } => told.push(spans::accepted(&subject, from, took)),
                Told::Attempt(attempt) => told.extend(spans::attempt(&attempt)),
                // One that was erased or forgotten meanwhile is told of no more.
                Told::Over(job) => told.extend((self.source.end)(job).await.as_ref().map(spans::over)),
            }
        }
        if !told.is_empty() {
            self.held = Some((spans::request(&self.resource, &told), told.len() as u64));
        }
    }

    async fn send_held(&mut self) {
        let (Some((body, count)), Some((collector, _))) = (&self.held, &self.traces) else { return };
        let (sent, count) = (exchange(collector, body.clone(), "rejectedSpans").await, *count);
        let counts = &self.source.meters.telemetry;
        match &sent {
            Ok(rejected) => {
                counts.spans_sent.add_all(count);
                counts.spans_rejected.add_all(*rejected);
                self.held = None;
            }
            Err(Failed::Later(_)) => counts.traces_failed.add(),
            Err(Failed::Refused(_)) => {
                counts.traces_failed.add();
                counts.spans_dropped.add_all(count);
                self.held = None;
            }
        }
        self.note("traces", sent);
    }

    async fn read(&mut self) {
        let Some((collector, _)) = &self.metrics else { return };
        let (page, now) = ((self.source.page)(), (self.source.now)());
        let body = numbers::request(&self.resource, &page, self.source.started, now);
        let sent = exchange(collector, body, "rejectedDataPoints").await;
        if sent.is_err() {
            self.source.meters.telemetry.metrics_failed.add();
        }
        self.note("metrics", sent);
    }

    /// Says it when there is trouble, and when it is over; what lasts is counted, and not said again and again.
    fn note(&mut self, signal: &str, sent: Result<u64, Failed>) {
        let down = &mut self.down[usize::from(signal == "metrics")];
        let (problem, was_down) = match sent {
            Ok(0) if *down => {
                *down = false;
                return tracing::info!(signal, "the collector takes everything again");
            }
            Ok(0) => return,
            Ok(rejected) => {
                (format!("it rejects {rejected} of those that it got"), std::mem::replace(down, true))
            }
            Err(Failed::Later(problem)) => (problem, std::mem::replace(down, true)),
            Err(Failed::Refused(status)) => {
                (format!("it answers with status {status}"), std::mem::replace(down, true))
            }
        };
        if was_down {
            tracing::debug!(signal, problem, "the collector still does not take everything");
        } else {
            tracing::warn!(signal, problem, "the collector does not take everything; no job waits for it");
        }
    }
}

/// Ends when something waits, and has had the time to get company; never, where nobody traces. It may be dropped at each of its waits.
async fn gather(traces: &mut Option<Traces>, waiting: &mut Vec<Told>) {
    let Some((_, items)) = traces else { return std::future::pending().await };
    if waiting.is_empty() && items.recv_many(waiting, MOST).await == 0 {
        return std::future::pending().await;
    }
    if waiting.len() < MOST {
        sleep(GATHER).await;
        fill(items, waiting);
    }
}

/// Takes what is there, as far as it fits into a request.
fn fill(items: &mut mpsc::Receiver<Told>, waiting: &mut Vec<Told>) {
    while waiting.len() < MOST
        && let Ok(item) = items.try_recv()
    {
        waiting.push(item);
    }
}

async fn maybe(again: &mut Option<Pin<Box<Sleep>>>) {
    if let Some(again) = again {
        again.as_mut().await;
    }
}

async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

/// One request and its answer: how much of it the collector says that it does not keep.
async fn exchange(collector: &Collector, body: Vec<u8>, count: &str) -> Result<u64, Failed> {
    let late = |_| Failed::Later(format!("no answer within {} s", EXCHANGE.as_secs()));
    let answered = timeout(EXCHANGE, collector.post(body)).await.map_err(late)?;
    let answered = answered.map_err(|trouble| Failed::Later(trouble.to_string()))?;
    match answered.status {
        200 => Ok(rejected(&answered, count)),
        status if AGAIN.contains(&status) => Err(Failed::Later(format!("it answers with status {status}"))),
        status => Err(Failed::Refused(status)),
    }
}

/// Between half of it and all of it.
fn jittered(pause: Duration) -> Duration {
    // Without random bytes it is the whole pause.
    let share = getrandom::u32().unwrap_or(u32::MAX);
    pause / 2 + (pause / 2).mul_f64(f64::from(share) / f64::from(u32::MAX))
}
