//! Kill means kill: whatever a guest is doing, a deadline, a cancel and a dropped future stop it.
//!
//! Every case below was seen hanging (and so red, by `bounded`) without its guard: the computing ones without
//! `epoch_deadline_async_yield_and_update` in `sandbox.rs`, the waiting ones without the bell in `drive.rs`.
#![allow(missing_docs, reason = "test names say it")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::disallowed_methods, reason = "a test looks at the clock to see that a kill was not late")]

mod common;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{bounded, command, engine, module, probe, small};
use strongroom_runtime::{
    CancelToken, Engine, EngineConfig, Grant, HostFault, LimitKind, Limits, Module, Outcome, OutputSink,
    Report, Sandbox, Stdio,
};
use tokio::io::{AsyncRead, ReadBuf};

/// How long a guest gets before it is stopped.
const WALL: Duration = Duration::from_millis(150);
/// Far above the promised 100 ms, since other tests compete for the same processors; a kill that does not work takes for ever.
const SLIP: Duration = Duration::from_secs(5);

const FOREVER_IN_PIECES: &str = r#"(module
    (memory (export "memory") 256)
    (func (export "_start")
        (loop $again
            (memory.fill (i32.const 0) (i32.const 1) (i32.const 16777216))
            (br $again))))"#;

const LOOP_IN_START: &str = r#"(module
    (func $spin (loop $again (br $again)))
    (start $spin)
    (func (export "_start")))"#;

/// Recursion that never runs out of stack: tail of each level is another descent.
const RECURSION: &str = r#"(module
    (func $down (param $left i32)
        (if (local.get $left) (then
            (call $down (i32.sub (local.get $left) (i32.const 1)))
            (call $down (i32.sub (local.get $left) (i32.const 1))))))
    (func (export "_start") (call $down (i32.const 500))))"#;

/// A relative clock subscription of an hour.
const SLEEP: &str = "
    (i64.store (i32.const 24) (i64.const 3600000000000))
    (i32.store (i32.const 16) (i32.const 1))
    (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))";

const READ: &str = "
    (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 64))
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))";

const WRITE: &str = "
    (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 64))
    (loop $again
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br $again))";

const HOST_CALLS: &str = "
    (loop $again
        (drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 8)))
        (br $again))";

#[test]
fn a_loop_is_stopped() {
    is_stopped(|| module(&command("(loop $again (br $again))")), &Grant::none());
}

#[test]
fn a_loop_in_the_start_function_is_stopped() {
    is_stopped(|| module(LOOP_IN_START), &Grant::none());
}

#[test]
fn a_loop_of_long_instructions_is_stopped() {
    is_stopped(|| module(FOREVER_IN_PIECES), &Grant::none());
}

#[test]
fn a_recursion_is_stopped() {
    is_stopped(|| module(RECURSION), &Grant::none());
}

#[test]
fn a_loop_of_host_calls_is_stopped() {
    is_stopped(|| module(&command(HOST_CALLS)), &Grant::none());
}

#[test]
fn a_sleep_is_stopped() {
    is_stopped(|| module(&command(SLEEP)), &Grant::none());
}

#[test]
fn a_read_of_stdin_that_never_comes_is_stopped() {
    is_stopped(|| module(&command(READ)), &Grant::none());
}

#[test]
fn a_write_to_a_sink_that_never_takes_it_is_stopped() {
    is_stopped(|| module(&command(WRITE)), &Grant::none());
}

#[test]
fn a_component_that_computes_is_stopped() {
    is_stopped(probe, &Grant::none().args(["probe", "spin"]));
}

#[test]
fn a_component_that_sleeps_is_stopped() {
    is_stopped(probe, &Grant::none().args(["probe", "sleep"]));
}

#[test]
fn a_component_that_reads_is_stopped() {
    is_stopped(probe, &Grant::none().args(["probe", "upper"]));
}

#[test]
fn a_component_that_writes_is_stopped() {
    is_stopped(probe, &Grant::none().args(["probe", "flood"]));
}

#[test]
fn a_sink_that_never_finishes_is_stopped() {
    // The guest ends at once; its output never arrives.
    let limits = Limits { wall: WALL, ..Limits::default() };
    let report = ran(&module(&command("")), &Grant::none(), &limits, &CancelToken::never()).unwrap();
    assert!(matches!(report.outcome, Outcome::Exceeded { limit: LimitKind::Wall, .. }), "{report:?}");
}

#[test]
fn a_cancel_before_the_start_runs_nothing() {
    let cancel = CancelToken::new();
    cancel.cancel();
    let report = ran(
        &module("(module (func (export \"_start\") unreachable))"),
        &Grant::none(),
        &Limits::default(),
        &cancel,
    );
    assert_eq!(report.unwrap().outcome, Outcome::Cancelled);
}

#[test]
fn a_cancel_after_the_end_changes_nothing() {
    let cancel = CancelToken::new();
    let module = module(&command(""));
    let outcome = bounded(async move {
        let report = Sandbox::run(&module, &Grant::none(), &Limits::default(), Stdio::null(), &cancel).await;
        cancel.cancel();
        report.unwrap().outcome
    });
    assert_eq!(outcome, Outcome::Exited(0));
}

#[test]
fn a_wall_limit_beyond_the_clock_is_no_limit_and_no_panic() {
    let limits = Limits { wall: Duration::MAX, ..Limits::default() };
    let ran = common::run(&module(&command("")), &Grant::none(), &limits);
    assert_eq!(ran.outcome(), &Outcome::Exited(0));
}

#[test]
fn a_dropped_future_frees_the_slot() {
    let engine = Engine::new(EngineConfig { max_concurrent: 1, ..small() }).unwrap();
    let compile = |wat: &str| engine.compile(&wat::parse_str(wat).unwrap()).unwrap();
    let (spin, quick) = (compile(&command("(loop $again (br $again))")), compile(&command("")));
    let outcome = bounded(async move {
        let (grant, limits) = (Grant::none(), Limits::default());
        let never = CancelToken::never();
        let spinning = Sandbox::run(&spin, &grant, &limits, Stdio::null(), &never);
        assert!(tokio::time::timeout(WALL, spinning).await.is_err(), "a spinning guest ended");
        Sandbox::run(&quick, &grant, &limits, Stdio::null(), &never).await.unwrap().outcome
    });
    assert_eq!(outcome, Outcome::Exited(0));
}

#[test]
fn spinning_guests_share_one_thread_with_others() {
    let (spin, quick) = (module(&command("(loop $again (br $again))")), module(&command("")));
    let limits = Limits { wall: Duration::from_secs(20), ..Limits::default() };
    let cancel = CancelToken::new();
    // One thread in all: were the spinner not to yield, nothing else would ever run on it.
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcomes = runtime.block_on(async {
            let (grant, never) = (Grant::none(), CancelToken::never());
            let spinning = Sandbox::run(&spin, &grant, &limits, Stdio::null(), &cancel);
            let others = async {
                for _ in 0..20 {
                    let report = Sandbox::run(&quick, &grant, &limits, Stdio::null(), &never).await.unwrap();
                    assert_eq!(report.outcome, Outcome::Exited(0));
                    tokio::task::yield_now().await;
                }
                cancel.cancel();
            };
            let (spun, ()) = tokio::join!(spinning, others);
            spun.unwrap().outcome
        });
        let _ = send.send(outcomes);
    });
    assert_eq!(receive.recv_timeout(Duration::from_secs(30)).unwrap(), Outcome::Cancelled);
}

#[test]
fn processor_time_is_told_from_waiting() {
    let limits = Limits { wall: WALL, ..Limits::default() };
    let spun =
        common::run(&module(&command("(loop $again (br $again))")), &Grant::none(), &limits).report.usage;
    let slept = common::run(&module(&command(SLEEP)), &Grant::none(), &limits).report.usage;
    assert!(spun.cpu > slept.cpu * 3, "computed {:?}, slept {:?}", spun.cpu, slept.cpu);
    assert!(slept.wall >= WALL && spun.wall >= WALL, "{slept:?} {spun:?}");
}

/// The guest ends `Exceeded` at its deadline, and `Cancelled` when cancelled, in each case soon after.
fn is_stopped(module: impl Fn() -> Module, grant: &Grant) {
    let limits = Limits { wall: WALL, ..Limits::default() };
    let started = Instant::now();
    let module = module();
    let compiled = started.elapsed();

    let report = ran(&module, grant, &limits, &CancelToken::never()).unwrap();
    match report.outcome {
        Outcome::Exceeded { limit: LimitKind::Wall, allowed, used } => {
            assert_eq!(u128::from(allowed), WALL.as_millis());
            assert!(u128::from(used) >= WALL.as_millis());
        }
        other => panic!("{other:?}"),
    }
    assert!(report.usage.wall < WALL + SLIP, "stopped {:?} after the start", report.usage.wall);

    let cancel = CancelToken::new();
    let later = cancel.clone();
    std::thread::spawn(move || {
        std::thread::sleep(WALL);
        later.cancel();
    });
    let limits = Limits { wall: Duration::from_secs(3600), ..limits };
    let report = ran(&module, grant, &limits, &cancel).unwrap();
    assert_eq!(report.outcome, Outcome::Cancelled);
    assert!(report.usage.wall < WALL + SLIP + compiled, "stopped {:?} after the start", report.usage.wall);
}

/// A run whose input never comes and whose output is never taken.
fn ran(module: &Module, grant: &Grant, limits: &Limits, cancel: &CancelToken) -> Result<Report, HostFault> {
    let (module, grant, limits, cancel) = (module.clone(), grant.clone(), *limits, cancel.clone());
    bounded(async move {
        let stdio = Stdio::null().stdin(NeverReady).stdout(NeverReady);
        Sandbox::run(&module, &grant, &limits, stdio, &cancel).await
    })
}

#[derive(Clone, Copy, Debug)]
struct NeverReady;

impl AsyncRead for NeverReady {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl OutputSink for NeverReady {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn send(&mut self, _: Bytes) -> io::Result<()> {
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[test]
fn the_engine_outlives_every_kill() {
    for _ in 0..3 {
        let limits = Limits { wall: Duration::from_millis(5), ..Limits::default() };
        let ran = common::run(&module(&command("(loop $again (br $again))")), &Grant::none(), &limits);
        assert!(matches!(ran.outcome(), Outcome::Exceeded { limit: LimitKind::Wall, .. }));
    }
    let ran = common::run(
        &engine().compile(&wat::parse_str(command("")).unwrap()).unwrap(),
        &Grant::none(),
        &Limits::default(),
    );
    assert_eq!(ran.outcome(), &Outcome::Exited(0));
}
