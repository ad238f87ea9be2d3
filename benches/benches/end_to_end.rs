//! Small jobs from the client's signature to the durable, logged result: over QUIC on loopback, client and host in one
//! process on the same cores, state on the disk of the temporary directory.
//!
//! `cargo bench -p strongroom-benches --bench end_to_end [-- ROW…]`. Prints a table. Rows `single-N` and `batch-N` have N jobs, or batches, in flight; a row `rate-N` has N jobs a second come at a fixed rate, each
//! timed from when it was due, and says what the disk and the hypervisor did meanwhile; in a row `payload-N` a job has N bytes of input, and as many of output, 16 in flight. With `TMPDIR` on a file system in memory it shows what is left when the disk costs nothing. The job is a real program,
//! `host/assets/upper.wasm`: Rust on WASI preview 1, it reads 300 bytes of stdin and prints them in capitals. Every job's end is
//! asked for by its client, and its output is held against what it must be by its digest.

#![allow(clippy::disallowed_methods, reason = "a bench is about the clock")]

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use strongroom_benches::contest::Measure;
use strongroom_benches::contest::ours::{BATCH, Site};
use strongroom_benches::contest::table::time;
use strongroom_benches::machine::{self, DiskWatch};

/// Jobs or batches in flight, each with a task of its own in this process.
const MAX_IN_FLIGHT: usize = 100_000;
/// Rounds of each row; the median counts.
const ROUNDS: usize = 3;

/// One row of the table.
struct Row<'a> {
    name: &'a str,
    /// How long a round takes.
    time: Duration,
    /// Jobs, or batches, in flight.
    in_flight: usize,
    load: Load,
}

#[derive(Clone, Copy)]
enum Load {
    Singles,
    Batches,
    /// Jobs a second.
    Rate(f64),
    /// Bytes of input.
    Payload(usize),
}

/// The rows, unless others are asked for.
const ROWS: [&str; 5] = ["alone", "single-64", "single-1000", "batch-1", "batch-8"];

fn main() -> Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    // `cargo test` builds and starts benches too; they have nothing to prove there.
    if !std::env::args().any(|arg| arg == "--bench") {
        return Ok(());
    }
    let names = if asked.is_empty() { ROWS.to_vec() } else { asked.iter().map(String::as_str).collect() };
    let rows = names.into_iter().map(row).collect::<Result<Vec<_>>>()?;
    let dir = tempfile::tempdir()?;
    print!("{}", machine::describe());
    println!(
        "fdatasync  {:.0} µs after 4 KiB, median\n",
        machine::sync_floor(dir.path()).as_secs_f64() * 1e6
    );
    let site = Site::start(&Arc::new(tokio::runtime::Builder::new_multi_thread().enable_all().build()?))?;
    // Compiles, fills the pool, warms the caches.
    site.singles(32, Duration::from_millis(500))?;
    println!(
        "{:<12} {:>8} {:>9} {:>9} {:>10} {:>10} {:>14}",
        "", "in flight", "jobs", "jobs/s", "p50", "p99", "processor/job"
    );
    for row in rows {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let watch = matches!(row.load, Load::Rate(_)).then(|| DiskWatch::start(dir.path()));
            let (before, stolen_before) = (machine::processor_time(), machine::stolen());
            let measure = match row.load {
                Load::Singles => site.singles(row.in_flight, row.time)?,
                Load::Batches => site.batches(row.in_flight, row.time)?,
                Load::Rate(rate) => site.at_rate(rate, row.time)?,
                Load::Payload(bytes) => site.payload(bytes, row.in_flight, row.time)?,
            };
            let processor = machine::processor_time().saturating_sub(before);
            let stolen = machine::stolen().saturating_sub(stolen_before);
            rounds.push((measure, processor, watch.map(|watch| (watch.longest(), stolen))));
            // What the last round left to publish is not the next one's to pay.
            std::thread::sleep(Duration::from_millis(500));
        }
        // At a given rate all of them have that rate.
        match row.load {
            Load::Rate(_) => rounds.sort_by_key(|(one, ..)| one.micros.value_at_quantile(0.99)),
            Load::Singles | Load::Batches | Load::Payload(_) => {
                rounds.sort_by(|(one, ..), (other, ..)| one.rate().total_cmp(&other.rate()));
            }
        }
        let (measure, processor, _) = &rounds[ROUNDS / 2];
        print_row(&row, measure, *processor);
        let told = rounds.iter().filter_map(|(measure, _, meanwhile)| {
            let (disk, stolen) = meanwhile.as_ref()?;
            let p99 = time(measure.micros.value_at_quantile(0.99) as f64);
            Some(format!("{p99} ({}, {} ms)", time(disk.as_secs_f64() * 1e6), stolen.as_millis()))
        });
        let told: Vec<String> = told.collect();
        if !told.is_empty() {
            println!(
                "{:<12} p99 of each round, sorted (longest sync of a file beside it, processor time that the hypervisor gave to others): {}",
                "",
                told.join(", ")
            );
        }
    }
    Ok(())
}

/// The row of this name.
fn row(name: &str) -> Result<Row<'_>> {
    let (time, in_flight) = (Duration::from_secs(4), 0);
    match name.rsplit_once('-').map(|(kind, number)| (kind, number.parse())) {
        None if name == "alone" => Ok(Row { name, time, in_flight: 1, load: Load::Singles }),
        Some(("single", Ok(in_flight @ 1..=MAX_IN_FLIGHT))) => {
            Ok(Row { name, time, in_flight, load: Load::Singles })
        }
        Some(("batch", Ok(in_flight @ 1..=MAX_IN_FLIGHT))) => {
            Ok(Row { name, time, in_flight, load: Load::Batches })
        }
        Some(("rate", Ok(rate @ 1..))) => {
            Ok(Row { name, time: Duration::from_secs(6), in_flight, load: Load::Rate(rate as f64) })
        }
        Some(("payload", Ok(bytes))) => Ok(Row { name, time, in_flight: 16, load: Load::Payload(bytes) }),
        _ => bail!(
            "there is no row {name}: ask for alone, single-N or batch-N with N in flight, at most {MAX_IN_FLIGHT}, rate-N with N jobs a second, or payload-N with N bytes"
        ),
    }
}

fn print_row(row: &Row<'_>, measure: &Measure, processor: Duration) {
    let part = |part| time(measure.micros.value_at_quantile(part) as f64);
    let each = processor.as_secs_f64() * 1e6 / measure.jobs as f64;
    let in_flight = match row.load {
        Load::Singles | Load::Payload(_) => row.in_flight.to_string(),
        Load::Batches => format!("{}×{BATCH}", row.in_flight),
        Load::Rate(_) => "as due".into(),
    };
    println!(
        "{:<12} {in_flight:>8} {:>9} {:>9.0} {:>10} {:>10} {each:>11.1} µs",
        row.name,
        measure.jobs,
        measure.rate(),
        part(0.5),
        part(0.99)
    );
}
