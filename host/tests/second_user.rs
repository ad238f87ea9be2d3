//! Another user of the machine tries what such a user can, against a host that serves.
//!
//! That user has a number that nobody has, and is this test binary, run again under it. Each try is made a second time by the host's own user: what
//! failed there as well, without a reason that is written here, would prove nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod cli_support;

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cli_support::{Place, Running, copy_program, print, start, wait_for};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};

/// A user that every machine has: the host's.
const HOST: &str = "nobody";
/// A user that no machine has: the other one.
const OTHER: u32 = 61_002;
/// Lies in the directory of somebody who is to try: the data directory, the process, the address.
const ORDERS: &str = "orders-for-a-second-user";

/// What each try is answered by the host's own user: it works there, too, or not even there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Own {
    Works,
    /// Since a host's process is closed to everybody; root aside.
    Closed,
}

struct Tries {
    answers: Vec<(String, Own, bool)>,
}

impl Tries {
    fn note(&mut self, what: impl Into<String>, own: Own, worked: bool) {
        self.answers.push((what.into(), own, worked));
    }
}

/// Does nothing in an ordinary run of the tests.
#[test]
fn somebody_tries() {
    let Ok(orders) = fs::read_to_string(ORDERS) else { return };
    let orders: Vec<&str> = orders.lines().collect();
    let [data, pid, address] = orders[..] else { panic!("{orders:?}") };
    let (data, pid): (&Path, i32) = (data.as_ref(), pid.parse().unwrap());
    let mut tries = Tries { answers: Vec::new() };
    read(&mut tries, data);
    write(&mut tries, data);
    process(&mut tries, pid);
    port(&mut tries, address.parse().unwrap());
    let text: String = tries
        .answers
        .iter()
        .map(|(what, own, worked)| format!("\n{}{}{what}\n", u8::from(*worked), u8::from(*own == Own::Works)))
        .collect();
    std::io::stdout().lock().write_all(text.as_bytes()).unwrap();
}

/// Everything that the host keeps.
fn read(tries: &mut Tries, data: &Path) {
    tries.note("list the data directory", Own::Works, fs::read_dir(data).is_ok());
    for name in [
        "strongroom.toml",
        "keys/host.key",
        "keys/log.key",
        "keys/client.key",
        "keys/cache.key",
        "keys/secrets.key",
        "secrets/word.sealed",
        "state/db",
        "audit/checkpoint",
        "audit/log.pub",
        "evidence/00000000000000000000",
        "known_hosts",
        "live.json",
        "lock",
    ] {
        let path = data.join(name);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes));
        tries.note(format!("read {name}"), Own::Works, read.is_ok());
    }
    for name in ["keys", "secrets", "state", "audit", "evidence", "blobs", "cache", "tmp"] {
        tries.note(format!("list {name}"), Own::Works, fs::read_dir(data.join(name)).is_ok());
    }
    tries.note("connect to admin.sock", Own::Works, UnixStream::connect(data.join("admin.sock")).is_ok());
    let lock = File::open(data.join("lock")).and_then(|file| {
        // Shared or not: it would keep the next host from starting. That this one holds it is told apart from not being let in.
        match file.try_lock_shared() {
            Err(fs::TryLockError::Error(error)) => Err(error),
            _ => Ok(()),
        }
    });
    tries.note("reach the lock", Own::Works, lock.is_ok());
}

/// Things that are put in the host's way, and taken away again if that works.
fn write(tries: &mut Tries, data: &Path) {
    for name in ["new", "keys/new", "state/new", "audit/new", "tmp/new", "config.lock"] {
        let path = data.join(name);
        let made = OpenOptions::new().write(true).create_new(true).open(&path);
        let _ = made.as_ref().map(|_| fs::remove_file(&path));
        tries.note(format!("make {name}"), Own::Works, made.is_ok());
    }
    let link = data.join("keys/link");
    let linked = symlink("/etc/passwd", &link);
    let _ = linked.as_ref().map(|()| fs::remove_file(&link));
    tries.note("make a link in keys", Own::Works, linked.is_ok());
    let here = PathBuf::from("stolen");
    let linked = fs::hard_link(data.join("keys/host.key"), &here);
    let _ = linked.as_ref().map(|()| fs::remove_file(&here));
    tries.note("make another name of a key", Own::Works, linked.is_ok());
    for name in ["strongroom.toml", "state/db", "audit/checkpoint"] {
        let opened = OpenOptions::new().append(true).open(data.join(name));
        tries.note(format!("open {name} for writing"), Own::Works, opened.is_ok());
    }
    let modes = fs::metadata(data).and_then(|found| fs::set_permissions(data, found.permissions()));
    tries.note("change modes", Own::Works, modes.is_ok());
    // In a directory in which everybody may make names, as `/tmp` is.
    let aside = data.with_file_name("aside");
    let moved = fs::rename(data, &aside);
    let _ = moved.as_ref().map(|()| fs::rename(&aside, data));
    tries.note("move the data directory away", Own::Works, moved.is_ok());
}

/// The process itself.
fn process(tries: &mut Tries, pid: i32) {
    let of = |name: &str| PathBuf::from(format!("/proc/{pid}/{name}"));
    for name in ["mem", "environ", "maps", "auxv", "stack", "syscall", "io"] {
        let mut byte = [0];
        let read = File::open(of(name)).and_then(|mut file| file.read(&mut byte));
        tries.note(format!("read {name} of the process"), Own::Closed, read.is_ok());
    }
    for name in ["cwd", "root", "exe", "fd/0"] {
        tries.note(format!("follow {name} of the process"), Own::Closed, fs::read_link(of(name)).is_ok());
    }
    let score = OpenOptions::new().write(true).open(of("oom_score_adj"));
    tries.note("have the kernel end it first", Own::Closed, score.is_ok());
    let host = Pid::from_raw(pid);
    let attached = ptrace::attach(host);
    let _ = attached.as_ref().map(|()| ptrace::detach(host, None));
    tries.note("trace it", Own::Closed, attached.is_ok());
    tries.note("look into its memory", Own::Closed, looks_into(pid));
    tries.note("signal it", Own::Works, kill(host, None).is_ok());
    tries.note("send it a signal that does nothing", Own::Works, kill(host, Signal::SIGURG).is_ok());
}

/// Whether the kernel would copy from a process's memory: that nothing is at the address is another answer.
fn looks_into(pid: i32) -> bool {
    let mut byte = 0_u8;
    let here = libc::iovec { iov_base: std::ptr::from_mut(&mut byte).cast(), iov_len: 1 };
    let there = libc::iovec { iov_base: std::ptr::without_provenance_mut(0x1000), iov_len: 1 };
    // SAFETY: one byte of ours is written at most.
    let read = unsafe { libc::process_vm_readv(pid, &raw const here, 1, &raw const there, 1, 0) };
    read >= 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::EPERM)
}

/// Its port, again.
fn port(tries: &mut Tries, address: SocketAddr) {
    let mut taken = false;
    for at in [address, SocketAddr::from(([0, 0, 0, 0], address.port()))] {
        let again = socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
        sockopt::set_socket_reuseaddr(&again, true).unwrap();
        sockopt::set_socket_reuseport(&again, true).unwrap();
        taken |= bind(&again, &at).is_ok();
    }
    tries.note("take its port", Own::Closed, taken);
    // It answers a packet of nobody's with nothing that tells anything; the host counts, and goes on.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in [0, 1, 21, 1200] {
        socket.send_to(&vec![0xc3; length], address).unwrap();
    }
}

/// `id` of the host's user.
fn id(kind: &str) -> u32 {
    let output = Command::new("id").args([kind, HOST]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn give_away(path: &Path, uid: u32, gid: u32) {
    chown(path, Some(uid), Some(gid)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give_away(&entry.unwrap().path(), uid, gid);
        }
    }
}

/// A place like `/tmp`, with a host that serves as its user and has run a job.
struct World {
    place: Place,
    serving: Running,
    address: String,
}

impl World {
    fn new() -> Self {
        let place = Place::new();
        place.run(&["init"]).exits(0);
        place.run_with_input(&["secret", "set", "word"], b"hush").exits(0);
        give_away(&place.data(), id("-u"), id("-g"));
        fs::set_permissions(place.path(), PermissionsExt::from_mode(0o1777)).unwrap();
        place.module("out.wasm", &print(1, "hello", 5));
        // Started by its user: of a process that was root, the kernel closes the memory by itself.
        copy_program(&place.path().join("strongroom"));
        let mut command = Command::new(place.path().join("strongroom"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--dir"])
            .arg(place.data())
            .uid(id("-u"))
            .gid(id("-g"));
        command.env_clear().current_dir(place.path()).stdin(Stdio::null());
        let mut serving = start(&mut command);
        let live = place.data().join("live.json");
        wait_for("the host to listen", || (live.exists() || !serving.is_running()).then_some(()));
        let live: serde_json::Value = serde_json::from_slice(&fs::read(&live).unwrap()).unwrap();
        let address = live["address"].as_str().unwrap().to_owned();
        let world = Self { place, serving, address };
        world.works();
        world
    }

    /// A job is done.
    fn works(&self) {
        assert_eq!(self.place.run(&["submit", "--wait", "out.wasm"]).exits(0).out(), "hello");
    }

    /// What a user with this number can do: what it was, whether the host's user could, whether it worked.
    fn tried_by(&self, uid: u32) -> Vec<(String, bool, bool)> {
        let room = self.place.path().join(format!("of-{uid}"));
        if !room.exists() {
            fs::create_dir(&room).unwrap();
            // Where tests are built, others may not look.
            fs::copy(std::env::current_exe().unwrap(), room.join("tries")).unwrap();
            let orders = format!("{}\n{}\n{}", self.place.data().display(), self.serving.pid(), self.address);
            fs::write(room.join(ORDERS), orders).unwrap();
            give_away(&room, uid, uid);
        }
        let mut command = Command::new(room.join("tries"));
        command.args(["somebody_tries", "--exact", "--nocapture", "--test-threads", "1"]);
        command.uid(uid).gid(uid).env_clear().current_dir(&room).stdin(Stdio::null());
        let said = start(&mut command).finish().exits(0);
        let told = said.out().lines().filter_map(|line| {
            let (worked, rest) = line.split_at_checked(1)?;
            let (own, what) = rest.split_at_checked(1)?;
            let flag = |text: &str| match text {
                "0" => Some(false),
                "1" => Some(true),
                _ => None,
            };
            Some((what.to_owned(), flag(own)?, flag(worked)?))
        });
        let told: Vec<_> = told.collect();
        assert!(told.len() > 50, "{said:?}");
        told
    }
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("NOT TESTED: only root can be another user");
    }
    root
}

// Red without `set_dumpable_behavior` in `give_up` (the host's own user reads its memory), and with a socket of mode 0666 (the other user
// connects once the directory is open).
#[test]
fn another_user_of_the_machine_gets_nothing() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let own: Vec<_> = world.tried_by(id("-u"));
    for (what, expected, worked) in &own {
        assert_eq!(worked, expected, "the host's own user: {what}");
    }
    let worked = |uid| -> Vec<String> {
        world.tried_by(uid).into_iter().filter(|(_, _, worked)| *worked).map(|(what, ..)| what).collect()
    };
    assert_eq!(worked(OTHER), Vec::<String>::new());
    world.works();
    // A second wall: with the directory open, as somebody might leave it while the host serves, what is in it stays shut.
    fs::set_permissions(world.place.data(), PermissionsExt::from_mode(0o755)).unwrap();
    // Public keys of hosts, as the client of this directory pins them.
    assert_eq!(worked(OTHER), ["list the data directory", "read known_hosts"]);
    fs::set_permissions(world.place.data(), PermissionsExt::from_mode(0o700)).unwrap();
    world.works();
    world.serving.signal("TERM");
    let said = world.serving.finish().exits(0);
    assert!(!said.stderr.contains("ERROR"), "{said:?}");
}

/// With a key of their own, they are a stranger like any other.
#[test]
fn another_user_has_no_key_that_the_host_knows() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let room = world.place.path().join("theirs");
    fs::create_dir(&room).unwrap();
    copy_program(&room.join("strongroom"));
    fs::copy(world.place.path().join("out.wasm"), room.join("out.wasm")).unwrap();
    let key = fs::read_to_string(world.place.data().join("keys/host.pub")).unwrap();
    chown(&room, Some(OTHER), Some(OTHER)).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(room.join("strongroom"));
        command.args(arguments).args(["--dir", "own"]).uid(OTHER).gid(OTHER).env_clear().current_dir(&room);
        start(command.stdin(Stdio::null())).finish()
    };
    run(&["init"]).exits(0);
    let said = run(&["submit", "out.wasm", "--host", &world.address, "--host-key", key.trim(), "--wait"]);
    assert_eq!(said.exits(120).out(), "");
    // The directory's own host is not theirs to reach either.
    let data = world.place.data();
    let mut command = Command::new(room.join("strongroom"));
    command.args(["status", "--dir"]).arg(&data).uid(OTHER).gid(OTHER).env_clear().current_dir(&room);
    let said = start(command.stdin(Stdio::null())).finish();
    assert!(said.code != 0 && said.out().is_empty(), "{said:?}");
    world.works();
}

/// A directory of theirs in the place where somebody means to keep a host: whoever owns it could exchange what is in it.
// Red without the look at the owner in `Home::create`.
#[test]
fn no_host_is_kept_in_another_users_directory() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    fs::set_permissions(place.path(), PermissionsExt::from_mode(0o1777)).unwrap();
    let trap = place.path().join("trap");
    fs::create_dir(&trap).unwrap();
    fs::set_permissions(&trap, PermissionsExt::from_mode(0o777)).unwrap();
    chown(&trap, Some(OTHER), Some(OTHER)).unwrap();
    symlink(&trap, place.path().join("way")).unwrap();
    copy_program(&place.path().join("strongroom"));
    place.module("out.wasm", &print(1, "hello", 5));
    for dir in ["trap", "way"] {
        for arguments in [&["init"][..], &["run", "out.wasm"], &["serve", "--listen", "127.0.0.1:0"]] {
            let mut command = Command::new(place.path().join("strongroom"));
            command.args(arguments).args(["--dir", dir]).uid(id("-u")).gid(id("-g")).env_clear();
            let said = start(command.current_dir(place.path()).stdin(Stdio::null())).finish().exits(125);
            assert!(said.stderr.contains(&format!("it belongs to user {OTHER}")), "{arguments:?}: {said:?}");
        }
    }
    assert_eq!(fs::read_dir(&trap).unwrap().count(), 0, "nothing was made there");
    assert_eq!(fs::metadata(&trap).unwrap().uid(), OTHER);
}
