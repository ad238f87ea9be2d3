//! What people do without a job runner: a process for each job, bare, in a `chroot`, or in bubblewrap's namespaces.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::{Contender, Load, Measure, Promises, UPPER_SOURCE, histogram, input, note};

/// The way in which a process is started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum How {
    /// fork and exec.
    Spawn,
    /// Through `chroot`, which takes root.
    Chroot,
    /// Through bubblewrap, with every namespace that it knows.
    Bubblewrap,
}

/// A process for each job, on as many threads as there are processors.
#[derive(Debug)]
pub struct Process {
    how: How,
    root: TempDir,
    threads: usize,
}

impl Process {
    /// Compiles the program for this machine, alone in a directory.
    ///
    /// # Errors
    /// When there is no compiler, or not the tool that the way needs.
    pub fn new(how: How) -> Result<Self> {
        let root = tempfile::tempdir()?;
        let built = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
            .args(["--edition", "2024", "-C", "opt-level=3", "-C", "target-feature=+crt-static", "-o"])
            .arg(root.path().join("upper"))
            .arg(UPPER_SOURCE)
            .status()
            .context("rustc")?;
        ensure!(built.success(), "the program does not compile for this machine");
        let contender = Self { how, root, threads: std::thread::available_parallelism()?.get() };
        contender.one().with_context(|| format!("{how:?} does not work here"))?;
        Ok(contender)
    }

    fn command(&self) -> Command {
        let root: &Path = self.root.path();
        match self.how {
            How::Spawn => Command::new(root.join("upper")),
            How::Chroot => {
                let mut command = Command::new(PathBuf::from("chroot"));
                command.arg(root).arg("/upper");
                command
            }
            How::Bubblewrap => {
                let mut command = Command::new("bwrap");
                command
                    .args(["--unshare-all", "--die-with-parent", "--ro-bind"])
                    .arg(root)
                    .args(["/", "/upper"]);
                command
            }
        }
    }

    fn one(&self) -> Result<()> {
        let mut child = self.command().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        child.stdin.take().context("a pipe")?.write_all(&input())?;
        let mut output = Vec::new();
        child.stdout.take().context("a pipe")?.read_to_end(&mut output)?;
        ensure!(child.wait()?.success() && output == input().to_ascii_uppercase(), "a wrong answer");
        Ok(())
    }

    fn until(&self, threads: usize, time: Duration) -> Result<Measure> {
        let begun = Instant::now();
        let mut micros = histogram()?;
        let each = std::thread::scope(|scope| {
            let work = || {
                let mut micros = histogram()?;
                while begun.elapsed() < time {
                    let at = Instant::now();
                    self.one()?;
                    note(&mut micros, at.elapsed());
                }
                anyhow::Ok(micros)
            };
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().map(|worker| worker.join().expect("no panic")).collect::<Result<Vec<_>>>()
        })?;
        for one in each {
            micros.add(one)?;
        }
        Ok(Measure { jobs: micros.len(), wall: begun.elapsed(), micros })
    }
}

impl Contender for Process {
    fn name(&self) -> String {
        match self.how {
            How::Spawn => "a process for each job".into(),
            How::Chroot => "… in a chroot".into(),
            How::Bubblewrap => format!("… in {}", version("bwrap", "--version")),
        }
    }

    fn setting(&self) -> String {
        let program = "the same program, static, native";
        match self.how {
            How::Spawn => format!("{program}; {} at once", self.threads),
            How::Chroot => format!("`chroot DIR /upper`, as root; {} at once", self.threads),
            How::Bubblewrap => format!("`bwrap --unshare-all --ro-bind DIR /`; {} at once", self.threads),
        }
    }

    fn promises(&self) -> Promises {
        let isolated = match self.how {
            How::Spawn => "no",
            How::Chroot => "files only, and root can leave",
            How::Bubblewrap => "namespaces, one kernel",
        };
        Promises { signed: "no", isolated, durable: "nothing is kept", logged: "no" }
    }

    fn work(&mut self, load: Load) -> Result<Measure> {
        match load {
            Load::Alone(time) => self.until(1, time),
            Load::Flood(time) => self.until(self.threads, time),
        }
    }
}

/// The first line that a program says of its version.
pub(super) fn version(program: &str, flag: &str) -> String {
    let output = Command::new(program).arg(flag).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or(program).trim().to_owned()
}
