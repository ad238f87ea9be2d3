//! Runs a WebAssembly program in the sandbox, with no host, no keys and no network:
//! `cargo run -p strongroom-examples --bin embed -- PROGRAM.wasm [ARGS…]`.
//! The program gets its arguments, stdin, a clock and randomness; no file, no variable, no address.

use anyhow::Context;
use strongroom_runtime::{
    CancelToken, Engine, EngineConfig, Grant, Limits, Outcome, Sandbox, Stdio, WriteSink,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let path = args.first().context("usage: embed PROGRAM.wasm [ARGS…]")?;
    let wasm = std::fs::read(path).with_context(|| format!("cannot read {path}"))?;

    let engine = Engine::new(EngineConfig::default())?;
    let module = engine.compile(&wasm).with_context(|| format!("{path} was refused"))?;

    let grant = Grant::none().args(&args).clock().randomness();
    let stdio = Stdio::null()
        .stdin(tokio::io::stdin())
        .stdout(WriteSink::new(tokio::io::stdout()))
        .stderr(WriteSink::new(tokio::io::stderr()));
    let report = Sandbox::run(&module, &grant, &Limits::default(), stdio, &CancelToken::never()).await?;

    let usage = report.usage;
    eprintln!("{path} {}: {:?}, {} of memory at most", report.outcome, usage.wall, usage.peak_memory);
    // Not a return: a thread may still wait for a line of stdin that nobody needs any more.
    std::process::exit(match report.outcome {
        Outcome::Exited(status) => status,
        _ => 1,
    })
}
