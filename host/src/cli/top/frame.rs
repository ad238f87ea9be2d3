//! One frame: what two looks at a host's metrics and one at its status come to, for programs and for people.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::scrape::{Scrape, quantile};
use crate::cli::escape;

/// Queues that are shown.
const MAX_QUEUES: usize = 32;

/// What `--json` says. What is counted is counted since the host started; `per_second` since the frame before, and left out in the first.
#[derive(Debug, Serialize)]
pub(super) struct Frame {
    ready: bool,
    problems: Vec<String>,
    version: String,
    uptime_ms: u64,
    connections: f64,
    running: f64,
    slots: f64,
    queues: Vec<Queue>,
    outcomes: BTreeMap<String, Count>,
    limits: BTreeMap<String, Count>,
    refusals: BTreeMap<String, Count>,
    /// Since the frame before; since the start in the first one.
    commit: Latency,
    fsync: Latency,
    memory_bytes: Option<f64>,
    disk_free_bytes: Option<f64>,
    state_bytes: Option<f64>,
    log_records: f64,
    checkpoint_lag_records: f64,
    checkpoint_lag_seconds: f64,
}

/// The jobs of a queue, of all tenants.
#[derive(Debug, Default, Serialize)]
struct Queue {
    queue: String,
    queued: f64,
    running: f64,
    scheduled: f64,
    accepted: f64,
    /// How long the one has been ready that has waited longest.
    oldest_seconds: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Count {
    total: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    per_second: Option<f64>,
}

/// How long something took; the upper bounds of the metrics' ranges. None: it did not happen, or it took longer than the last of them.
#[derive(Debug, Serialize)]
struct Latency {
    half_within_seconds: Option<f64>,
    most_within_seconds: Option<f64>,
}

/// A look at the host, and when, from some beginning.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) scrape: Scrape,
    pub(super) at: Duration,
}

impl Frame {
    pub(super) fn of(status: &Value, now: &Look, before: Option<&Look>) -> Self {
        let passed = before.map(|before| now.at.saturating_sub(before.at));
        let scrape = &now.scrape;
        let earlier = before.map(|before| &before.scrape);
        let one = |family| scrape.one(family).unwrap_or_default();
        let texts = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            ready: status["ready"] == true,
            problems: status["problems"].as_array().into_iter().flatten().map(texts).collect(),
            version: texts(&status["version"]),
            uptime_ms: status["uptime_ms"].as_u64().unwrap_or_default(),
            connections: one("strongroom_connections"),
            running: one("strongroom_attempts_running"),
            slots: one("strongroom_attempt_slots"),
            queues: queues(scrape),
            outcomes: counts(scrape, earlier, passed, "strongroom_attempts_total", "outcome"),
            limits: counts(scrape, earlier, passed, "strongroom_limits_exceeded_total", "limit"),
            refusals: counts(scrape, earlier, passed, "strongroom_refusals_total", "code"),
            commit: latency(scrape, earlier, "strongroom_commit_seconds"),
            fsync: latency(scrape, earlier, "strongroom_fsync_seconds"),
            memory_bytes: scrape.one("process_resident_memory_bytes"),
            disk_free_bytes: scrape.one("strongroom_disk_free_bytes"),
            state_bytes: scrape.one("strongroom_state_bytes"),
            log_records: one("strongroom_log_records"),
            checkpoint_lag_records: one("strongroom_checkpoint_lag_records"),
            checkpoint_lag_seconds: one("strongroom_checkpoint_lag_seconds"),
        }
    }

    /// Lines for a terminal. Whatever names a host, a queue or a problem is shown and not obeyed.
    pub(super) fn lines(&self) -> Vec<String> {
        let health =
            if self.ready { "ready".to_owned() } else { format!("NOT READY: {}", self.problems.join("; ")) };
        let mut lines = vec![
            format!("strongroom {}   up {}   {health}", self.version, span(self.uptime_ms as f64 / 1000.0)),
            format!(
                "running {}/{}   connections {}   memory {}   disk free {}   state {}",
                self.running,
                self.slots,
                self.connections,
                size(self.memory_bytes),
                size(self.disk_free_bytes),
                size(self.state_bytes)
            ),
            format!(
                "log {} records   without a checkpoint {} for {}   commit {}   fsync {}",
                self.log_records,
                self.checkpoint_lag_records,
                span(self.checkpoint_lag_seconds),
                self.commit,
                self.fsync
            ),
            String::new(),
            format!(
                "{:<24} {:>8} {:>8} {:>10} {:>8} {:>10}",
                "QUEUE", "QUEUED", "RUNNING", "SCHEDULED", "WAITING", "OLDEST"
            ),
        ];
        for queue in self.queues.iter().take(MAX_QUEUES) {
            lines.push(format!(
                "{:<24} {:>8} {:>8} {:>10} {:>8} {:>10}",
                queue.queue,
                queue.queued,
                queue.running,
                queue.scheduled,
                queue.accepted,
                span(queue.oldest_seconds)
            ));
        }
        if self.queues.len() > MAX_QUEUES {
            lines.push(format!("({} more queues)", self.queues.len() - MAX_QUEUES));
        }
        for (title, counts) in
            [("ENDED AS", &self.outcomes), ("LIMIT HIT", &self.limits), ("REFUSED AS", &self.refusals)]
        {
            let seen = counts.iter().filter(|(_, count)| count.total > 0.0);
            let mut seen = seen.peekable();
            if seen.peek().is_some() {
                lines.push(String::new());
                lines.push(format!("{title:<24} {:>12} {:>10}", "SINCE START", "NOW"));
            }
            for (name, Count { total, per_second }) in seen {
                let now = per_second.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}/s"));
                lines.push(format!("{name:<24} {total:>12} {now:>10}"));
            }
        }
        lines.iter().map(|line| escape::line(line)).collect()
    }
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.half_within_seconds, self.most_within_seconds) {
            (Some(half), Some(most)) => write!(f, "<={} (99%: <={})", span(half), span(most)),
            (Some(half), None) => write!(f, "<={} (99%: more)", span(half)),
            _ => f.write_str("-"),
        }
    }
}

fn queues(scrape: &Scrape) -> Vec<Queue> {
    let mut queues: BTreeMap<&str, Queue> = BTreeMap::new();
    for sample in scrape.all("strongroom_queue_oldest_wait_seconds") {
        queues.entry(sample.label("queue")).or_default().oldest_seconds = sample.value;
    }
    for sample in scrape.all("strongroom_jobs") {
        let queue = queues.entry(sample.label("queue")).or_default();
        match sample.label("state") {
            "queued" => queue.queued += sample.value,
            "running" => queue.running += sample.value,
            "scheduled" => queue.scheduled += sample.value,
            "accepted" => queue.accepted += sample.value,
            _ => {}
        }
    }
    queues.into_iter().map(|(name, queue)| Queue { queue: name.to_owned(), ..queue }).collect()
}

fn counts(
    scrape: &Scrape,
    before: Option<&Scrape>,
    passed: Option<Duration>,
    family: &str,
    label: &str,
) -> BTreeMap<String, Count> {
    let count = |sample: &super::scrape::Sample| {
        let name = sample.label(label);
        let earlier = before.map(|before| {
            before
                .all(family)
                .find(|earlier| earlier.label(label) == name)
                .map_or(0.0, |earlier| earlier.value)
        });
        let rate = earlier.zip(passed).filter(|(_, passed)| !passed.is_zero()).map(|(earlier, passed)| {
            // A host that was started again counts from nothing.
            (sample.value - earlier).max(0.0) / passed.as_secs_f64()
        });
        (name.to_owned(), Count { total: sample.value, per_second: rate })
    };
    scrape.all(family).map(count).collect()
}

fn latency(scrape: &Scrape, before: Option<&Scrape>, family: &str) -> Latency {
    let grown = scrape.grown(family, before);
    let within = |share| quantile(&grown, share).filter(|bound| bound.is_finite());
    Latency { half_within_seconds: within(0.5), most_within_seconds: within(0.99) }
}

/// A length of time in the unit that fits.
fn span(seconds: f64) -> String {
    match seconds {
        _ if seconds <= 0.0 => "0 s".to_owned(),
        _ if seconds < 0.001 => format!("{:.0} us", seconds * 1e6),
        _ if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        _ if seconds < 120.0 => format!("{seconds:.0} s"),
        _ if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        _ if seconds < 172_800.0 => format!("{:.0} h", seconds / 3600.0),
        _ => format!("{:.0} d", seconds / 86_400.0),
    }
}

fn size(bytes: Option<f64>) -> String {
    let Some(bytes) = bytes else { return "-".to_owned() };
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in units {
        let scale = f64::from(1_u32 << shift);
        if bytes >= scale {
            return format!("{:.1} {unit}", bytes / scale);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(page: &str, seconds: u64) -> Look {
        Look { scrape: Scrape::read(page), at: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_frame_says_what_grew_and_obeys_nobody() {
        let page = |count: u32| {
            format!(
                "strongroom_attempts_total{{outcome=\"succeeded\"}} {count}\n\
                 strongroom_jobs{{queue=\"a\",tenant=\"x\",state=\"queued\"}} 2\n\
                 strongroom_jobs{{queue=\"a\",tenant=\"y\",state=\"queued\"}} 3\n\
                 strongroom_queue_oldest_wait_seconds{{queue=\"a\"}} 90\n"
            )
        };
        let status = serde_json::json!({
            "ready": false, "problems": ["the disk of \u{1b}[2J/x is full"], "version": "1", "uptime_ms": 5000
        });
        let (before, now) = (look(&page(10), 0), look(&page(30), 4));
        let first = serde_json::to_value(Frame::of(&status, &before, None)).unwrap();
        assert_eq!(first["outcomes"]["succeeded"], serde_json::json!({ "total": 10.0 }));
        let frame = Frame::of(&status, &now, Some(&before));
        let json = serde_json::to_value(&frame).unwrap();
        assert_eq!(json["outcomes"]["succeeded"], serde_json::json!({ "total": 30.0, "per_second": 5.0 }));
        assert_eq!(
            (&json["queues"][0]["queued"], &json["queues"][0]["oldest_seconds"]),
            (&5.0.into(), &90.0.into())
        );
        let text = frame.lines().join("\n");
        assert!(
            text.contains("NOT READY: the disk of \\x1b[2J/x is full") && text.contains("5.0/s"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'));
    }
}
