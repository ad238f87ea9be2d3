//! A guest that never stops talking costs bounded memory. Alone in its process, so that what is measured is this run's.
#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "test names say it")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{bounded, module};
use strongroom_runtime::{CancelToken, Grant, Limits, Outcome, Progress, Sandbox, Stdio};
use tokio::sync::watch;

/// What may come from anything but what the guest said, which is 20 MB of progress and 1.3 GB of results.
const SLACK_BYTES: u64 = 8 << 20;

/// Says `first` to `last`, each with a text of its own, and after every 50th a result of 64 KiB.
fn talker(first: u32, last: u32) -> String {
    format!(
        r#"(module
            (import "strongroom:job/report@0.1.0" "progress" (func $progress (param i32 i32 i32)))
            (import "strongroom:job/report@0.1.0" "set-result" (func $set_result (param i32 i32) (result i32)))
            (memory (export "memory") 2)
            (func (export "_start") (local $n i32)
                (local.set $n (i32.const {first}))
                (loop $again
                    (i64.store (i32.const 0) (i64.or
                        (i64.extend_i32_u (i32.and (local.get $n) (i32.const 0x0f0f0f0f)))
                        (i64.shl
                            (i64.extend_i32_u (i32.and (i32.shr_u (local.get $n) (i32.const 4)) (i32.const 0x0f0f0f0f)))
                            (i64.const 32))))
                    (i64.store (i32.const 0) (i64.add (i64.load (i32.const 0)) (i64.const 0x6161616161616161)))
                    (call $progress (i32.rem_u (local.get $n) (i32.const 101)) (i32.const 0) (i32.const 20))
                    (if (i32.eqz (i32.rem_u (local.get $n) (i32.const 50)))
                        (then (if (call $set_result (i32.const 0) (i32.const 65536)) (then unreachable))))
                    (br_if $again (i32.le_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {last}))))))"#
    )
}

// Red when each progress, or each result, is held for good beside the newest.
#[test]
fn a_million_calls_hold_one_value_and_wake_no_more_than_they_must() {
    let (few, many) = (module(&talker(1, 1_000)), module(&talker(1, 1_000_000)));
    let looked = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&looked);
    let (before, after) = bounded(async move {
        let (newest, mut seen) = watch::channel(None::<Progress>);
        // A slow reader, as a host is: what it does not look at in time, it never sees.
        let reader = tokio::spawn(async move {
            while seen.changed().await.is_ok() {
                let progress = seen.borrow_and_update().clone().unwrap();
                assert_eq!(progress.text().len(), 20 + 2 * 12, "twelve of the bytes are NUL");
                counter.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        });
        let mut peaks = Vec::new();
        for guest in [few, many] {
            let stdio = Stdio::null().progress(newest.clone());
            let limits = Limits { wall: std::time::Duration::from_secs(55), ..Limits::default() };
            let report =
                Sandbox::run(&guest, &Grant::none(), &limits, stdio, &CancelToken::never()).await.unwrap();
            assert_eq!(report.outcome, Outcome::Exited(0));
            assert_eq!(report.result.unwrap().len(), 65_536);
            peaks.push(peak_bytes());
        }
        drop(newest);
        reader.await.unwrap();
        (peaks[0], peaks[1])
    });
    assert!(after < before + SLACK_BYTES, "{before} bytes before the million, {after} after");
    assert!(looked.load(Ordering::Relaxed) < 20_000, "{looked:?}");
}

/// The most memory that this process has held.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
