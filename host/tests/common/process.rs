//! A host in a process of its own, which can be killed without a word.
//!
//! The process is the test binary itself, run again with the one test that calls [`serve_here`].

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use strongroom::home::Home;
use strongroom::host::Stop;
use strongroom_job::PublicKey;
use strongroom_sdk::{Client, ConnectOptions, Retry};

/// The test that is the host.
pub const HOST_TEST: &str = "host_process";
/// Lies in a directory that was made for a host process. Without it `serve_here` does nothing.
const MARK: &str = "made-for-a-host-process";
/// Sent to the process: stop in order. When the pipe breaks instead, the test is gone, and the process ends at once.
const STOP: &[u8] = b"s";
/// Looks for the host's address, 5 ms apart: half a minute.
const LOOKS: u32 = 6000;

/// A host process. Dropped, it is killed.
pub struct Process {
    child: Child,
    dir: PathBuf,
}

/// A host process that serves.
pub struct Serving {
    process: Process,
    pub address: SocketAddr,
    key: PublicKey,
}

impl Process {
    /// Starts the process and does not wait for it.
    pub fn spawn(dir: &Path) -> Self {
        std::fs::write(dir.join(MARK), "").expect("the directory is ours");
        let mut command = Command::new(std::env::current_exe().expect("this test binary"));
        command.args([HOST_TEST, "--exact", "--nocapture"]);
        command.current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::null());
        Self { child: command.spawn().expect("a process"), dir: dir.into() }
    }

    /// Waits until it serves.
    pub fn serving(mut self) -> Serving {
        for _ in 0..LOOKS {
            // Not there before the first start has made it.
            let live = Home::open(&self.dir).ok().and_then(|home| home.live().expect("readable"));
            // A killed host leaves its address behind: only this process's own counts.
            if let Some(live) = live.filter(|live| live.pid == self.child.id()) {
                return Serving { address: live.address, key: live.host, process: self };
            }
            if let Some(status) = self.child.try_wait().expect("our child") {
                panic!("the host did not start: {status}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the host does not say where it listens");
    }

    /// Ends it as a power switch would, as far as the process can tell.
    pub fn kill(mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("our child");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already, or about to be: either is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving {
    pub fn start(dir: &Path) -> Self {
        Process::spawn(dir).serving()
    }

    /// The owner's client. It repeats nothing by itself: what it was not told, it does not know.
    pub async fn client(&self) -> Client {
        let key = Home::open(&self.process.dir).expect("the home").client_key().expect("its key");
        let mut options = ConnectOptions::new(self.address, self.key, key);
        options.retry = Retry::none();
        Client::connect(options).await.expect("the host knows this key")
    }

    pub fn kill(self) {
        self.process.kill();
    }

    /// Lets everything finish, and stops in order.
    pub fn stop(self) {
        let mut process = self.process;
        process.child.stdin.take().expect("a pipe").write_all(STOP).expect("the host listens");
        let status = process.child.wait().expect("our child");
        assert!(status.success(), "the host stopped with {status}");
    }
}

/// Serves in the current directory until told to stop, if a test made it for that.
pub fn serve_here() {
    let dir = Path::new(".");
    if !dir.join(MARK).exists() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    runtime.block_on(async {
        let host = super::live::start(dir, |_| {}).await;
        let told = tokio::task::spawn_blocking(|| {
            let mut word = [0; STOP.len()];
            std::io::stdin().read_exact(&mut word).is_ok()
        });
        tokio::select! {
            told = told => assert!(told.expect("reading does not panic"), "the test is gone"),
            reason = host.failed() => panic!("the host failed: {reason}"),
        }
        host.stop(Stop::Everything(Duration::from_secs(120))).await;
    });
}
