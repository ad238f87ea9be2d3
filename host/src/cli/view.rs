//! Jobs for the eye: a table for many, all details for one; and the same as JSON.

use std::fmt::Write as _;

use jiff::Timestamp as Instant;
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use strongroom_job::{Artifact, JobView, ModuleView, Timestamp};

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
            end.map_or_else(|| "-".into(), |end| line(&end.outcome.to_string())),
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

fn columns<const N: usize>(rows: &[[String; N]]) -> String {
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
        Denial, Digest, JobEnd, JobId, JobState, ModuleRef, Name, Outcome, OutputSummary, Usage,
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
    fn json_has_times_for_people_too() {
        let json = serde_json::to_value(Shown(&view())).unwrap();
        assert_eq!(json["state"], "trapped");
        assert_eq!(json["accepted_at"], 1_700_000_000_001_u64);
        assert_eq!(json["finished"], "2023-11-14T22:13:20.015Z");
        assert_eq!(json["end"]["outcome"]["type"], "trapped");
    }
}
