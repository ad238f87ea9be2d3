//! Workers: guests in a process for each tenant run as they do in the host's own, and one that goes wrong is its tenant's loss alone.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

#[path = "../common/mod.rs"]
mod common;

mod alike;
mod ends;
mod liar;
mod network;
mod walls;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use common::live::{Live, compiler, start_with};
use common::secret;
use strongroom::compile::Compiler;
use strongroom::config::{Config, Isolation, Principal, Roles, Volume};
use strongroom_job::{Access, JobId, JobState, Outcome};
use strongroom_sdk::{Client, Identity};

/// Held by each test: their workers are told apart by who started them, which is this process.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The second tenant's key.
const VISITOR: u8 = 2;
/// How long something may take that takes moments.
const MOMENTS: u32 = 3_000;

/// A host of two tenants, `default` and `visitors`, each with a volume of its own beside the data directory.
async fn site(isolation: Isolation, change: impl FnOnce(&mut Config)) -> Live {
    site_with(compiler(), isolation, change).await
}

async fn site_with(compiler: Compiler, isolation: Isolation, change: impl FnOnce(&mut Config)) -> Live {
    let dir = tempfile::tempdir().unwrap();
    let whole = |config: &mut Config| {
        config.isolation = isolation;
        config.principals[0].any_directory = false;
        config.principals.push(visitor());
        for (at, volume) in ["ours", "theirs"].into_iter().enumerate() {
            let path = dir.path().join(volume);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("file"), volume).unwrap();
            let name: strongroom_job::Name = volume.parse().unwrap();
            config.volumes.insert(name.clone(), Volume { path, access: Access::ReadWrite });
            config.principals[at].volumes.insert(name, Access::ReadWrite);
        }
        change(config);
    };
    let host = start_with(&dir.path().join("data"), compiler, whole).await;
    Live { host, dir }
}

impl Live {
    async fn ours(&self) -> Client {
        self.client_of(strongroom::home::Home::open(&self.data()).unwrap().client_key().unwrap().into()).await
    }

    async fn theirs(&self) -> Client {
        self.client_of(Identity::from(secret(VISITOR))).await
    }

    async fn client_of(&self, identity: Identity) -> Client {
        let options =
            strongroom_sdk::ConnectOptions::new(self.host.local_addr(), *self.host.public_key(), identity);
        Client::connect(options).await.unwrap()
    }

    fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }
}

fn visitor() -> Principal {
    Principal {
        narrowed: None,
        name: "visitor".parse().unwrap(),
        key: secret(VISITOR).public(),
        tenant: "visitors".parse().unwrap(),
        volumes: BTreeMap::new(),
        any_directory: false,
        any_network: false,
        roles: Roles::USUAL,
        connect: Vec::new(),
        listen: Vec::new(),
        http: Vec::new(),
        secrets: BTreeSet::new(),
    }
}

/// The workers that this process has started and that still are, by their numbers.
fn workers() -> BTreeSet<i32> {
    let own = std::process::id().to_string();
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        if !is_worker(pid) {
            continue;
        }
        let status = status(pid);
        if status.get("PPid") == Some(&own)
            && status.get("State").is_some_and(|state| !state.starts_with('Z'))
        {
            found.insert(pid);
        }
    }
    found
}

fn is_worker(pid: i32) -> bool {
    let command = fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")).unwrap_or_default();
    command.split(|byte| *byte == 0).nth(1) == Some(strongroom::worker::COMMAND.as_bytes())
}

/// What the kernel says of a process; nothing once it is gone.
fn status(pid: i32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
}

fn signal(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Waits until so it is.
async fn until(what: &str, so_it_is: impl Fn() -> bool) {
    for _ in 0..MOMENTS {
        if so_it_is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

async fn until_running(client: &Client, job: JobId) {
    for _ in 0..MOMENTS {
        if client.show(job).await.unwrap().state == JobState::Running {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never runs");
}

async fn outcome(client: &Client, job: JobId) -> Outcome {
    client.wait(job).await.unwrap().view.end.unwrap().outcome
}

/// The words of a fault of the host.
async fn fault(client: &Client, job: JobId) -> String {
    match outcome(client, job).await {
        Outcome::Faulted { reason } => reason,
        other => panic!("no fault: {other:?}"),
    }
}
