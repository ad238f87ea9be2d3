//! What was stopped is gone: its slot is free at once, and it writes nothing more (hostile 18, 20).
#![allow(missing_docs, reason = "test names say it")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use common::{bounded, command, module, run, small};
use strongroom_runtime::{
    CancelToken, Engine, EngineConfig, Grant, LimitKind, Limits, Metering, Module, Outcome, OutputSink,
    Sandbox, Stdio,
};
use tokio::io::{AsyncRead, ReadBuf};

/// How long a guest gets before it is stopped.
const SOON: Duration = Duration::from_millis(30);
/// After this, a guest that went on would have written something.
const LATER: Duration = Duration::from_millis(100);

/// What a guest may be at when it is stopped.
fn cases() -> Vec<(&'static str, String)> {
    let program = |body: &str| format!(r#"(module (memory (export "memory") 256) {body})"#);
    let start = r#"(func (export "_start"))"#;
    vec![
        ("a loop", command("(loop $again (br $again))")),
        (
            "long instructions",
            program(
                r#"(func (export "_start") (loop $again
                    (memory.fill (i32.const 0) (i32.const 1) (i32.const 16777216)) (br $again)))"#,
            ),
        ),
        ("a loop in the start function", program(&format!("(func $f (loop $l (br $l))) (start $f) {start}"))),
        (
            "a deep recursion",
            program(
                r#"(func $down (param i32) (if (local.get 0) (then
                        (call $down (i32.sub (local.get 0) (i32.const 1)))
                        (call $down (i32.sub (local.get 0) (i32.const 1))))))
                    (func (export "_start") (call $down (i32.const 5000)))"#,
            ),
        ),
        ("a sleep", command(&subscribes(1))),
        ("a thousand subscriptions", command(&subscribes(1000))),
        (
            "a read that never ends",
            command(
                "(i32.store (i32.const 4) (i32.const 64))
                 (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))",
            ),
        ),
        (
            "a loop of writes",
            command(
                "(i32.store (i32.const 4) (i32.const 64))
                 (loop $again
                    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                    (br $again))",
            ),
        ),
    ]
}

/// Waits for the first of so many clocks, an hour and more away.
fn subscribes(count: u32) -> String {
    format!(
        "(local $at i32)
         (drop (memory.grow (i32.const 1)))
         (loop $next
            (i32.store offset=16 (local.get $at) (i32.const 1))
            (i64.store offset=24 (local.get $at)
                (i64.add (i64.const 3600000000000) (i64.extend_i32_u (local.get $at))))
            (br_if $next (i32.lt_u
                (local.tee $at (i32.add (local.get $at) (i32.const 48)))
                (i32.mul (i32.const {count}) (i32.const 48)))))
         (if (call $poll_oneoff (i32.const 0) (i32.const 65536) (i32.const {count}) (i32.const 131000))
            (then unreachable))"
    )
}

/// Gives no input, and counts what is written.
#[derive(Clone, Debug, Default)]
struct Ends(Arc<AtomicU64>);

impl Ends {
    fn written(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl AsyncRead for Ends {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl OutputSink for Ends {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, chunk: Bytes) -> io::Result<()> {
        self.0.fetch_add(chunk.len() as u64, Ordering::SeqCst);
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// How a guest is made to stop.
#[derive(Clone, Copy, Debug)]
enum Stop {
    Deadline,
    Cancel,
    /// Nobody polls it any more.
    Drop,
}

async fn stopped(module: &Module, ends: &Ends, stop: Stop) -> Option<Outcome> {
    let wall = if matches!(stop, Stop::Deadline) { SOON } else { Duration::from_secs(3600) };
    let limits =
        Limits { wall, handles: 4096, stdout: strongroom_runtime::ByteSize::gib(64), ..Limits::default() };
    let cancel = CancelToken::new();
    let stdio = Stdio::null().stdin(ends.clone()).stdout(ends.clone());
    let grant = Grant::none();
    let running = Sandbox::run(module, &grant, &limits, stdio, &cancel);
    let report = match stop {
        Stop::Deadline => running.await,
        Stop::Cancel => {
            let later = async {
                tokio::time::sleep(SOON).await;
                cancel.cancel();
            };
            tokio::join!(running, later).0
        }
        Stop::Drop => match tokio::time::timeout(SOON, running).await {
            Ok(ended) => panic!("it ended by itself: {ended:?}"),
            Err(_) => return None,
        },
    };
    Some(report.unwrap().outcome)
}

// Red with a store that is not dropped in `Sandbox::run` (its slot stays taken); and without the yield at each tick, the looks at the
// deadline, or those at the cancel, as in `kill.rs`.
#[test]
fn its_slot_is_free_and_it_writes_nothing_more() {
    let engine = Engine::new(EngineConfig { max_concurrent: 1, ..small() }).unwrap();
    let compile = |wat: &str| engine.compile_with(&wat::parse_str(wat).unwrap(), Metering::None).unwrap();
    let quick = compile(&command(""));
    let cases: Vec<_> = cases().into_iter().map(|(name, wat)| (name, compile(&wat))).collect();
    bounded(async move {
        let mut all = Vec::new();
        for (name, module) in &cases {
            for stop in [Stop::Deadline, Stop::Cancel, Stop::Drop] {
                let ends = Ends::default();
                match (stop, stopped(module, &ends, stop).await) {
                    (Stop::Deadline, Some(Outcome::Exceeded { limit: LimitKind::Wall, .. }))
                    | (Stop::Cancel, Some(Outcome::Cancelled))
                    | (Stop::Drop, None) => {}
                    (stop, other) => panic!("{name}, {stop:?}: {other:?}"),
                }
                all.push((*name, stop, ends.written(), ends));
                let never = CancelToken::never();
                let next =
                    Sandbox::run(&quick, &Grant::none(), &Limits::default(), Stdio::null(), &never).await;
                assert_eq!(next.unwrap().outcome, Outcome::Exited(0), "after {name}, {stop:?}");
            }
        }
        tokio::time::sleep(LATER).await;
        for (name, stop, written, ends) in &all {
            assert_eq!(ends.written(), *written, "{name} wrote after its end ({stop:?})");
            assert_eq!(*written > 0, *name == "a loop of writes", "{name}, {stop:?}");
        }
    });
}

// Each subscription is an entry of the table of host resources. Red without `set_max_capacity` in `sandbox.rs`.
#[test]
fn more_subscriptions_than_handles_exceed_them() {
    let ran = run(&module(&command(&subscribes(1000))), &Grant::none(), &Limits::default());
    let outcome = ran.outcome();
    assert!(
        matches!(outcome, Outcome::Exceeded { limit: LimitKind::Handles, allowed: 256, used: 257 }),
        "{outcome:?}"
    );
}
