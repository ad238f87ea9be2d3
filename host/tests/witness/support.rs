//! Processes that say where they listen, HTTP as plain text, and logs with two stories.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use serde_json::Value;
use strongroom::audit::read::LogReader;
use strongroom::audit::writer::Log;
use strongroom_job::cosignature::CosignerKey;
use strongroom_job::merkle::{LeafIndex, TreeSize};
use strongroom_job::note::{KeyName, VerifierKey};
use strongroom_job::witness::AddCheckpoint;
use strongroom_job::{Digest, Event, Record, SecretKey, Timestamp};
use zeroize::Zeroizing;

/// A process that said where it listens. Killed when it is dropped.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) said: Value,
    stderr: Option<JoinHandle<String>>,
}

impl Daemon {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.args(arguments).env_clear().stdin(Stdio::null());
        // A host does not serve as root by itself, and tests are often run by root.
        if arguments.first() == Some(&"serve") && rustix::process::geteuid().is_root() {
            command.arg("--as-root");
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut all = String::new();
            errors.read_to_string(&mut all).unwrap();
            all
        });
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        if first.is_empty() {
            panic!("{arguments:?} ended: {}", stderr.join().unwrap());
        }
        Self { child, said: serde_json::from_str(&first).unwrap(), stderr: Some(stderr) }
    }

    pub(crate) fn address(&self, key: &str) -> SocketAddr {
        self.said[key].as_str().unwrap().parse().unwrap()
    }

    /// Asks it to stop, and gives what it wrote to standard error.
    pub(crate) fn stop(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        let said = self.stderr.take().unwrap().join().unwrap();
        assert!(status.success(), "{said}");
        said
    }

    /// As a power switch would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A witness process.
pub(crate) struct Witness(pub(crate) Daemon);

impl Witness {
    pub(crate) fn start(dir: &Path, log: &str) -> Self {
        let dir = dir.to_str().unwrap();
        let all = ["witness", "--json", "--dir", dir, "--listen", "127.0.0.1:0", "--log", log];
        Self(Daemon::start(&all))
    }

    pub(crate) fn key(&self) -> CosignerKey {
        self.0.said["witness_key"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address("listening")
    }

    /// Puts a request before it.
    pub(crate) fn add(&self, request: &AddCheckpoint) -> Http {
        post(self.address(), "/add-checkpoint", request.to_string().as_bytes())
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) status: u16,
    /// In lowercase, as they came.
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

impl Http {
    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn has(&self, header: &str) -> bool {
        self.headers.lines().any(|line| line == header)
    }
}

pub(crate) fn post(address: SocketAddr, path: &str, body: &[u8]) -> Http {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    exchange(address, &[head.as_bytes(), body].concat())
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Http {
    ask(address, "GET", path)
}

pub(crate) fn ask(address: SocketAddr, method: &str, path: &str) -> Http {
    exchange(address, format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
}

/// Sends bytes and reads until the other side closes.
pub(crate) fn exchange(address: SocketAddr, request: &[u8]) -> Http {
    let mut stream = TcpStream::connect(address).unwrap();
    // Who refuses in the middle of a request may have closed.
    let _ = stream.write_all(request);
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let gap = all.windows(4).position(|four| four == b"\r\n\r\n");
    let Some(gap) = gap else { return Http { status: 0, headers: String::new(), body: all } };
    let headers = String::from_utf8(all[..gap].to_vec()).unwrap().to_lowercase().replace('\r', "");
    let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
    Http { status, headers, body: all[gap + 4..].to_vec() }
}

/// The key that both stories are signed with.
pub(crate) fn log_key() -> SecretKey {
    SecretKey::from_seed(&Zeroizing::new([0x44; 32]))
}

pub(crate) fn origin() -> KeyName {
    "strongroom.example/two-stories".parse().unwrap()
}

pub(crate) fn log_verifier() -> VerifierKey {
    VerifierKey::new(origin(), log_key().public())
}

/// Where the stories part.
pub(crate) const FORK: u64 = 5;

/// A record of a story: the same in all of them below [`FORK`].
fn record(story: &str, index: u64) -> Vec<u8> {
    let story = if index < FORK { "" } else { story };
    let (host, config) = (log_key().public(), Digest::of(story.as_bytes()));
    let event = Event::HostStarted { host, version: "0".into(), config };
    Record { v: 1, time: Timestamp::from_millis(1_800_000_000_000 + index), event }.to_leaf()
}

/// Tells a story up to `size` records, with the real writer; goes on where the directory ends.
pub(crate) fn tell(dir: &Path, story: &str, size: u64) {
    let mut log = match dir.join("checkpoint").exists() {
        true => Log::open(dir, origin(), log_key()).unwrap(),
        false => Log::create(dir, origin(), log_key()).unwrap(),
    };
    let from = log.size().get();
    log.publish(LeafIndex::new(from), (from..size).map(|index| record(story, index))).unwrap();
}

/// What the log in `dir` asks of a witness that last cosigned `old` records.
pub(crate) fn request(dir: &Path, old: u64) -> AddCheckpoint {
    let log = LogReader::open(dir, Some(&log_key().public())).unwrap();
    let old = TreeSize::new(old).unwrap();
    AddCheckpoint::new(old, log.prove_extension(old).unwrap(), log.checkpoint().signed().clone())
}
