//! What a host gives up before it serves, and what is left.
//!
//! What is given up cannot be taken back, so whoever tries it is a process of its own: this test binary, run again with one of its tests in a
//! directory that was made for that. Each is run twice, once unconfined: what did not work there either would prove nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

#[path = "../cli_support/mod.rs"]
mod cli_support;
#[allow(dead_code, unreachable_pub, reason = "the host here is started otherwise")]
#[path = "../common/live.rs"]
mod live;

mod broken_sandbox;
mod given_up;
mod handed;
mod serve;
mod told;
mod unit;
mod user;
mod workers;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use strongroom::config::{Config, Confine, Volume};
use strongroom::confine::{Confined, Plan, confine};
use strongroom::home::Home;
use strongroom_job::Access;

/// Lies in a directory that was made for such a process, and says whether it is to be confined. Without it, its test does nothing.
const MARK: &str = "made-for-a-confined-process";

/// A tree with a data directory, two volumes and something else.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for directory in ["read", "write", "outside"] {
            fs::create_dir(tree.path(directory)).unwrap();
            fs::write(tree.path(directory).join("file"), directory).unwrap();
        }
        tree
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    /// Runs `test` of this binary in this directory, and gives what it told.
    fn run(&self, test: &str, confined: bool) -> Told {
        fs::write(self.path(MARK), if confined { "confined" } else { "as it is" }).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([test, "--exact", "--nocapture", "--test-threads", "1"]);
        let output = command.current_dir(self.0.path()).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        Told(text)
    }
}

/// What such a process told.
struct Told(String);

impl Told {
    fn is(&self, what: &str, answer: &str) {
        let line = format!("{what}: {answer}");
        assert!(self.0.lines().any(|told| told == line), "not \"{line}\":\n{}", self.0);
    }
}

/// Where such a process is, and whether it is to confine itself; none in an ordinary run of the tests.
fn asked() -> Option<(PathBuf, bool)> {
    let asked = fs::read_to_string(MARK).ok()?;
    Some((std::env::current_dir().unwrap(), asked == "confined"))
}

/// A line for [`Told`].
fn tell(what: &str, answer: impl std::fmt::Display) {
    // Straight to the pipe: the harness keeps what is printed.
    std::io::stdout().lock().write_all(format!("\n{what}: {answer}\n").as_bytes()).unwrap();
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

/// A configuration of this tree's volumes in which nobody may name a directory.
fn narrow(at: &Path) -> (Home, Config) {
    let home = Home::create(&at.join("data")).unwrap();
    let mut config = Config::load(&home.config()).unwrap();
    config.principals[0].any_directory = false;
    for (name, access) in [("read", Access::Read), ("write", Access::ReadWrite)] {
        let path = at.join(name);
        config.volumes.insert(name.parse().unwrap(), Volume { path, access });
    }
    (home, config)
}

/// As `serve` does it.
fn confined(home: &Home, config: &Config) -> Confined {
    strongroom_runtime::open_kernel_files();
    confine(Plan::of(home.dir(), config, None), Confine::Try).unwrap()
}

/// Whether this kernel has Landlock: asked for its version, it gives one.
fn landlock_version() -> i64 {
    const ASK_FOR_VERSION: u32 = 1;
    let nothing = std::ptr::null::<u8>();
    // SAFETY: with this flag there is nothing to read at the pointer, and nothing is made.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, ASK_FOR_VERSION) }
}

/// Whether this kernel has system call filters.
fn filters() -> bool {
    Path::new("/proc/sys/kernel/seccomp/actions_avail").exists()
}
