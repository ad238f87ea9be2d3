//! Each limit at its edge: what stays at it succeeds, one more is named, with what was allowed and what was used.
//!
//! `limits.rs` says of each limit that it is kept, and which guard keeps it; here are the last unit and the one after it.
#![allow(missing_docs, reason = "test names say it")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use common::{bounded, command, engine, module, probe, run, run_with};
use strongroom_runtime::{
    Allocation, ByteSize, CancelToken, Engine, EngineConfig, Fuel, Grant, HostFault, LimitKind, Limits,
    Metering, Module, Outcome, Sandbox, Stdio, TrapKind,
};

const PAGE: u64 = 64 << 10;

fn exceeded(outcome: &Outcome) -> (LimitKind, u64, u64) {
    match outcome {
        Outcome::Exceeded { limit, allowed, used } => (*limit, *allowed, *used),
        other => panic!("not a limit: {other:?}"),
    }
}

/// The least allowance with which the guest ends by itself, which one below does not let it.
fn least(most: u64, outcome: impl Fn(u64) -> Outcome) -> u64 {
    let (mut fails, mut works) = (0, most);
    assert_eq!(outcome(most), Outcome::Exited(0), "{most} is too little");
    while works - fails > 1 {
        let middle = fails.midpoint(works);
        match outcome(middle) {
            Outcome::Exited(0) => works = middle,
            Outcome::Exceeded { allowed, .. } if allowed == middle => fails = middle,
            other => panic!("neither within {middle} nor past it: {other:?}"),
        }
    }
    works
}

fn metered(body: &str) -> Module {
    engine().compile_with(&wat::parse_str(command(body)).unwrap(), Metering::Fuel).unwrap()
}

// Red with `>=` for `>` in `meter.rs`.
#[test]
fn a_program_that_starts_at_its_memory_limit_is_within_it() {
    let start = |fields: &str, memory: u64| {
        let wat = format!(r#"(module {fields} (func (export "_start")))"#);
        let limits = Limits { memory: ByteSize::bytes(memory), ..Limits::default() };
        run(&module(&wat), &Grant::none(), &limits).report
    };
    let report = start("(memory 16)", 16 * PAGE);
    assert_eq!((report.outcome, report.usage.peak_memory.as_u64()), (Outcome::Exited(0), 16 * PAGE));
    assert_eq!(start("(table 8192 funcref)", PAGE).outcome, Outcome::Exited(0));
    assert_eq!(
        exceeded(&start("(memory 16)", 16 * PAGE - 1).outcome),
        (LimitKind::Memory, 16 * PAGE - 1, 16 * PAGE)
    );
    assert_eq!(exceeded(&start("(table 8193 funcref)", PAGE).outcome), (LimitKind::Memory, PAGE, PAGE + 8));
    assert_eq!(
        exceeded(&start("(memory 1) (table 1 funcref)", PAGE).outcome),
        (LimitKind::Memory, PAGE, PAGE + 8)
    );
}

// Red with `set_fuel` given all there is in `sandbox.rs`.
#[test]
fn fuel_lasts_to_the_last_unit() {
    let module = metered(
        "(local i32)
         (loop $again
            (br_if $again (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 1000))))",
    );
    let burn =
        |fuel| run(&module, &Grant::none(), &Limits { fuel: Some(Fuel(fuel)), ..Limits::default() }).report;
    let used = burn(1_000_000).usage.fuel.unwrap();
    assert_eq!(burn(used.0).outcome, Outcome::Exited(0), "what it used is enough");
    let least = least(used.0, |fuel| burn(fuel).outcome);
    // Compiled code looks at the gauge where a loop begins again: what comes after the last look is on the house.
    assert!(used.0 - least < 20, "{least} would have done for {used:?}");
    assert_eq!(exceeded(&burn(least - 1).outcome), (LimitKind::Fuel, least - 1, least - 1));
}

// Red when `judge` asks for a refused growth before it asks for the trap.
#[test]
fn a_guest_that_coped_with_a_refused_growth_dies_of_what_stopped_it() {
    let limits = Limits { memory: ByteSize::bytes(2 * PAGE), fuel: Some(Fuel(100_000)), ..Limits::default() };
    let refused = "(if (i32.ne (memory.grow (i32.const 9)) (i32.const -1)) (then unreachable))";
    let burns = run(&metered(&format!("{refused} (loop $again (br $again))")), &Grant::none(), &limits);
    assert_eq!(exceeded(burns.outcome()), (LimitKind::Fuel, 100_000, 100_000));
    let dies = run(&metered(&format!("{refused} unreachable")), &Grant::none(), &limits);
    assert_eq!(exceeded(dies.outcome()), (LimitKind::Memory, 2 * PAGE, 10 * PAGE));
}

/// Writes a thousand bytes three times.
fn writes(fd: u32) -> String {
    let write = format!("(drop (call $fd_write (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 8)))");
    command(&format!(
        "(i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 1000)) {write} {write} {write}"
    ))
}

// Red with `>=` for `>` in `write` of `stdout.rs`, without the cut, and without the note in `over`.
#[test]
fn output_ends_at_the_last_byte_of_its_limit() {
    for (fd, kind) in [(1, LimitKind::Stdout), (2, LimitKind::Stderr)] {
        let module = module(&writes(fd));
        let ran = |bytes| {
            let (stdout, stderr) = if fd == 1 {
                (ByteSize::bytes(bytes), ByteSize::bytes(0))
            } else {
                (ByteSize::bytes(0), ByteSize::bytes(bytes))
            };
            run(&module, &Grant::none(), &Limits { stdout, stderr, ..Limits::default() })
        };
        let all = ran(3000);
        assert_eq!((all.outcome(), all.stdout.len() + all.stderr.len()), (&Outcome::Exited(0), 3000));
        let cut = ran(2999);
        assert_eq!(exceeded(cut.outcome()), (kind, 2999, 3000));
        assert_eq!(cut.stdout.len() + cut.stderr.len(), 2999);
    }
}

// Red as the one before it.
#[test]
fn output_of_a_component_ends_at_the_last_byte_of_its_limit() {
    let ran = |bytes| {
        let limits = Limits { stdout: ByteSize::bytes(bytes), ..Limits::default() };
        let stdio = Stdio::null().stdin_bytes(vec![b'a'; 5000]);
        run_with(&probe(), &Grant::none().args(["probe", "upper"]), &limits, stdio).unwrap()
    };
    let all = ran(5000);
    assert_eq!((all.outcome(), &all.stdout[..]), (&Outcome::Exited(0), &[b'A'; 5000][..]));
    let cut = ran(4999);
    let (kind, allowed, used) = exceeded(cut.outcome());
    assert_eq!((kind, allowed, used, cut.stdout.len()), (LimitKind::Stdout, 4999, 5000, 4999));
}

// Red without `set_max_capacity` in `sandbox.rs`, and without the look for a full table in `verdict.rs`.
#[test]
fn the_last_handle_can_be_opened() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), "").unwrap();
    let open = "
        (if (call $path_open (i32.const 3) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 0)
            (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 64)) (then unreachable))";
    let module = |opens: usize| {
        module(&command(&format!("(i32.store8 (i32.const 0) (i32.const 102)) {}", open.repeat(opens))))
    };
    let (one, five) = (module(1), module(5));
    let grant = Grant::none().read_dir(dir.path(), "/d");
    let ran = |module: &Module, handles: u64| {
        let limits = Limits { handles: u32::try_from(handles).unwrap(), ..Limits::default() };
        run(module, &grant, &limits).report.outcome
    };
    let least_for_five = least(40, |handles| ran(&five, handles));
    assert_eq!(least_for_five, least(40, |handles| ran(&one, handles)) + 4, "a handle for each file");
    let (kind, allowed, used) = exceeded(&ran(&five, least_for_five - 1));
    assert_eq!((kind, allowed, used), (LimitKind::Handles, least_for_five - 1, least_for_five));
}

/// A component of so many instances of `core`, and of one more that is its program.
fn component(modules: usize, core: &str) -> Module {
    let mut wat = format!("(component (core module $m {core})");
    for _ in 0..modules {
        wat += "(core instance (instantiate $m))";
    }
    let _ = write!(
        wat,
        r#"(core module $main (func (export "run") (result i32) (i32.const 0)))
           (core instance $i (instantiate $main))
           (func $run (result (result)) (canon lift (core func $i "run")))
           (instance $exported (export "run" (func $run)))
           (export "wasi:cli/run@0.2.0" (instance $exported)))"#
    );
    engine().compile(&wat::parse_str(&wat).unwrap()).unwrap()
}

// Red with the count of instances, of tables or of memories in `meter.rs` left to its default.
#[test]
fn the_last_instance_table_and_memory_fit() {
    let ends = |module: &Module, limits| run(module, &Grant::none(), &limits).report.outcome;
    let plain = Limits::default();

    let instances = component(2, "");
    assert_eq!(ends(&instances, Limits { instances: 3, ..plain }), Outcome::Exited(0));
    assert_eq!(exceeded(&ends(&instances, Limits { instances: 2, ..plain })), (LimitKind::Instances, 2, 3));

    let tables = component(2, "(table 1 funcref) (table 1 funcref)");
    assert_eq!(ends(&tables, Limits { tables: 4, ..plain }), Outcome::Exited(0));
    assert_eq!(exceeded(&ends(&tables, Limits { tables: 3, ..plain })), (LimitKind::Tables, 3, 4));

    let memories = component(2, "(memory 1)");
    assert_eq!(ends(&memories, Limits { memories: 2, ..plain }), Outcome::Exited(0));
    assert_eq!(exceeded(&ends(&memories, Limits { memories: 1, ..plain })), (LimitKind::Memories, 1, 2));
}

// Preview 1 answers ENOMEM and goes on; a component has nowhere to say so, and is stopped. Red without `budget` in `direct.rs`, with
// more than that for the long way (preview 1), without `set_hostcall_fuel` in `sandbox.rs` (components), and without the words that
// `verdict.rs` knows it by.
#[test]
fn the_hosts_buffer_holds_what_its_limit_says() {
    const NOMEM: i32 = 48;
    let module = module(&command(
        "(drop (memory.grow (i32.const 64)))
         (i32.store (i32.const 0) (i32.const 65536)) (i32.store (i32.const 4) (i32.const 1000000))
         (call $proc_exit (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))",
    ));
    let ran = |bytes| {
        let limits = Limits { host_buffer: ByteSize::bytes(bytes), ..Limits::default() };
        run(&module, &Grant::none(), &limits).report.outcome
    };
    // The vector of one element, and what it asks for.
    let (mut fails, mut works) = (999_000, 1_001_000);
    while works - fails > 1 {
        let middle = u64::midpoint(fails, works);
        match ran(middle) {
            Outcome::Exited(0) => works = middle,
            Outcome::Exited(NOMEM) => fails = middle,
            other => panic!("{middle}: {other:?}"),
        }
    }
    assert!((1_000_000..=1_000_016).contains(&works), "{works}");

    let floods = |bytes| {
        let limits =
            Limits { host_buffer: ByteSize::bytes(bytes), stdout: ByteSize::kib(4), ..Limits::default() };
        exceeded(run(&probe(), &Grant::none().args(["probe", "flood"]), &limits).outcome())
    };
    assert_eq!(floods(1023), (LimitKind::HostBuffer, 1023, 1024));
    assert_eq!(floods(1 << 20).0, LimitKind::Stdout);
}

// Red without `max_random_size` in `sandbox.rs`.
#[test]
fn one_call_gets_as_much_randomness_as_its_limit_says() {
    let ask = |bytes: u32| {
        let body = format!(
            "(drop (memory.grow (i32.const 64)))
             (call $proc_exit (call $random_get (i32.const 0) (i32.const {bytes})))"
        );
        let limits = Limits { random: ByteSize::bytes(1000), ..Limits::default() };
        run(&module(&command(&body)), &Grant::none(), &limits).report.outcome
    };
    assert_eq!(ask(1000), Outcome::Exited(0));
    let Outcome::Trapped { kind: TrapKind::HostCall, message } = ask(1001) else { panic!("{:?}", ask(1001)) };
    assert!(message.contains("1001 exceeds limit 1000"), "{message}");
}

/// Sleeps so many milliseconds.
fn sleeps(millis: u64) -> String {
    command(&format!(
        "(i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const {}))
         (call $proc_exit (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))",
        millis * 1_000_000
    ))
}

// Red without the look at `is_over` in `drive.rs`: the spinner then runs into its wall limit.
#[test]
fn processor_time_is_spent_by_computing_and_not_by_waiting() {
    let cpu = Duration::from_millis(150);
    let limits = Limits { cpu: Some(cpu), wall: Duration::from_secs(50), ..Limits::default() };
    let slept = run(&module(&sleeps(600)), &Grant::none(), &limits).report;
    assert_eq!(slept.outcome, Outcome::Exited(0));
    assert!(slept.usage.cpu < cpu && slept.usage.wall > 3 * cpu, "{:?}", slept.usage);

    for (module, grant) in [
        (module(&command("(loop $again (br $again))")), Grant::none()),
        (metered("(loop $again (br $again))"), Grant::none()),
        // Computes a little and waits a little, over and over: slices add up.
        (module(&command(&format!("(loop $again {} (br $again))", BURST))), Grant::none()),
        (probe(), Grant::none().args(["probe", "spin"])),
    ] {
        let spun = run(&module, &grant, &limits).report;
        let (kind, allowed, used) = exceeded(&spun.outcome);
        assert_eq!((kind, allowed), (LimitKind::Cpu, 150));
        assert!(used > 150 && used < 10_000, "{used}");
        assert!(spun.usage.cpu > cpu && spun.usage.wall < limits.wall, "{:?}", spun.usage);
    }
}

/// Counts to a million, then sleeps for a millisecond.
const BURST: &str = "
    (i32.store (i32.const 200) (i32.const 0))
    (loop $count
        (i32.store (i32.const 200) (i32.add (i32.load (i32.const 200)) (i32.const 1)))
        (br_if $count (i32.lt_u (i32.load (i32.const 200)) (i32.const 1000000))))
    (i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const 1000000))
    (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))";

/// Set for the child of the next test.
const CHILD: &str = "an_engine_without_address_space";

// Red without `refused` in `verdict.rs`: the guest is then blamed for what the system did not give.
#[cfg(target_os = "linux")]
#[test]
fn a_system_without_room_is_the_hosts_fault_and_not_the_guests() {
    let this = std::env::current_exe().unwrap();
    let child = Command::new("sh")
        .args(["-c", r#"ulimit -v 3000000; exec "$0" --exact "$1" --nocapture --test-threads 1"#])
        .arg(this)
        .arg(CHILD)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success() && said.contains(BLAMED), "{said}");
}

/// What the child says at its end.
const BLAMED: &str = "the host was blamed";

/// Where address space is short, as it is for the child, a run ends in a fault of the host's. Elsewhere there is nothing to see.
#[cfg(target_os = "linux")]
#[test]
fn an_engine_without_address_space() {
    if rustix::process::getrlimit(rustix::process::Resource::As).current.is_none() {
        return;
    }
    let config = EngineConfig { allocation: Allocation::OnDemand, ..common::small() };
    let engine = Engine::new(config).unwrap();
    let module = engine.compile(&wat::parse_str(command("")).unwrap()).unwrap();
    let fault = bounded(async move {
        let (grant, limits) = (Grant::none(), Limits::default());
        Sandbox::run(&module, &grant, &limits, Stdio::null(), &CancelToken::never()).await.unwrap_err()
    });
    assert!(matches!(fault, HostFault::Engine { .. }), "{fault:?}");
    println!("{BLAMED}");
}
