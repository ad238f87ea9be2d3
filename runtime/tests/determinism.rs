//! Without the clock and randomness, a run depends on nothing but its module, its input and its seed.
#![allow(missing_docs, reason = "test names say it")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(
    clippy::disallowed_methods,
    reason = "what a guest sees is compared with the host's own clock and environment"
)]

mod common;

use std::time::SystemTime;

use common::{bounded, command, module, probe, run, small};
use strongroom_runtime::{
    Allocation, ByteSize, CancelToken, Collect, Engine, EngineConfig, Fuel, Grant, Limits, Metering, Outcome,
    Sandbox, Stdio,
};

/// Reads the wall clock (0), then the monotonic one (1), then the wall clock again, and prints the three, each in 8 bytes.
const CLOCKS: &str = "
    (drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 64)))
    (drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 72)))
    (drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 80)))
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 24))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))";

const RANDOM: &str = "
    (drop (call $random_get (i32.const 64) (i32.const 32)))
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 32))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))";

fn output(body: &str, grant: &Grant) -> Vec<u8> {
    let ran = run(&module(&command(body)), grant, &Limits::default());
    assert_eq!(ran.outcome(), &Outcome::Exited(0));
    ran.stdout
}

fn clocks(grant: &Grant) -> Vec<u64> {
    output(CLOCKS, grant).chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect()
}

// Red without: the stand-in clocks in `standin.rs`.
#[test]
fn a_clock_that_was_not_granted_only_counts() {
    const START: u64 = 946_684_800_000_000_000;
    const STEP: u64 = 1_000_000;
    assert_eq!(clocks(&Grant::none()), [START + STEP, 2 * STEP, START + 3 * STEP]);
}

#[test]
fn a_granted_clock_is_the_hosts_to_the_millisecond() {
    let nanos = || {
        u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos()).unwrap()
    };
    let before = nanos();
    let told = clocks(&Grant::none().clock());
    assert!(told[0] >= before - before % 1_000_000 && told[2] <= nanos(), "{told:?}");
    assert!(told.iter().all(|time| time % 1_000_000 == 0), "{told:?}");
}

// Red without: the seeded generators in `standin.rs`. Each byte is the first of a word of ChaCha20 under a key of zeros
// (RFC 8439, appendix A.1, test vector 1). They are part of the interface: a run is repeated from its seed years later.
#[test]
fn randomness_that_was_not_granted_follows_from_the_seed() {
    let first_words =
        [0x76, 0xa0, 0x40, 0x53, 0xbd, 0xa0, 0xa8, 0x8b, 0xda, 0x51, 0x77, 0xb8, 0x6a, 0x15, 0xc3, 0xb2];
    let zeros = output(RANDOM, &Grant::none());
    assert_eq!(zeros.len(), 32);
    assert_eq!(zeros[..first_words.len()], first_words);
    assert_eq!(zeros, output(RANDOM, &Grant::none()));
    let other = output(RANDOM, &Grant::none().seed([7; 32]));
    assert_ne!(zeros, other);
    assert_eq!(other, output(RANDOM, &Grant::none().seed([7; 32])));
}

#[test]
fn granted_randomness_differs_each_time() {
    let grant = Grant::none().randomness();
    let (one, two) = (output(RANDOM, &grant), output(RANDOM, &grant));
    assert_ne!(one, two);
    assert_ne!(one, output(RANDOM, &Grant::none()));
}

#[test]
fn a_component_repeats_exactly() {
    for what in ["clock", "instant", "random"] {
        let grant = Grant::none().args(["probe", what]);
        let first = run(&probe(), &grant, &Limits::default());
        let second = run(&probe(), &grant, &Limits::default());
        assert_eq!(first.outcome(), &Outcome::Exited(0));
        assert_eq!(first.text(), second.text(), "{what}");
        assert!(!first.text().is_empty());
    }
    let random = |seed| {
        run(&probe(), &Grant::none().args(["probe", "random"]).seed([seed; 32]), &Limits::default()).text()
    };
    assert_ne!(random(1), random(2));
}

// Red without: `cranelift_nan_canonicalization` in `config.rs`.
#[test]
fn a_nan_is_always_the_same_nan() {
    let body = "
        (f32.store (i32.const 64) (f32.add (f32.load (i32.const 128)) (f32.const 1)))
        (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 4))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))";
    let payload = format!("(i32.store (i32.const 128) (i32.const 0xffc12345)) {body}");
    assert_eq!(output(&payload, &Grant::none()), 0x7fc0_0000_u32.to_le_bytes());
}

#[test]
fn nothing_of_the_host_leaks_into_arguments_or_environment() {
    let count = |name: &str| {
        format!(
            "(drop (call ${name} (i32.const 64) (i32.const 68)))
             (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 8))
             (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))"
        )
    };
    assert!(std::env::vars().count() > 0, "the test needs an environment that could leak");
    assert_eq!(output(&count("environ_sizes_get"), &Grant::none()), [0; 8]);
    assert_eq!(output(&count("args_sizes_get"), &Grant::none()), [0; 8]);
    let grant = Grant::none().args(["probe", "env"]).env("ONLY", "this");
    assert_eq!(run(&probe(), &grant, &Limits::default()).text(), "[(\"ONLY\", \"this\")]\n");
}

/// Engines that differ in everything that should not matter.
fn engines() -> Vec<Engine> {
    let pooled = small();
    let on_demand = EngineConfig { allocation: Allocation::OnDemand, ..small() };
    // Bounds checks in place of guard pages, so another shape of compiled code; another pace of yields.
    let narrow = EngineConfig {
        memory_reservation: ByteSize::mib(64),
        memory_guard: ByteSize::kib(64),
        max_memory: ByteSize::mib(64),
        max_stack: ByteSize::mib(1),
        keep_resident: ByteSize::kib(0),
        max_concurrent: 3,
        tick: std::time::Duration::from_millis(17),
        ..small()
    };
    [pooled, on_demand, narrow].map(|config| Engine::new(config).unwrap()).into()
}

/// What must be the same every time: how it ended, what it wrote, the fuel and the memory that it used.
type Repeats = (Outcome, Vec<u8>, Vec<u8>, Option<Fuel>, ByteSize);

/// Runs the program twice in each engine, with no clock, no randomness, no network, and fuel as the limit.
fn everywhere(engines: &[Engine], wasm: &[u8], grant: &Grant, input: &[u8]) -> Vec<Repeats> {
    let limits = Limits { fuel: Some(Fuel(2_000_000_000)), memory: ByteSize::mib(32), ..Limits::default() };
    let run_in = |engine: &Engine| {
        let module = engine.compile_with(wasm, Metering::Fuel).unwrap();
        let (grant, input) = (grant.clone(), input.to_vec());
        bounded(async move {
            let mut runs = Vec::new();
            for _ in 0..2 {
                let ((stdout, out), (stderr, err)) = (Collect::new(), Collect::new());
                let stdio = Stdio::null().stdin_bytes(input.clone()).stdout(stdout).stderr(stderr);
                let report =
                    Sandbox::run(&module, &grant, &limits, stdio, &CancelToken::never()).await.unwrap();
                let usage = report.usage;
                runs.push((report.outcome, out.take(), err.take(), usage.fuel, usage.peak_memory));
            }
            runs
        })
    };
    engines.iter().flat_map(run_in).collect()
}

/// The one thing that all runs came to.
fn the_same(runs: &[Repeats]) -> &Repeats {
    for run in runs {
        assert_eq!(*run, runs[0]);
    }
    assert!(runs.len() >= 4 && runs[0].3.is_some_and(|fuel| fuel > Fuel(0)), "{:?}", runs[0]);
    &runs[0]
}

// Red with the host's clock behind a guest that was not granted one (`install` in `standin.rs`).
#[test]
fn the_same_program_comes_to_the_same_everywhere() {
    let engines = engines();
    let input = b"it was the best of times, it was the worst of times\n".repeat(200);

    // Preview 1, a real program: reads, sorts, prints.
    let histogram = include_bytes!("../../examples/prebuilt/histogram.wasm");
    let numbers: String = (0..500).map(|n| format!("{}\n", n * n % 97)).collect();
    let (outcome, stdout, ..) =
        the_same(&everywhere(&engines, histogram, &Grant::none().arg("histogram"), numbers.as_bytes()))
            .clone();
    assert!(outcome == Outcome::Exited(0) && !stdout.is_empty(), "{outcome:?}");

    // Preview 1, everything that a host could answer differently: clocks, random bytes, sizes, what is not there.
    let body = format!(
        "{CLOCKS} {RANDOM} (drop (memory.grow (i32.const 7))) (drop (memory.grow (i32.const 100000)))"
    );
    let asks = wat::parse_str(command(&body)).unwrap();
    let (outcome, stdout, ..) =
        the_same(&everywhere(&engines, &asks, &Grant::none().seed([3; 32]), b"")).clone();
    assert_eq!((outcome, stdout.len()), (Outcome::Exited(0), 24 + 32));

    // A component, whose hash maps are seeded by the host and whose time is the host's, and one that reads.
    let probe = include_bytes!("fixtures/probe.wasm");
    let seeded = |what: &str| Grant::none().args(["probe", what]).seed([9; 32]);
    for what in ["random", "hash", "instant", "clock", "upper"] {
        let (outcome, stdout, ..) = the_same(&everywhere(&engines, probe, &seeded(what), &input)).clone();
        assert!(outcome == Outcome::Exited(0) && !stdout.is_empty(), "{what}: {outcome:?}");
    }
}

// A run that is stopped by its fuel stops at the same instruction.
#[test]
fn a_program_that_runs_out_of_fuel_does_so_at_the_same_place_everywhere() {
    let engines = engines();
    let count = "
        (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 4))
        (loop $again
            (i32.store (i32.const 64) (i32.add (i32.load (i32.const 64)) (i32.const 1)))
            (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (br $again))";
    let wasm = wat::parse_str(command(count)).unwrap();
    let outputs: Vec<_> = engines
        .iter()
        .map(|engine| {
            let module = engine.compile_with(&wasm, Metering::Fuel).unwrap();
            let limits = Limits { fuel: Some(Fuel(50_000)), memory: ByteSize::mib(32), ..Limits::default() };
            let ran = run(&module, &Grant::none(), &limits);
            assert!(matches!(ran.outcome(), Outcome::Exceeded { .. }), "{:?}", ran.outcome());
            (ran.stdout, ran.report.usage.fuel)
        })
        .collect();
    assert!(outputs[0].0.len() > 4_000 && outputs.iter().all(|output| *output == outputs[0]));
}

/// Makes a NaN in every way that WebAssembly leaves open, from operands that carry a payload and a sign, and prints the bits of
/// each, four or eight bytes.
fn nans() -> String {
    let (mut body, mut at) = (String::new(), 64);
    let mut store = |ty: &str, value: String| {
        body += &format!("({ty}.store (i32.const {at}) {value})\n");
        at += if ty == "v128" { 16 } else { 8 };
    };
    for (ty, odd) in [("f32", "nan:0x212345"), ("f64", "nan:0x4123456789abc")] {
        let (nan, one) = (format!("({ty}.const -{odd})"), format!("({ty}.const 1)"));
        for op in ["add", "sub", "mul", "div", "min", "max"] {
            store(ty, format!("({ty}.{op} {nan} {one})"));
            store(ty, format!("({ty}.{op} {one} {nan})"));
        }
        for op in ["sqrt", "ceil", "floor", "trunc", "nearest"] {
            store(ty, format!("({ty}.{op} {nan})"));
        }
        // No NaN goes in: its sign is the processor's choice.
        store(ty, format!("({ty}.div ({ty}.const 0) ({ty}.const 0))"));
        store(ty, format!("({ty}.sub ({ty}.const inf) ({ty}.const inf))"));
        store(ty, format!("({ty}.mul ({ty}.const inf) ({ty}.const 0))"));
        store(ty, format!("({ty}.sqrt ({ty}.const -1))"));
    }
    store("f32", "(f32.demote_f64 (f64.const -nan:0x4123456789abc))".to_owned());
    store("f64", "(f64.promote_f32 (f32.const -nan:0x212345))".to_owned());
    for (shape, odd) in [("f32x4", "nan:0x212345"), ("f64x2", "nan:0x4123456789abc")] {
        let lanes = if shape == "f32x4" { 4 } else { 2 };
        let vector = |value: &str| format!("(v128.const {shape} {})", [value].repeat(lanes).join(" "));
        for op in ["add", "sub", "mul", "div", "min", "max"] {
            store("v128", format!("({shape}.{op} {} {})", vector(&format!("-{odd}")), vector("1")));
        }
        store("v128", format!("({shape}.sqrt {})", vector("-1")));
        store("v128", format!("({shape}.div {} {})", vector("0"), vector("0")));
    }
    let length = at - 64;
    format!(
        "{body} (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const {length}))
         (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))"
    )
}

// Red without `cranelift_nan_canonicalization` in `config.rs`: payloads and signs of the operands, or of the processor, then
// come through.
#[test]
fn a_nan_made_in_any_way_is_the_canonical_one() {
    let engines = engines();
    let wasm = wat::parse_str(command(&nans())).unwrap();
    let bits = the_same(&everywhere(&engines, &wasm, &Grant::none(), b"")).1.clone();
    let words: Vec<u64> = bits.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    assert_eq!(words.len(), 2 * (12 + 5 + 4) + 2 + 2 * 2 * 8);
    for (at, word) in words.iter().enumerate() {
        let single = [0x7fc0_0000, 0x7fc0_0000_7fc0_0000];
        assert!(single.contains(word) || *word == 0x7ff8_0000_0000_0000, "value {at}: {word:#018x}");
    }
}
