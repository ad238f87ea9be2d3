//! What a compiler's process can no longer do.
//!
//! The process is this test binary, run again with the one test that confines itself: what is given up cannot be taken back.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Resource, Rlimit, getppid, setrlimit, test_kill_process};
use strongroom::compile::{COMMAND, ChildLimits, Enforced, confine};

/// Lies in a directory that was made for the confined process. Without it, that test does nothing.
const MARK: &str = "made-for-a-confined-process";
const LIMITS: ChildLimits = ChildLimits { memory_bytes: 1 << 30, cpu_seconds: 20 };

/// Each line that the confined process writes: what it tried, and whether that went well.
fn tell(what: &str, result: bool) {
    // Straight to the pipe: the harness keeps what is printed.
    let line = format!("\n{what}: {}\n", if result { "yes" } else { "no" });
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}

/// Whether the call made a process; the process itself ends at once.
fn is_parent_of(call: impl FnOnce() -> libc::c_long) -> bool {
    let pid = call();
    if pid == 0 {
        // SAFETY: ends the process and does nothing else.
        unsafe { libc::_exit(0) };
    }
    pid > 0
}

#[test]
fn confined_process() {
    if !Path::new(MARK).exists() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let parent = getppid().unwrap();
    let confinement = confine(&LIMITS).unwrap();
    tell("landlock", confinement.files == Enforced::Whole);
    tell("any landlock", confinement.files != Enforced::Not);
    tell("seccomp", confinement.calls == Enforced::Whole);

    tell("reads a file", File::open(MARK).is_ok());
    tell("reads a public file", File::open("/proc/self/status").is_ok());
    tell("lists a directory", fs::read_dir(".").is_ok());
    tell("sees a file", fs::metadata(MARK).is_ok());
    tell("writes a file", File::create("new").is_ok());
    tell("removes a file", fs::remove_file(MARK).is_ok());
    tell("connects", TcpStream::connect(address).is_ok());
    tell("listens", TcpListener::bind("127.0.0.1:0").is_ok());
    tell("has a datagram socket", UdpSocket::bind("127.0.0.1:0").is_ok());
    tell("has a pair of sockets", UnixStream::pair().is_ok());
    tell("starts a program", Command::new("/bin/true").spawn().is_ok());
    tell(
        "forks",
        is_parent_of(|| {
            // SAFETY: the child, if there is one, makes one system call and ends.
            unsafe { libc::fork().into() }
        }),
    );
    tell(
        "forks by the newer call",
        is_parent_of(|| {
            // Eleven numbers, of which the fifth is the signal at the child's end.
            let arguments = [0_u64, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0, 0, 0, 0];
            // SAFETY: as above. The kernel reads the arguments and writes nothing.
            unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) }
        }),
    );
    tell("signals its parent", test_kill_process(parent).is_ok());
    tell("takes more memory", Vec::<u8>::new().try_reserve_exact(2 << 30).is_ok());
    tell("raises a limit", {
        let more = Rlimit { current: Some(100), maximum: Some(100) };
        setrlimit(Resource::Nofile, more).is_ok()
    });

    tell("computes in a thread", std::thread::spawn(|| 6 * 7).join().is_ok_and(|product| product == 42));
    tell("takes some memory", Vec::<u8>::new().try_reserve_exact(64 << 20).is_ok());
    tell("asks for random bytes", getrandom::fill(&mut [0; 8]).is_ok());
    drop(listener);
}

/// Whether this kernel has system call filters.
fn filters() -> bool {
    Path::new("/proc/sys/kernel/seccomp/actions_avail").exists()
}

/// Whether this kernel has Landlock: asked for its version, it gives one.
fn landlocks() -> bool {
    const ASK_FOR_VERSION: u32 = 1;
    let nothing = std::ptr::null::<u8>();
    // SAFETY: with this flag there is nothing to read at the pointer, and nothing is made.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, ASK_FOR_VERSION) > 0 }
}

// Red without the filter of clone3 and the condition on clone in `close_calls`, taken out together (forks); without the limit on
// `Resource::As` (memory); without `close_calls` as a whole, whether it owns up to it or not; and without `close_files` where that
// owns up to it (else the other two hold; alone it is looked at in `confine.rs`).
#[test]
fn a_confined_process_computes_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(MARK), "").unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["confined_process", "--exact", "--nocapture"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let is = |what: &str, answer: &str| {
        let line = format!("{what}: {answer}");
        assert!(
            said.lines().any(|said| said == line),
            "not \"{line}\":\n{said}\n{}",
            output.stderr.escape_ascii()
        );
    };
    for what in ["computes in a thread", "takes some memory", "asks for random bytes"] {
        is(what, "yes");
    }
    is("takes more memory", "no");
    is("raises a limit", "no");
    if filters() {
        is("seccomp", "yes");
    }
    if landlocks() {
        is("any landlock", "yes");
    }
    let has = |what: &str| said.lines().any(|said| said == format!("{what}: yes"));
    if has("landlock") || has("seccomp") {
        for what in
            ["reads a file", "reads a public file", "lists a directory", "writes a file", "removes a file"]
        {
            is(what, "no");
        }
    }
    if has("seccomp") {
        for what in [
            "sees a file",
            "connects",
            "listens",
            "has a datagram socket",
            "has a pair of sockets",
            "starts a program",
            "forks",
            "forks by the newer call",
            "signals its parent",
        ] {
            is(what, "no");
        }
    }
    assert!(dir.path().join(MARK).exists() && !dir.path().join("new").exists());
}

/// Starts the command as a compiler and sends it these bytes.
fn compiler(limits: &[&str], request: &[u8]) -> (bool, Vec<u8>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.arg(COMMAND).args(limits).env_clear();
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may be gone before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(request);
    let output = child.wait_with_output().unwrap();
    (output.status.success(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_compiler_answers_nonsense_with_a_fault() {
    const LIMITS: [&str; 2] = ["1073741824", "20"];
    for request in [&b""[..], b"\x02\0\0\0{}", b"\xff\xff\xff\xff", &[0; 4096]] {
        let (success, answer, _) = compiler(&LIMITS, request);
        assert!(success);
        assert_eq!(answer[0], b'F', "{answer:?}");
        assert!(String::from_utf8_lossy(&answer[10..]).contains("request cannot be read"), "{answer:?}");
    }
}

#[test]
fn a_compiler_without_limits_reads_nothing() {
    for limits in [&[][..], &["1073741824"], &["much", "20"], &["1073741824", "20", "1"]] {
        let (success, answer, said) = compiler(limits, b"");
        assert!(!success && answer.is_empty(), "{answer:?}");
        assert!(said.contains("needs bytes of memory and seconds of time"), "{said}");
    }
}

#[test]
fn the_compiler_is_no_command_for_people() {
    let help = Command::new(env!("CARGO_BIN_EXE_strongroom")).arg("--help").output().unwrap();
    assert!(help.status.success());
    assert!(!String::from_utf8_lossy(&help.stdout).contains(COMMAND));
}
