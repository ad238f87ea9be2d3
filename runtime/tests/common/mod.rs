//! What the runtime's tests share: one engine, bounded runs, and a guest that is a list of system calls.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

pub mod syscalls;

use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use strongroom_runtime::{
    CancelToken, Collect, Engine, EngineConfig, Grant, HostFault, Limits, Module, Outcome, Report, Sandbox,
    Stdio,
};

/// Far longer than any test takes; a guest that cannot be stopped fails its test instead of hanging it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The engine that most tests share.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(small()).unwrap())
}

/// A configuration that many test binaries can have at once.
pub fn small() -> EngineConfig {
    EngineConfig { max_concurrent: 32, ..EngineConfig::default() }
}

/// A core module from its text.
pub fn module(wat: &str) -> Module {
    engine().compile(&wat::parse_str(wat).unwrap()).unwrap()
}

/// The component in `fixtures/`.
pub fn probe() -> Module {
    static PROBE: OnceLock<Module> = OnceLock::new();
    PROBE.get_or_init(|| engine().compile(include_bytes!("../fixtures/probe.wasm")).unwrap()).clone()
}

/// What a run left behind.
#[derive(Debug)]
pub struct Ran {
    pub report: Report,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Ran {
    pub fn outcome(&self) -> &Outcome {
        &self.report.outcome
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }
}

/// Runs `module` to its end, with its output collected.
pub fn run(module: &Module, grant: &Grant, limits: &Limits) -> Ran {
    run_with(module, grant, limits, Stdio::null()).unwrap()
}

/// [`run`] with an input of the caller's.
pub fn run_with(module: &Module, grant: &Grant, limits: &Limits, stdio: Stdio) -> Result<Ran, HostFault> {
    let (module, grant, limits) = (module.clone(), grant.clone(), *limits);
    bounded(async move {
        let (stdout, out) = Collect::new();
        let (stderr, err) = Collect::new();
        let stdio = stdio.stdout(stdout).stderr(stderr);
        let report = Sandbox::run(&module, &grant, &limits, stdio, &CancelToken::never()).await?;
        Ok(Ran { report, stdout: out.take(), stderr: err.take() })
    })
}

/// Runs `work` on a runtime of its own, and gives up on it (leaking the thread) after a minute.
pub fn bounded<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let _ = send.send(runtime.block_on(work));
        // A blocked helper thread must not hold up the test that caused it.
        runtime.shutdown_background();
    });
    receive.recv_timeout(PATIENCE).expect("the run neither ended nor could be stopped")
}

/// A core module whose `_start` is `body`, with the imports and the memory that bodies need.
pub fn command(body: &str) -> String {
    format!(
        r#"(module
            {imports}
            (memory (export "memory") 1)
            (func $start (export "_start") {body}))"#,
        imports = syscalls::IMPORTS
    )
}
