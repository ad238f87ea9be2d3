//! Where the time of one job goes, stage by stage, while no other job is there.
//!
//! The host and the runtime mark their stages with spans (`stage`). Here a subscriber writes down when each began and ended. What
//! no stage covers has a name, too: it lies before the first, behind the last, or between two threads. A job that is alone starts in the commit that
//! accepts it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use strongroom_sdk::Client;
use tracing::Subscriber;
use tracing::span::{Attributes, Id};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::super::exit::Failure;
use super::Work;
use crate::clock::Stopwatch;
use crate::stage::TARGET;

/// Names and order of the table; what each is, in a few words.
const ROWS: [(&str, &str); 12] = [
    (SIGN, "the client makes and signs the job"),
    (SEND, "QUIC, to the host"),
    ("receive", "the envelope arrives whole"),
    ("verify", "signature, then strict parsing"),
    ("look up", "whether it was accepted before"),
    ("admit", "key, time, rights, limits, quotas"),
    ("commit", "accepted and started: state and records durable"),
    ("instantiate", "a sandbox is made"),
    ("run", "the guest's own code"),
    ("collect", "its outputs are kept"),
    ("commit end", "ended: result and record durable"),
    (ANSWER, "QUIC, to the client"),
];
const SIGN: &str = "sign";
const SEND: &str = "send";
const ANSWER: &str = "answer";
/// Longest wait for the spans of a job to be closed after its end was told.
const CLOSING: Duration = Duration::from_secs(1);

/// A stage that one job went through.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stage {
    name: &'static str,
    begun: Duration,
    ended: Duration,
}

/// Hears of stages, from now on and for the rest of the process.
#[derive(Clone, Debug)]
pub(super) struct Stages {
    clock: Stopwatch,
    seen: Arc<Mutex<Vec<Stage>>>,
}

/// When a span began.
struct Begun(Duration);

impl Stages {
    /// Subscribes.
    pub(super) fn install() -> Result<Self, Failure> {
        let stages = Self { clock: Stopwatch::start(), seen: Arc::default() };
        let ours = filter_fn(|metadata| metadata.target() == TARGET);
        let installed = tracing_subscriber::registry().with(stages.clone().with_filter(ours)).try_init();
        installed.map_err(|error| Failure::fault(format_args!("somebody else measures already: {error}")))?;
        Ok(stages)
    }

    fn take(&self) -> Vec<Stage> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One job after the other, for as long as `time` says.
    pub(super) async fn budget(
        &self,
        client: &Client,
        work: &Work,
        time: Duration,
    ) -> Result<Budget, Failure> {
        let begun = self.clock.passed();
        let mut jobs = Vec::new();
        while self.clock.passed().saturating_sub(begun) < time {
            drop(self.take());
            let first = self.clock.passed();
            let signed = client.sign(&work.job).await?;
            let signed_at = self.clock.passed();
            let accepted = client.submit_signed(&signed).await?;
            let job = accepted.first().ok_or_else(|| Failure::fault("the host accepted nothing"))?.job;
            work.end(client, job).await?;
            let last = self.clock.passed();
            let mut stages = self.closed(first).await;
            stages.push(Stage { name: SIGN, begun: first, ended: signed_at });
            jobs.push(Way::of(first, last, &stages));
        }
        Ok(Budget::of(&jobs))
    }

    /// All stages of a job that began then and whose end was told: that happens a moment before its last stage is closed.
    async fn closed(&self, first: Duration) -> Vec<Stage> {
        let waiting = Stopwatch::start();
        let mut stages = self.take();
        let is_last = |stage: &Stage| stage.name == "commit end" && stage.begun >= first;
        while !stages.iter().any(is_last) && waiting.passed() < CLOSING {
            tokio::task::yield_now().await;
            stages.extend(self.take());
        }
        stages
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Stages {
    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Begun(self.clock.passed()));
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let ended = self.clock.passed();
        let Some(span) = context.span(&id) else { return };
        if let Some(Begun(begun)) = span.extensions().get() {
            let stage = Stage { name: span.name(), begun: *begun, ended };
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(stage);
        }
    }
}

/// One job's time, divided: a place for each of [`ROWS`], and what is left.
#[derive(Clone, Debug)]
struct Way {
    whole: Duration,
    rows: [Duration; ROWS.len()],
    between: Duration,
}

impl Way {
    fn of(first: Duration, last: Duration, stages: &[Stage]) -> Self {
        let whole = last.saturating_sub(first);
        let stages = one_after_another(first, last, stages);
        let named = |name: &'static str| stages.iter().filter(move |stage| stage.name == name);
        let begin = |name| named(name).map(|stage| stage.begun).min();
        let end = |name| named(name).map(|stage| stage.ended).max();
        let gap = |from: Option<Duration>, to: Option<Duration>| match (from, to) {
            (Some(from), Some(to)) => to.saturating_sub(from),
            _ => Duration::ZERO,
        };
        let rows = ROWS.map(|(name, _)| match name {
            SEND => gap(end(SIGN), begin("receive")),
            ANSWER => gap(end("commit end"), Some(last)),
            name => named(name).map(|stage| stage.ended.saturating_sub(stage.begun)).sum(),
        });
        let between = whole.saturating_sub(rows.iter().sum());
        Self { whole, rows, between }
    }
}

/// The stages of the rows in their order, none of which reaches into the next one.
///
/// A span is closed when its task runs again, and on a busy machine the job is in its next stage by then: the writer starts it before
/// the task that accepted it hears of the commit. What ends after the client knows already is not on its way, and what began before
/// the job did is not its own.
fn one_after_another(first: Duration, last: Duration, stages: &[Stage]) -> Vec<Stage> {
    let is_row = |stage: &&Stage| ROWS.iter().any(|(name, _)| *name == stage.name);
    let mut stages: Vec<Stage> =
        stages.iter().filter(|stage| stage.begun >= first).filter(is_row).copied().collect();
    stages.sort_by_key(|stage| (stage.begun, stage.ended));
    let mut next = last;
    for stage in stages.iter_mut().rev() {
        stage.ended = stage.ended.min(next);
        next = stage.begun.min(next);
    }
    stages
}

/// The whole and its parts, over all jobs.
#[derive(Debug, Serialize)]
pub(super) struct Budget {
    jobs: usize,
    p50_us: f64,
    p99_us: f64,
    stages: Vec<Part>,
}

/// One stage over all jobs.
#[derive(Debug, Serialize)]
struct Part {
    name: &'static str,
    what: &'static str,
    p50_us: f64,
    p99_us: f64,
    /// Its part of the sum of all jobs' times: 0 to 1.
    share: f64,
}

impl Budget {
    fn of(jobs: &[Way]) -> Self {
        let sum = jobs.iter().map(|way| way.whole).sum::<Duration>().as_secs_f64();
        let part = |name, what, pick: &dyn Fn(&Way) -> Duration| {
            let mut times: Vec<Duration> = jobs.iter().map(pick).collect();
            let share = times.iter().sum::<Duration>().as_secs_f64() / sum.max(f64::MIN_POSITIVE);
            let (p50_us, p99_us) = (percentile(&mut times, 50), percentile(&mut times, 99));
            Part { name, what, p50_us, p99_us, share }
        };
        let rows = ROWS.iter().enumerate();
        let mut stages: Vec<Part> =
            rows.map(|(at, (name, what))| part(name, what, &|way| way.rows[at])).collect();
        stages.push(part("between", "handed from one thread to another", &|way| way.between));
        let mut whole: Vec<Duration> = jobs.iter().map(|way| way.whole).collect();
        Self {
            jobs: jobs.len(),
            p50_us: percentile(&mut whole, 50),
            p99_us: percentile(&mut whole, 99),
            stages,
        }
    }

    pub(super) fn words(&self) -> String {
        let mut text = format!("\n{:<14} {:>10} {:>10} {:>7}\n", "one job alone", "p50", "p99", "share");
        for Part { name, what, p50_us, p99_us, share } in &self.stages {
            text +=
                &format!("{name:<14} {p50_us:>7.0} µs {p99_us:>7.0} µs {:>6.1}%   {what}\n", share * 100.0);
        }
        text += &format!(
            "{:<14} {:>7.0} µs {:>7.0} µs   ({} jobs)\n\n",
            "all of it", self.p50_us, self.p99_us, self.jobs
        );
        text
    }
}

/// The value below which so many percent of `times` lie, in microseconds; zero of none.
pub(super) fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(at).copied().map_or(0.0, micros)
}

pub(super) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(name: &'static str, begun: u64, ended: u64) -> Stage {
        Stage { name, begun: Duration::from_micros(begun), ended: Duration::from_micros(ended) }
    }

    /// What a row of the table has of it.
    fn micros_of(way: &Way, name: &str) -> u64 {
        let at = ROWS.iter().position(|(row, _)| *row == name).expect("a row");
        u64::try_from(way.rows[at].as_micros()).expect("short")
    }

    #[test]
    fn the_parts_of_a_job_add_up_to_the_whole() {
        let stages = [
            stage(SIGN, 100, 120),
            stage("receive", 150, 155),
            stage("commit", 160, 560),
            // On its way beside the job, and none of the rows.
            stage("another", 561, 580),
            stage("instantiate", 975, 980),
            stage("run", 980, 990),
            stage("instantiate", 990, 992),
            // The client heard of it before it was closed.
            stage("commit end", 1000, 1500),
        ];
        let way = Way::of(Duration::from_micros(100), Duration::from_micros(1450), &stages);
        let row = |name| micros_of(&way, name);
        assert_eq!((row(SIGN), row(SEND), row("receive")), (20, 30, 5));
        assert_eq!(row("commit"), 400);
        assert_eq!((row("instantiate"), row("run"), row("commit end"), row(ANSWER)), (7, 10, 450, 0));
        let parts: Duration = way.rows.iter().sum();
        assert_eq!(parts + way.between, way.whole);
        assert_eq!(way.between, Duration::from_micros(5 + 415 + 8));
    }

    /// Red without `one_after_another`: the parts are more than the whole then.
    #[test]
    fn a_stage_ends_where_the_next_one_begins() {
        let stages = [
            // Of the job before this one, and closed too late for it.
            stage("commit end", 50, 140),
            stage(SIGN, 100, 120),
            stage("receive", 150, 155),
            // The task that accepts hears of the commit when the guest has run already.
            stage("commit", 160, 900),
            stage("instantiate", 560, 580),
            stage("run", 580, 600),
            stage("commit end", 650, 950),
        ];
        let way = Way::of(Duration::from_micros(100), Duration::from_micros(1000), &stages);
        assert_eq!((micros_of(&way, "commit"), micros_of(&way, "commit end")), (400, 300));
        let parts: Duration = way.rows.iter().sum();
        assert_eq!((way.between, parts + way.between), (Duration::from_micros(55), way.whole));
    }

    #[test]
    fn nothing_is_a_budget_of_nothing() {
        let budget = Budget::of(&[]);
        assert_eq!((budget.jobs, budget.p50_us), (0, 0.0));
    }
}
