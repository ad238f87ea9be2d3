//! Running the real binary in directories that go away, with an end that comes in any case.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test file uses its part of this")]

#[path = "../common/guests.rs"]
pub mod guests;

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

pub use guests::CAT;

/// Looks at a child before it is killed; with the pause below, three minutes.
const MAX_LOOKS: u32 = 9_000;
const PAUSE: Duration = Duration::from_millis(20);

/// A data directory, and room for files beside it.
pub struct Place {
    dir: tempfile::TempDir,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// A command that runs.
pub struct Running {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: JoinHandle<Vec<u8>>,
}

impl Place {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Writes a file beside the data directory.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Assembles a module beside the data directory.
    pub fn module(&self, name: &str, text: &str) -> PathBuf {
        self.file(name, wat::parse_str(text).unwrap())
    }

    /// A closed gate for [`GATE`]: an empty directory.
    pub fn gate(&self, name: &str) -> PathBuf {
        let gate = self.dir.path().join(name);
        std::fs::create_dir(&gate).unwrap();
        gate
    }

    /// A command with this data directory, an empty environment and this place as its working directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.args(arguments.iter().take(1)).arg("--dir").arg(self.data()).args(arguments.iter().skip(1));
        // A host does not serve as root by itself, and tests are often run by root.
        if arguments.first() == Some(&"serve") && rustix::process::geteuid().is_root() {
            command.arg("--as-root");
        }
        command.env_clear().current_dir(self.path()).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Said {
        start(&mut self.command(arguments)).finish()
    }

    /// Runs a command to its end with something on its standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Said {
        let mut running = start(self.command(arguments).stdin(Stdio::piped()));
        running.child.stdin.take().unwrap().write_all(input).unwrap();
        running.finish()
    }

    /// A host that serves this place on a free port.
    pub fn serve(&self) -> Serving {
        self.serve_with(&[])
    }

    pub fn serve_with(&self, more: &[&str]) -> Serving {
        self.serve_as(more, |_| {})
    }

    /// A host whose command is changed by `change` before it is started.
    pub fn serve_in(&self, change: impl FnOnce(&mut Command)) -> Serving {
        self.serve_as(&[], change)
    }

    fn serve_as(&self, more: &[&str], change: impl FnOnce(&mut Command)) -> Serving {
        let mut arguments = vec!["serve", "--json", "--listen", "127.0.0.1:0"];
        arguments.extend(more);
        let mut command = self.command(&arguments);
        change(&mut command);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = drain(child.stderr.take().unwrap());
        let mut first = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut first).unwrap();
        let line: serde_json::Value = serde_json::from_str(&first)
            .unwrap_or_else(|error| panic!("{error}: {first:?}, {:?}", child.wait()));
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        let (address, host_key) = (text("listening"), text("host_key"));
        Serving { running: Running { child, stdout: None, stderr }, address, host_key, said: line }
    }
}

/// A host that serves; killed when it is dropped.
pub struct Serving {
    running: Running,
    pub address: String,
    pub host_key: String,
    /// All that it said first.
    pub said: serde_json::Value,
}

impl Serving {
    pub fn pid(&self) -> u32 {
        self.running.child.id()
    }

    /// Asks it to stop and waits for that.
    pub fn stop(self) -> Said {
        self.ask_to_stop();
        self.finish()
    }

    /// Asks it to stop.
    pub fn ask_to_stop(&self) {
        self.running.signal("TERM");
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Said {
        self.running.wait_and_collect()
    }

    /// As a power cut would.
    pub fn kill(mut self) {
        self.running.child.kill().unwrap();
        self.running.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only on the way out of a test; a child that is gone already is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    pub fn finish(mut self) -> Said {
        self.wait_and_collect()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the command is still there.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn wait_and_collect(&mut self) -> Said {
        let status = self.wait();
        let stdout = self.stdout.take().map(|thread| thread.join().unwrap()).unwrap_or_default();
        let stderr = std::mem::replace(&mut self.stderr, std::thread::spawn(Vec::new)).join().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        Said { code: status.code().unwrap_or(-1), stdout, stderr }
    }

    fn wait(&mut self) -> ExitStatus {
        for _ in 0..MAX_LOOKS {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(PAUSE);
        }
        panic!("the command does not end");
    }
}

impl Said {
    pub fn out(&self) -> &str {
        str::from_utf8(&self.stdout).unwrap()
    }

    /// The one JSON document on standard output.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The JSON lines on standard output.
    pub fn lines(&self) -> Vec<serde_json::Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        self.out().lines().map(parse).collect()
    }

    /// Fails the test unless the command exited with `code`.
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// Copies the program. Another process writes: a child of another thread that is just being started would have the open file, too, and a file that somebody
/// may write cannot be run.
pub fn copy_program(to: &Path) {
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_strongroom")).arg(to).status().unwrap();
    assert!(copied.success(), "{}", to.display());
}

pub fn start(command: &mut Command) -> Running {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdout = Some(drain(child.stdout.take().unwrap()));
    let stderr = drain(child.stderr.take().unwrap());
    Running { child, stdout, stderr }
}

fn drain(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).unwrap();
        all
    })
}

/// Looks until `found` finds something, for a bounded time.
pub fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    for _ in 0..MAX_LOOKS {
        if let Some(it) = found() {
            return it;
        }
        std::thread::sleep(PAUSE);
    }
    panic!("waited in vain for {what}");
}

/// Ends with an exit status.
pub fn exit(code: i32) -> String {
    format!(
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const {code}))))"#
    )
}

/// Writes `text`, in WAT's escapes, to descriptor `fd`.
pub fn print(fd: u32, text: &str, length: usize) -> String {
    format!(
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1) (data (i32.const 16) "{text}")
            (func (export "_start")
                (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const {length}))
                (drop (call $write (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
    )
}

/// Runs until there is a file `go` in the directory that it was given, so that a test decides when it ends, however busy the
/// machine is.
pub const GATE: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1) (data (i32.const 256) "go")
    (func (export "_start")
        ;; 20 ms on the monotonic clock between two looks
        (i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const 20000000))
        (loop $closed
            (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
            (br_if $closed (call $open (i32.const 3) (i32.const 0) (i32.const 256) (i32.const 2) (i32.const 0)
                (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 512))))))"#;

/// Never ends by itself.
pub const LOOP: &str = r#"(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))"#;
/// Does what WebAssembly forbids.
pub const TRAP: &str = r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#;
/// Grows its memory as far as it may, then traps.
pub const GROW: &str = r#"(module (memory (export "memory") 1)
    (func (export "_start") (loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable))"#;
