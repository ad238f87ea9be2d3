//! The task queues that people pick: Celery and Dramatiq, each with a Redis of its own, started and stopped here.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use super::{Contender, Load, Measure, Promises, histogram, note, process};

/// The scripts that drive them.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");
/// How long a server may take to start.
const START: Duration = Duration::from_secs(30);
/// Processes that do jobs; as many as the machine had processors where this was set up, and the fastest there.
const WORKERS: &str = "2";

/// Which queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Queue {
    /// Celery 5, prefork.
    Celery,
    /// Dramatiq 2, processes.
    Dramatiq,
}

/// When Redis writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Aof {
    /// Once a second: a power cut takes a second's answers.
    EverySecond,
    /// Before each answer.
    Always,
}

/// An environment of Python with the pinned peers in it, made when it is not there.
///
/// # Errors
/// When there is no `python3` with `venv`, or the packages cannot be had.
pub fn environment(dir: &Path) -> Result<PathBuf> {
    let python = dir.join("bin/python");
    let requirements = Path::new(SCRIPTS).join("requirements.txt");
    let made = dir.join("made");
    if std::fs::read(&made).ok() == std::fs::read(&requirements).ok() {
        return Ok(dir.to_path_buf());
    }
    let run = |command: &mut Command| -> Result<()> {
        ensure!(command.status().context("python3")?.success(), "{command:?} failed");
        Ok(())
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(dir))?;
    run(Command::new(python).args(["-m", "pip", "install", "-q", "-r"]).arg(&requirements))?;
    std::fs::copy(requirements, made)?;
    Ok(dir.to_path_buf())
}

/// A queue, its broker, its workers and a driver.
#[derive(Debug)]
pub struct Python {
    queue: Queue,
    aof: Aof,
    version: String,
    driver: Ended,
    lines: BufReader<ChildStdout>,
    orders: ChildStdin,
    // Dropped in this order: nobody loses his broker before he ends.
    _workers: Ended,
    _redis: Ended,
    _dir: TempDir,
}

impl Python {
    /// Starts all of it.
    ///
    /// # Errors
    /// When Redis is not installed, or one of them does not start.
    pub fn start(queue: Queue, aof: Aof, environment: &Path) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        // Free a moment ago: the best that can be had without a socket in a file, which Dramatiq's guide does not use.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let fsync = match aof {
            Aof::EverySecond => "everysec",
            Aof::Always => "always",
        };
        let redis = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync", fsync])
            .args(["--port", &port.to_string(), "--dir"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .map(Ended)
            .context("redis-server: `apt install redis-server`")?;
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            ensure!(begun.elapsed() < START, "Redis does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        let bin = environment.join("bin");
        let (mut workers, script, package) = match queue {
            Queue::Celery => {
                let mut command = Command::new(bin.join("celery"));
                command.args(["-A", "celery_app", "worker", "-P", "prefork", "-c", WORKERS, "-l", "error"]);
                command.args(["--without-gossip", "--without-mingle", "--without-heartbeat"]);
                (command, "celery_drive.py", "celery")
            }
            Queue::Dramatiq => {
                let mut command = Command::new(bin.join("dramatiq"));
                command.args(["dramatiq_app", "-p", WORKERS, "-t", "1"]);
                (command, "dramatiq_drive.py", "dramatiq")
            }
        };
        let surround = |command: &mut Command| {
            command.current_dir(SCRIPTS).env("STRONGROOM_BENCH_REDIS", port.to_string());
            command.env("PYTHONDONTWRITEBYTECODE", "1").stderr(Stdio::null());
        };
        surround(&mut workers);
        let workers =
            workers.stdin(Stdio::null()).stdout(Stdio::null()).spawn().map(Ended).context(package)?;
        let mut driver = Command::new(bin.join("python"));
        surround(&mut driver);
        let mut driver = driver
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let orders = driver.stdin.take().context("a pipe")?;
        let lines = BufReader::new(driver.stdout.take().context("a pipe")?);
        let told = Command::new(bin.join("python"))
            .args(["-c", &format!("import importlib.metadata as m; print(m.version('{package}'))")])
            .output()?;
        let version = String::from_utf8_lossy(&told.stdout).trim().to_owned();
        Ok(Self {
            queue,
            aof,
            version,
            driver: Ended(driver),
            lines,
            orders,
            _workers: workers,
            _redis: redis,
            _dir: dir,
        })
    }
}

impl Contender for Python {
    fn name(&self) -> String {
        let fsync = match self.aof {
            Aof::EverySecond => "each second",
            Aof::Always => "always",
        };
        format!("{:?} {} + Redis, AOF {fsync}", self.queue, self.version)
    }

    fn setting(&self) -> String {
        let redis = process::version("redis-server", "--version");
        let redis =
            redis.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("?").to_owned();
        let workers = match self.queue {
            Queue::Celery => "prefork, 64 prefetched, no events",
            Queue::Dramatiq => "processes, a thread each",
        };
        format!("{WORKERS} workers: {workers}; groups of 250, 4 in flight; Redis {redis}")
    }

    fn promises(&self) -> Promises {
        let durable = match self.aof {
            Aof::EverySecond => "a second's answers may go",
            Aof::Always => "`fsync` by Redis; a worker's crash loses what it prefetched",
        };
        Promises { signed: "no", isolated: "no", durable, logged: "no" }
    }

    fn work(&mut self, load: Load) -> Result<Measure> {
        let (word, time) = match load {
            Load::Alone(time) => ("alone", time),
            Load::Flood(time) => ("flood", time),
        };
        writeln!(self.orders, "{word} {}", time.as_secs_f64())?;
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            bail!("the driver ended: {:?}", self.driver.0.wait()?);
        }
        let answer: Answer = serde_json::from_str(&line)?;
        let mut micros = histogram()?;
        for time in answer.micros {
            note(&mut micros, Duration::from_secs_f64(time / 1e6));
        }
        Ok(Measure { jobs: answer.jobs, wall: Duration::from_secs_f64(answer.seconds), micros })
    }
}

/// A line of a driver.
#[derive(serde::Deserialize)]
struct Answer {
    jobs: u64,
    seconds: f64,
    micros: Vec<f64>,
}

/// A process that is ended with whoever started it: asked first, so that workers take their own children along.
#[derive(Debug)]
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
