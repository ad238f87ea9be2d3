//! `strongroom bench`: what this machine gives, and where the time of a job goes.
//!
//! A host of its own in a new directory, on the disk that is asked about, is given the same small job in three ways, over QUIC like
//! any other. Afterwards the directory is removed. It is no contest: that is `benches/`, which has what others give beside it.

mod load;
mod stages;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use strongroom_job::{Digest, ModuleRef};
use strongroom_sdk::{Client, ConnectOptions, Job};

use crate::clock::Stopwatch;
use crate::config::Config;
use crate::home::Home;
use crate::host::{Host, Stop as Ending};

use super::console::Console;
use super::exit::{Exit, Failure};
use super::local::in_order;
use super::progress;
use super::serve::{compiler, open_many_files};
use super::signal::Stop;
use super::{Common, with_runtime};

use load::{Batches, Singles};
use stages::{Budget, Stages};

/// A real program, Rust on WASI preview 1: it reads 300 bytes of standard input and prints them in capitals. Its source lies beside it.
const PROGRAM: &[u8] = include_bytes!("../../assets/upper.wasm");
/// Bytes of a job's input.
const INPUT_BYTES: usize = 300;
/// Jobs before anything is measured: compiled code, pools and connections are there after them.
const WARM_UP: usize = 100;
/// Writes of which the median is what a durable answer costs at least.
const SYNCS: usize = 100;
/// Time between the steps of the progress bar.
const TICK: Duration = Duration::from_millis(100);
/// What the host may take to end.
const ENDING: Duration = Duration::from_secs(60);

#[derive(Args, Debug)]
pub(super) struct BenchArgs {
    /// Seconds for each of the three parts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Put the host's directory here: what is measured is this disk, too [default: beside the data directory]
    #[arg(long, value_name = "DIR")]
    on: Option<PathBuf>,
    /// Jobs in flight in the part that signs each one
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1000))]
    in_flight: u16,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Figures {
    machine: Machine,
    alone: Budget,
    singles: load::Rate,
    batches: load::Rate,
}

/// What a figure means nothing without.
#[derive(Debug, Serialize)]
struct Machine {
    version: &'static str,
    optimized: bool,
    processor: String,
    processors: usize,
    kernel: String,
    on: PathBuf,
    fdatasync_us: f64,
}

pub(super) fn bench(common: &Common, args: &BenchArgs, console: &Console) -> Result<Exit, Failure> {
    let stages = Stages::install()?;
    let on = match &args.on {
        Some(on) => on.clone(),
        None => nearest(&common.directory()?),
    };
    let dir = tempfile::Builder::new().prefix("strongroom-bench-").tempdir_in(&on);
    let dir = dir.map_err(|error| {
        Failure::fault(format_args!(
            "cannot make a directory in {}: {error}; name another with --on",
            on.display()
        ))
    })?;
    let machine = Machine::describe(dir.path(), on)?;
    let figures = with_runtime(measure(dir.path(), machine, args, &stages, console))?;
    if console.json() {
        console.document(&figures)?;
    } else {
        console.print(figures.words())?;
    }
    Ok(Exit::Status(0))
}

async fn measure(
    dir: &Path,
    machine: Machine,
    args: &BenchArgs,
    stages: &Stages,
    console: &Console,
) -> Result<Figures, Failure> {
    let home = Home::create(&dir.join("host"))?;
    let key = home.client_key()?;
    let mut config = Config::load(&home.config())?;
    config.listen = ([127, 0, 0, 1], 0).into();
    open_many_files();
    let host = Box::pin(Host::start(home.lock()?, config, compiler()?)).await.map_err(Failure::from)?;
    let mut stop = Stop::listen()?;
    let measured = tokio::select! {
        // Its host ends before its directory does.
        () = stop.asked() => Err(Failure::cancelled("stopped")),
        measured = parts(&host, key, args, stages, console) => measured,
        reason = host.failed() => Err(Failure::fault(format_args!("the host had to stop: {reason}"))),
    };
    let ended = in_order(host.stop(Ending::Running(ENDING)).await);
    let (alone, singles, batches) = measured?;
    ended?;
    Ok(Figures { machine, alone, singles, batches })
}

async fn parts(
    host: &Host,
    key: strongroom_job::SecretKey,
    args: &BenchArgs,
    stages: &Stages,
    console: &Console,
) -> Result<(Budget, load::Rate, load::Rate), Failure> {
    let time = Duration::from_secs(args.seconds);
    let options = ConnectOptions::new(host.local_addr(), *host.public_key(), key).without_receipts();
    let client = Client::connect(options).await?;
    let work = Work::new(client.push_module(PROGRAM.to_vec()).await?);
    for _ in 0..WARM_UP {
        work.once(&client).await?;
    }
    let bar = progress::count(console, 3 * args.seconds * 1000);
    let alone = ticking(&bar, time, stages.budget(&client, &work, time)).await?;
    let singles = Singles { in_flight: usize::from(args.in_flight) };
    let singles = ticking(&bar, time, singles.run(&client, &work, time)).await?;
    let batches = ticking(&bar, time, Batches::run(&client, &work, time)).await?;
    bar.finish_and_clear();
    client.close().await;
    Ok((alone, singles, batches))
}

/// Moves the bar while something of a known length goes on.
async fn ticking<T>(
    bar: &ProgressBar,
    time: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let begun = bar.position();
    let whole = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let clock = Stopwatch::start();
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                bar.set_position(begun + whole);
                return done;
            }
            () = tokio::time::sleep(TICK) => {
                let passed = u64::try_from(clock.passed().as_millis()).unwrap_or(u64::MAX);
                bar.set_position(begun + passed.min(whole));
            }
        }
    }
}

/// The job, and what must come of it.
#[derive(Clone, Debug)]
struct Work {
    job: Job,
    output: Digest,
}

impl Work {
    fn new(module: ModuleRef) -> Self {
        let line = b"a line of text that becomes capitals\n";
        let input: Vec<u8> = line.iter().copied().cycle().take(INPUT_BYTES).collect();
        let output = Digest::of(&input.to_ascii_uppercase());
        Self { job: Job::new(module).stdin_bytes(input), output }
    }

    async fn once(&self, client: &Client) -> Result<(), Failure> {
        let accepted = client.submit(&self.job).await?;
        self.end(client, accepted.job).await
    }

    /// Waits for a job of this kind, and looks at what it printed.
    async fn end(&self, client: &Client, job: strongroom_job::JobId) -> Result<(), Failure> {
        let finished = client.wait(job).await?;
        if finished.end.stdout.digest == self.output {
            return Ok(());
        }
        Err(Failure::fault(format_args!(
            "job {job} did not do what it was made for: {}",
            finished.end.outcome
        )))
    }
}

impl Machine {
    fn describe(dir: &Path, on: PathBuf) -> Result<Self, Failure> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpus = read("/proc/cpuinfo");
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            optimized: !cfg!(debug_assertions),
            processor: model.trim_start_matches(['\t', ' ', ':']).to_owned(),
            processors: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            fdatasync_us: sync_floor(dir)
                .map_err(|error| Failure::fault(format_args!("{}: {error}", on.display())))?,
            on,
        })
    }
}

/// The median time of `fdatasync` after 4 KiB were appended, in microseconds.
fn sync_floor(dir: &Path) -> std::io::Result<f64> {
    let path = dir.join("sync");
    let mut file = std::fs::File::create(&path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let clock = Stopwatch::start();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(clock.passed());
    }
    std::fs::remove_file(path)?;
    times.sort_unstable();
    Ok(stages::micros(times[SYNCS / 2]))
}

/// The directory itself, or what it will stand in: asking makes none.
fn nearest(dir: &Path) -> PathBuf {
    let there = dir.ancestors().skip(1).find(|ancestor| ancestor.is_dir());
    there.unwrap_or(Path::new(".")).to_path_buf()
}

impl Figures {
    fn words(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "strongroom {} on {} ({} processors), Linux {}\ndisk of {}: a durable write takes {:.0} µs\n",
            machine.version,
            machine.processor,
            machine.processors,
            machine.kernel,
            machine.on.display(),
            machine.fdatasync_us,
        );
        if !machine.optimized {
            text += "this is a debug build: the figures mean nothing\n";
        }
        text += &self.alone.words();
        text += &format!("{}{}", self.singles.words(), self.batches.words());
        text.trim_end().to_owned()
    }
}
