//! How soon a guest that is started from the command line says something, and what a host has in memory that does nothing.
//!
//! `cargo build --release && cargo bench -p strongroom-benches --bench cold_start [-- ROUNDS]`, 40 rounds unless said. It starts the release binary that
//! lies beside its own. Prints, in turns in one run:
//!
//! * `embedded`: `strongroom run` of a module that was compiled before, in a directory that nobody serves: from the start of the process to the first
//!   byte of the guest's output, and to its end. Between the two the host that was inside ends in order;
//! * `served`: the same beside `strongroom serve` of the directory;
//! * `version`: `strongroom --version`: what the process alone takes;
//! * the resident memory of `strongroom serve` that has started and has nothing to do, and the length of the binary.

#![allow(clippy::disallowed_methods, reason = "a bench is about the clock")]

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use strongroom::home::Home;
use strongroom_benches::contest::{UPPER, input};
use strongroom_benches::machine;
use strongroom_benches::serving::Serving;
use tempfile::TempDir;

/// Starts of each kind, unless said otherwise.
const ROUNDS: usize = 40;
/// After so long a host that has nothing to do has done what a start leaves to be done.
const SETTLED: Duration = Duration::from_secs(3);
/// Longest start of a host.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test` builds and starts benches too; they have nothing to prove there.
    if !args.iter().any(|arg| arg == "--bench") {
        return Ok(());
    }
    let rounds = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(ROUNDS);
    print!("{}", machine::describe());
    let bench = Bench::new()?;
    println!("binary     {} bytes\n", std::fs::metadata(&bench.binary)?.len());
    println!("{:<10} {:>14} {:>14} {:>12} {:>12}", "", "first output", "slowest", "the end", "slowest");
    let (alone, served) = (bench.directory()?, bench.directory()?);
    let host = bench.serve(served.path())?;
    let mut columns = ["embedded", "served", "version"].map(|name| Column { name, times: Vec::new() });
    for _ in 0..rounds {
        let [embedded, beside, version] = &mut columns;
        embedded.times.push(bench.run(alone.path())?);
        beside.times.push(bench.run(served.path())?);
        version.times.push(bench.timed(Command::new(&bench.binary).arg("--version"))?.0);
    }
    for column in &columns {
        column.tell();
    }
    drop(host);
    let idle = bench.directory()?;
    let host = bench.serve(idle.path())?;
    std::thread::sleep(SETTLED);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("\nidle host  {:.1} MiB resident", mib(machine::resident(host.0.id())));
    Ok(())
}

/// Times of one kind of start.
struct Column {
    name: &'static str,
    times: Vec<Times>,
}

impl Column {
    fn tell(&self) {
        let of = |pick: fn(&Times) -> Duration| {
            let mut times: Vec<Duration> = self.times.iter().map(pick).collect();
            [50, 100].map(|percent| machine::percentile(&mut times, percent).as_secs_f64() * 1e3)
        };
        let ([first, slowest], [end, last]) = (of(|times| times.first), of(|times| times.end));
        println!("{:<10} {first:>11.1} ms {slowest:>11.1} ms {end:>9.1} ms {last:>9.1} ms", self.name);
    }
}

/// From the start of a process.
struct Times {
    /// To the first byte of its standard output.
    first: Duration,
    /// To its end.
    end: Duration,
}

struct Bench {
    binary: PathBuf,
    files: TempDir,
}

impl Bench {
    fn new() -> Result<Self> {
        let own = std::env::current_exe()?;
        let binary = own.parent().and_then(Path::parent).context("a target directory")?.join("strongroom");
        ensure!(binary.exists(), "there is no {}: cargo build --release", binary.display());
        let files = tempfile::tempdir()?;
        std::fs::write(files.path().join("input"), input())?;
        std::fs::write(files.path().join("upper.wasm"), UPPER)?;
        Ok(Self { binary, files })
    }

    /// A data directory that has compiled the module.
    fn directory(&self) -> Result<TempDir> {
        let dir = tempfile::tempdir()?;
        self.run(dir.path())?;
        Ok(dir)
    }

    /// Runs the module in a data directory.
    fn run(&self, dir: &Path) -> Result<Times> {
        let mut command = Command::new(&self.binary);
        command.arg("--dir").arg(dir).arg("run").arg("--input").arg(self.files.path().join("input"));
        let (times, said) = self.timed(command.arg(self.files.path().join("upper.wasm")))?;
        ensure!(said == input().to_ascii_uppercase(), "a wrong answer");
        Ok(times)
    }

    fn timed(&self, command: &mut Command) -> Result<(Times, Vec<u8>)> {
        let mut said = vec![0];
        let begun = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut out = child.stdout.take().context("a pipe")?;
        out.read_exact(&mut said)?;
        let first = begun.elapsed();
        out.read_to_end(&mut said)?;
        ensure!(child.wait()?.success(), "it failed");
        Ok((Times { first, end: begun.elapsed() }, said))
    }

    /// Serves a data directory, and waits until it does.
    fn serve(&self, dir: &Path) -> Result<Serving> {
        let mut command = Command::new(&self.binary);
        command.arg("--dir").arg(dir).arg("serve").stdout(Stdio::null()).stderr(Stdio::null());
        if std::fs::metadata("/proc/self")?.uid() == 0 {
            // The directories are root's, then.
            command.arg("--as-root");
        }
        let mut host = Serving(command.spawn()?);
        let begun = Instant::now();
        while Home::open(dir)?.live()?.is_none() {
            ensure!(host.0.try_wait()?.is_none() && begun.elapsed() < PATIENCE, "the host does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(host)
    }
}
