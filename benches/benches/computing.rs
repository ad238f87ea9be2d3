//! What a guest that computes pays for being stoppable: the same module here and under plain `wasmtime` without any limit.
//!
//! `cargo bench -p strongroom-benches --bench computing`. One run of each in turns, medians of the ratios in one turn, in processor time of the
//! guest's thread from the making of its world to its end. Columns are times plain `wasmtime`:
//!
//! * `ours`: in the sandbox, under its default limits;
//! * `epochs`: plain `wasmtime` that asks at each turn of a loop whether the guest must yield, while the epoch advances as often as here, and nothing else;
//! * `fuel`: in the sandbox, with every instruction counted;
//! * `64 MiB slots`: in the sandbox, with so little address space that each access is checked.
//!
//! The guests are the prebuilt examples, in the languages that they were written in, with some megabytes to read, and a sieve
//! whose inner loop is some five instructions long: the worst case of what is asked in each turn.

#![allow(clippy::disallowed_methods, reason = "a bench is about the clock")]

use std::hint::black_box;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use strongroom_benches::machine;
use strongroom_runtime::{
    ByteSize, CancelToken, Collect, Engine, EngineConfig, Grant, Limits, Metering, Module, Outcome, Sandbox,
    Stdio,
};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};

/// Counts primes below a million, ten times: loads, stores and branches, hardly any calls.
const SIEVE: &str = r#"(module
    (memory (export "memory") 17)
    (func $sieve (local $i i32) (local $j i32)
        (memory.fill (i32.const 0) (i32.const 1) (i32.const 1000000))
        (local.set $i (i32.const 2))
        (loop $outer
            (if (i32.load8_u (local.get $i)) (then
                (local.set $j (i32.mul (local.get $i) (local.get $i)))
                (block $done
                    (loop $inner
                        (br_if $done (i32.ge_u (local.get $j) (i32.const 1000000)))
                        (i32.store8 (local.get $j) (i32.const 0))
                        (local.set $j (i32.add (local.get $j) (local.get $i)))
                        (br $inner)))))
            (br_if $outer (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000)))))
    (func (export "_start") (local $n i32)
        (loop $again
            (call $sieve)
            (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 10))))))"#;

/// Turns, after one to warm up; an odd number, for the median.
const TURNS: usize = 15;
/// Bytes that a guest reads, where it reads.
const INPUT_BYTES: usize = 4 << 20;

/// A program and what it is given.
struct Guest {
    name: &'static str,
    language: &'static str,
    wasm: Vec<u8>,
    args: &'static [&'static str],
    input: Bytes,
}

impl Guest {
    /// One of the prebuilt examples.
    fn example(
        name: &'static str,
        language: &'static str,
        args: &'static [&'static str],
        input: Vec<u8>,
    ) -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/prebuilt");
        let wasm = std::fs::read(dir.join(name).with_extension("wasm")).expect("the examples are committed");
        Self { name, language, wasm, args, input: input.into() }
    }

    fn all() -> Vec<Self> {
        let sieve = Self {
            name: "sieve",
            language: "by hand",
            wasm: wat::parse_str(SIEVE).expect("valid text"),
            args: &[],
            input: Bytes::new(),
        };
        let csv = lines("day,region,item,amount\n", |n| {
            format!("2026-03-{:02},\"west, {}\",tar,{}.{:02}\n", n % 28 + 1, n % 7, n % 9973, n % 100)
        });
        let log = lines("", |n| {
            format!(
                "192.0.2.{} - - [12/Mar/2026:06:07:07 +0100] \"GET /page/{} HTTP/1.1\" 200 {}\n",
                n % 251,
                n % 97,
                n % 99_991
            )
        });
        let text = lines("", |n| format!("{}\n", "a word or two of text ".repeat(n % 11)));
        let markdown = lines("", |n| match n % 8 {
            0 => format!("{} Part {n} of *it* & all\n", "#".repeat(n / 8 % 4 + 1)),
            _ => "a line of text between two headings, as there are many in a book\n".to_owned(),
        });
        vec![
            sieve,
            Self::example("primes", "Rust", &["20000000"], Vec::new()),
            Self::example("csv-report", "Rust", &["--group", "region", "--value", "amount"], csv),
            Self::example("sha256sum", "C", &[], text.repeat(4)),
            Self::example("histogram", "Zig", &[], text),
            Self::example("log-summary", "Go", &[], log),
            Self::example("markdown-toc", "AssemblyScript", &[], markdown),
        ]
    }
}

/// Lines after `head` until there are enough bytes.
fn lines(head: &str, line: impl Fn(usize) -> String) -> Vec<u8> {
    let mut text = head.to_owned();
    for n in 0.. {
        if text.len() >= INPUT_BYTES {
            break;
        }
        text.push_str(&line(n));
    }
    text.into_bytes()
}

/// What it printed, and the processor time that it took.
type Ran = (Vec<u8>, Duration);

/// wasmtime and its WASI as they come.
struct Plain {
    program: wasmtime::InstancePre<WasiP1Ctx>,
    /// Where the guest can be stopped: what advances the epoch, until this is dropped.
    ticker: Option<Sender<()>>,
}

impl Plain {
    /// A guest that cannot be stopped.
    fn new(guest: &Guest) -> Self {
        let engine = wasmtime::Engine::new(&wasmtime::Config::new()).expect("it starts");
        Self { program: Self::program(&engine, guest), ticker: None }
    }

    /// One that is asked whether it must yield, of an epoch that advances: on Zen 5 a loop is far faster as long as nobody ever advanced it (`docs/benchmarks.md`).
    fn ticking(guest: &Guest, tick: Duration) -> Self {
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let engine = wasmtime::Engine::new(&config).expect("it starts");
        let program = Self::program(&engine, guest);
        let (ticker, stopped) = channel();
        std::thread::spawn(move || {
            while stopped.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
                engine.increment_epoch();
            }
        });
        Self { program, ticker: Some(ticker) }
    }

    fn program(engine: &wasmtime::Engine, guest: &Guest) -> wasmtime::InstancePre<WasiP1Ctx> {
        let module = wasmtime::Module::new(engine, &guest.wasm).expect("a good module");
        let mut linker = wasmtime::Linker::new(engine);
        p1::add_to_linker_sync(&mut linker, |wasi: &mut WasiP1Ctx| wasi).expect("no name twice");
        // How far the work has come and what came of it, which nobody here wants to know: 0 says that it was taken.
        for import in module.imports().filter(|import| import.module() != "wasi_snapshot_preview1") {
            let ty = import.ty().unwrap_func().clone();
            let taken = |_: wasmtime::Caller<'_, WasiP1Ctx>, _: &[_], results: &mut [wasmtime::Val]| {
                results.fill(wasmtime::Val::I32(0));
                Ok(())
            };
            linker.func_new(import.module(), import.name(), ty, taken).expect("no name twice");
        }
        linker.instantiate_pre(&module).expect("all is there")
    }

    fn run(&self, guest: &Guest) -> Ran {
        let before = machine::thread_time();
        let stdout = MemoryOutputPipe::new(1 << 24);
        let mut wasi = WasiCtxBuilder::new();
        wasi.arg(guest.name).args(guest.args).stdin(MemoryInputPipe::new(guest.input.clone()));
        wasi.stdout(stdout.clone()).stderr(MemoryOutputPipe::new(1 << 20));
        let mut store = wasmtime::Store::new(self.program.module().engine(), wasi.build_p1());
        if self.ticker.is_some() {
            store.set_epoch_deadline(1);
            store.epoch_deadline_callback(|_| Ok(wasmtime::UpdateDeadline::Continue(1)));
        }
        let instance = self.program.instantiate(&mut store).expect("it starts");
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start").expect("it has a start");
        if let Err(error) = start.call(&mut store, ()) {
            let exit = error.downcast_ref::<wasmtime_wasi::I32Exit>().map(|exit| exit.0);
            assert_eq!(exit, Some(0), "{}: {error:#}", guest.name);
        }
        drop(store);
        let took = machine::thread_time().saturating_sub(before);
        (stdout.contents().to_vec(), took)
    }
}

/// The sandbox, as a host has it.
fn ours(module: &Module, guest: &Guest) -> Ran {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let before = machine::thread_time();
        let (stdout, collected) = Collect::new();
        let (stderr, complained) = Collect::new();
        let grant = guest.args.iter().fold(Grant::none().arg(guest.name), |grant, arg| grant.arg(*arg));
        let stdio = Stdio::null().stdin_bytes(guest.input.clone()).stdout(stdout).stderr(stderr);
        let report =
            Sandbox::run(module, &grant.clock().randomness(), &limits(), stdio, &CancelToken::never()).await;
        let took = machine::thread_time().saturating_sub(before);
        let outcome = report.expect("no fault").outcome;
        let complained = String::from_utf8_lossy(&complained.take()).into_owned();
        assert_eq!(outcome, Outcome::Exited(0), "{}: {complained}", guest.name);
        (collected.take(), took)
    })
}

/// The default ones, but for what a slot of 64 MiB has.
fn limits() -> Limits {
    Limits { memory: ByteSize::mib(64), ..Limits::default() }
}

fn main() {
    // `cargo test` builds and starts benches too; they have nothing to prove there.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let pooled = Engine::new(EngineConfig::default()).expect("the engine starts");
    let narrow = Engine::new(EngineConfig {
        memory_reservation: ByteSize::mib(64),
        memory_guard: ByteSize::kib(64),
        max_memory: ByteSize::mib(64),
        ..EngineConfig::default()
    })
    .expect("the engine starts");
    println!("{}", machine::describe());
    println!(
        "| guest | written in | plain `wasmtime` | ours (least to most) | epochs | fuel | 64 MiB slots |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for guest in Guest::all() {
        if wanted.is_empty() || wanted.iter().any(|name| name == guest.name) {
            measure(&guest, &pooled, &narrow);
        }
    }
}

fn measure(guest: &Guest, pooled: &Engine, narrow: &Engine) {
    let plain = Plain::new(guest);
    let epochs = Plain::ticking(guest, EngineConfig::default().tick);
    let compiled =
        |engine: &Engine, metering| engine.compile_with(&guest.wasm, metering).expect("a good module");
    let unmetered = compiled(pooled, Metering::None);
    let metered = compiled(pooled, Metering::Fuel);
    let checked = compiled(narrow, Metering::None);
    let (mut alone, mut ratios) = (Vec::new(), [const { Vec::new() }; 4]);
    for turn in 0..=TURNS {
        let (printed, bare) = plain.run(guest);
        let others =
            [ours(&unmetered, guest), epochs.run(guest), ours(&metered, guest), ours(&checked, guest)];
        for ((also, took), ratios) in others.into_iter().zip(&mut ratios) {
            assert_eq!(black_box(&also), &printed, "{}: all print the same", guest.name);
            if turn > 0 {
                ratios.push(took.as_secs_f64() / bare.as_secs_f64());
            }
        }
        if turn > 0 {
            alone.push(bare.as_secs_f64());
        }
    }
    let least = ratios[0].iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios[0].iter().copied().fold(0.0, f64::max);
    let [ours, epochs, fuel, narrow] = ratios.map(machine::median);
    println!(
        "| {} | {} | {:.1} ms | **{ours:.2}** ({least:.2} to {most:.2}) | {epochs:.2} | {fuel:.2} | {narrow:.2} |",
        guest.name,
        guest.language,
        1e3 * machine::median(alone)
    );
}
