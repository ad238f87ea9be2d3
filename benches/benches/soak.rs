//! A million small jobs through a whole host, over QUIC on loopback, with a short retention: memory and disk must stay where they are.
//!
//! `cargo bench -p strongroom-benches --bench soak [-- JOBS]`, 1,000,000 unless said. The host is in a process of its own. Prints a row
//! for each twentieth: jobs per second, its resident memory, its state, log and blobs on the disk, and the jobs that it still knows. At
//! the end every job has succeeded, and the whole log verifies.

#![allow(clippy::disallowed_methods, reason = "a bench is about the clock")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use strongroom::audit::verify::{Options, verify_dir};
use strongroom::compile::Compiler;
use strongroom::config::Config;
use strongroom::home::Home;
use strongroom::host::{Host, Stop};
use strongroom_benches::machine;
use strongroom_job::{JobState, ModuleRef};
use strongroom_sdk::{Batch, BatchJob, Client, ConnectOptions, Job};
use tokio::task::JoinSet;

/// Jobs, unless said otherwise.
const JOBS: usize = 1_000_000;
/// Rows of the table.
const ROWS: usize = 20;
/// Jobs that share a signature, and batches in flight.
const BATCH: usize = 500;
const IN_FLIGHT: usize = 8;
/// How long a job is kept after its end, and how long its envelope may be accepted: as long its id is remembered.
const KEEP: Duration = Duration::from_secs(30);
const LIFETIME: Duration = Duration::from_secs(10);

const UPPER: &[u8] = include_bytes!("../../host/assets/upper.wasm");

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let [word, dir] = &args[..]
        && word == "--host"
    {
        return runtime.block_on(serve(Path::new(dir)));
    }
    // `cargo test` builds and starts benches too; they have nothing to prove there.
    if !args.iter().any(|arg| arg == "--bench") {
        return Ok(());
    }
    let jobs = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(JOBS);
    print!("{}", machine::describe());
    runtime.block_on(soak(jobs))
}

/// The host: says where it listens, serves until its standard input ends, and stops in order.
async fn serve(dir: &Path) -> Result<()> {
    let home = Home::create(dir)?;
    let mut config = Config::load(&home.config())?;
    config.listen = ([127, 0, 0, 1], 0).into();
    config.retention.keep = KEEP;
    config.bounds.clock_skew = Duration::ZERO;
    let host = Box::pin(Host::start(home.lock()?, config, Compiler::InProcess)).await?;
    println!("{}", host.local_addr());
    tokio::task::spawn_blocking(|| std::io::stdin().lines().count()).await?;
    Box::pin(host.stop(Stop::Everything(Duration::from_secs(120)))).await;
    Ok(())
}

async fn soak(jobs: usize) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("host");
    let home = Home::create(&data)?;
    let (mut host, address) = start(&data)?;
    let client = Client::connect(
        ConnectOptions::new(address, home.host_key()?.public(), home.client_key()?).without_receipts(),
    )
    .await?;
    let module = client.push_module(UPPER.to_vec()).await?;
    println!(
        "\n{:>10} {:>8} {:>10} {:>10} {:>10} {:>10}",
        "jobs", "jobs/s", "memory", "state", "log", "blobs"
    );
    let share = jobs / ROWS;
    for row in 1..=ROWS {
        let begun = Instant::now();
        run(&client, module, share).await?;
        let rate = share as f64 / begun.elapsed().as_secs_f64();
        let mib = |bytes: u64| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
        let [state, log, blobs] =
            ["state", "audit", "blobs"].map(|part| machine::disk_bytes(&data.join(part)));
        let memory = machine::resident(host.id());
        let parts = [memory, state?, log?, blobs?].map(mib);
        println!(
            "{:>10} {rate:>8.0} {:>10} {:>10} {:>10} {:>10}",
            row * share,
            parts[0],
            parts[1],
            parts[2],
            parts[3]
        );
    }
    client.close().await;
    drop(host.stdin.take());
    ensure!(host.wait()?.success(), "the host did not stop in order");
    let begun = Instant::now();
    let verified =
        verify_dir(&data.join("audit"), &Options { key: None, known: None, live: false }, &mut ())?;
    println!(
        "\nthe log verifies: {} records, {:.1} s",
        verified.checkpoint.size(),
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// This program again, as the host.
fn start(dir: &Path) -> Result<(Child, String)> {
    let mut host = Command::new(std::env::current_exe()?)
        .arg("--host")
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut address = String::new();
    BufReader::new(host.stdout.take().context("piped")?).read_line(&mut address)?;
    Ok((host, address.trim().to_owned()))
}

async fn run(client: &Client, module: ModuleRef, jobs: usize) -> Result<()> {
    let mut workers = JoinSet::new();
    for worker in 0..IN_FLIGHT {
        let client = client.clone();
        let batches = (jobs / BATCH + IN_FLIGHT - 1 - worker) / IN_FLIGHT;
        workers.spawn(async move {
            let template = Job::new(module).stdin_bytes(b"a line of text\n".to_vec()).lifetime(LIFETIME);
            for _ in 0..batches {
                let variations = (0..BATCH).map(|number| BatchJob::new().args([number.to_string()]));
                let accepted = client.submit_batch(&Batch::new(template.clone()).jobs(variations)).await?;
                let mut ends = JoinSet::new();
                for one in accepted {
                    let client = client.clone();
                    ends.spawn(async move { client.wait(one.job).await });
                }
                while let Some(end) = ends.join_next().await {
                    let end = end.context("a panic")??;
                    ensure!(end.view.state == JobState::Succeeded, "{end:?}");
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = workers.join_next().await {
        done.context("a panic")??;
    }
    Ok(())
}
