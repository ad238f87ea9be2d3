//! The contest: the same small job done by Strongroom, by what people pick instead, and by its own parts alone, in turns.
//!
//! *Owns:* what a contender is, and the order of rounds. *Never:* compares figures of two runs.

#![allow(clippy::disallowed_methods, reason = "a bench is about the clock")]

pub mod bare;
pub mod ours;
pub mod plot;
pub mod process;
pub mod python;
pub mod table;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;

/// The real program that is every contender's job, where it runs modules.
pub const UPPER: &[u8] = include_bytes!("../../../host/assets/upper.wasm");
/// Its source, for those who run processes.
pub const UPPER_SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../host/assets/upper.rs");
/// Bytes of a job's input.
pub const INPUT_BYTES: usize = 300;
/// The longest time that a histogram knows, in microseconds: ten minutes.
const LONGEST_MICROS: u64 = 600_000_000;

/// The input of each job.
#[must_use]
pub fn input() -> Vec<u8> {
    b"a line of text that becomes capitals\n".iter().copied().cycle().take(INPUT_BYTES).collect()
}

/// What a contender promises besides the answer: without it a rate says nothing.
#[derive(Clone, Copy, Debug)]
pub struct Promises {
    /// Who asked is proven.
    pub signed: &'static str,
    /// What the job can reach.
    pub isolated: &'static str,
    /// What a power cut takes after the answer.
    pub durable: &'static str,
    /// What is known of it later.
    pub logged: &'static str,
}

/// How jobs come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Load {
    /// One after the other, for this long.
    Alone(Duration),
    /// As many as the contender takes at once, in the way that it is fastest, for this long.
    Flood(Duration),
}

/// What one round came to.
#[derive(Clone, Debug)]
pub struct Measure {
    /// Jobs whose answer was seen and right.
    pub jobs: u64,
    /// From the first submission to the last answer.
    pub wall: Duration,
    /// Of each job, in microseconds, from before it is made to its answer; empty where that was not taken.
    pub micros: Histogram<u64>,
}

impl Measure {
    /// Jobs a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.jobs as f64 / self.wall.as_secs_f64()
    }
}

/// A histogram of microseconds with three digits.
///
/// # Errors
/// Never: the bounds are good.
pub fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LONGEST_MICROS, 3).context("the bounds of a histogram")
}

/// Puts a time into a histogram; one that is longer than it knows counts as its longest.
pub fn note(micros: &mut Histogram<u64>, time: Duration) {
    micros.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
}

/// One that does the job.
pub trait Contender {
    /// What it is called in the table, with its version.
    fn name(&self) -> String;
    /// How it was set up.
    fn setting(&self) -> String;
    /// What it promises.
    fn promises(&self) -> Promises;
    /// Does jobs, and checks each answer.
    ///
    /// # Errors
    /// When an answer is wrong or does not come.
    fn work(&mut self, load: Load) -> Result<Measure>;
}

/// A contender that has been through all its rounds.
#[derive(Debug)]
pub struct Entry {
    /// What it is called.
    pub name: String,
    /// How it was set up.
    pub setting: String,
    /// What it promises.
    pub promises: Promises,
    /// Jobs a second, flooded, of each round.
    pub rates: Vec<f64>,
    /// Median of one after the other, in microseconds, of each round.
    pub p50: Vec<f64>,
    /// 99 of 100, the same.
    pub p99: Vec<f64>,
}

/// Lets all work in turns: a round of each, then the next.
///
/// # Errors
/// When one of them fails.
pub fn rounds(
    contenders: &mut [Box<dyn Contender>],
    rounds: usize,
    time: Duration,
    mut tell: impl FnMut(&str),
) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = contenders
        .iter()
        .map(|contender| Entry {
            name: contender.name(),
            setting: contender.setting(),
            promises: contender.promises(),
            rates: Vec::new(),
            p50: Vec::new(),
            p99: Vec::new(),
        })
        .collect();
    // The first round is there to warm up: caches, pools, connections.
    for round in 0..=rounds {
        for (contender, entry) in contenders.iter_mut().zip(&mut entries) {
            let flood = contender.work(Load::Flood(time)).with_context(|| entry.name.clone())?;
            let alone = contender.work(Load::Alone(time / 2)).with_context(|| entry.name.clone())?;
            tell(&format!("round {round} of {rounds}: {:<40} {:>10.0} jobs/s", entry.name, flood.rate()));
            if round == 0 {
                continue;
            }
            entry.rates.push(flood.rate());
            entry.p50.push(alone.micros.value_at_quantile(0.5) as f64);
            entry.p99.push(alone.micros.value_at_quantile(0.99) as f64);
        }
    }
    Ok(entries)
}

/// The middle one of some figures, and the least and the greatest: what a table shows of rounds.
#[must_use]
pub fn spread(figures: &[f64]) -> (f64, f64, f64) {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.first(), sorted.get(sorted.len() / 2), sorted.last()) {
        (Some(least), Some(middle), Some(greatest)) => (*middle, *least, *greatest),
        _ => (f64::NAN, f64::NAN, f64::NAN),
    }
}

/// What a bench of this kind was asked for on its command line.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Rounds that count.
    pub rounds: usize,
    /// How long a round of one takes.
    pub time: Duration,
    /// Whether what comes out goes into the documents.
    pub write: bool,
}

impl Asked {
    /// Reads `--rounds N`, `--seconds S` and `--write`; five rounds of `time` unless said.
    ///
    /// # Errors
    /// When there is something else.
    pub fn parse(time: Duration) -> Result<Self> {
        let mut asked = Self { rounds: 5, time, write: false };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--bench" => {}
                "--write" => asked.write = true,
                "--rounds" => asked.rounds = words.next().context("--rounds N")?.parse()?,
                "--seconds" => {
                    asked.time = Duration::from_secs_f64(words.next().context("--seconds S")?.parse()?);
                }
                other => bail!("{other}: not an option (--rounds N, --seconds S, --write)"),
            }
        }
        Ok(asked)
    }
}
