//! What the log costs whoever wants it proven: a proof from tiles, a receipt, a check of all of it.
//!
//! `cargo bench -p strongroom-benches --bench proof [-- RECORDS…]`, 10,000,000 unless said. Writes such a log of short records into a
//! temporary directory, which takes about 80 bytes of disk a record, by the writer that hosts use, and prints
//!
//! * `write`: time and bytes of the log, records each second, with all the syncs that a host makes;
//! * `prove`: time from the index of a record to its checked inclusion proof, read from files, for records at random places; once with
//!   a reader that is open, once with the checkpoint read and believed first, as for a receipt;
//! * `receipt`: time from two indices to a signed receipt, and to its belief; its bytes;
//! * `verify`: the whole log, every byte and hash, records each second;
//! * `a job`: bytes of the log for the three records of an ordinary job.

#![allow(clippy::disallowed_methods, reason = "a bench is about the clock")]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use strongroom::audit::read::LogReader;
use strongroom::audit::verify::{Observer, Options, verify_dir};
use strongroom::audit::writer::Log;
use strongroom_benches::machine;
use strongroom_job::merkle::LeafIndex;
use strongroom_job::receipt::{Parts, Proven, Receipt};
use strongroom_job::{
    Digest, Event, GrantRecord, JobId, Limits, ModuleRef, Outcome, OutputSummary, Record, SecretKey,
    Timestamp, Usage,
};

/// Records of the log, unless said otherwise.
const RECORDS: u64 = 10_000_000;
/// Two of a job stand in it, apart.
const LEAST: u64 = 202;
/// Records of one publication: the most that the writer takes.
const PUBLICATION: u64 = 65_536;
/// Proofs and receipts that are timed.
const PROOFS: u64 = 2_000;

fn main() -> Result<()> {
    // `cargo test` builds and starts benches too; they have nothing to prove there.
    if !std::env::args().any(|arg| arg == "--bench") {
        return Ok(());
    }
    print!("{}", machine::describe());
    let key = key(7);
    for records in machine::numbers(&[RECORDS]).context("only numbers are asked for")? {
        let records = records.max(LEAST);
        let dir = tempfile::tempdir()?;
        let log = dir.path().join("audit");
        std::fs::create_dir(&log)?;
        write(&log, records, &key)?;
        prove(&log, records)?;
        receipts(&log, records)?;
        verify(&log, records)?;
    }
    a_job();
    Ok(())
}

fn key(byte: u8) -> SecretKey {
    SecretKey::from_seed(&[byte; 32].into())
}

/// Two records of one job stand among the many: near the beginning, and in the middle.
const fn places(records: u64) -> (u64, u64) {
    (100, records / 2)
}

fn leaf(index: u64, records: u64) -> Vec<u8> {
    let (admitted, finished) = places(records);
    match index {
        index if index == admitted => Record::new(Timestamp::from_millis(index), admission()).to_leaf(),
        index if index == finished => Record::new(Timestamp::from_millis(index), end()).to_leaf(),
        // Short: a bench of proofs, not of disks.
        _ => format!("{{\"record\":{index}}}").into_bytes(),
    }
}

fn write(dir: &Path, records: u64, key: &SecretKey) -> Result<()> {
    let mut log = Log::create(dir, "example.com/bench".parse()?, key.clone())?;
    let start = Instant::now();
    let mut from = 0;
    while from < records {
        let to = (from + PUBLICATION).min(records);
        log.publish(LeafIndex::new(from), (from..to).map(|index| leaf(index, records)))?;
        from = to;
    }
    let took = start.elapsed();
    let bytes = machine::disk_bytes(dir)?;
    println!(
        "write    {records} records in {:.1} s, {:.0} a second; {:.0} MB, {:.1} bytes a record",
        took.as_secs_f64(),
        rate(records, took),
        mega(bytes),
        per(bytes, records)
    );
    Ok(())
}

fn prove(dir: &Path, records: u64) -> Result<()> {
    let reader = LogReader::open(dir, None)?;
    let mut open = Vec::new();
    let mut fresh = Vec::new();
    let mut hashes = 0;
    for index in random(records).take(usize::try_from(PROOFS)?) {
        let start = Instant::now();
        let (proof, _) = reader.prove(LeafIndex::new(index))?;
        open.push(start.elapsed());
        hashes = hashes.max(proof.hashes().len());
        let start = Instant::now();
        LogReader::open(dir, None)?.prove(LeafIndex::new(index))?;
        fresh.push(start.elapsed());
    }
    println!("prove    reader open  {}; {hashes} hashes at most", spread(&mut open));
    println!("prove    from nothing {}", spread(&mut fresh));
    Ok(())
}

fn receipts(dir: &Path, records: u64) -> Result<()> {
    let (admitted, finished) = places(records);
    let host = key(8);
    let (mut issued, mut believed, mut bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..PROOFS {
        let start = Instant::now();
        let reader = LogReader::open(dir, None)?;
        let under = reader.covering(LeafIndex::new(finished))?;
        let proven = |index| -> Result<Proven> {
            let (proof, leaf) = reader.prove_under(LeafIndex::new(index), &under)?;
            Ok(Proven { index, leaf, hashes: proof.hashes().to_vec() })
        };
        let parts = Parts {
            version: "bench",
            log: reader.verifier().clone(),
            admitted: proven(admitted)?,
            finished: proven(finished)?,
            opening: None,
            started_at: None,
            input: None,
            checkpoint: under.signed().clone(),
            envelope: None,
        };
        let file = Receipt::issue(parts, &host)?.to_bytes();
        issued.push(start.elapsed());
        bytes = file.len();
        let start = Instant::now();
        Receipt::parse(&file)?.verify(&host.public(), Some(reader.verifier()))?;
        believed.push(start.elapsed());
    }
    println!("receipt  issue        {}; {bytes} bytes", spread(&mut issued));
    println!("receipt  verify       {}", spread(&mut believed));
    Ok(())
}

/// Watches nothing.
struct Quiet;

impl Observer for Quiet {}

fn verify(dir: &Path, records: u64) -> Result<()> {
    let start = Instant::now();
    let options = Options { key: None, known: None, live: false };
    verify_dir(dir, &options, &mut Quiet).map_err(|error| anyhow::anyhow!("{error}"))?;
    let took = start.elapsed();
    println!(
        "verify   {records} records in {:.1} s, {:.0} a second",
        took.as_secs_f64(),
        rate(records, took)
    );
    Ok(())
}

/// Leaves with their two bytes of length, and the hashes of a leaf and of its share of the tiles above.
fn a_job() {
    let started = Event::Started { job: job(), attempt: 1 };
    let leaves = [admission(), started, end()]
        .map(|event| Record::new(Timestamp::from_millis(1_700_000_000_000), event).to_leaf().len() + 2);
    let hashes = leaves.len() * 32 * 256 / 255;
    let total = leaves.iter().sum::<usize>() + hashes;
    println!("a job    {total} bytes: records of {leaves:?}, {hashes} of hashes");
}

const fn job() -> JobId {
    JobId::from_bytes([7; 16])
}

fn admission() -> Event {
    Event::Admitted {
        job: job(),
        principal: key(9).public(),
        tenant: "tenant".parse().unwrap_or_else(|_| strongroom_job::Name::default_name()),
        envelope: Digest::of(b"envelope"),
        module: ModuleRef { digest: Digest::of(b"module"), length: 100_000 },
        grant: GrantRecord { clock: true, random: true, ..GrantRecord::default() },
        limits: Limits::default(),
    }
}

fn end() -> Event {
    let output = OutputSummary { length: 1000, digest: Digest::of(b"output") };
    Event::Finished {
        job: job(),
        attempt: 1,
        outcome: Outcome::Exited { code: 0 },
        usage: Usage { wall_us: 12_345, cpu_us: 6_789, peak_memory_bytes: 1 << 20, ..Usage::default() },
        stdout: output.into(),
        stderr: OutputSummary::nothing().into(),
        denied: Vec::new(),
        artifacts: Vec::new(),
        result: None,
        dead: None,
    }
}

/// Places all over the log, the same in every run.
fn random(records: u64) -> impl Iterator<Item = u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % records
    })
}

fn spread(times: &mut [Duration]) -> String {
    let mut at = |percent| machine::percentile(times, percent).as_micros();
    format!("least {} µs, median {} µs, 99 % {} µs", at(0), at(50), at(99))
}

#[expect(clippy::cast_precision_loss, reason = "printed with few digits")]
fn rate(records: u64, took: Duration) -> f64 {
    records as f64 / took.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "printed with few digits")]
fn per(bytes: u64, records: u64) -> f64 {
    bytes as f64 / records as f64
}

#[expect(clippy::cast_precision_loss, reason = "printed with few digits")]
fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
