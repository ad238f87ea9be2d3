//! What it costs to start a guest, run it and clean up after it.
//!
//! `cargo bench -p strongroom-benches --bench sandbox`. The first figures are printed before Criterion's: the ratios that the
//! project promises, each from interleaved rounds of one process, so that what else the machine does hits both sides. On a
//! busy machine, look at the best round: the others tell of the neighbours. `ratio` is that of the best rounds, two threads to one.
//!
//! * `real program`: `host/assets/upper.wasm`, Rust on WASI preview 1, reads 300 bytes of stdin and prints them in capitals;
//! * `empty module`: nothing but a `_start` that returns;
//! * `bare wasmtime`: the same program in a loop over the bare crates with the same settings of the engine: streams in
//!   memory, epochs, a timeout, and nothing else. What this project adds is the difference;
//! * `on demand`: the same program without the pool, as wasmtime allocates by default;
//! * `spawn /bin/true`: what people do instead, without any isolation, one round beside each of ours.
//!
//! What a guest that computes pays is `computing`'s.

#![allow(clippy::disallowed_methods, reason = "a bench is about the clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group};
use strongroom_benches::contest::bare::BareWasmtime;
use strongroom_benches::machine;
use strongroom_runtime::{
    Allocation, ByteSize, CancelToken, Collect, Engine, EngineConfig, Grant, Limits, Module, ModuleError,
    Outcome, Sandbox, Stdio,
};

const UPPER: &[u8] = include_bytes!("../../host/assets/upper.wasm");
const EMPTY: &str = r#"(module (memory 1) (func (export "_start")))"#;

/// Rounds of each measurement; an odd number, for the median.
const ROUNDS: usize = 25;
/// Processes that are started beside each round.
const SPAWNS: usize = 9;
/// How long one round takes: short, so that some rounds have the processors to themselves.
const ROUND: Duration = Duration::from_millis(60);

fn engine(allocation: Allocation) -> Engine {
    Engine::new(EngineConfig { allocation, ..EngineConfig::default() }).expect("the engine starts")
}

/// An engine that reserves as little address space as it can; ADR 2 says why that is not the default.
fn narrow() -> Engine {
    let config = EngineConfig {
        memory_reservation: ByteSize::mib(64),
        memory_guard: ByteSize::kib(64),
        max_memory: ByteSize::mib(64),
        ..EngineConfig::default()
    };
    Engine::new(config).expect("the engine starts")
}

fn input() -> Vec<u8> {
    b"a line of text that becomes capitals\n".iter().copied().cycle().take(300).collect()
}

/// One job from start to end, its output checked.
async fn job(module: &Module, grant: &Grant, limits: &Limits, input: &bytes::Bytes, output: usize) {
    let (stdout, collected) = Collect::new();
    let stdio = Stdio::null().stdin_bytes(input.clone()).stdout(stdout);
    let report = Sandbox::run(module, grant, limits, stdio, &CancelToken::never()).await.expect("no fault");
    assert_eq!(report.outcome, Outcome::Exited(0));
    assert_eq!(black_box(collected.take()).len(), output);
}

/// What some jobs took.
#[derive(Clone, Copy)]
struct Took {
    jobs: u64,
    wall: Duration,
    /// Of all threads together.
    cpu: Duration,
}

impl Took {
    fn rate(self) -> f64 {
        self.jobs as f64 / self.wall.as_secs_f64()
    }

    /// Microseconds of processor time for one job.
    fn cpu_each(self) -> f64 {
        1e6 * self.cpu.as_secs_f64() / self.jobs as f64
    }
}

/// Runs jobs on `threads` threads, each with a runtime of its own, until each has done `enough`.
fn jobs(program: &Program, threads: usize, enough: impl Fn(u64, Instant) -> bool + Sync) -> Took {
    let start = Instant::now();
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let grant = Grant::none().arg("upper").clock().randomness();
            let limits = Limits { memory: ByteSize::mib(64), ..Limits::default() };
            let input = bytes::Bytes::from(input());
            let (mut done, before) = (0, machine::thread_time());
            while !enough(done, start) {
                match program {
                    Program::Ours(module, output) => job(module, &grant, &limits, &input, *output).await,
                    Program::Bare(bare) => bare.job(&input).await,
                }
                done += 1;
            }
            (done, machine::thread_time().saturating_sub(before))
        })
    };
    let (jobs, cpu) = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("no worker panics"))
            .fold((0, Duration::ZERO), |(jobs, cpu), (more, time)| (jobs + more, cpu + time))
    });
    Took { jobs, wall: start.elapsed(), cpu }
}

/// What is run again and again.
enum Program {
    /// With how many bytes it prints.
    Ours(Module, usize),
    Bare(BareWasmtime),
}

fn round(program: &Program, threads: usize) -> Took {
    jobs(program, threads, |_, start| start.elapsed() >= ROUND)
}

/// One process, from start to end: seconds.
fn spawned() -> f64 {
    let begun = Instant::now();
    let status = std::process::Command::new("/bin/true").status().expect("there is a /bin/true");
    assert!(status.success());
    begun.elapsed().as_secs_f64()
}

fn promises() {
    let pooled = engine(Allocation::Pooled);
    let on_demand = engine(Allocation::OnDemand);
    let narrow = narrow();
    println!("freed memories are reset by PAGEMAP_SCAN: {}", pooled.resets_by_pagemap_scan());
    let empty = wat::parse_str(EMPTY).expect("valid text");
    let ours =
        |module: Result<Module, ModuleError>, output| Program::Ours(module.expect("a good module"), output);
    let bare = BareWasmtime::new(pooled.resets_by_pagemap_scan()).expect("bare wasmtime starts");
    let real = ours(pooled.compile(UPPER), 300);
    let cases = [
        ("real program, pooled", &real),
        ("real program, bare wasmtime", &Program::Bare(bare)),
        ("real program, on demand", &ours(on_demand.compile(UPPER), 300)),
        ("real program, 64 MiB slots", &ours(narrow.compile(UPPER), 300)),
        ("empty module, pooled", &ours(pooled.compile(&empty), 0)),
    ];
    println!(
        "{:28} {:>9} {:>9} {:>9} {:>12} {:>7}",
        "", "µs", "µs best", "µs of CPU", "2 threads /s", "ratio"
    );
    let mut rounds: Vec<Vec<(Took, Took)>> = cases.iter().map(|_| Vec::new()).collect();
    let mut spawns = Vec::new();
    // One round of each, then the next: what else the machine does hits all of them.
    for _ in 0..=ROUNDS {
        for ((_, program), rounds) in cases.iter().zip(&mut rounds) {
            rounds.push((round(program, 1), round(program, 2)));
        }
        spawns.push(machine::median((0..SPAWNS).map(|_| spawned()).collect()));
    }
    for ((name, _), rounds) in cases.iter().zip(&rounds) {
        // The first is there to warm up.
        let rounds = &rounds[1..];
        let of = |figure: &dyn Fn(&(Took, Took)) -> f64| machine::median(rounds.iter().map(figure).collect());
        let best = |figure: &dyn Fn(&(Took, Took)) -> f64| rounds.iter().map(figure).fold(0.0, f64::max);
        let (one, cpu) = (of(&|(one, _)| one.rate()), of(&|(one, _)| one.cpu_each()));
        let (best_one, best_two) = (best(&|(one, _)| one.rate()), best(&|(_, two)| two.rate()));
        println!(
            "{name:28} {:>9.2} {:>9.2} {cpu:>9.2} {best_two:>12.0} {:>7.2}",
            1e6 / one,
            1e6 / best_one,
            best_two / best_one
        );
    }
    let ratio = |pick: &dyn Fn(usize) -> f64| machine::median((1..=ROUNDS).map(pick).collect());
    println!(
        "real program: {:.2} times bare wasmtime; spawn /bin/true: {:.0} µs, {:.0} times as long",
        ratio(&|n| rounds[1][n].0.rate() / rounds[0][n].0.rate()),
        1e6 * machine::median(spawns.clone()),
        ratio(&|n| spawns[n] * rounds[0][n].0.rate()),
    );
}

fn criterion_benches(criterion: &mut Criterion) {
    let pooled = engine(Allocation::Pooled);
    let on_demand = engine(Allocation::OnDemand);
    let program =
        |module: Result<Module, ModuleError>, output| Program::Ours(module.expect("a good module"), output);
    let real = program(pooled.compile(UPPER), 300);
    let slow = program(on_demand.compile(UPPER), 300);
    let empty = program(pooled.compile(&wat::parse_str(EMPTY).expect("valid text")), 0);
    let mut group = criterion.benchmark_group("sandbox");
    for (name, program, threads) in [
        ("real program", &real, 1),
        ("real program, two threads", &real, 2),
        ("empty module", &empty, 1),
        ("real program, on demand", &slow, 1),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| jobs(program, threads, |done, _| done >= iterations).wall);
        });
    }
    group.finish();
}

criterion_group!(benches, criterion_benches);

fn main() {
    // `cargo test` builds and starts benches too; they have nothing to prove there.
    if std::env::args().any(|arg| arg == "--bench") {
        promises();
        benches();
        Criterion::default().configure_from_args().final_summary();
    }
}
