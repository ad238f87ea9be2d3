//! Jobs for the eye: a table for many, all details for one; and the same as JSON.

use std::fmt::Write as _;

use jiff::Timestamp as Instant;
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use strongroom_job::{Artifact, JobView, ModuleView, QueueView, Timestamp};

use super::amount::{show_micros, show_size};
use super::escape::line;

/// A job as `--json` shows it: the host's own view, with each time in RFC 3339 beside its milliseconds.
pub(super) struct Shown<'a>(pub(super) &'a JobView);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let view = self.0;
        let value = serde_json::to_value(view).map_err(serde::ser::Error::custom)?;
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in value.as_object().into_iter().flatten() {
            map.serialize_entry(key, value)?;
        }
        map.serialize_entry("accepted", &time(view.accepted_at))?;
        map.serialize_entry("started", &view.started_at.map(time))?;
        map.serialize_entry("finished", &view.finished_at.map(time))?;
        if let Some(at) = view.ready_at {
            map.serialize_entry("ready", &time(at))?;
        }
        map.end()
    }
}

/// RFC 3339 in UTC.
pub(super) fn time(at: Timestamp) -> String {
    let millis = i64::try_from(at.as_millis()).ok();
    let known = millis.and_then(|millis| Instant::from_millisecond(millis).ok());
    // Later than the year 9999: no format of ours forbids it, and no calendar needs it.
    known.map_or_else(|| at.to_string(), |instant| format!("{instant:.3}"))
}

/// One line for each job.
pub(super) fn table(jobs: &[JobView]) -> String {
    let mut rows = vec![["JOB", "STATE", "QUEUE", "ACCEPTED", "TOOK", "OUTCOME"].map(String::from)];
    for view in jobs {
        let end = view.end.as_ref();
        rows.push([
            view.job.to_string(),
            view.state.to_string(),
            view.queue.to_string(),
            time(view.accepted_at),
            end.map_or_else(|| "-".into(), |end| show_micros(end.usage.wall_us)),
            standing(view).map_or_else(|| "-".into(), |words| line(&words)),
        ]);
    }
    columns(&rows)
}

/// How a job ended, or else what it waits for or how far it is, if there is anything to tell.
pub(super) fn standing(view: &JobView) -> Option<String> {
    if let Some(end) = &view.end {
        let dead = end.dead.map_or_else(String::new, |why| format!("; {why}"));
        return Some(format!("{}{dead}", end.outcome));
    }
    if let Some(at) = view.ready_at {
        let again = if view.attempt > 0 { "again " } else { "" };
        return Some(format!("{again}at {}", time(at)));
    }
    if let Some(count) = view.waits_for {
        let jobs = if count == 1 { "job" } else { "jobs" };
        return Some(format!("waits for {count} other {jobs}"));
    }
    let progress = view.progress.as_ref()?;
    let text = if progress.text.is_empty() { String::new() } else { format!(" {}", progress.text) };
    Some(format!("{} %{text}", progress.percent))
}

/// One line for each job of a flow, by the names of its file.
pub(super) fn flow_table<'a>(jobs: impl Iterator<Item = (&'a str, &'a JobView)>) -> String {
    let mut rows = vec![["NAME", "JOB", "STATE", "TOOK", "OUTCOME"].map(String::from)];
    for (name, view) in jobs {
        rows.push([
            name.to_owned(),
            view.job.to_string(),
            view.state.to_string(),
            view.end.as_ref().map_or_else(|| "-".into(), |end| show_micros(end.usage.wall_us)),
            standing(view).map_or_else(|| "-".into(), |words| line(&words)),
        ]);
    }
    columns(&rows)
}

/// One line for each queue.
pub(super) fn queues(queues: &[QueueView]) -> String {
    let mut rows = vec![
        ["QUEUE", "MODE", "WAIT FOR JOBS", "SCHEDULED", "READY", "RUNNING", "OLDEST READY"].map(String::from),
    ];
    for view in queues {
        rows.push([
            view.queue.to_string(),
            view.mode.to_string(),
            view.accepted.to_string(),
            view.scheduled.to_string(),
            view.queued.to_string(),
            view.running.to_string(),
            view.oldest.map_or_else(|| "-".into(), time),
        ]);
    }
    columns(&rows)
}

/// One line for each module.
pub(super) fn modules(modules: &[ModuleView]) -> String {
    let mut rows = vec![["MODULE", "SIZE", "REGISTERED"].map(String::from)];
    for view in modules {
        let module = &view.module;
        rows.push([module.digest.to_string(), show_size(module.length), time(view.registered_at)]);
    }
    columns(&rows)
}

/// Everything about one job, one thing in a line.
pub(super) fn details(view: &JobView) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{name:<10} {}", line(&value.to_string()));
    };
    row("job", &view.job);
    row("state", &view.state);
    row("tenant", &view.tenant);
    row("principal", &view.principal);
    row("module", &format_args!("{} ({})", view.module.digest, show_size(view.module.length)));
    row("queue", &format_args!("{}, priority {}", view.queue, view.priority));
    row("attempt", &view.attempt);
    row("accepted", &format_args!("{}, audit log entry {}", time(view.accepted_at), view.log_index));
    if let Some(at) = view.started_at {
        row("started", &time(at));
    }
    if let Some(at) = view.finished_at {
        row("finished", &time(at));
    }
    match (view.ready_at, view.waits_for, &view.progress) {
        (Some(at), ..) => row("ready at", &time(at)),
        (_, Some(count), _) => row("waits for", &format_args!("{count} others")),
        (.., Some(progress)) => row("progress", &format_args!("{} % {}", progress.percent, progress.text)),
        _ => {}
    }
    if let Some(end) = &view.end {
        let usage = &end.usage;
        row("outcome", &format_args!("{}, audit log entry {}", end.outcome, end.log_index));
        row("took", &format_args!("{}, {} CPU", show_micros(usage.wall_us), show_micros(usage.cpu_us)));
        if let Some(fuel) = usage.fuel {
            row("fuel", &fuel);
        }
        row("memory", &format_args!("{} at most", show_size(usage.peak_memory_bytes)));
        row("stdin", &format_args!("{} read", show_size(usage.stdin_bytes)));
        row("stdout", &format_args!("{}, {}", show_size(end.stdout.length), end.stdout.digest));
        row("stderr", &format_args!("{}, {}", show_size(end.stderr.length), end.stderr.digest));
        if let Some(dead) = end.dead {
            row("dead", &dead);
        }
        if let Some(result) = end.result {
            row("result", &format_args!("{}, {}", show_size(result.length), result.digest));
        }
        if usage.disk_bytes > 0 || usage.files > 0 {
            row("disk", &format_args!("{} more, {} files made", show_size(usage.disk_bytes), usage.files));
        }
        if usage.http_bytes > 0 {
            row("HTTP", &format_args!("{} of bodies", show_size(usage.http_bytes)));
        }
        for denial in &end.denied {
            row("denied", denial);
        }
        for Artifact { name, length, digest } in &end.artifacts {
            row("artifact", &format_args!("{name}, {}, {digest}", show_size(*length)));
        }
    }
    text.trim_end().to_owned()
}

pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use strongroom_job::{
        DeadReason, Denial, Digest, JobEnd, JobId, JobState, ModuleRef, Name, Outcome, OutputSummary,
        Progress, QueueMode, Usage,
    };

    use super::*;

    fn view() -> JobView {
        let output = OutputSummary { length: 5, digest: Digest::of(b"") };
        let usage = Usage {
            wall_us: 12_345,
            cpu_us: 900,
            fuel: Some(7),
            peak_memory_bytes: 1 << 20,
            stdin_bytes: 3,
            ..Usage::default()
        };
        let outcome = Outcome::Trapped { reason: "unreachable \x1b[31m".into() };
        JobView {
            job: JobId::from_bytes([7; 16]),
            tenant: Name::default_name(),
            principal: strongroom_sdk::Identity::generate().unwrap().public(),
            module: ModuleRef { digest: Digest::of(b""), length: 2048 },
            queue: Name::default_name(),
            priority: -3,
            state: JobState::Trapped,
            attempt: 1,
            accepted_at: Timestamp::from_millis(1_700_000_000_001),
            started_at: Some(Timestamp::from_millis(1_700_000_000_002)),
            finished_at: Some(Timestamp::from_millis(1_700_000_000_015)),
            log_index: 4,
            ready_at: None,
            waits_for: None,
            progress: None,
            end: Some(JobEnd {
                outcome,
                usage,
                stdout: output,
                stderr: output,
                denied: vec![Denial { what: "connect tcp://192.0.2.5:5432".into(), count: 2 }],
                artifacts: vec![Artifact {
                    name: "a/report \u{1b}.txt".into(),
                    length: 4096,
                    digest: Digest::of(b""),
                }],
                result: None,
                dead: None,
                log_index: 6,
            }),
        }
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time(Timestamp::from_millis(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(Timestamp::from_millis(1_700_000_000_001)), "2023-11-14T22:13:20.001Z");
        assert_eq!(time(Timestamp::from_millis(u64::MAX)), "18446744073709551615 ms");
    }

    #[test]
    fn a_table_has_a_line_for_each_job_and_obeys_no_guest() {
        let text = table(&[view()]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "JOB                               STATE    QUEUE    ACCEPTED                  TOOK     OUTCOME"
        );
        assert_eq!(
            lines[1],
            "07070707070707070707070707070707  trapped  default  2023-11-14T22:13:20.001Z  12.3 ms  trapped: \
             unreachable \\x1b[31m"
        );
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn details_say_everything() {
        let text = details(&view());
        for part in [
            "priority -3",
            "audit log entry 4",
            "audit log entry 6",
            "12.3 ms, 900 µs CPU",
            "1.0 MiB at most",
            "denied     asked for connect tcp://192.0.2.5:5432, not granted (2 times)",
            "artifact   a/report \\x1b.txt, 4.0 KiB, sha256:",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn a_job_that_is_not_over_says_what_it_waits_for() {
        let standing = |change: &dyn Fn(&mut JobView)| {
            let mut view = JobView { end: None, attempt: 0, ..view() };
            change(&mut view);
            let words = standing(&view);
            let all = format!("{}\n{}", table(std::slice::from_ref(&view)), details(&view));
            assert!(words.iter().all(|words| all.contains(&line(words))), "{all}");
            (words, all)
        };
        assert_eq!(standing(&|_| ()).0, None);
        let at = Some(Timestamp::from_millis(1_700_000_000_001));
        let (words, all) = standing(&|view| view.ready_at = at);
        assert_eq!(words.unwrap(), "at 2023-11-14T22:13:20.001Z");
        assert!(all.contains("\nready at   2023-11-14T22:13:20.001Z"), "{all}");
        let retried = |view: &mut JobView| (view.ready_at, view.attempt) = (at, 1);
        assert_eq!(standing(&retried).0.unwrap(), "again at 2023-11-14T22:13:20.001Z");
        assert_eq!(standing(&|view| view.waits_for = Some(1)).0.unwrap(), "waits for 1 other job");
        let (words, all) = standing(&|view| {
            view.progress = Some(Progress { percent: 42, text: "page \u{1b}[2J".into() });
        });
        assert_eq!(words.unwrap(), "42 % page \u{1b}[2J");
        assert!(all.contains("\nprogress   42 % page \\x1b[2J") && !all.contains('\u{1b}'), "{all}");
    }

    #[test]
    fn a_dead_job_says_why() {
        let mut view = view();
        let end = view.end.as_mut().unwrap();
        (end.dead, end.result) = (Some(DeadReason::Attempts), Some(OutputSummary::nothing()));
        assert!(
            table(std::slice::from_ref(&view)).ends_with("unreachable \\x1b[31m; it had all its attempts")
        );
        let text = details(&view);
        assert!(text.contains("\ndead       it had all its attempts\nresult     0 B, sha256:"), "{text}");
    }

    #[test]
    fn queues_have_a_line_each() {
        let view = QueueView {
            queue: Name::default_name(),
            mode: QueueMode::Paused,
            accepted: 1,
            scheduled: 20,
            queued: 300,
            running: 4,
            oldest: Some(Timestamp::from_millis(0)),
        };
        let text = queues(&[view]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "QUEUE    MODE    WAIT FOR JOBS  SCHEDULED  READY  RUNNING  OLDEST READY");
        assert_eq!(
            lines[1],
            "default  paused  1              20         300    4        1970-01-01T00:00:00.000Z"
        );
    }

    #[test]
    fn json_has_times_for_people_too() {
        let json = serde_json::to_value(Shown(&view())).unwrap();
        assert_eq!(json["state"], "trapped");
        assert_eq!(json["accepted_at"], 1_700_000_000_001_u64);
        assert_eq!(json["finished"], "2023-11-14T22:13:20.015Z");
        assert_eq!(json["end"]["outcome"]["type"], "trapped");
    }
}
