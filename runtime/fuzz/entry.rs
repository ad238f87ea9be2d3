//! What is fuzzed: a module, run twice under small limits.
//!
//! The long run (`smith.rs`) and the stable test `tests/fuzz_smoke.rs` call the same function, so that what the one found the
//! other keeps. It asserts more than survival: an end is within its limits, is safe to show, and repeats exactly.

use std::sync::OnceLock;
use std::time::Duration;

use strongroom_runtime::{
    ByteSize, CancelToken, Collect, Engine, EngineConfig, Fuel, Grant, HostFault, LimitKind, Limits,
    Metering, Module, ModuleError, Outcome, Report, Sandbox, Stdio,
};

const MEMORY: ByteSize = ByteSize::mib(4);
const WALL: Duration = Duration::from_millis(50);
const CPU: Duration = Duration::from_millis(40);
const FUEL: Fuel = Fuel(200_000);
const OUTPUT: ByteSize = ByteSize::kib(64);
/// Longest message that an end may carry, in bytes.
const MAX_MESSAGE: usize = 2_000;

/// What came of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// It was refused.
    Refused,
    /// It ended by itself.
    Exited,
    /// It did what WebAssembly forbids.
    Trapped,
    /// It went past a limit.
    Exceeded,
}

/// Compiles the module, with fuel counted most of the time, and runs it twice.
///
/// # Errors
///
/// A finding: what should not have happened. A panic is one, too.
pub fn check(wasm: &[u8], choice: u64) -> Result<Seen, String> {
    let metering = if choice.is_multiple_of(4) { Metering::None } else { Metering::Fuel };
    let module = match engine().compile_with(wasm, metering) {
        Ok(module) => module,
        Err(ModuleError::Engine { message }) => return Err(format!("the compiler failed: {message}")),
        Err(error) => return safe_to_show(&error.to_string()).map(|()| Seen::Refused),
    };
    let first = run(&module)?;
    let again = run(&module)?;
    if ended_by_itself(&first) && ended_by_itself(&again) && !first.repeats(&again) {
        return Err(format!("two runs, two ends: {first:?} {again:?}"));
    }
    Ok(match first.report.outcome {
        Outcome::Exited(_) => Seen::Exited,
        Outcome::Trapped { .. } => Seen::Trapped,
        Outcome::Exceeded { .. } => Seen::Exceeded,
        other => return Err(format!("nobody did that: {other:?}")),
    })
}

#[derive(Debug)]
struct Ran {
    report: Report,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Ran {
    /// Whether `other` is the same, but for the time that it took.
    fn repeats(&self, other: &Self) -> bool {
        let usage = |ran: &Self| (ran.report.usage.fuel, ran.report.usage.peak_memory);
        self.report.outcome == other.report.outcome
            && usage(self) == usage(other)
            && self.stdout == other.stdout
            && self.stderr == other.stderr
    }
}

/// Neither clock stopped it, so nothing but the module and its input decided how it ended.
fn ended_by_itself(ran: &Ran) -> bool {
    !matches!(ran.report.outcome, Outcome::Exceeded { limit: LimitKind::Wall | LimitKind::Cpu, .. })
}

/// Runs the module, and holds the end against the limits.
fn run(module: &Module) -> Result<Ran, String> {
    let fuel = (module.metering() == Metering::Fuel).then_some(FUEL);
    let limits = Limits {
        memory: MEMORY,
        fuel,
        wall: WALL,
        cpu: Some(CPU),
        stdout: OUTPUT,
        stderr: OUTPUT,
        handles: 16,
        host_buffer: ByteSize::mib(1),
        ..Limits::default()
    };
    let grant = Grant::none().args(["smith", "argument"]).env("KEY", "value");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    let (stdout, out) = Collect::new();
    let (stderr, err) = Collect::new();
    let stdio = Stdio::null().stdin_bytes(&b"some input\n"[..]).stdout(stdout).stderr(stderr);
    let never = CancelToken::never();
    let ran = runtime.block_on(Sandbox::run(module, &grant, &limits, stdio, &never));
    let ran = match ran {
        Ok(report) => Ran { report, stdout: out.take(), stderr: err.take() },
        Err(HostFault::Busy { what }) => return Err(format!("a slot was lost: {what}")),
        Err(fault) => return Err(format!("the host's fault: {fault}")),
    };
    let usage = &ran.report.usage;
    if usage.peak_memory > MEMORY || usage.stdout > OUTPUT || usage.stderr > OUTPUT {
        return Err(format!("past a limit: {:?}", ran.report));
    }
    if ByteSize::bytes(ran.stdout.len() as u64) != usage.stdout {
        return Err(format!("{} bytes arrived: {usage:?}", ran.stdout.len()));
    }
    if let Outcome::Exceeded { allowed, used, .. } = ran.report.outcome
        && used < allowed
    {
        return Err(format!("stopped within its limit: {:?}", ran.report.outcome));
    }
    safe_to_show(&ran.report.outcome.to_string())?;
    Ok(ran)
}

/// Names in a module are the attacker's words.
fn safe_to_show(text: &str) -> Result<(), String> {
    if text.len() > MAX_MESSAGE || text.contains(char::is_control) {
        return Err(format!("not safe to show: {text:?}"));
    }
    Ok(())
}

/// One engine for all: what one run leaves behind, the next one finds.
fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let config =
            EngineConfig { max_concurrent: 4, max_memory: ByteSize::mib(64), ..EngineConfig::default() };
        Engine::new(config).expect("an engine for four")
    })
}

/// Marsaglia's xorshift64*: small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds start far apart, and none of them at zero, where it would stay.
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 48 bits.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// So many bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// Damages up to four bytes.
    pub fn damage(&mut self, bytes: &mut [u8]) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            bytes[at] = self.next() as u8;
        }
    }
}
