//! Sockets of the service manager, by a manager that is this test: a shell puts them at descriptors 3 and 4 and becomes the host.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::net::{AddressFamily, SocketType, socket};

use super::cli_support::{CAT, Place, wait_for};

/// The process is who the sockets are for.
const OURS: &str = "$$";

/// A host that a manager started. Killed when the test is over.
struct Managed<'a> {
    place: &'a Place,
    host: Child,
}

impl<'a> Managed<'a> {
    /// Starts a host with up to two descriptors, of which the environment says that they are so many and for so and so.
    fn start(place: &'a Place, sockets: Vec<OwnedFd>, count: &str, pid: &str) -> Self {
        assert!(sockets.len() <= 2);
        let serve = place.command(&["serve", "--log", "info"]);
        let mut sockets = sockets.into_iter().map(Stdio::from);
        let (first, second) = (sockets.next(), sockets.next());
        let more = if second.is_some() { "4<&1" } else { "" };
        let script = format!(
            "exec 3<&0 {more} </dev/null >said 2>log; LISTEN_PID={pid}; export LISTEN_PID; exec \"$@\""
        );
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &script, "sh"]).arg(serve.get_program()).args(serve.get_args());
        shell.env_clear().env("LISTEN_FDS", count).env("LISTEN_FDNAMES", "first:second");
        shell.stdin(first.unwrap_or_else(Stdio::null)).stdout(second.unwrap_or_else(Stdio::null));
        // What the one before it said.
        let _ = fs::remove_file(place.path().join("log"));
        let host = shell.current_dir(place.path()).spawn().unwrap();
        Self { place, host }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.place.path().join("log")).unwrap_or_default()
    }

    /// The log, once the host serves.
    fn serves(&mut self) -> String {
        wait_for("the host", || {
            let ended = self.host.try_wait().unwrap();
            assert!(ended.is_none(), "it ended with {ended:?}: {}", self.log());
            Some(self.log()).filter(|log| log.contains("serving"))
        })
    }

    fn signal(&mut self, name: &str) {
        let pid = self.host.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    fn ends(mut self) -> (i32, String) {
        let served = self.log().contains("serving");
        let code = wait_for("the end of the host", || {
            assert!(served || !self.log().contains("serving"), "it serves: {}", self.log());
            self.host.try_wait().unwrap()
        });
        (code.code().unwrap_or(-1), self.log())
    }
}

impl Drop for Managed<'_> {
    fn drop(&mut self) {
        let _ = self.host.kill();
        let _ = self.host.wait();
    }
}

/// Whether descriptors 3 and 4 of a process are closed when it starts a program. Only root sees that of a host.
fn is_kept_from_others(pid: u32) -> bool {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    [3, 4].into_iter().all(|number| {
        let Ok(told) = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")) else {
            println!("NOT TESTED: what programs of the host inherit, for want of root");
            return true;
        };
        let flags = told.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        u32::from_str_radix(flags, 8).unwrap() & CLOSE_ON_EXEC != 0
    })
}

/// A directory whose host listens at `listen`, and whose owner may name no directory, so that files are closed as far as they can be.
fn made(listen: &str, more: &str) -> Place {
    let place = Place::new();
    place.run(&["init"]).exits(0);
    let path = place.data().join("strongroom.toml");
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replace("listen = \"127.0.0.1:7433\"", &format!("listen = \"{listen}\""));
    fs::write(path, text.replace("any_directory = true", "") + more).unwrap();
    place
}

fn udp() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

fn unix(path: &Path, mode: u32) -> UnixListener {
    let _ = fs::remove_file(path);
    let socket = UnixListener::bind(path).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    socket
}

// Red without `sockets.jobs.take()` in `Host::open`: the port is in use then; without `sockets.admin.take()` in `Admin::start`: the manager's name is
// taken and goes with the first host; and without `fcntl_setfd`.
#[test]
fn a_host_serves_at_the_managers_sockets_and_leaves_them_to_the_next_one() {
    let (jobs, address) = udp();
    let place = made(&address, "");
    let module = place.module("cat.wasm", CAT);
    let path = place.data().join("admin.sock");
    let admin = unix(&path, 0o600);
    for round in ["first", "second"] {
        let sockets = vec![jobs.try_clone().unwrap().into(), admin.try_clone().unwrap().into()];
        let mut managed = Managed::start(&place, sockets, "2", OURS);
        let log = managed.serves();
        assert!(log.contains("made by the service manager") && log.contains("jobs, admin.sock"), "{log}");
        let live = fs::read(place.data().join("live.json")).unwrap();
        let live: serde_json::Value = serde_json::from_slice(&live).unwrap();
        let remote = ["--host", &address, "--host-key", live["host"].as_str().unwrap()];
        let submit = [&["submit", module.to_str().unwrap(), "--wait", "--input", "-"][..], &remote].concat();
        let said = place.run_with_input(&submit, round.as_bytes()).exits(0);
        assert_eq!(said.out(), round);
        let status = place.run(&["status", "--json"]).exits(0).json();
        assert_eq!(status["listeners"][0]["address"], address.as_str());
        assert!(is_kept_from_others(managed.host.id()), "programs that the host starts are not handed these");
        managed.signal("TERM");
        let (code, log) = managed.ends();
        assert_eq!(code, 0, "{log}");
        assert!(path.exists(), "the manager's name for its socket stays");
    }
}

// Red without `sockets.shown.take()` in `Admin::start`: the address is in use then.
#[test]
fn metrics_are_shown_at_the_managers_socket() {
    let shown = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = shown.local_addr().unwrap();
    let more = format!("\n[admin]\nlisten = \"{address}\"\nallow_from = [\"127.0.0.1\"]\n");
    let place = made("127.0.0.1:0", &more);
    let mut managed = Managed::start(&place, vec![shown.try_clone().unwrap().into()], "1", OURS);
    let log = managed.serves();
    assert!(log.contains("made by the service manager") && log.contains("[admin]"), "{log}");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    std::io::Write::write_all(
        &mut stream,
        b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .unwrap();
    let answer = std::io::read_to_string(stream).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

/// What a manager might hand over by mistake, and what it is told. `LISTEN_FDS` and the descriptors are made for a host at `127.0.0.1:0`.
#[test]
fn what_the_configuration_does_not_name_is_refused_with_what_to_write() {
    let place = made("127.0.0.1:0", "");
    let path = place.data().join("admin.sock");
    let refused = |sockets: Vec<OwnedFd>, count: &str, words: &[&str]| {
        let (code, log) = Managed::start(&place, sockets, count, OURS).ends();
        assert_eq!(code, 125, "{log}");
        for word in words {
            assert!(log.contains(word), "not {word:?}: {log}");
        }
        assert!(!place.data().join("live.json").exists(), "it never served");
    };
    // Red without `is_at`.
    let everywhere = UdpSocket::bind("0.0.0.0:0").unwrap();
    refused(
        vec![everywhere.into()],
        "1",
        &["\"first\" (descriptor 3), UDP 0.0.0.0:", "ListenDatagram=127.0.0.1:0"],
    );
    // Red without `getpeername`.
    let (connected, address) = udp();
    connected.connect(&address).unwrap();
    refused(vec![connected.into()], "1", &["connected to one address"]);
    // Red without the look at `place.is_some()`.
    let (first, second) = (udp().0, udp().0);
    refused(
        vec![first.into(), second.into()],
        "2",
        &["\"second\" (descriptor 4)", "one of that kind already"],
    );
    // Red without `is_shown`.
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    refused(vec![tcp.into()], "1", &["TCP 127.0.0.1:", "no [admin]"]);
    // Red without the comparison of paths.
    let elsewhere = unix(&place.path().join("other.sock"), 0o600);
    refused(vec![elsewhere.into()], "1", &["other.sock", "ListenStream=", "admin.sock"]);
    // Red without the look at its mode.
    refused(vec![unix(&path, 0o660).into()], "1", &["0660", "SocketMode=0600"]);
    // Its name was taken by another file.
    let replaced = unix(&path, 0o600);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    refused(vec![replaced.into()], "1", &["something else has its name"]);
    fs::remove_file(&path).unwrap();
    // Kinds that nobody could listen at.
    let datagrams = UnixDatagram::bind(place.path().join("datagrams")).unwrap();
    refused(vec![datagrams.into()], "1", &["not a listening stream"]);
    let silent = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    refused(vec![silent], "1", &["does not listen"]);
    let file = fs::File::open("/dev/null").unwrap();
    refused(vec![file.into()], "1", &["no socket"]);
    // What the environment says cannot be.
    for count in ["many", "-1", "17", "4294967297", ""] {
        refused(vec![udp().0.into()], count, &["LISTEN_FDS is", "from 0 to 16"]);
    }
    refused(vec![], "16", &["16 sockets were handed over", "is not open"]);
}

// Red without the look at LISTEN_PID: descriptor 3 is a file then, and refused.
#[test]
fn what_is_meant_for_another_process_is_not_touched() {
    for (count, pid) in [("1", "1"), ("1", "''"), ("1", "nobody"), ("many", "1")] {
        let place = made("127.0.0.1:0", "");
        let file = fs::File::open("/dev/null").unwrap();
        let mut managed = Managed::start(&place, vec![file.into()], count, pid);
        let log = managed.serves();
        assert!(!log.contains("service manager"), "{log}");
        place.run(&["status"]).exits(0);
    }
}

// Red without the comparison of owners. Needs root, to have somebody else's socket.
#[test]
fn somebody_elses_socket_is_refused() {
    if !rustix::process::geteuid().is_root() {
        println!("NOT TESTED: a socket that belongs to somebody else, for want of root");
        return;
    }
    let place = made("127.0.0.1:0", "");
    let path = place.data().join("admin.sock");
    let admin = unix(&path, 0o600);
    std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
    let (code, log) = Managed::start(&place, vec![admin.into()], "1", OURS).ends();
    assert_eq!(code, 125, "{log}");
    assert!(log.contains("belongs to user 65534") && log.contains("SocketUser="), "{log}");
}
