//! Files, programs and system calls: what works in a process that confined itself as a host does.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::process::Command;

use libc::c_long;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{Tree, asked, confined, filters, landlock_version, narrow, tell, yes};

/// System calls with arguments that anybody may make them with, and that change nothing.
fn harmless() -> Vec<(&'static str, c_long, [u64; 5])> {
    let me = u64::from(std::process::id());
    const MINUS_TWO: u64 = -2_i64 as u64;
    vec![
        ("unshare", libc::SYS_unshare, [0; 5]),
        ("personality", libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0]),
        ("process_vm_readv", libc::SYS_process_vm_readv, [me, 0, 0, 0, 0]),
        ("kcmp", libc::SYS_kcmp, [me, me, 0, 0, 0]),
        // Of the process's keyring, which is not made.
        ("keyctl", libc::SYS_keyctl, [0, MINUS_TWO, 0, 0, 0]),
        // Arguments that cannot be: told so by a kernel that looks at them.
        ("io_uring_setup", libc::SYS_io_uring_setup, [0; 5]),
        ("setns", libc::SYS_setns, [u64::MAX, 0, 0, 0, 0]),
        ("ptrace", libc::SYS_ptrace, [u64::MAX, 0, 0, 0, 0]),
        ("perf_event_open", libc::SYS_perf_event_open, [0; 5]),
        ("fsopen", libc::SYS_fsopen, [0; 5]),
        ("socket of packets", libc::SYS_socket, [17, u64::MAX, 0, 0, 0]),
        ("a namespace by clone", libc::SYS_clone, [0x1000_0000 | 0x0001_0000, 0, 0, 0, 0]),
    ]
}

/// What a call of [`harmless`] is answered.
fn answer(number: c_long, arguments: [u64; 5]) -> String {
    let [a, b, c, d, e] = arguments;
    // SAFETY: none of these calls has a pointer that is not null, or makes anything.
    let result = unsafe { libc::syscall(number, a, b, c, d, e) };
    if result >= 0 { "done".into() } else { format!("{:?}", io::Error::last_os_error().kind()) }
}

#[test]
fn the_process() {
    let Some((at, is_confined)) = asked() else { return };
    let (home, config) = narrow(&at);
    let program = std::env::current_exe().unwrap();
    let kept = is_confined.then(|| confined(&home, &config));
    if let Some(confined) = &kept {
        tell("files are", format_args!("{:?}", confined.confinement().files));
        tell("calls are", format_args!("{:?}", confined.confinement().calls));
    }
    let reads = |path: &Path| yes(fs::read(path).is_ok());
    let writes = |path: &Path| yes(fs::write(path, "new").is_ok());
    let changes = |path: &Path| yes(OpenOptions::new().append(true).open(path).is_ok());
    // On a thread that was made afterwards, as all threads of a host are.
    let outside = at.join("outside/file");
    tell(
        "reads outside, on a thread",
        std::thread::spawn(move || yes(fs::read(outside).is_ok())).join().unwrap(),
    );
    tell("reads outside", reads(&at.join("outside/file")));
    tell("changes outside", changes(&at.join("outside/file")));
    tell(
        "cuts outside",
        yes(rustix::fs::open(
            at.join("outside/file"),
            rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::TRUNC,
            Mode::empty(),
        )
        .is_ok()),
    );
    tell("makes a file outside", writes(&at.join("outside/new")));
    tell("lists outside", yes(fs::read_dir(at.join("outside")).is_ok()));
    tell("moves outside", yes(fs::rename(at.join("write/file"), at.join("outside/moved")).is_ok()));
    tell("links outside", yes(fs::hard_link(at.join("read/file"), at.join("write/linked")).is_ok()));
    tell("reads the users", reads(Path::new("/etc/passwd")));
    tell("reads its own memory's file", yes(File::open("/proc/self/mem").is_ok()));
    tell("reads its environment's file", reads(Path::new("/proc/self/environ")));
    tell("starts another program", yes(Command::new("/bin/true").status().is_ok()));
    tell(
        "makes a device",
        yes(mknodat(CWD, at.join("data/device"), FileType::CharacterDevice, Mode::RWXU, 0x103).is_ok()),
    );

    let dumpable = rustix::process::dumpable_behavior().unwrap();
    tell("can be looked into", yes(dumpable != rustix::process::DumpableBehavior::NotDumpable));

    tell("reads a volume", reads(&at.join("read/file")));
    tell("changes a volume to be read", changes(&at.join("read/file")));
    tell("makes a file in a volume to be read", writes(&at.join("read/new")));
    tell("makes a file in a volume to be written", writes(&at.join("write/new")));
    tell("removes one there", yes(fs::remove_file(at.join("write/new")).is_ok()));
    tell("makes a file at home", writes(&home.dir().join("tmp/new")));
    tell(
        "moves it at home",
        yes(fs::rename(home.dir().join("tmp/new"), home.dir().join("blobs/new")).is_ok()),
    );
    tell("resolves a name", yes(std::net::ToSocketAddrs::to_socket_addrs(&("localhost", 80)).is_ok()));
    let itself = Command::new("/proc/self/exe").arg("--list").output();
    tell("starts itself", yes(itself.is_ok_and(|output| output.status.success())));
    let by_name = Command::new(program).arg("--list").output();
    tell("starts itself by name", yes(by_name.is_ok_and(|output| output.status.success())));
    for (what, number, arguments) in harmless() {
        tell(what, answer(number, arguments));
    }
}

/// What a confined process may not, and one that is not may.
const TAKEN: [&str; 15] = [
    // Red without the dumpable flag in `give_up`; all others without `close_files` in `confine`.
    "can be looked into",
    "reads outside, on a thread",
    "reads outside",
    "changes outside",
    "cuts outside",
    "makes a file outside",
    "lists outside",
    "moves outside",
    "links outside",
    "reads the users",
    "reads its own memory's file",
    "reads its environment's file",
    "starts another program",
    "changes a volume to be read",
    "makes a file in a volume to be read",
];
/// What both may.
const LEFT: [&str; 8] = [
    "reads a volume",
    "makes a file in a volume to be written",
    "removes one there",
    "makes a file at home",
    "moves it at home",
    "resolves a name",
    "starts itself",
    "starts itself by name",
];

// The unconfined half is the red one: every line of TAKEN is "yes" there, and no call of `harmless` is EPERM.
#[test]
fn a_confined_process_has_its_own_files_and_no_others() {
    if landlock_version() < 6 {
        println!("NOT TESTED: this kernel's Landlock is version {}, 6 is needed", landlock_version());
        return;
    }
    for is_confined in [false, true] {
        let told = Tree::new().run("given_up::the_process", is_confined);
        if is_confined {
            told.is("files are", "Whole");
        }
        for what in TAKEN {
            told.is(what, yes(!is_confined));
        }
        for what in LEFT {
            told.is(what, "yes");
        }
        if is_confined {
            told.is("makes a device", "no");
        }
    }
}

#[test]
fn a_confined_process_is_denied_what_no_host_asks_the_kernel_for() {
    if !filters() {
        println!("NOT TESTED: this kernel has no system call filters");
        return;
    }
    for is_confined in [false, true] {
        let told = Tree::new().run("given_up::the_process", is_confined);
        for (what, ..) in harmless() {
            let denied = told.0.lines().any(|line| line == format!("{what}: PermissionDenied"));
            assert_eq!(denied, is_confined, "{what}:\n{}", told.0);
        }
        if is_confined {
            told.is("calls are", "Whole");
        }
    }
}
