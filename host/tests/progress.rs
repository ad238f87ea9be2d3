//! Progress and results: what a guest says while it runs is told to who asks, and its result is there when it is over.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::time::Duration;

use common::live::{Live, push_wat};
use strongroom_job::{Digest, JobState, Outcome, OutputStream, OutputSummary, Progress};
use strongroom_sdk::Job;

/// Says that it has come to 42 % with a text that wants to steer a terminal, leaves a result of 64 KiB, and runs on.
const TELLS_AND_SPINS: &str = r#"(module
    (import "strongroom:job/report@0.1.0" "progress" (func $progress (param i32 i32 i32)))
    (import "strongroom:job/report@0.1.0" "set-result" (func $set_result (param i32 i32) (result i32)))
    (memory (export "memory") 2)
    (data (i32.const 0) "half\1b[2Jway")
    (func (export "_start")
        (if (call $set_result (i32.const 0) (i32.const 65536)) (then unreachable))
        (call $progress (i32.const 42) (i32.const 0) (i32.const 11))
        (loop $for_ever (br $for_ever))))"#;

// Red without `progress()` in `attempt`, and without `result` in what `ended` tells or keeps.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_tells_its_progress_and_a_stopped_one_keeps_its_result() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, TELLS_AND_SPINS).await;
    // A host that tells nothing fails the test by this job's end.
    let job = client.submit(&Job::new(module).timeout(Duration::from_secs(30))).await.unwrap().job;
    let told = loop {
        let view = client.show(job).await.unwrap();
        assert!(view.end.is_none(), "{view:?}");
        if let Some(progress) = view.progress {
            assert_eq!(view.state, JobState::Running);
            break progress;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(told, Progress { percent: 42, text: "half\u{fffd}[2Jway".into() });
    // Not there yet: a job may run again, and leave another.
    let mut early = Vec::new();
    let mut reader = client.output(job, OutputStream::Result, 0, false).await.unwrap();
    while let Some(bytes) = reader.next().await.unwrap() {
        early.extend_from_slice(&bytes);
    }
    assert_eq!(early, b"");

    client.cancel(job).await.unwrap();
    let view = client.wait(job).await.unwrap().view;
    let end = view.end.unwrap();
    assert_eq!((view.progress, &end.outcome), (None, &Outcome::Cancelled));
    let mut result = Vec::new();
    client.fetch_output(job, OutputStream::Result, &mut result).await.unwrap();
    assert_eq!((result.len(), &result[..4]), (65_536, &b"half"[..]));
    let told = OutputSummary { length: 65_536, digest: Digest::of(&result) };
    assert_eq!(end.result, Some(told));
    live.stop().await;
}
