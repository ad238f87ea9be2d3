//! A real host in this process, on loopback, in a directory of its own; and a real client of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use strongroom::clock::Clock;
use strongroom::compile::Compiler;
use strongroom::config::Config;
use strongroom::home::Home;
use strongroom::host::{Ended, Host, Stop};
use strongroom::store::{NoFault, Store, Transition};
use strongroom_job::{Event, JobState, JobView, ModuleRef, OutputStream};
use strongroom_sdk::{Client, ConnectOptions, Job};

/// A host and its directory.
pub struct Live {
    pub host: Host,
    pub dir: tempfile::TempDir,
}

/// What a finished job left.
pub struct Done {
    pub view: JobView,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Live {
    /// A new host.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A new host whose configuration was changed.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self { host: start(dir.path(), change).await, dir }
    }

    /// The owner's client.
    pub async fn client(&self) -> Client {
        self.client_with(|_| {}).await
    }

    /// The owner's client with changed options.
    pub async fn client_with(&self, change: impl FnOnce(&mut ConnectOptions)) -> Client {
        let key = Home::open(self.dir.path()).expect("the home").client_key().expect("its key");
        let mut options = ConnectOptions::new(self.host.local_addr(), *self.host.public_key(), key);
        change(&mut options);
        Client::connect(options).await.expect("the host knows this key")
    }

    /// Stops the host in order and gives its directory.
    pub async fn stop(self) -> tempfile::TempDir {
        let ended = Box::pin(self.host.stop(Stop::Everything(Duration::from_secs(60)))).await;
        assert_eq!(ended, Ended::InOrder);
        self.dir
    }

    /// Stops and starts again in the same directory.
    pub async fn restart(self) -> Self {
        let Self { host, dir } = self;
        Box::pin(host.stop(Stop::Running(Duration::from_secs(60)))).await;
        Self { host: start(dir.path(), |_| {}).await, dir }
    }
}

/// The program that compiles modules: the command of this package, as in ordinary use.
pub fn compiler() -> Compiler {
    Compiler::Child(env!("CARGO_BIN_EXE_strongroom").into())
}

/// Starts a host in `dir`, which is made if need be.
pub async fn start(dir: &Path, change: impl FnOnce(&mut Config)) -> Host {
    start_with(dir, compiler(), change).await
}

/// [`start`] with another compiler.
pub async fn start_with(dir: &Path, compiler: Compiler, change: impl FnOnce(&mut Config)) -> Host {
    let home = Home::create(dir).expect("a home").lock().expect("nobody else is here");
    let mut config = Config::load(&home.config()).expect("the configuration that `create` wrote");
    config.listen = ([127, 0, 0, 1], 0).into();
    change(&mut config);
    // On the heap, so that a test's own future stays small.
    Box::pin(Host::start(home, config, compiler)).await.expect("the host starts")
}

/// In a directory that no host has, time passes: the next start's clock is so much later.
pub async fn passes(dir: &Path, time: Duration) {
    let later = Clock::default().now().saturating_add(time);
    let opened = Store::open(&dir.join("state")).expect("a state");
    let (store, closing) =
        opened.start(Arc::new(Clock::not_before(later)), Box::new(NoFault)).expect("a writer");
    store.commit(Transition::Log(Event::HostStopped {})).await.expect("a commit");
    drop(store);
    closing.wait();
}

/// Assembles WAT and gives it to the host.
pub async fn push_wat(client: &Client, wat: &str) -> ModuleRef {
    let wasm = wat::parse_str(wat).expect("good WAT");
    client.push_module(wasm).await.expect("a good module")
}

/// Submits, waits, fetches both outputs.
pub async fn run(client: &Client, job: &Job) -> Done {
    let accepted = client.submit(job).await.expect("accepted");
    finish(client, accepted.job).await
}

/// Waits for a job and fetches both outputs.
pub async fn finish(client: &Client, job: strongroom_job::JobId) -> Done {
    let view = client.wait(job).await.expect("an end").view;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    client.fetch_output(job, OutputStream::Stdout, &mut stdout).await.expect("stdout");
    client.fetch_output(job, OutputStream::Stderr, &mut stderr).await.expect("stderr");
    Done { view, stdout, stderr }
}

/// A guest that writes `text` to stdout and ends with `code`.
pub fn says(text: &str, code: u32) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\10\00\00\00\{:02x}\00\00\00")
            (data (i32.const 16) "{text}")
            (func (export "_start")
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                (call $exit (i32.const {code}))))"#,
        text.len()
    )
}

/// A guest that never ends.
pub const SPINS: &str = r#"(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))"#;

/// Asserts that the job ended well, and shows everything if it did not.
pub fn assert_succeeded(done: &Done) {
    let Done { view, stdout, stderr } = done;
    let (out, err) = (String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
    assert_eq!(view.state, JobState::Succeeded, "{view:?}\nstdout: {out}\nstderr: {err}");
}
