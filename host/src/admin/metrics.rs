//! What the host tells of itself in numbers (`GET /metrics`, and what goes to a collector): each family of the page, in the page's order.
//!
//! *Bound:* [`MAX_PAIRS`] pairs of tenant and queue, as many queues and tenants; what is beyond is summed up under one name that none of
//! them can have. A scrape takes the schedule's lock for one look over queues and lanes.
//! *Spec:* `docs/reference/metrics.md`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::Ordering;

use strongroom_job::Timestamp;

use super::{Shared, health, kept, shares};
use crate::meters::page::{Kind, Page, decimal};
use crate::schedule::{LaneView, QueueCounts, Tally};

/// Pairs of tenant and queue that are told apart.
pub(super) const MAX_PAIRS: usize = 256;
/// Where the others are counted. No tenant and no queue has such a name.
const OTHERS: &str = "(others)";
/// Longest part of `/proc/self/status` that is read.
const MAX_STATUS_BYTES: usize = 4096;

pub(super) fn of(shared: &Shared) -> Page {
    let mut page = Page::default();
    host(&mut page, shared);
    jobs(&mut page, shared);
    outcomes(&mut page, shared);
    doors(&mut page, shared);
    commits(&mut page, shared);
    log(&mut page, shared);
    kept::tell(&mut page, shared);
    disk(&mut page, shared);
    shares::tell(&mut page, shared);
    exports(&mut page, shared);
    page
}

fn host(page: &mut Page, shared: &Shared) {
    let help = "1, with the version of the host.";
    let version = env!("CARGO_PKG_VERSION");
    page.family("strongroom_build_info", Kind::Gauge, help).sample(&[("version", version)], 1);
    let ready = u8::from(health::problems(shared).is_empty());
    page.one("strongroom_ready", Kind::Gauge, "1 while the host can do its work, else 0.", ready);
    let started = decimal(shared.watched.started.as_millis(), 1000);
    let help = "When the host started, seconds since 1970.";
    page.one("process_start_time_seconds", Kind::Gauge, help, started);
    let family =
        page.family("process_resident_memory_bytes", Kind::Gauge, "Memory of the process that is in RAM.");
    if let Some(bytes) = shared.memory.as_ref().and_then(resident_bytes) {
        family.sample(&[], bytes);
    }
}

fn jobs(page: &mut Page, shared: &Shared) {
    let board = shared.watched.dispatcher.board();
    let (queues, lanes) = board.watched();
    let family = page.family(
        "strongroom_jobs",
        Kind::Gauge,
        "Jobs that are not over, by queue, tenant and state: queued, scheduled, accepted (they wait for others), running.",
    );
    let named = lanes.len().min(MAX_PAIRS);
    for LaneView { tenant, queue, jobs } in &lanes[..named] {
        for (state, count) in states(jobs) {
            let labels = [("queue", queue.as_str()), ("tenant", tenant.as_str()), ("state", state)];
            family.sample(&labels, count);
        }
    }
    if lanes.len() > named {
        let mut rest = [0_u64; 4];
        for lane in &lanes[named..] {
            for (sum, (_, count)) in rest.iter_mut().zip(states(&lane.jobs)) {
                *sum += count;
            }
        }
        for ((state, _), sum) in states(&Tally::default()).into_iter().zip(rest) {
            family.sample(&[("queue", OTHERS), ("tenant", OTHERS), ("state", state)], sum);
        }
    }
    let now = shared.watched.clock.now();
    let help = "How long the job has been ready that has waited longest in a queue; 0 when none waits.";
    let family = page.family("strongroom_queue_oldest_wait_seconds", Kind::Gauge, help);
    for QueueCounts { queue, oldest, .. } in queues.iter().take(MAX_PAIRS) {
        family.sample(&[("queue", queue.as_str())], age(*oldest, now));
    }
    let running = shared.watched.dispatcher.running();
    page.one("strongroom_attempts_running", Kind::Gauge, "Attempts that run now.", running);
    let slots = shared.watched.dispatcher.slots();
    page.one("strongroom_attempt_slots", Kind::Gauge, "Attempts that may run at once (max_running).", slots);
    pool(page, shared);
}

/// The parts of the sandbox's pool that guests have now.
fn pool(page: &mut Page, shared: &Shared) {
    let used = shared.watched.dispatcher.pool();
    let help = "Places of the sandbox's pool that guests have now, by part.";
    let family = page.family("strongroom_pool_used", Kind::Gauge, help);
    for (part, count) in [
        ("core-instances", used.core_instances),
        ("component-instances", used.component_instances),
        ("memories", used.memories),
        ("tables", used.tables),
        ("stacks", used.stacks),
    ] {
        family.sample(&[("part", part)], count);
    }
    let help = "Memory that free places of the pool keep, so that the next guest starts faster.";
    page.one("strongroom_pool_kept_bytes", Kind::Gauge, help, used.kept_bytes);
}

fn states(jobs: &Tally) -> [(&'static str, u64); 4] {
    [
        ("queued", jobs.queued.into()),
        ("scheduled", jobs.scheduled.into()),
        ("accepted", jobs.held.into()),
        ("running", jobs.running.into()),
    ]
}

fn age(since: Option<Timestamp>, now: Timestamp) -> String {
    let millis = since.map_or(0, |since| u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX));
    decimal(millis, 1000)
}

fn outcomes(page: &mut Page, shared: &Shared) {
    let meters = shared.watched.store.meters();
    let help = "Attempts whose end is durable, by outcome.";
    let family = page.family("strongroom_attempts_total", Kind::Counter, help);
    for (state, count) in meters.attempts() {
        family.sample(&[("outcome", &state.to_string())], count);
    }
    let help = "Attempts that ended at a limit, by limit.";
    let family = page.family("strongroom_limits_exceeded_total", Kind::Counter, help);
    for (limit, count) in meters.limits() {
        family.sample(&[("limit", &limit)], count);
    }
    let help = "How often guests were denied what they reached for, by kind.";
    let family = page.family("strongroom_denials_total", Kind::Counter, help);
    for (kind, count) in meters.denials() {
        family.sample(&[("kind", kind)], count);
    }
    let help = "Time that a job waited for its turn, from when it was ready.";
    page.family("strongroom_queue_wait_seconds", Kind::Histogram, help).histogram(&meters.wait, 1_000_000);
    let help = "Time of an attempt, from its durable start to its durable end.";
    page.family("strongroom_attempt_seconds", Kind::Histogram, help).histogram(&meters.took, 1_000_000);
    let help = "Requests of known keys that were refused, by code.";
    let family = page.family("strongroom_refusals_total", Kind::Counter, help);
    for (code, count) in meters.refusals() {
        family.sample(&[("code", &code)], count);
    }
}

fn doors(page: &mut Page, shared: &Shared) {
    let meters = shared.watched.store.meters();
    let open = meters.connections.load(Ordering::Relaxed);
    page.one("strongroom_connections", Kind::Gauge, "Connections for jobs that are open.", open);
    let help = "Handshakes that ended for want of a key that the host knows, or of an end.";
    page.one("strongroom_strangers_total", Kind::Counter, help, shared.watched.strangers.count());
    let help = "What came from outside allow_from and got no answer: packets to the port for jobs, connections elsewhere.";
    let family = page.family("strongroom_outside_total", Kind::Counter, help);
    family.sample(&[("listener", "jobs")], meters.outside_jobs.get());
    family.sample(&[("listener", "log")], meters.outside_log.get());
    family.sample(&[("listener", "admin")], meters.outside_admin.get());
}

fn commits(page: &mut Page, shared: &Shared) {
    let meters = shared.watched.store.meters();
    let help = "Transitions that became durable together.";
    page.family("strongroom_commit_transitions", Kind::Histogram, help).histogram(&meters.group, 1);
    let help = "Time of a commit, from its first look at the transitions to the last byte on disk.";
    page.family("strongroom_commit_seconds", Kind::Histogram, help).histogram(&meters.commit, 1_000_000);
    let help = "Time of the fdatasync in a commit.";
    page.family("strongroom_fsync_seconds", Kind::Histogram, help).histogram(&meters.fsync, 1_000_000);
}

fn log(page: &mut Page, shared: &Shared) {
    let watched = &shared.watched;
    // In this order: what is published is durable.
    let published = *watched.published.borrow();
    let records = watched.store.log_size();
    page.one("strongroom_log_records", Kind::Gauge, "Records of the audit log that are durable.", records);
    let help = "Records of the audit log that a checkpoint covers.";
    page.one("strongroom_log_published_records", Kind::Gauge, help, published);
    let lag = records.saturating_sub(published);
    page.one("strongroom_checkpoint_lag_records", Kind::Gauge, "Durable records without a checkpoint.", lag);
    let behind = watched.store.meters().behind_for().as_millis();
    let behind = if lag == 0 { 0 } else { u64::try_from(behind).unwrap_or(u64::MAX) };
    let help = "Since when there are durable records without a checkpoint; 0 when there are none.";
    page.one("strongroom_checkpoint_lag_seconds", Kind::Gauge, help, decimal(behind, 1000));
}

fn disk(page: &mut Page, shared: &Shared) {
    let family = page.family("strongroom_state_bytes", Kind::Gauge, "Bytes of the state's file.");
    // None in the moment in which a file that was written anew takes the place of another.
    if let Ok(file) = std::fs::metadata(shared.watched.dir.join("state").join("db")) {
        family.sample(&[], file.len());
    }
    let help = "Room for this user on the disk of the data directory.";
    let family = page.family("strongroom_disk_free_bytes", Kind::Gauge, help);
    if let Ok(bytes) = health::free_bytes(shared) {
        family.sample(&[], bytes);
    }
    let help = "Room below which nothing new is taken (disk_reserve_bytes).";
    let reserve = shared.in_force().config.bounds.disk_reserve_bytes;
    page.one("strongroom_disk_reserve_bytes", Kind::Gauge, help, reserve);
}

/// What became of what was to go to a collector.
fn exports(page: &mut Page, shared: &Shared) {
    let exports = &shared.watched.store.meters().telemetry;
    let help = "Spans for a collector: sent, rejected by it (of those sent), or dropped and never sent.";
    let family = page.family("strongroom_telemetry_spans_total", Kind::Counter, help);
    family.sample(&[("fate", "sent")], exports.spans_sent.get());
    family.sample(&[("fate", "rejected")], exports.spans_rejected.get());
    family.sample(&[("fate", "dropped")], exports.spans_dropped.get());
    let help = "Requests to a collector that came to nothing, by what was in them.";
    let family = page.family("strongroom_telemetry_failures_total", Kind::Counter, help);
    family.sample(&[("signal", "traces")], exports.traces_failed.get());
    family.sample(&[("signal", "metrics")], exports.metrics_failed.get());
}

/// The `VmRSS` of `/proc/self/status`; none where there is no such file.
fn resident_bytes(status: &File) -> Option<u64> {
    let mut bytes = [0; MAX_STATUS_BYTES];
    let length = status.read_at(&mut bytes, 0).ok()?;
    let text = str::from_utf8(&bytes[..length]).ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
    Some(kib.trim().parse::<u64>().ok()? * 1024)
}
