//! Not root. What only root can show is shown where root runs the tests, which machines that build in containers do.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use super::cli_support::{Place, Running, print, start, wait_for};

/// A user that every machine has, and that owns nothing there.
const USER: &str = "nobody";

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("NOT TESTED: only root can show this");
    }
    root
}

/// `strongroom serve` as somebody types it, without the option that the tests of other things add.
fn serve(place: &Place) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--dir"]).arg(place.data());
    command.env_clear().current_dir(place.path()).stdin(Stdio::null());
    command
}

fn id(kind: &str) -> u32 {
    let output = Command::new("id").args([kind, USER]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn prepend(place: &Place, line: &str) {
    let path = place.data().join("strongroom.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{line}\n{text}")).unwrap();
}

fn give_away(path: &Path, uid: u32, gid: u32) {
    chown(path, Some(uid), Some(gid)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give_away(&entry.unwrap().path(), uid, gid);
        }
    }
}

fn refused(place: &Place, says: &[&str]) {
    let said = start(&mut serve(place)).finish().exits(125);
    for words in says {
        assert!(said.stderr.contains(words), "{words:?}: {said:?}");
    }
    assert!(!place.data().join("live.json").exists() && !place.data().join("lock").exists());
}

#[test]
fn a_host_does_not_serve_as_root() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    refused(&place, &["a host does not serve as root", "run_as = \"USER\""]);
    assert!(!place.data().exists(), "nothing was made as root");
    place.run(&["init"]).exits(0);
    refused(&place, &["a host does not serve as root", "run_as = \"USER\""]);
}

#[test]
fn a_user_that_a_host_cannot_become_is_refused_with_what_would_help() {
    if !is_root() {
        return;
    }
    for (line, says) in [
        ("run_as = \"nobody-of-this-name\"", &["has no user \"nobody-of-this-name\"", "useradd"][..]),
        ("run_as = \"root\"", &["is root", "ordinary user"]),
        ("run_as = \"nobody\"", &["it belongs to user 0", "chown -R nobody: "]),
    ] {
        let place = Place::new();
        place.run(&["init"]).exits(0);
        prepend(&place, line);
        refused(&place, says);
    }
}

fn status(running: &Running, key: &str) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

// Red without `initgroups` in `become_user` (root's groups stay).
#[test]
fn a_host_that_root_starts_becomes_its_user_and_works() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
    place.run(&["init"]).exits(0);
    prepend(&place, "run_as = \"nobody\"");
    let (uid, gid) = (id("-u"), id("-g"));
    give_away(&place.data(), uid, gid);
    // Groups of root's, which the host inherits from here.
    nix::unistd::setgroups(&[0, 4].map(nix::unistd::Gid::from_raw)).unwrap();
    let running = start(&mut serve(&place));
    wait_for("it to listen", || place.data().join("live.json").exists().then_some(()));
    assert_eq!(status(&running, "Uid:"), [uid; 4]);
    assert_eq!(status(&running, "Gid:"), [gid; 4]);
    let groups = status(&running, "Groups:");
    assert!(!groups.contains(&0) && !groups.contains(&4), "{groups:?}");
    place.module("out.wasm", &print(1, "hello", 5));
    // Compiled by a child of that user, too.
    assert_eq!(place.run(&["submit", "--wait", "out.wasm"]).exits(0).out(), "hello");
    running.signal("TERM");
    let said = running.finish().exits(0);
    assert!(!said.stderr.contains("ERROR"), "{said:?}");
}

#[test]
fn a_key_that_is_somebody_elses_is_refused_with_the_chown() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    place.run(&["init"]).exits(0);
    for name in ["keys/host.key", "keys", "strongroom.toml", ""] {
        let path = place.data().join(name);
        chown(&path, Some(id("-u")), None).unwrap();
        let said = place.run(&["serve", "--listen", "127.0.0.1:0"]).exits(125);
        let mend = format!("Run: chown 0 {}", path.display());
        assert!(said.stderr.contains(mend.trim_end_matches('/')), "{name}: {said:?}");
        chown(&path, Some(0), None).unwrap();
    }
}
