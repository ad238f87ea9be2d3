//! What a crowd that sleeps costs, and how soon another job starts beside it and two guests that spin; and how soon a guest that is
//! cancelled is gone.
//!
//! `cargo bench -p strongroom-benches --bench sleepers [-- SLEEPERS…]`, 10,000 unless said. Prints three parts:
//!
//! * `sandbox`: the runtime alone. Resident memory for each sleeper, and the time from the call of `Sandbox::run` to the end of a
//!   guest that ends at once;
//! * `host`: a whole host in a process of its own, reached over QUIC on loopback: every sleeper is a signed job, admitted, durable,
//!   started and in the log. Resident memory of that process; of each small job the time from its acceptance to its start, both
//!   durable, by the host's clock of 1 ms, and from its signature to its known end; the latter without spinners, too;
//! * `cancel`: from the call of `cancel` until the run has ended and its slot is free, on an otherwise idle engine.

#![allow(clippy::disallowed_methods, reason = "a bench is about the clock")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio as Pipe};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use strongroom::compile::Compiler;
use strongroom::config::Config;
use strongroom::home::Home;
use strongroom::host::Host;
use strongroom_benches::machine;
use strongroom_benches::serving::Serving;
use strongroom_job::{JobId, JobState};
use strongroom_runtime::{
    CancelToken, Engine, EngineConfig, Grant, HostFault, Limits, Module, Outcome, Report, Sandbox, Stdio,
};
use strongroom_sdk::{Batch, BatchJob, Client, ConnectOptions, Job};
use tokio::task::JoinSet;

/// The crowd, unless said otherwise.
const SLEEPERS: usize = 10_000;
/// Guests that compute all the time.
const SPINNERS: usize = 2;
/// Small jobs whose start is timed, one after the other.
const STARTS: usize = 500;
/// Cancels of each kind of guest.
const CANCELS: usize = 200;
/// Jobs that share a signature while the crowd is submitted.
const BATCH: usize = 500;
/// Far longer than the bench takes.
const NIGHT: Duration = Duration::from_secs(3000);

/// Sleeps for an hour.
const SLEEPS: &str = r#"(module
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (data (i32.const 1024) "what a program has in its memory from the start")
    (func (export "_start")
        (i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const 3600000000000))
        (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#;
const SPINS: &str = r#"(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))"#;
const FILLS: &str = r#"(module (memory (export "memory") 1024) (func (export "_start")
    (loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 67108864)) (br $l))))"#;
const ENDS: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [word, dir, running] = &args[..]
        && word == "--host"
    {
        return serve(Path::new(dir), running.parse()?);
    }
    // `cargo test` builds and starts benches too; they have nothing to prove there.
    if !args.iter().any(|arg| arg == "--bench") {
        return Ok(());
    }
    let crowds = machine::numbers(&[SLEEPERS]).context("only numbers are asked for")?;
    print!("{}", machine::describe());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        for crowd in crowds {
            sandbox(crowd).await?;
            host(crowd).await?;
        }
        cancels().await
    })
}

fn mappings(pid: u32) -> usize {
    std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default().lines().count()
}

/// Page tables of a process, in bytes: they are not part of its resident memory, and cost as much.
fn page_tables(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPTE:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() << 10
}

fn tell(part: &str, pid: u32, count: usize, before: u64) {
    let (now, mib) = (machine::resident(pid), |bytes: u64| bytes as f64 / f64::from(1 << 20));
    let each = now.saturating_sub(before) as f64 / 1024.0 / count as f64;
    println!(
        "{part:<8} {count} asleep: {:.0} MiB resident ({:.0} before, {each:.1} KiB each), page tables {:.0} MiB, {} mappings",
        mib(now),
        mib(before),
        mib(page_tables(pid)),
        mappings(pid),
    );
}

fn tell_times(part: &str, what: &str, mut times: Vec<Duration>) {
    let mut millis = |percent| machine::percentile(&mut times, percent).as_secs_f64() * 1e3;
    println!(
        "{part:<8} {what}: p50 {:.2} ms, p99 {:.2} ms, worst {:.2} ms",
        millis(50),
        millis(99),
        millis(100)
    );
}

fn compile(engine: &Engine, wat: &str) -> Result<Module> {
    Ok(engine.compile(&wat::parse_str(wat)?)?)
}

fn start(
    module: &Module,
    cancel: &CancelToken,
) -> impl Future<Output = Result<Report, HostFault>> + Send + use<> {
    let (module, cancel) = (module.clone(), cancel.clone());
    async move {
        let limits = Limits { wall: NIGHT, ..Limits::default() };
        Sandbox::run(&module, &Grant::none(), &limits, Stdio::null(), &cancel).await
    }
}

async fn sandbox(count: usize) -> Result<()> {
    let pid = std::process::id();
    let max_concurrent = u32::try_from(count + SPINNERS + 8)?;
    let engine = Engine::new(EngineConfig { max_concurrent, ..EngineConfig::default() })?;
    let (sleeps, spins, ends) =
        (compile(&engine, SLEEPS)?, compile(&engine, SPINS)?, compile(&engine, ENDS)?);
    let never = CancelToken::never();
    ensure!(start(&ends, &never).await?.outcome == Outcome::Exited(0));
    let before = machine::resident(pid);
    let cancel = CancelToken::new();
    let mut guests = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..count {
        guests.spawn(start(&sleeps, &cancel));
    }
    // Queued behind all of them on the same threads: when the last of a few has run, the crowd has begun.
    let mut last = JoinSet::new();
    for _ in 0..8 {
        last.spawn(start(&ends, &never));
        tokio::task::yield_now().await;
    }
    while let Some(ended) = last.join_next().await {
        ensure!(ended??.outcome == Outcome::Exited(0));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    println!("sandbox  the crowd began within {:?}", begun.elapsed());
    for _ in 0..SPINNERS {
        guests.spawn(start(&spins, &cancel));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let begun = Instant::now();
        // Spawned, so that it queues for a thread like any other guest.
        let report = tokio::spawn(start(&ends, &never)).await??;
        ensure!(report.outcome == Outcome::Exited(0));
        starts.push(begun.elapsed());
    }
    ensure!(guests.try_join_next().is_none(), "a guest of the crowd ended by itself");
    tell("sandbox", pid, count, before);
    tell_times("sandbox", "another guest beside two that spin, start to end", starts);
    let begun = Instant::now();
    cancel.cancel();
    while let Some(ended) = guests.join_next().await {
        ensure!(ended??.outcome == Outcome::Cancelled);
    }
    println!("sandbox  all cancelled at once, gone after {:?}", begun.elapsed());
    Ok(())
}

/// The host's process: serves until it is killed.
fn serve(dir: &Path, running: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let home = Home::open(dir)?;
        let mut config = Config::load(&home.config())?;
        config.listen = ([127, 0, 0, 1], 0).into();
        config.bounds.max_running = running;
        let host = Host::start(home.lock()?, config, Compiler::InProcess).await?;
        println!("serving");
        anyhow::bail!("the host failed: {}", host.failed().await)
    })
}

async fn host(count: usize) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let home = Home::create(dir.path())?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--host").arg(dir.path()).arg((count + SPINNERS + 8).to_string());
    let mut child = Serving(command.stdout(Pipe::piped()).spawn()?);
    let mut line = String::new();
    BufReader::new(child.0.stdout.take().context("a pipe")?).read_line(&mut line)?;
    ensure!(line == "serving\n", "the host did not start");
    let pid = child.0.id();
    let live = home.live()?.context("its address")?;
    let client =
        Client::connect(ConnectOptions::new(live.address, live.host, home.client_key()?).without_receipts())
            .await?;
    let sleeps = client.push_module(wat::parse_str(SLEEPS)?).await?;
    let spins = client.push_module(wat::parse_str(SPINS)?).await?;
    let ends = Job::new(client.push_module(wat::parse_str(ENDS)?).await?);
    small(&client, &ends).await?;
    let before = machine::resident(pid);

    let begun = Instant::now();
    let (mut crowd, mut left) = (Vec::<JobId>::new(), count);
    while left > 0 {
        let jobs = left.min(BATCH);
        let variations = (0..jobs).map(|number| BatchJob::new().args([number.to_string()]));
        let batch = Batch::new(Job::new(sleeps).timeout(NIGHT)).jobs(variations);
        crowd.extend(client.submit_batch(&batch).await?.iter().map(|accepted| accepted.job));
        left -= jobs;
    }
    running(&client, &crowd).await?;
    println!("host     the crowd was submitted and began within {:?}", begun.elapsed());
    let alone = smalls(&client, &ends).await?.1;
    let mut spinning = Vec::new();
    for _ in 0..SPINNERS {
        spinning.push(client.submit(&Job::new(spins).timeout(NIGHT)).await?.job);
    }
    running(&client, &spinning).await?;
    let (starts, beside) = smalls(&client, &ends).await?;
    running(&client, &crowd).await?;
    tell("host", pid, count, before);
    tell_times("host", "another job beside two that spin, accepted to started", starts);
    tell_times("host", "another job beside two that spin, signature to known end", beside);
    tell_times("host", "another job beside none that spins, signature to known end", alone);
    client.close().await;
    Ok(())
}

/// Small jobs, one after the other: from acceptance to start, and from signature to known end.
async fn smalls(client: &Client, job: &Job) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let (mut starts, mut times) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let begun = Instant::now();
        starts.push(small(client, job).await?);
        times.push(begun.elapsed());
    }
    Ok((starts, times))
}

/// One small job; gives the time from its acceptance to its start.
async fn small(client: &Client, job: &Job) -> Result<Duration> {
    let view = client.wait(client.submit(job).await?.job).await?.view;
    ensure!(view.state == JobState::Succeeded, "{view:?}");
    let started = view.started_at.context("a start")?.as_millis();
    Ok(Duration::from_millis(started.saturating_sub(view.accepted_at.as_millis())))
}

/// Waits until every one of the jobs runs.
async fn running(client: &Client, jobs: &[JobId]) -> Result<()> {
    for job in jobs {
        loop {
            match client.show(*job).await?.state {
                JobState::Running => break,
                JobState::Queued => tokio::time::sleep(Duration::from_millis(5)).await,
                state => anyhow::bail!("a job of the crowd is {state}"),
            }
        }
    }
    Ok(())
}

async fn cancels() -> Result<()> {
    let engine = Engine::new(EngineConfig { max_concurrent: 1, ..EngineConfig::default() })?;
    for (name, wat) in [("a loop", SPINS), ("a sleep", SLEEPS), ("fills of 64 MiB", FILLS)] {
        let module = compile(&engine, wat)?;
        let mut times = Vec::new();
        for _ in 0..CANCELS {
            let cancel = CancelToken::new();
            let guest = tokio::spawn(start(&module, &cancel));
            tokio::time::sleep(Duration::from_millis(5)).await;
            let begun = Instant::now();
            cancel.cancel();
            ensure!(guest.await??.outcome == Outcome::Cancelled);
            times.push(begun.elapsed());
        }
        tell_times("cancel", name, times);
    }
    Ok(())
}
