//! Limits: a job that goes past one ends as `exceeded`, and view and audit record say which limit, how much was allowed and
//! how much was used. What it wrote until then is kept, cut at its limit, under its true digest.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::time::Duration;

use common::guests::{EATS, floods, pattern, traps_in, writes_bytes};
use common::live::{Done, Live, SPINS, assert_succeeded, finish, push_wat, run};
use common::records::records;
use strongroom_job::{Digest, Event, JobId, JobState, Limit, Outcome, OutputStream, OutputSummary, Record};
use strongroom_sdk::{Client, Job};

const MIB: u64 = 1 << 20;

/// Runs a guest that must hit `limit`; gives what it left and what it used at that moment.
async fn exceeds(
    client: &Client,
    wat: &str,
    limit: Limit,
    allowed: u64,
    job: impl FnOnce(Job) -> Job,
) -> (Done, u64) {
    let module = push_wat(client, wat).await;
    let done = run(client, &job(Job::new(module))).await;
    assert_eq!(done.view.state, JobState::Exceeded, "{:?}", done.view);
    let Outcome::Exceeded { limit: hit, allowed: had, used } = done.view.end.as_ref().unwrap().outcome else {
        panic!("{:?}", done.view)
    };
    assert_eq!((hit, had), (limit, allowed));
    (done, used)
}

/// The one `finished` record of a job.
fn finished(records: &[Record], job: JobId) -> &Event {
    let mut ends =
        records.iter().filter(|r| r.job() == Some(&job) && matches!(r.event, Event::Finished { .. }));
    let end = ends.next().expect("a record of the end");
    assert!(ends.next().is_none(), "two ends of {job}");
    &end.event
}

/// The record of the end says the same as the view, but for what hides there: that the receipt opens, which the client has believed.
fn recorded(records: &[Record], done: &Done) {
    let end = done.view.end.clone().unwrap();
    let mut told = finished(records, done.view.job).clone();
    let Event::Finished { stdout, stderr, artifacts, result, .. } = &mut told else { unreachable!() };
    let files: Vec<u64> = artifacts.iter().map(|left| left.length()).collect();
    let lengths = (stdout.length(), stderr.length(), result.map(|left| left.length()), files);
    let files: Vec<u64> = end.artifacts.iter().map(|left| left.length).collect();
    assert_eq!(lengths, (end.stdout.length, end.stderr.length, end.result.map(|left| left.length), files));
    let nothing = OutputSummary::nothing();
    (*stdout, *stderr, *result) = (nothing.into(), nothing.into(), None);
    artifacts.clear();
    let expected = Event::Finished {
        job: done.view.job,
        attempt: 1,
        outcome: end.outcome,
        usage: end.usage,
        stdout: nothing.into(),
        stderr: nothing.into(),
        denied: end.denied,
        artifacts: Vec::new(),
        result: None,
        dead: end.dead,
    };
    assert_eq!(told, expected);
}

fn summary(bytes: &[u8]) -> OutputSummary {
    OutputSummary { length: bytes.len() as u64, digest: Digest::of(bytes) }
}

// Red for each limit that `attempt::limits` does not hand to the sandbox, and for a swapped row in `translate_limit`.
#[tokio::test(flavor = "multi_thread")]
async fn memory_time_and_fuel_end_a_job_and_are_named() {
    let live = Live::new().await;
    let client = live.client().await;
    let (ate, used) = exceeds(&client, EATS, Limit::Memory, 4 * MIB, |job| job.memory(4 * MIB)).await;
    assert!(used > 4 * MIB, "{used}");
    let peak = ate.view.end.as_ref().unwrap().usage.peak_memory_bytes;
    assert!(peak <= 4 * MIB && peak > 2 * MIB, "{peak}");

    let wall = Duration::from_millis(50);
    let (spun, used) = exceeds(&client, SPINS, Limit::WallTime, 50, |job| job.timeout(wall)).await;
    assert!(used >= 50, "{used}");
    let usage = spun.view.end.as_ref().unwrap().usage;
    assert!(usage.wall_us >= 50_000 && usage.fuel.is_none(), "{usage:?}");

    let (burnt, used) = exceeds(&client, SPINS, Limit::Fuel, 100_000, |job| job.fuel(100_000)).await;
    assert_eq!(used, 100_000);
    assert!(burnt.view.end.as_ref().unwrap().usage.fuel.is_some_and(|fuel| fuel >= 100_000));

    // The same module inside its bounds, metered and not.
    let module = push_wat(&client, &writes_bytes(1, 10)).await;
    assert_succeeded(&run(&client, &Job::new(module)).await);
    assert_succeeded(&run(&client, &Job::new(module).fuel(1_000_000)).await);
    client.close().await;
    let dir = live.stop().await;
    let records = records(dir.path());
    for done in [&ate, &spun, &burnt] {
        recorded(&records, done);
    }
}

// Red with the output limits left out of `attempt::limits`; with a `Spool` that drops what lies past the inline bound; with
// `keep` hashing what was written in place of what was kept.
#[tokio::test(flavor = "multi_thread")]
async fn endless_output_is_cut_at_its_limit_and_kept_under_its_digest() {
    let live = Live::new().await;
    let client = live.client().await;
    let mut ends = Vec::new();
    // Below, at and above the bound up to which output stays out of files (16 KiB); and far above.
    for length in [1, 4095, 16_384, 16_385, 100_000, 3_000_001] {
        let expected = pattern(length as usize);
        let limit = |job: Job| job.stdout_limit(length);
        let (done, used) = exceeds(&client, &floods(1), Limit::Stdout, length, limit).await;
        assert!(used > length && used <= length + 4096, "{used}");
        assert!(done.stdout == expected, "{} bytes for {length}", done.stdout.len());
        assert_eq!(done.view.end.as_ref().unwrap().stdout, summary(&expected));
        assert_eq!(done.view.end.as_ref().unwrap().stderr, summary(b""));
        ends.push(done);

        let limit = |job: Job| job.stderr_limit(length);
        let (done, _) = exceeds(&client, &floods(2), Limit::Stderr, length, limit).await;
        assert!(
            done.stderr == expected && done.stdout.is_empty(),
            "{} bytes for {length}",
            done.stderr.len()
        );
        assert_eq!(done.view.end.as_ref().unwrap().stderr, summary(&expected));
        ends.push(done);
    }
    client.close().await;
    let dir = live.stop().await;
    let records = records(dir.path());
    for done in &ends {
        recorded(&records, done);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_a_flood_gets_every_byte_up_to_the_limit() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, &floods(1)).await;
    let job = client.submit(&Job::new(module).stdout_limit(5_000_000)).await.unwrap().job;
    let mut reader = client.output(job, OutputStream::Stdout, 0, true).await.unwrap();
    let mut followed = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        followed.extend_from_slice(&piece);
    }
    assert!(followed == pattern(5_000_000), "{} bytes", followed.len());
    live.stop().await;
}

// A limit is a bound, not a toll.
#[tokio::test(flavor = "multi_thread")]
async fn what_stays_at_its_limit_succeeds() {
    let live = Live::new().await;
    let client = live.client().await;
    for length in [1u32, 16_384, 16_385, 70_000] {
        let module = push_wat(&client, &writes_bytes(1, length)).await;
        let done = run(&client, &Job::new(module).stdout_limit(length.into())).await;
        assert_succeeded(&done);
        assert!(done.stdout == pattern(length as usize));
    }
    live.stop().await;
}

/// Opens its first directory five times.
const OPENS: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) ".")
    (func (export "_start") (local $left i32)
        (local.set $left (i32.const 5))
        (loop $more
            (if (call $open (i32.const 3) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 2)
                (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 64)) (then unreachable))
            (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))"#;

/// A component of three core instances.
const THREE: &str = r#"(component
    (core module $m)
    (core instance (instantiate $m)) (core instance (instantiate $m))
    (core module $main (func (export "run") (result i32) (i32.const 0)))
    (core instance $i (instantiate $main))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $exported (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $exported)))"#;

/// Sleeps for 400 ms.
const NAPS: &str = r#"(module
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const 400000000))
        (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#;

#[tokio::test(flavor = "multi_thread")]
async fn processor_time_handles_and_instances_end_a_job_and_are_named() {
    let live = Live::new().await;
    let client = live.client().await;
    let cpu = |job: Job| job.cpu(Duration::from_millis(100)).timeout(Duration::from_secs(250));
    let (spun, used) = exceeds(&client, SPINS, Limit::CpuTime, 100, cpu).await;
    assert!(used > 100, "{used}");
    assert!(spun.view.end.as_ref().unwrap().usage.cpu_us > 100_000, "{:?}", spun.view);
    // Waiting does not use it up.
    let naps = push_wat(&client, NAPS).await;
    assert_succeeded(&run(&client, &cpu(Job::new(naps))).await);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let opens = |handles| move |job: Job| job.read_dir(path, "/d").handles(handles);
    let (opened, used) = exceeds(&client, OPENS, Limit::Handles, 8, opens(8)).await;
    assert_eq!(used, 9);
    let module = push_wat(&client, OPENS).await;
    assert_succeeded(&run(&client, &opens(64)(Job::new(module))).await);

    let (split, used) = exceeds(&client, THREE, Limit::Instances, 2, |job| job.instances(2)).await;
    assert_eq!(used, 3);
    let module = push_wat(&client, THREE).await;
    assert_succeeded(&run(&client, &Job::new(module).instances(3)).await);
    client.close().await;
    let records = records(live.stop().await.path());
    for done in [&spun, &opened, &split] {
        recorded(&records, done);
    }
}

// Red without `deterministic`: the component then shows the time.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_task_uses_the_same_fuel_in_every_job() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, &writes_bytes(1, 20_000)).await;
    let component = include_bytes!("../../runtime/tests/fixtures/probe.wasm");
    let component = client.push_module(component.to_vec()).await.unwrap();
    let tasks = [
        Job::new(module),
        // Asks for the time, and shows it.
        Job::new(component).arg("clock"),
        Job::new(component).arg("instant"),
        Job::new(component).arg("upper").stdin_bytes(b"the same input".repeat(100)),
    ];
    for task in tasks.map(|job| job.deterministic().fuel(1_000_000_000)) {
        let mut runs = Vec::new();
        for _ in 0..2 {
            let done = run(&client, &task).await;
            assert_succeeded(&done);
            let fuel = done.view.end.as_ref().unwrap().usage.fuel.unwrap();
            runs.push((fuel, done.stdout, done.stderr));
        }
        assert!(runs[0].0 > 0 && !runs[0].1.is_empty(), "{:?}", runs[0]);
        assert_eq!(runs[0], runs[1], "{task:?}");
    }
    live.stop().await;
}

/// What would clear a terminal, climb a line, and look like a record of its own.
const FORGED: &[u8] =
    b"ok\x1b[2J\x1b]0;owned\x07\r\n{\"v\":1,\"time\":0,\"type\":\"host-stopped\"}\n\x00\x9b31m\xff\xfe";

// Red with `text::write` taken off `Outcome::Trapped::reason` together with `plain` in the runtime's verdict.
#[tokio::test(flavor = "multi_thread")]
async fn control_bytes_reach_the_reader_of_the_output_and_no_record() {
    let live = Live::new().await;
    let client = live.client().await;
    // A function's name must be UTF-8; the rest of the bytes goes through the output.
    let name = "\u{1b}[31m\r\n{\"v\":1}\n\u{202e}\u{9b}";
    let module = push_wat(&client, &traps_in(name.as_bytes(), FORGED)).await;
    let accepted =
        client.submit(&Job::new(module).arg("a\n{\"v\":1}\u{1b}[2J").env("A\nB", "\u{1b}c")).await.unwrap();
    let done = finish(&client, accepted.job).await;
    assert_eq!(
        (done.stdout.as_slice(), done.stderr.as_slice()),
        (FORGED, FORGED),
        "outputs are the guest's own"
    );
    let Outcome::Trapped { reason } = &done.view.end.as_ref().unwrap().outcome else {
        panic!("{:?}", done.view)
    };
    assert!(reason.contains("in function") && reason.contains("[31m"), "{reason:?}");
    let steers = |text: &str| text.chars().any(|c| c.is_control() || c == '\u{202e}');
    assert!(!steers(reason), "{reason:?}");
    client.close().await;
    let dir = live.stop().await;

    let records = records(dir.path());
    recorded(&records, &done);
    for record in &records {
        let leaf = String::from_utf8(record.to_leaf()).unwrap();
        assert!(!steers(&leaf), "{leaf:?}");
    }
    let stops = records.iter().filter(|r| matches!(r.event, Event::HostStopped {})).count();
    assert_eq!(stops, 1, "the guest's line is no record");
}
