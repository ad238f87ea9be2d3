//! What the host counts about itself, for whoever watches it.
//!
//! *Owns:* counters and histograms, all of them atomic: on the way of a job nothing here waits for anything. Only what goes wrong (a
//! refusal, a limit) takes a lock, for as long as one entry of a small map takes.
//! *Never:* a name that a client chose. What is counted by a word is counted by a word of ours.
//! *Bound:* one entry for each code of a refusal, each kind of limit and of [`KINDS`]. *Crash:* all of it is gone, as such counters are.

pub(crate) mod page;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use strongroom_job::{Denial, JobState, Limit, Outcome, RefusalCode};

use crate::clock::Stopwatch;

/// Upper bounds of the buckets of a time, in microseconds.
const TIMES: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000,
];
/// The same for what guests take, and what jobs wait.
const LONG_TIMES: &[u64] = &[
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    900_000_000,
    3_600_000_000,
];
/// Upper bounds of the buckets of a group's size.
const SIZES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
/// The states in which an attempt can leave its job.
const ENDS: [JobState; 7] = [
    JobState::Succeeded,
    JobState::Failed,
    JobState::Exceeded,
    JobState::Trapped,
    JobState::Cancelled,
    JobState::Interrupted,
    JobState::Faulted,
];

/// First words of what guests are denied (`Reach` of the runtime).
const KINDS: [&str; 8] = ["clock", "randomness", "read", "write", "connect", "listen", "resolve", "http"];
/// Where anything else is counted.
const OTHER: &str = "other";

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_all(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How far it has come.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often a quantity was in which range.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [u64],
    /// One for each bound, and one for what is above all of them. Not cumulated.
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

/// A histogram as it stands: what is at or under each bound, then all of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) buckets: Vec<(u64, u64)>,
    pub(crate) count: u64,
    pub(crate) sum: u64,
}

impl Histogram {
    fn new(bounds: &'static [u64]) -> Self {
        let counts = std::iter::repeat_with(AtomicU64::default).take(bounds.len() + 1).collect();
        Self { bounds, counts, sum: AtomicU64::default() }
    }

    pub(crate) fn record(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// In microseconds.
    pub(crate) fn record_time(&self, time: Duration) {
        self.record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// What is counted meanwhile may be missing from the sum; the count is always that of the buckets.
    pub(crate) fn read(&self) -> Reading {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(self.bounds.len());
        for (index, in_it) in self.counts.iter().enumerate() {
            count += in_it.load(Ordering::Relaxed);
            if let Some(bound) = self.bounds.get(index) {
                buckets.push((*bound, count));
            }
        }
        Reading { buckets, count, sum: self.sum.load(Ordering::Relaxed) }
    }
}

/// Everything that is counted. One for each host, shared by its parts.
#[derive(Debug)]
pub(crate) struct Meters {
    running_for: Stopwatch,
    /// Transitions that became durable together.
    pub(crate) group: Histogram,
    /// From the first look at a group to its last byte on disk.
    pub(crate) commit: Histogram,
    /// The `fdatasync` in it.
    pub(crate) fsync: Histogram,
    /// One for each of [`ENDS`].
    attempts: [Counter; ENDS.len()],
    /// What a job waited for its turn since it was ready, and what an attempt took, to the end that is durable.
    pub(crate) wait: Histogram,
    pub(crate) took: Histogram,
    limits: Mutex<BTreeMap<String, u64>>,
    /// By kind.
    denials: Mutex<BTreeMap<&'static str, u64>>,
    refusals: Mutex<BTreeMap<String, u64>>,
    /// Connections for jobs that are open: raised and lowered, so no [`Counter`].
    pub(crate) connections: AtomicU64,
    /// What came from outside `allow_from`: packets to the port for jobs, connections elsewhere.
    pub(crate) outside_jobs: Counter,
    pub(crate) outside_log: Arc<Counter>,
    pub(crate) outside_admin: Arc<Counter>,
    /// When the log had everything that was durable, last; milliseconds of `running_for`.
    caught_up: AtomicU64,
    pub(crate) telemetry: Exports,
}

/// What became of what is sent to a collector.
#[derive(Debug, Default)]
pub(crate) struct Exports {
    pub(crate) spans_sent: Counter,
    /// Of those, what the collector said that it does not keep.
    pub(crate) spans_rejected: Counter,
    /// Never sent: there was no room for them, or the collector refused the request.
    pub(crate) spans_dropped: Counter,
    /// Requests that came to nothing.
    pub(crate) traces_failed: Counter,
    pub(crate) metrics_failed: Counter,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            running_for: Stopwatch::start(),
            group: Histogram::new(SIZES),
            commit: Histogram::new(TIMES),
            fsync: Histogram::new(TIMES),
            attempts: std::array::from_fn(|_| Counter::default()),
            wait: Histogram::new(LONG_TIMES),
            took: Histogram::new(LONG_TIMES),
            limits: Mutex::default(),
            denials: Mutex::default(),
            refusals: Mutex::default(),
            connections: AtomicU64::default(),
            outside_jobs: Counter::default(),
            outside_log: Arc::default(),
            outside_admin: Arc::default(),
            caught_up: AtomicU64::default(),
            telemetry: Exports::default(),
        }
    }
}

impl Meters {
    /// Since the store was opened.
    pub(crate) fn uptime(&self) -> Duration {
        self.running_for.passed()
    }

    /// An attempt is over, and that is durable.
    pub(crate) fn attempt(&self, outcome: &Outcome) {
        let state = outcome.state();
        if let Some(index) = ENDS.iter().position(|end| *end == state) {
            self.attempts[index].add();
        }
        if let Outcome::Exceeded { limit, .. } = outcome {
            self.limit(*limit);
        }
    }

    /// What the guest of that attempt reached for and was not granted.
    pub(crate) fn denied(&self, denied: &[Denial]) {
        for Denial { what, count } in denied {
            // What follows the first word may be the guest's.
            let word = what.split(' ').next().unwrap_or_default();
            let kind = KINDS.into_iter().find(|kind| *kind == word).unwrap_or(OTHER);
            let mut denials = self.denials.lock().unwrap_or_else(PoisonError::into_inner);
            let counted: &mut u64 = denials.entry(kind).or_default();
            *counted = counted.saturating_add(*count);
        }
    }

    fn limit(&self, limit: Limit) {
        count(&self.limits, limit.to_string());
    }

    /// Somebody who is known was told no.
    pub(crate) fn refusal(&self, code: RefusalCode) {
        count(&self.refusals, code.to_string());
    }

    /// The log has everything that was durable when the host had run for so long.
    pub(crate) fn caught_up(&self, at: Duration) {
        self.caught_up.store(u64::try_from(at.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Since the beginning of the last publication, which took everything that was durable then.
    pub(crate) fn behind_for(&self) -> Duration {
        let last = Duration::from_millis(self.caught_up.load(Ordering::Relaxed));
        self.uptime().saturating_sub(last)
    }

    pub(crate) fn attempts(&self) -> impl Iterator<Item = (JobState, u64)> {
        ENDS.into_iter().zip(self.attempts.iter().map(Counter::get))
    }

    pub(crate) fn limits(&self) -> BTreeMap<String, u64> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn denials(&self) -> BTreeMap<&'static str, u64> {
        self.denials.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn refusals(&self) -> BTreeMap<String, u64> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn count(counts: &Mutex<BTreeMap<String, u64>>, word: String) {
    *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(word).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_at_or_under_its_bound() {
        let histogram = Histogram::new(&[1, 2, 4]);
        for value in [0, 1, 2, 3, 4, 5, 1000] {
            histogram.record(value);
        }
        let buckets = vec![(1, 2), (2, 3), (4, 5)];
        assert_eq!(histogram.read(), Reading { buckets, count: 7, sum: 1015 });
    }

    #[test]
    fn what_a_guest_reached_for_is_counted_by_our_words_only() {
        let meters = Meters::default();
        let denial = |what: &str, count| Denial { what: what.to_owned(), count };
        meters.denied(&[denial("connect tcp://192.0.2.1:1", 2), denial("clock", 1), denial("\"} 1", 5)]);
        meters.denied(&[denial("connect udp://192.0.2.1:1", 1)]);
        assert_eq!(meters.denials(), BTreeMap::from([("clock", 1), ("connect", 3), ("other", 5)]));
    }

    #[test]
    fn a_limit_that_was_hit_is_an_attempt_too() {
        let meters = Meters::default();
        meters.attempt(&Outcome::Exceeded { limit: Limit::WallTime, allowed: 1, used: 2 });
        meters.attempt(&Outcome::Exited { code: 0 });
        let attempts: Vec<_> = meters.attempts().filter(|(_, count)| *count > 0).collect();
        assert_eq!(attempts, [(JobState::Succeeded, 1), (JobState::Exceeded, 1)]);
        assert_eq!(meters.limits(), BTreeMap::from([(Limit::WallTime.to_string(), 1)]));
    }
}
