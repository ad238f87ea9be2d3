//! Runs a process and records, or fails, what it does to the files below one directory.
//!
//! The process is an ordinary one: this test binary again, with the real library in it and real files under it. `ptrace` stops
//! each of its threads at each call that can change a file (`calls`), before the call and after it. One such call is under way
//! at a time, so what is recorded is the order in which it happened.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::libc::{self, user_regs_struct};
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::calls::{Call, Named, memory};
use crate::trace::{Change, Kind, Node, Place, ROOT, Trace};

/// The test that is the process.
pub const CHILD: &str = "child_process";
/// Says what the process is to do. Without this file in its directory it does nothing.
pub const SCENARIO: &str = "scenario";
/// What is recorded, and where the process tells what it promised.
pub const DATA: &str = "data";
pub const TOLD: &str = "told";

/// What is done to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It fails and does nothing.
    Refused(Errno),
    /// It does what it should, and fails.
    DoneAndRefused(Errno),
    /// A write of which only the first part arrives, and which fails.
    Torn(Errno),
    /// A write of which only the first part arrives, and which says so.
    Short,
    /// The process is killed before it.
    Kill,
}

/// A call, and what is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault<'a> {
    /// Only calls of this kind count; without one, all below the directory do.
    pub of: Option<&'a str>,
    /// Counted from 0 among the process's calls of that kind.
    pub nth: usize,
    pub how: How,
}

/// The kind of a call: what it is called in each run of a scenario, however often it is made. What differs between runs is left out: numbers,
/// digests and temporary names.
pub fn kind(call: &str) -> String {
    let (what, path) = call.split_once(' ').expect("a call has a path");
    let parts = path.split('/').map(|part| {
        let differs = part.starts_with('.') || part.contains(|letter: char| letter.is_ascii_digit());
        if differs { "#" } else { part }
    });
    format!("{what} {}", parts.collect::<Vec<_>>().join("/"))
}

/// How the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exited(i32),
    Killed,
}

/// One process's run.
#[derive(Debug)]
pub struct Run {
    pub end: End,
    /// What it called below the directory, in order: the name of the call and the path.
    pub calls: Vec<String>,
    /// The call that was struck, and the length of the trace then.
    pub struck: Option<(usize, usize)>,
    /// What it said to stderr.
    pub words: String,
}

/// A directory and everything that was done in it, by one process after the other.
pub struct Recorder {
    work: tempfile::TempDir,
    data: PathBuf,
    /// Device and inode of what is there.
    nodes: HashMap<(u64, u64), Node>,
    made: usize,
    told: (u64, u64),
    pub trace: Trace,
}

/// A directory in memory where there is such a thing: what survives is the model's business, not this disk's.
pub fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn identity(path: impl AsRef<Path>) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Recorder {
    /// An empty directory.
    pub fn new() -> Self {
        let work = directory();
        let data = work.path().canonicalize().unwrap().join(DATA);
        fs::create_dir(&data).unwrap();
        let told = work.path().join(TOLD);
        File::create(&told).unwrap();
        let nodes = HashMap::from([(identity(&data).unwrap(), ROOT)]);
        let told = identity(&told).unwrap();
        Self { work, data, nodes, made: 1, told, trace: Trace::default() }
    }

    /// The directory, as it is now.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Runs a scenario to its end, which the fault may bring about.
    #[expect(clippy::zombie_processes, reason = "whoever traces a process waits for all its threads")]
    pub fn run(&mut self, scenario: &str, fault: Option<Fault<'_>>) -> Run {
        let work = self.work.path();
        fs::write(work.join(SCENARIO), scenario).unwrap();
        let words = File::create(work.join("stderr")).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([CHILD, "--exact", "--nocapture", "--test-threads=1"]).current_dir(work);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(words).spawn().unwrap();
        let main = Pid::from_raw(child.id().try_into().unwrap());
        attach(main);
        child.stdin.take().unwrap().write_all(b"g").unwrap();
        let mut session = Session {
            recorder: self,
            main,
            fault,
            calls: Vec::new(),
            struck: None,
            counted: 0,
            current: None,
            waiting: VecDeque::new(),
            end: None,
        };
        session.follow();
        let Session { calls, struck, end, .. } = session;
        let words = fs::read_to_string(self.work.path().join("stderr")).unwrap();
        Run { end: end.expect("it has ended"), calls, struck, words }
    }

    fn node(&self, pid: Pid, fd: i32) -> Option<Node> {
        self.nodes.get(&identity(format!("/proc/{pid}/fd/{fd}"))?).copied()
    }

    fn place(&self, pid: Pid, path: &Named) -> Option<Place> {
        let (dir, name) = path.resolve(pid)?;
        let dir = dir.starts_with(&self.data).then(|| self.nodes.get(&identity(&dir)?).copied())??;
        Some(Place { dir, name })
    }

    /// Where a path leads now.
    fn at(&self, pid: Pid, path: &Named) -> Option<PathBuf> {
        path.resolve(pid).map(|(dir, name)| dir.join(name))
    }

    fn make(&mut self, at: Place, path: &Path, kind: Kind) {
        let node = Node(self.made);
        self.made += 1;
        // The system uses the number of a file that is gone again: it now means this one.
        let metadata = fs::symlink_metadata(path).unwrap();
        self.nodes.insert((metadata.dev(), metadata.ino()), node);
        self.trace.changes.push(Change::Make { at, node, kind });
    }
}

/// Traces a process that waits for its first word, with all its threads.
fn attach(main: Pid) {
    let options = Options::PTRACE_O_TRACESECCOMP
        | Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(main, options).expect("this system lets a parent trace its child");
    for task in fs::read_dir(format!("/proc/{main}/task")).unwrap() {
        let task = Pid::from_raw(task.unwrap().file_name().to_str().unwrap().parse().unwrap());
        // A thread that began after the line above is traced already.
        let _ = ptrace::seize(task, options);
    }
}

/// What is known of a call before it is made, and needed after it.
struct Before {
    call: Call,
    regs: user_regs_struct,
    /// Of a write: at which offset. Of an open: whether the file was there, and has bytes.
    offset: u64,
    there: bool,
    /// The call's answer, whatever the system says.
    answer: Option<i64>,
}

struct Session<'r> {
    recorder: &'r mut Recorder,
    main: Pid,
    fault: Option<Fault<'r>>,
    /// Calls of the fault's kind until now.
    counted: usize,
    calls: Vec<String>,
    struck: Option<(usize, usize)>,
    /// The one call that is under way.
    current: Option<(Pid, Before)>,
    waiting: VecDeque<Pid>,
    end: Option<End>,
}

impl Session<'_> {
    fn follow(&mut self) {
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::PtraceEvent(pid, _, event)) if event == Event::PTRACE_EVENT_SECCOMP as i32 => {
                    self.stopped_before(pid);
                }
                Ok(WaitStatus::PtraceSyscall(pid)) => self.stopped_after(pid),
                Ok(WaitStatus::PtraceEvent(pid, ..)) => go_on(pid, None),
                Ok(WaitStatus::Stopped(pid, signal)) => go_on(pid, Some(signal)),
                Ok(WaitStatus::Exited(pid, code)) => self.gone(pid, End::Exited(code)),
                Ok(WaitStatus::Signaled(pid, ..)) => self.gone(pid, End::Killed),
                Ok(_) | Err(Errno::EINTR) => {}
                // All of it is gone.
                Err(Errno::ECHILD) => return,
                Err(error) => panic!("waiting for the traced process: {error}"),
            }
        }
    }

    fn gone(&mut self, pid: Pid, end: End) {
        if pid == self.main {
            self.end = Some(end);
        }
        self.waiting.retain(|waiting| *waiting != pid);
        if self.current.as_ref().is_some_and(|(current, _)| *current == pid) {
            self.current = None;
            self.next();
        }
    }

    fn next(&mut self) {
        while self.current.is_none()
            && let Some(pid) = self.waiting.pop_front()
        {
            self.begin(pid);
        }
    }

    fn stopped_before(&mut self, pid: Pid) {
        self.waiting.push_back(pid);
        self.next();
    }

    /// Looks at a call, and lets it be made if it is nobody's business, or ours and the only one.
    fn begin(&mut self, pid: Pid) {
        // Whatever cannot be read belongs to a thread that is being killed.
        let Ok(regs) = ptrace::getregs(pid) else { return go_on(pid, None) };
        let Ok(call) = Call::read(pid, &regs) else { return go_on(pid, None) };
        let Some(label) = self.label(pid, &call) else { return go_on(pid, None) };
        let mut before = self.before(pid, call, regs);
        let Some(label) = label else {
            // A word to whoever waits: recorded, and never failed.
            return self.make_call(pid, before);
        };
        let nth = self.calls.len();
        let of_this_kind = self.fault.filter(|fault| fault.of.is_none_or(|of| kind(&label) == of));
        self.calls.push(label);
        if let Some(fault) = of_this_kind {
            self.counted += 1;
            if self.counted == fault.nth + 1 {
                self.struck = Some((nth, self.recorder.trace.changes.len()));
                return self.strike(pid, before, fault.how);
            }
        }
        before.answer = None;
        self.make_call(pid, before);
    }

    /// None: not below the directory. `Some(None)`: a word to whoever waits.
    fn label(&self, pid: Pid, call: &Call) -> Option<Option<String>> {
        let recorder = &*self.recorder;
        let short = |path: &Path| path.strip_prefix(&recorder.data).unwrap_or(path).display().to_string();
        let of_fd = |what: &str, fd: i32| {
            recorder.node(pid, fd)?;
            let path = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
            Some(Some(format!("{what} {}", short(&path))))
        };
        let of_path = |what: &str, path: &Named| {
            recorder.place(pid, path)?;
            Some(Some(format!("{what} {}", short(&recorder.at(pid, path)?))))
        };
        match call {
            Call::Write { fd, .. } if identity(format!("/proc/{pid}/fd/{fd}")) == Some(recorder.told) => {
                Some(None)
            }
            Call::Write { fd, .. } => of_fd("write", *fd),
            Call::SetLength { fd, .. } => of_fd("set-length", *fd),
            Call::Sync { fd } => of_fd("sync", *fd),
            Call::SyncRange { fd } => of_fd("sync-range", *fd),
            Call::Open { path, flags } if flags & libc::O_CREAT != 0 => of_path("create", path),
            Call::Open { path, .. } => of_path("open", path),
            Call::Rename { from, to } => {
                let ours = recorder.place(pid, from).is_some() || recorder.place(pid, to).is_some();
                ours.then(|| of_path("rename to", to)).flatten()
            }
            Call::Link { to, .. } => of_path("link", to),
            Call::Remove { path } => of_path("remove", path),
            Call::MakeDir { path } => of_path("make-dir", path),
            Call::Unknown { call, fds, path } => {
                let ours = fds.iter().any(|fd| recorder.node(pid, *fd).is_some())
                    || path.as_ref().is_some_and(|path| recorder.place(pid, path).is_some());
                assert!(!ours, "system call {call} below the directory: the model does not know it");
                None
            }
        }
    }

    fn before(&self, pid: Pid, call: Call, regs: user_regs_struct) -> Before {
        let (mut offset, mut there) = (0, false);
        match &call {
            Call::Write { at: Some(at), .. } => offset = *at,
            Call::Write { fd, at: None, .. } => offset = position(pid, *fd),
            Call::Open { path, .. } => {
                there = self.recorder.at(pid, path).is_some_and(|path| path.symlink_metadata().is_ok());
            }
            _ => {}
        }
        Before { call, regs, offset, there, answer: None }
    }

    fn make_call(&mut self, pid: Pid, before: Before) {
        self.current = Some((pid, before));
        if ptrace::syscall(pid, None).is_err() {
            self.current = None;
        }
    }

    fn strike(&mut self, pid: Pid, mut before: Before, how: How) {
        let failed = |error: Errno| -i64::from(error as i32);
        match how {
            How::Kill => kill(self.main, Signal::SIGKILL).expect("it is ours"),
            How::Refused(error) => {
                if let Call::Sync { fd } = before.call
                    && let Some(node) = self.recorder.node(pid, fd)
                {
                    self.recorder.trace.changes.push(Change::SyncFailed { node });
                }
                let mut regs = before.regs;
                // No such call: it is skipped, and this is its answer.
                regs.orig_rax = u64::MAX;
                regs.rax = failed(error).cast_unsigned();
                let _ = ptrace::setregs(pid, regs);
                go_on(pid, None);
            }
            How::DoneAndRefused(error) => {
                before.answer = Some(failed(error));
                self.make_call(pid, before);
            }
            How::Torn(_) | How::Short => {
                let mut regs = before.regs;
                regs.rdx /= 2;
                let _ = ptrace::setregs(pid, regs);
                if let How::Torn(error) = how {
                    before.answer = Some(failed(error));
                }
                self.make_call(pid, before);
            }
        }
    }

    fn stopped_after(&mut self, pid: Pid) {
        let Some((current, before)) = self.current.take() else { return go_on(pid, None) };
        assert_eq!(current, pid, "one call at a time");
        if let Ok(regs) = ptrace::getregs(pid) {
            let answer = regs.rax.cast_signed();
            if answer >= 0 {
                self.record(pid, &before, answer.cast_unsigned());
            }
            // A call leaves its arguments as they were; so does one whose length was changed.
            let rax = before.answer.map_or(regs.rax, i64::cast_unsigned);
            let _ = ptrace::setregs(pid, user_regs_struct { rax, rdx: before.regs.rdx, ..regs });
        }
        go_on(pid, None);
        self.next();
    }

    fn record(&mut self, pid: Pid, before: &Before, answer: u64) {
        let recorder = &mut *self.recorder;
        let place = |path: &Named| recorder.place(pid, path);
        let change = match &before.call {
            Call::Write { fd, address, .. } => {
                let bytes = memory(pid, *address, answer as usize).expect("it has just been written");
                match recorder.node(pid, *fd) {
                    Some(file) => Change::Write { file, offset: before.offset, bytes },
                    None => Change::Told(String::from_utf8(bytes).unwrap().trim_end().to_owned()),
                }
            }
            Call::SetLength { fd, length } => match recorder.node(pid, *fd) {
                Some(file) => Change::SetLength { file, length: *length },
                None => return,
            },
            Call::Sync { fd } => match recorder.node(pid, *fd) {
                Some(node) => Change::Sync { node },
                None => return,
            },
            Call::SyncRange { fd } => match recorder.node(pid, *fd) {
                Some(file) => Change::SyncRange { file },
                None => return,
            },
            Call::Open { path, flags } => {
                assert!(flags & libc::O_TMPFILE != libc::O_TMPFILE, "a file without a name is not modelled");
                let (Some(at), Some(there)) = (place(path), recorder.at(pid, path)) else { return };
                if !before.there {
                    return recorder.make(at, &there, Kind::File);
                }
                match recorder.node(pid, answer as i32) {
                    Some(file) if flags & libc::O_TRUNC != 0 => Change::SetLength { file, length: 0 },
                    _ => return,
                }
            }
            Call::MakeDir { path } => {
                let (Some(at), Some(there)) = (place(path), recorder.at(pid, path)) else { return };
                return recorder.make(at, &there, Kind::Dir);
            }
            Call::Rename { from, to } => {
                let ends = (place(from), place(to));
                let (Some(from), Some(to)) = ends else { panic!("a rename into or out of the directory") };
                Change::Rename { from, to }
            }
            Call::Link { to, .. } => {
                let node = recorder.at(pid, to).and_then(identity).and_then(|id| recorder.nodes.get(&id));
                let (Some(at), Some(node)) = (place(to), node) else { panic!("a link from elsewhere") };
                Change::Link { at, node: *node }
            }
            Call::Remove { path } => match place(path) {
                Some(at) => Change::Remove { at },
                None => return,
            },
            Call::Unknown { .. } => return,
        };
        recorder.trace.changes.push(change);
    }
}

/// Where the next plain write goes.
fn position(pid: Pid, fd: i32) -> u64 {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name));
        line.map(|text| text.trim().to_owned()).unwrap_or_default()
    };
    let flags = i32::from_str_radix(&field("flags:"), 8).unwrap_or_default();
    if flags & libc::O_APPEND != 0 {
        return fs::metadata(format!("/proc/{pid}/fd/{fd}")).map_or(0, |metadata| metadata.len());
    }
    field("pos:").parse().unwrap_or_default()
}

/// A thread that is being killed cannot be told anything, and need not be.
fn go_on(pid: Pid, signal: Option<Signal>) {
    let _ = ptrace::cont(pid, signal);
}
