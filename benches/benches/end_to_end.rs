//! Small jobs from the client's signature to the durable, logged result: over QUIC on loopback, client and host in one
//! process on the same cores, state on the disk of the temporary directory.
//!
//! `cargo bench -p strongroom-benches --bench end_to_end [-- ROW…]`. Prints a table. With `TMPDIR` on a file system in memory
//! it shows what is left when the disk costs nothing. The job is a real program,
//! `host/assets/upper.wasm`: Rust on WASI preview 1, it reads 300 bytes of stdin and prints them in capitals. Every job's end is
//! asked for by its client, and its output is held against what it must be by its digest.

#![allow(clippy::disallowed_methods, reason = "a bench is about the clock")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use strongroom::compile::Compiler;
use strongroom::config::Config;
use strongroom::home::Home;
use strongroom::host::{Host, Stop};
use strongroom_benches::machine;
use strongroom_job::{Digest, JobId, JobState, ModuleRef};
use strongroom_sdk::{Batch, BatchJob, Client, ConnectOptions, Job};
use tokio::task::JoinSet;

const UPPER: &[u8] = include_bytes!("../../host/assets/upper.wasm");
/// Bytes of a job's input.
const INPUT_BYTES: usize = 300;
/// Jobs of one batch.
const BATCH: usize = 500;

/// One row of the table.
struct Row {
    name: &'static str,
    /// Jobs of one round.
    jobs: usize,
    /// Jobs, or batches, in flight.
    in_flight: usize,
    batches: bool,
    rounds: usize,
}

const ROWS: [Row; 5] = [
    Row { name: "alone", jobs: 300, in_flight: 1, batches: false, rounds: 3 },
    Row { name: "single-64", jobs: 4_000, in_flight: 64, batches: false, rounds: 3 },
    Row { name: "single-1000", jobs: 6_000, in_flight: 1000, batches: false, rounds: 3 },
    Row { name: "batch-1", jobs: 5_000, in_flight: 1, batches: true, rounds: 3 },
    Row { name: "batch-8", jobs: 20_000, in_flight: 8, batches: true, rounds: 3 },
];

/// What one round came to.
struct Round {
    jobs: usize,
    wall: Duration,
    processor: Duration,
    /// From before the signature until the end is known, of each job.
    times: Vec<Duration>,
}

fn main() -> Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(bench(&asked))
}

async fn bench(asked: &[String]) -> Result<()> {
    let dir = tempfile::tempdir()?;
    print!("{}", machine::describe());
    println!(
        "fdatasync  {:.0} µs after 4 KiB, median\n",
        machine::sync_floor(dir.path()).as_secs_f64() * 1e6
    );
    let home = Home::create(&dir.path().join("host"))?;
    let key = home.client_key()?;
    let mut config = Config::load(&home.config())?;
    config.listen = ([127, 0, 0, 1], 0).into();
    let host = Host::start(home.lock()?, config, Compiler::InProcess).await?;
    let client =
        Client::connect(ConnectOptions::new(host.local_addr(), *host.public_key(), key).without_receipts())
            .await?;
    let module = client.push_module(UPPER.to_vec()).await?;
    // Compiles, fills the pool, warms the caches.
    singles(&client, module, 500, 32).await?;

    println!(
        "{:<12} {:>8} {:>9} {:>9} {:>10} {:>10} {:>14}",
        "", "in flight", "jobs", "jobs/s", "p50", "p99", "processor/job"
    );
    for row in ROWS.iter().filter(|row| asked.is_empty() || asked.iter().any(|name| name == row.name)) {
        let mut rounds = Vec::new();
        for _ in 0..row.rounds {
            rounds.push(if row.batches {
                batches(&client, module, row.jobs, row.in_flight).await?
            } else {
                singles(&client, module, row.jobs, row.in_flight).await?
            });
            // What the last round left to publish is not the next one's to pay.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        rounds.sort_by_key(|round| round.wall);
        print_row(row, rounds.swap_remove(row.rounds / 2));
    }
    client.close().await;
    host.stop(Stop::Everything(Duration::from_secs(60))).await;
    Ok(())
}

fn print_row(row: &Row, mut round: Round) {
    let rate = round.jobs as f64 / round.wall.as_secs_f64();
    let mut millis = |percent| machine::percentile(&mut round.times, percent).as_secs_f64() * 1e3;
    let (p50, p99) = (millis(50), millis(99));
    let each = round.processor.as_secs_f64() * 1e6 / round.jobs as f64;
    let Row { name, jobs, in_flight, batches, .. } = row;
    let in_flight = if *batches { format!("{in_flight}×{BATCH}") } else { in_flight.to_string() };
    println!("{name:<12} {in_flight:>8} {jobs:>9} {rate:>9.0} {p50:>7.2} ms {p99:>7.2} ms {each:>11.1} µs");
}

fn input() -> Vec<u8> {
    b"a line of text that becomes capitals\n".iter().copied().cycle().take(INPUT_BYTES).collect()
}

/// Jobs that are signed one by one.
async fn singles(client: &Client, module: ModuleRef, jobs: usize, in_flight: usize) -> Result<Round> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    let (begun, before) = (Instant::now(), machine::processor_time());
    for _ in 0..in_flight {
        let (client, next) = (client.clone(), Arc::clone(&next));
        let job = Job::new(module).stdin_bytes(input());
        let digest = Digest::of(&input().to_ascii_uppercase());
        workers.spawn(async move {
            let mut times = Vec::new();
            while next.fetch_add(1, Ordering::Relaxed) < jobs {
                let begun = Instant::now();
                let accepted = client.submit(&job).await?;
                end(&client, accepted.job, &digest).await?;
                times.push(begun.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    gather(workers, jobs, begun, before).await
}

/// Jobs of which [`BATCH`] share a signature.
async fn batches(client: &Client, module: ModuleRef, jobs: usize, in_flight: usize) -> Result<Round> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    let (begun, before) = (Instant::now(), machine::processor_time());
    for _ in 0..in_flight {
        let (client, next) = (client.clone(), Arc::clone(&next));
        let template = Job::new(module).stdin_bytes(input());
        let digest = Digest::of(&input().to_ascii_uppercase());
        workers.spawn(async move {
            let mut times = Vec::new();
            while next.fetch_add(BATCH, Ordering::Relaxed) < jobs {
                let begun = Instant::now();
                let variations = (0..BATCH).map(|number| BatchJob::new().args([number.to_string()]));
                let accepted = client.submit_batch(&Batch::new(template.clone()).jobs(variations)).await?;
                let mut waiting = JoinSet::new();
                for one in accepted {
                    let client = client.clone();
                    waiting.spawn(async move {
                        end(&client, one.job, &digest).await?;
                        anyhow::Ok(begun.elapsed())
                    });
                }
                while let Some(time) = waiting.join_next().await {
                    times.push(time.context("a panic")??);
                }
            }
            anyhow::Ok(times)
        });
    }
    gather(workers, jobs, begun, before).await
}

async fn end(client: &Client, job: JobId, output: &Digest) -> Result<()> {
    let finished = client.wait(job).await?;
    ensure!(finished.view.state == JobState::Succeeded, "{finished:?}");
    ensure!(finished.end.stdout.digest == *output, "{finished:?}");
    Ok(())
}

async fn gather(
    mut workers: JoinSet<Result<Vec<Duration>>>,
    jobs: usize,
    begun: Instant,
    before: Duration,
) -> Result<Round> {
    let mut times = Vec::with_capacity(jobs);
    while let Some(done) = workers.join_next().await {
        times.extend(done.context("a panic")??);
    }
    let (wall, processor) = (begun.elapsed(), machine::processor_time().saturating_sub(before));
    ensure!(times.len() == jobs, "{} of {jobs} jobs", times.len());
    Ok(Round { jobs, wall, processor, times })
}
