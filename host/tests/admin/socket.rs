//! The socket, who may use it, and what `strongroom status` says.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::cli_support::Place;
use crate::support::{Host, configure, get, socket};

// Red without the name in the table of `fsck/owner.rs`.
#[test]
fn a_leftover_is_replaced_and_the_socket_of_a_running_host_is_not() {
    let place = Place::new();
    let first = Host::serve(&place);
    first.kill();
    assert!(socket(&place).exists(), "a killed host leaves it");
    let said = place.run(&["status"]).exits(125);
    let checked = place.run(&["fsck"]).exits(0);
    assert!(!checked.out().contains("admin.sock"), "{checked:?}");
    assert!(said.stderr.contains("no host serves ") && said.stderr.contains("strongroom serve"), "{said:?}");
    let second = Host::serve(&place);
    let inode = socket(&place).metadata().unwrap().ino();
    assert_eq!(socket(&place).metadata().unwrap().mode() & 0o777, 0o600);
    let third = place.run(&["serve", "--listen", "127.0.0.1:0"]).exits(125);
    assert!(third.stderr.contains("is served by another host already"), "{third:?}");
    assert_eq!(socket(&place).metadata().unwrap().ino(), inode);
    assert_eq!(get(&socket(&place), "/health/live").status, 200);
    second.stop();
}

// Red with `true` in place of the comparison in `may_connect`. Needs root, to be two users.
#[test]
fn another_user_is_not_answered_whatever_the_modes_say() {
    let perl = Path::new("/usr/bin/perl");
    if !rustix::process::geteuid().is_root() || !perl.exists() {
        println!("NOT TESTED: a second user of the machine, for want of root or of perl");
        return;
    }
    let place = Place::new();
    let host = Host::serve(&place);
    // An operator who is careless with modes.
    for path in [place.path(), &place.data()] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    std::fs::set_permissions(socket(&place), PermissionsExt::from_mode(0o666)).unwrap();
    let ask = r#"use IO::Socket::UNIX; $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "connect: $!";
        $SIG{PIPE} = "IGNORE"; print $s "GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"; $s->flush;
        local $/; $_ = <$s>; print "heard: $_";"#;
    let asked_by = |user: u32| {
        let mut command = Command::new(perl);
        command.args(["-e", ask]).arg(socket(&place)).uid(user).gid(user).current_dir("/");
        let said = command.output().unwrap();
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap()
    };
    assert_eq!(asked_by(65534), "heard: ");
    assert!(asked_by(0).starts_with("heard: HTTP/1.1 200 OK"), "root is who runs this host");
    host.stop();
}

#[test]
fn a_directory_without_a_host_is_told_from_one_whose_host_cannot_be_asked() {
    let place = Place::new();
    place.run(&["status"]).exits(125);
    assert!(!place.data().exists(), "asking makes nothing");
    place.run(&["init"]).exits(0);
    let held = std::fs::File::create(place.data().join("lock")).unwrap();
    held.lock().unwrap();
    let said = place.run(&["status"]).exits(125);
    assert!(said.stderr.contains("a process holds ") && said.stderr.contains("admin.sock"), "{said:?}");
}

/// Where a process listens, as the kernel says it: addresses, and paths of sockets.
fn listens(pid: u32) -> BTreeSet<String> {
    let inodes: BTreeSet<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let mut found = BTreeSet::new();
    for (table, listening) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
        for line in std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap().lines().skip(1) {
            let cells: Vec<_> = line.split_whitespace().collect();
            if cells[3] == listening && inodes.contains(cells[9]) {
                found.insert(address(cells[1]));
            }
        }
    }
    for line in std::fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap().lines().skip(1) {
        let cells: Vec<_> = line.split_whitespace().collect();
        // __SO_ACCEPTCON
        if cells[3] == "00010000" && inodes.contains(cells[6]) {
            found.insert(cells.get(7).map(|path| (*path).to_owned()).unwrap_or_default());
        }
    }
    found
}

/// `0100007F:1D09` is 127.0.0.1:7433.
fn address(hex: &str) -> String {
    let (address, port) = hex.split_once(':').unwrap();
    let address = u32::from_str_radix(address, 16).expect("this test listens on IPv4 only");
    let port = u16::from_str_radix(port, 16).unwrap();
    format!("{}:{port}", std::net::Ipv4Addr::from(address.swap_bytes()))
}

// Red with the listener of the log taken out of `status::listeners`.
#[test]
fn status_names_every_open_port_and_no_other() {
    let place = Place::new();
    configure(
        &place,
        "serve_log = \"127.0.0.1:0\"\nallow_from = [\"127.0.0.0/8\"]",
        "[admin]\nlisten = \"127.0.0.1:0\"\nallow_from = [\"127.0.0.1\", \"::1\"]",
    );
    let host = Host::serve(&place);
    let status = place.run(&["status", "--json"]).exits(0).json();
    let named: Vec<(String, String)> = status["listeners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|listener| {
            let text = |key: &str| listener[key].as_str().unwrap().to_owned();
            (text("purpose"), text("address"))
        })
        .collect();
    let purposes: Vec<_> = named.iter().map(|(purpose, _)| purpose.as_str()).collect();
    assert_eq!(purposes, ["jobs", "log", "admin", "admin"]);
    let mut open = listens(host.pid());
    // The kernel keeps the name that the socket was made under.
    let made = place.data().join("admin.sock.new");
    assert!(open.remove(made.to_str().unwrap()), "{open:?}");
    open.insert(socket(&place).display().to_string());
    assert_eq!(named.into_iter().map(|(_, address)| address).collect::<BTreeSet<_>>(), open);

    let words = place.run(&["status"]).exits(0);
    for expected in [
        "jobs      QUIC over UDP at 127.0.0.1:",
        "the keys of 1 principals, from 127.0.0.0/8",
        "log       HTTP over TCP at 127.0.0.1:",
        "anybody, metrics and health only, from 127.0.0.1/32, ::1/128",
        "health    ready",
    ] {
        assert!(words.out().contains(expected), "{expected:?} in {words:?}");
    }
    assert_eq!(status["ready"], true);
    assert_eq!(status["host_key"], host.said["host_key"]);
    assert_eq!(status["pid"], host.pid());
    host.stop();

    let quiet = Place::new();
    let host = Host::serve(&quiet);
    assert_eq!(listens(host.pid()).len(), 2, "jobs, and the socket: nothing that was not asked for");
    host.stop();
}
