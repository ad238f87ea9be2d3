//! One worker's process: started, greeted, handed jobs, killed.
//!
//! *Owns:* the process until it is waited for. *Never:* sends a signal to a process that has been waited for, whose number may be
//! another's by then. *Bound:* one thread for each, which waits for its end.
//! *Crash:* of the host closes the control socket: the worker ends by itself.

use std::io::{self, Read as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::sync::watch;

use super::child::COMMAND;
use super::message::{self, Hello, Ready};
use super::pass;
use crate::allocator::LEAN;

/// How long a worker may take until it is ready. It reserves address space and starts threads, which takes milliseconds.
const START: Duration = Duration::from_secs(20);
/// What is kept of a worker's standard error.
const MAX_STDERR_BYTES: u64 = 4096;

/// A worker that was started. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Process {
    control: UnixStream,
    child: Arc<Waited>,
    ready: Ready,
    /// How it ended, once it has.
    ended: watch::Receiver<Option<String>>,
    /// Whether it was told to end at once.
    doomed: AtomicBool,
}

/// A child that one thread waits for and others may kill.
#[derive(Debug)]
struct Waited {
    pid: Pid,
    /// Whether its number may be another's by now.
    over: Mutex<bool>,
}

impl Process {
    /// Starts a worker and waits until it is ready. Blocks.
    pub(super) fn start(program: &Path, hello: &Hello) -> io::Result<Self> {
        let (control, theirs) = UnixStream::pair()?;
        let mut command = Command::new(program);
        command
            .arg0("strongroom")
            .arg(COMMAND)
            .env_clear()
            .envs([LEAN])
            .current_dir("/")
            // Ctrl-C in a terminal is for the host, which finishes what it does.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        // Its end of the socket is its own alone from here on.
        drop(command);
        let stderr = child.stderr.take();
        match greet(&control, hello) {
            Ok(ready) => Self::watched(child, stderr, control, ready),
            Err(error) => {
                child.kill()?;
                let status = child.wait()?;
                let said = stderr.map(said).unwrap_or_default();
                Err(io::Error::new(error.kind(), format!("{error}; {}", words(status, &said))))
            }
        }
    }

    fn watched(
        mut child: Child,
        stderr: Option<ChildStderr>,
        control: UnixStream,
        ready: Ready,
    ) -> io::Result<Self> {
        let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
            return Err(io::Error::other("a process without a number"));
        };
        let (tell, ended) = watch::channel(None);
        let waited = Arc::new(Waited { pid, over: Mutex::new(false) });
        let here = Arc::clone(&waited);
        let wait = move || {
            let said = stderr.map(said).unwrap_or_default();
            // Until it is waited for, nobody else gets its number.
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            let status = {
                let mut over = here.over.lock().unwrap_or_else(PoisonError::into_inner);
                *over = true;
                child.wait()
            };
            let how = status.map_or_else(|error| error.to_string(), |status| words(status, &said));
            let _ = tell.send(Some(how));
        };
        if let Err(error) = std::thread::Builder::new().name("worker-end".into()).spawn(wait) {
            waited.kill();
            return Err(error);
        }
        Ok(Self { control, child: waited, ready, ended, doomed: AtomicBool::new(false) })
    }

    /// How far it is confined, by its own word: it is our program, and has read nothing of a guest's when it says so.
    pub(super) const fn ready(&self) -> Ready {
        self.ready
    }

    /// Hands over the files of a job.
    pub(super) fn send(&self, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        pass::send(&self.control, files)
    }

    /// Ends it at once, whatever it does.
    pub(super) fn kill(&self) {
        // First: whoever looks for a worker must not find one that is being killed.
        self.doomed.store(true, Ordering::Release);
        self.child.kill();
    }

    pub(super) fn is_over(&self) -> bool {
        self.doomed.load(Ordering::Acquire) || self.ended.borrow().is_some()
    }

    /// Waits until it is gone, and says how it went.
    pub(super) async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(how) => how.clone().unwrap_or_default(),
            Err(_) => "nobody waited for it".into(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Waited {
    fn kill(&self) {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        if !*over {
            // It may have ended by itself: then this does nothing.
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }
}

fn greet(control: &UnixStream, hello: &Hello) -> io::Result<Ready> {
    control.set_read_timeout(Some(START))?;
    control.set_write_timeout(Some(START))?;
    message::write(hello, &mut &*control)?;
    let mut ready = [0; 3];
    (&mut &*control).read_exact(&mut ready)?;
    Ready::decode(ready).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is no worker of ours"))
}

/// The beginning of what it says; the rest is taken away, so that it does not wait for a reader. Ends with the process.
fn said(mut from: ChildStderr) -> String {
    let mut said = Vec::new();
    if (&mut from).take(MAX_STDERR_BYTES).read_to_end(&mut said).is_ok() {
        let _ = io::copy(&mut from, &mut io::sink());
    }
    String::from_utf8_lossy(&said).into_owned()
}

fn words(status: ExitStatus, said: &str) -> String {
    let how = match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("status {code}"),
        (None, None) => "an unknown end".into(),
    };
    match said.lines().last() {
        Some(last) => format!("{how}: {last}"),
        None => how,
    }
}
