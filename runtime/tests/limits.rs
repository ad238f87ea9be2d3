//! Every limit holds, and what goes past it is named.
#![allow(missing_docs, reason = "test names say it")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::fmt::Write as _;
use std::time::Duration;

use common::syscalls::{FIRST, IMPORTS, NOMEM, OK, Script};
use common::{bounded, command, engine, module, probe, run, small};
use strongroom_runtime::{
    ByteSize, CancelToken, Engine, EngineConfig, Fuel, Grant, HostFault, LimitKind, Limits, Metering,
    Outcome, Sandbox, Stdio, TrapKind,
};

const PAGE: u64 = 64 << 10;

fn exceeded(outcome: &Outcome) -> (LimitKind, u64, u64) {
    match outcome {
        Outcome::Exceeded { limit, allowed, used } => (*limit, *allowed, *used),
        other => panic!("not a limit: {other:?}"),
    }
}

fn trapped(outcome: &Outcome) -> (TrapKind, &str) {
    match outcome {
        Outcome::Trapped { kind, message } => (*kind, message),
        other => panic!("not a trap: {other:?}"),
    }
}

// Red without: the comparison with `allowed` in `meter.rs` (the growths then succeed).
#[test]
fn memory_grows_to_its_limit_and_not_past_it() {
    // One page to start with, ten allowed: nine more work, and the tenth answers -1.
    let body = "
        (if (i32.ne (memory.grow (i32.const 9)) (i32.const 1)) (then (call $proc_exit (i32.const 1))))
        (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then (call $proc_exit (i32.const 2))))
        (if (i32.ne (memory.size) (i32.const 10)) (then (call $proc_exit (i32.const 3))))";
    let limits = Limits { memory: ByteSize::bytes(10 * PAGE), ..Limits::default() };
    let ran = run(&module(&command(body)), &Grant::none(), &limits);
    assert_eq!(ran.outcome(), &Outcome::Exited(0));
    assert_eq!(ran.report.usage.peak_memory, ByteSize::bytes(10 * PAGE));
}

#[test]
fn a_guest_that_dies_of_a_refused_growth_exceeded_its_memory() {
    let body = "(drop (memory.grow (i32.const 100))) unreachable";
    let limits = Limits { memory: ByteSize::bytes(10 * PAGE), ..Limits::default() };
    let ran = run(&module(&command(body)), &Grant::none(), &limits);
    assert_eq!(exceeded(ran.outcome()), (LimitKind::Memory, 10 * PAGE, 101 * PAGE));
}

#[test]
fn a_module_that_starts_larger_than_its_limit_exceeded_it() {
    let wat = r#"(module (memory 100) (func (export "_start")))"#;
    let limits = Limits { memory: ByteSize::mib(1), ..Limits::default() };
    let ran = run(&module(wat), &Grant::none(), &limits);
    assert_eq!(exceeded(ran.outcome()), (LimitKind::Memory, 1 << 20, 100 * PAGE));
}

#[test]
fn memories_and_tables_are_summed() {
    // One page of memory, and a table of half a page's worth of pointers: together they fill the limit.
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
        (memory 1)
        (table $t 4096 funcref)
        (func (export "_start")
            (if (i32.ne (table.grow $t (ref.null func) (i32.const 4096)) (i32.const 4096)) (then (call $proc_exit (i32.const 1))))
            (if (i32.ne (table.grow $t (ref.null func) (i32.const 1)) (i32.const -1)) (then (call $proc_exit (i32.const 2))))
            (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then (call $proc_exit (i32.const 3))))))"#;
    let limits = Limits { memory: ByteSize::bytes(2 * PAGE), ..Limits::default() };
    let ran = run(&module(wat), &Grant::none(), &limits);
    assert_eq!(ran.outcome(), &Outcome::Exited(0));
    assert_eq!(ran.report.usage.peak_memory, ByteSize::bytes(2 * PAGE));
}

#[test]
fn a_real_program_that_eats_memory_exceeded_it() {
    let grant = Grant::none().args(["probe", "eat"]);
    let limits = Limits { memory: ByteSize::mib(32), ..Limits::default() };
    let (limit, allowed, used) = exceeded(run(&probe(), &grant, &limits).outcome());
    assert_eq!((limit, allowed), (LimitKind::Memory, 32 << 20));
    assert!(used > allowed);
}

// Red without: `refuses` in `sandbox.rs` (the pool then refuses in words of its own, or not at all).
#[test]
fn a_limit_above_the_engines_own_is_denied_before_anything_runs() {
    let limits = Limits { memory: ByteSize::gib(2), ..Limits::default() };
    let ran = run(&module(&command("unreachable")), &Grant::none(), &limits);
    assert_eq!(
        ran.outcome(),
        &Outcome::Denied { what: "a memory limit of 2 GiB; this engine gives 1 GiB at most".to_owned() }
    );
}

// Red without: `set_fuel` in `sandbox.rs`.
#[test]
fn fuel_is_a_limit_that_is_exact() {
    let wasm = wat::parse_str(command("(loop $again (br $again))")).unwrap();
    let module = engine().compile_with(&wasm, Metering::Fuel).unwrap();
    let limits = Limits { fuel: Some(Fuel(1_000_000)), ..Limits::default() };
    let ran = run(&module, &Grant::none(), &limits);
    assert_eq!(exceeded(ran.outcome()), (LimitKind::Fuel, 1_000_000, 1_000_000));
    assert_eq!(ran.report.usage.fuel, Some(Fuel(1_000_000)));
}

#[test]
fn fuel_used_is_the_same_every_time() {
    let wasm = wat::parse_str(command(
        "(local i32) (loop $again (br_if $again (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 1000))))",
    ))
    .unwrap();
    let module = engine().compile_with(&wasm, Metering::Fuel).unwrap();
    let used: Vec<_> =
        (0..3).map(|_| run(&module, &Grant::none(), &Limits::default()).report.usage.fuel.unwrap()).collect();
    assert!(used[0] > Fuel(5_000) && used[0] < Fuel(10_000), "{used:?}");
    assert!(used.iter().all(|&fuel| fuel == used[0]), "{used:?}");
}

#[test]
fn a_fuel_limit_needs_a_metered_module() {
    let limits = Limits { fuel: Some(Fuel(1)), ..Limits::default() };
    let fault = common::run_with(&module(&command("")), &Grant::none(), &limits, Stdio::null()).unwrap_err();
    assert!(matches!(fault, HostFault::Unmetered), "{fault:?}");
}

/// Writes a kilobyte to the descriptor in a loop that only a limit ends.
fn flood(fd: u32) -> String {
    command(&format!(
        "(memory.fill (i32.const 1024) (i32.const 120) (i32.const 1000))
         (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 1000))
         (loop $again
            (drop (call $fd_write (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 8)))
            (br $again))"
    ))
}

// Red without: `over` in `stdout.rs` (the output then never ends, and the wall limit is what stops it).
#[test]
fn stdout_is_cut_at_its_limit_with_everything_before_it_delivered() {
    let limits = Limits { stdout: ByteSize::bytes(2500), ..Limits::default() };
    let ran = run(&module(&flood(1)), &Grant::none(), &limits);
    assert_eq!(exceeded(ran.outcome()), (LimitKind::Stdout, 2500, 3000));
    assert_eq!(ran.stdout, vec![b'x'; 2500]);
    assert_eq!(ran.report.usage.stdout, ByteSize::bytes(2500));
}

#[test]
fn stderr_has_a_limit_of_its_own() {
    let limits = Limits { stderr: ByteSize::bytes(1000), stdout: ByteSize::bytes(0), ..Limits::default() };
    let ran = run(&module(&flood(2)), &Grant::none(), &limits);
    assert_eq!(exceeded(ran.outcome()), (LimitKind::Stderr, 1000, 2000));
    assert_eq!((ran.stdout.len(), ran.stderr.len()), (0, 1000));
}

#[test]
fn a_component_is_cut_at_its_limit_too() {
    let limits = Limits { stdout: ByteSize::bytes(5000), ..Limits::default() };
    let ran = run(&probe(), &Grant::none().args(["probe", "flood"]), &limits);
    let (limit, allowed, used) = exceeded(ran.outcome());
    assert_eq!((limit, allowed, ran.stdout.len()), (LimitKind::Stdout, 5000, 5000));
    assert!(used > 5000);
}

#[test]
fn output_of_exactly_the_limit_is_within_it() {
    let mut script = Script::new();
    script.stat(FIRST, "nothing");
    let limits = Limits { stdout: ByteSize::bytes(1), ..Limits::default() };
    let ran = run(&module(&script.wat()), &Grant::none(), &limits);
    assert_eq!((ran.outcome(), ran.stdout.len()), (&Outcome::Exited(0), 1));
}

// Red without: `set_max_capacity` in `sandbox.rs` (the guest then opens until the system has no more descriptors).
#[test]
fn open_files_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), "").unwrap();
    let body = r#"
        (i32.store8 (i32.const 0) (i32.const 102))
        (loop $again
            (drop (call $path_open (i32.const 3) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 0)
                (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 64)))
            (br $again))"#;
    let limits = Limits { handles: 40, wall: Duration::from_secs(10), ..Limits::default() };
    let ran = run(&module(&command(body)), &Grant::none().read_dir(dir.path(), "/d"), &limits);
    assert_eq!(exceeded(ran.outcome()), (LimitKind::Handles, 40, 41));
}

// Red without: `set_hostcall_fuel` in `sandbox.rs`.
#[test]
fn one_call_cannot_make_the_host_hold_more_than_its_buffer() {
    let read = |len| {
        format!(
            "(drop (memory.grow (i32.const 64)))
             (i32.store (i32.const 0) (i32.const 65536)) (i32.store (i32.const 4) (i32.const {len}))
             (call $proc_exit (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))"
        )
    };
    let limits = Limits { host_buffer: ByteSize::mib(1), ..Limits::default() };
    let small = run(&module(&command(&read(1 << 19))), &Grant::none(), &limits);
    let large = run(&module(&command(&read(1 << 21))), &Grant::none(), &limits);
    assert_eq!(small.outcome(), &Outcome::Exited(OK.into()));
    assert_eq!(large.outcome(), &Outcome::Exited(NOMEM.into()));
}

// Red without: `max_random_size` in `sandbox.rs`.
#[test]
fn one_call_cannot_ask_for_endless_randomness() {
    let body =
        "(drop (memory.grow (i32.const 64))) (drop (call $random_get (i32.const 0) (i32.const 2097152)))";
    let ran = run(&module(&command(body)), &Grant::none(), &Limits::default());
    let (kind, message) = trapped(ran.outcome());
    assert_eq!(kind, TrapKind::HostCall);
    assert!(message.contains("exceeds limit 1048576"), "{message}");
}

#[test]
fn instances_tables_and_memories_are_counted() {
    let component = |modules: usize, core: &str| {
        let mut wat = format!("(component (core module $m {core})");
        for _ in 0..modules {
            wat += "(core instance (instantiate $m))";
        }
        // A component that is a program: its `run` is never reached.
        let _ = write!(
            wat,
            r#"(core module $main (func (export "run") (result i32) (i32.const 0)))
               (core instance $i (instantiate $main))
               (func $run (result (result)) (canon lift (core func $i "run")))
               (instance $exported (export "run" (func $run)))
               (export "wasi:cli/run@0.2.0" (instance $exported)))"#
        );
        engine().compile(&wat::parse_str(&wat).unwrap()).unwrap()
    };
    let limits = Limits { instances: 3, tables: 3, memories: 3, ..Limits::default() };
    let many = |modules, core| run(&component(modules, core), &Grant::none(), &limits).report.outcome;
    assert_eq!(many(2, ""), Outcome::Exited(0));
    assert_eq!(exceeded(&many(3, "")), (LimitKind::Instances, 3, 4));
    assert_eq!(exceeded(&many(2, "(table 1 funcref) (table 1 funcref)")), (LimitKind::Tables, 3, 4));
    let limits = Limits { memories: 1, ..limits };
    let outcome = run(&component(2, "(memory 1)"), &Grant::none(), &limits).report.outcome;
    assert_eq!(exceeded(&outcome), (LimitKind::Memories, 1, 2));
}

#[test]
fn a_deep_recursion_runs_out_of_its_own_stack_only() {
    let wat =
        r#"(module (func $deeper (call $deeper) (call $deeper)) (func (export "_start") (call $deeper)))"#;
    for _ in 0..3 {
        let ran = run(&module(wat), &Grant::none(), &Limits::default());
        let (kind, message) = trapped(ran.outcome());
        assert_eq!((kind, message), (TrapKind::StackOverflow, "call stack exhausted in function `deeper`"));
    }
}

#[test]
fn traps_say_what_and_where() {
    let expect = |body: &str, kind: TrapKind, message: &str| {
        let ran = run(&module(&command(body)), &Grant::none(), &Limits::default());
        assert_eq!(trapped(ran.outcome()), (kind, message));
    };
    let start = "in function `start`";
    expect(
        "unreachable",
        TrapKind::Unreachable,
        &format!("executed `unreachable` (a panic or an abort) {start}"),
    );
    expect(
        "(drop (i32.load (i32.const 65536)))",
        TrapKind::MemoryOutOfBounds,
        &format!("wasm trap: out of bounds memory access {start}"),
    );
    expect(
        "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
        TrapKind::Arithmetic,
        &format!("wasm trap: integer divide by zero {start}"),
    );
    let ran = run(
        &module(&command("(drop (call $random_get (i32.const 65530) (i32.const 100)))")),
        &Grant::none(),
        &Limits::default(),
    );
    assert_eq!(trapped(ran.outcome()).0, TrapKind::HostCall);
}

// Red without: `plain` in `verdict.rs`.
#[test]
fn a_functions_name_cannot_steer_a_terminal() {
    let wat = r#"(module (func (@name "\1b[2J\n\u{202e}evil") (export "_start") unreachable))"#;
    let ran = run(&module(wat), &Grant::none(), &Limits::default());
    let (_, message) = trapped(ran.outcome());
    assert!(message.contains("evil"), "{message}");
    assert!(!message.contains(|c: char| c.is_control() || c == '\u{202e}'), "{message:?}");
}

#[test]
fn an_exit_status_is_told_as_it_is() {
    for status in [0, 1, 42, 119, 126, 255, -1] {
        let body = format!("(call $proc_exit (i32.const {status}))");
        let ran = run(&module(&command(&body)), &Grant::none(), &Limits::default());
        assert_eq!(ran.outcome(), &Outcome::Exited(status));
    }
    let ran = run(&probe(), &Grant::none().args(["probe", "exit", "1"]), &Limits::default());
    assert_eq!(ran.outcome(), &Outcome::Exited(1));
}

#[test]
fn a_full_engine_says_so_and_recovers() {
    let engine = Engine::new(EngineConfig { max_concurrent: 1, ..small() }).unwrap();
    let module = engine.compile(&wat::parse_str(command("(loop $again (br $again))")).unwrap()).unwrap();
    let quick = engine.compile(&wat::parse_str(command("")).unwrap()).unwrap();
    bounded(async move {
        let (grant, limits, cancel) = (Grant::none(), Limits::default(), CancelToken::new());
        let first = tokio::spawn({
            let (grant, cancel) = (grant.clone(), cancel.clone());
            async move {
                loop {
                    // One of those below may have the slot in just that moment.
                    match Sandbox::run(&module, &grant, &limits, Stdio::null(), &cancel).await {
                        Err(HostFault::Busy { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
                        other => return other,
                    }
                }
            }
        });
        // The first may take a moment to take its slot; until then the second finds room.
        let mut busy = false;
        for _ in 0..1000 {
            let never = CancelToken::never();
            match Sandbox::run(&quick, &grant, &limits, Stdio::null(), &never).await {
                Err(HostFault::Busy { .. }) => busy = true,
                other => assert_eq!(other.unwrap().outcome, Outcome::Exited(0)),
            }
            if busy {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(busy, "two guests in an engine for one");
        cancel.cancel();
        assert_eq!(first.await.unwrap().unwrap().outcome, Outcome::Cancelled);
        let report = Sandbox::run(&quick, &grant, &limits, Stdio::null(), &CancelToken::never()).await;
        assert_eq!(report.unwrap().outcome, Outcome::Exited(0));
    });
}

#[test]
fn the_next_guest_finds_zeros_where_the_last_one_wrote() {
    let engine = Engine::new(EngineConfig { max_concurrent: 1, ..small() }).unwrap();
    let compile = |body: &str| {
        let wat = format!(
            r#"(module {IMPORTS} (memory (export "memory") 1) (data (i32.const 65000) "mine")
                (func (export "_start") (local $at i32) (local $found i32) (drop (memory.grow (i32.const 63))) {body}))"#
        );
        engine.compile(&wat::parse_str(wat).unwrap()).unwrap()
    };
    let writer = compile("(memory.fill (i32.const 0) (i32.const 170) (i32.const 4194304))");
    // Counts the bytes that are neither zero nor its own data, over all of its memory.
    let reader = compile(
        "(loop $again
            (local.set $found (i32.or (local.get $found) (i32.eq (i32.load8_u (local.get $at)) (i32.const 170))))
            (br_if $again (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 4194304))))
         (call $proc_exit (local.get $found))",
    );
    for _ in 0..3 {
        assert_eq!(run(&writer, &Grant::none(), &Limits::default()).outcome(), &Outcome::Exited(0));
        assert_eq!(run(&reader, &Grant::none(), &Limits::default()).outcome(), &Outcome::Exited(0));
        assert_eq!(run(&reader, &Grant::none(), &Limits::default()).outcome(), &Outcome::Exited(0));
    }
}

#[test]
fn every_limit_is_on_by_default() {
    let limits = Limits::default();
    assert_eq!(limits.memory, ByteSize::mib(128));
    assert_eq!(limits.wall, Duration::from_secs(30));
    assert_eq!((limits.stdout, limits.stderr), (ByteSize::mib(16), ByteSize::mib(1)));
    assert_eq!((limits.instances, limits.tables, limits.memories, limits.handles), (64, 32, 4, 256));
    assert_eq!((limits.host_buffer, limits.random), (ByteSize::mib(64), ByteSize::mib(1)));
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let refuse = |config: EngineConfig| Engine::new(config).unwrap_err().to_string();
    let base = small;
    assert!(refuse(EngineConfig { max_concurrent: 0, ..base() }).contains("max_concurrent"));
    assert!(refuse(EngineConfig { max_concurrent: u32::MAX, ..base() }).contains("address space"));
    assert!(refuse(EngineConfig { max_memory: ByteSize::gib(5), ..base() }).contains("memory_reservation"));
    assert!(refuse(EngineConfig { tick: Duration::ZERO, ..base() }).contains("tick"));
    assert!(refuse(EngineConfig { max_stack: ByteSize::bytes(1), ..base() }).contains("max_stack"));
}
