//! Bad input, through the real binary: the exit status and the words of every refusal.
//!
//! `golden/bad_input.txt` is written by hand and never by a test. What changes from run to run stands there in
//! capitals: `DIR` the test's directory, `PID`, `ADDRESS`, `KEY` and `OTHER-KEY`.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli_support;

use std::net::UdpSocket;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use cli_support::{CAT, Place, Said, copy_program, exit, start};

/// Compares exit status and standard error with the section of the golden file that is called `name`.
fn check(name: &str, said: &Said, replaced: &[(&str, &str)]) {
    let mut found = format!("exit {}\n{}", said.code, said.stderr);
    for (text, name) in replaced {
        found = found.replace(text, name);
    }
    let golden = include_str!("golden/bad_input.txt");
    let section = golden
        .split("\n== ")
        .find_map(|section| section.trim_start_matches("== ").strip_prefix(&format!("{name}\n")));
    let section = section.unwrap_or("(no such section)\n");
    assert!(found.trim_end() == section.trim_end(), "--- {name}: found\n{found}\n--- golden\n{section}");
    assert!(said.stdout.is_empty(), "nothing on standard output: {said:?}");
}

fn refuse_module(name: &str, content: &[u8]) {
    let place = Place::new();
    place.file("guest.wasm", content);
    let said = place.run(&["run", "guest.wasm"]);
    check(name, &said, &[(place.path().to_str().unwrap(), "DIR")]);
    // The same words without a host, for whoever wants to know before.
    let inspected = place.run(&["module", "inspect", "guest.wasm"]).exits(120);
    let reason = said.stderr.trim_end().split_once("guest.wasm: ").map(|(_, reason)| reason).unwrap();
    assert!(inspected.stderr.contains(reason), "{inspected:?} lacks {reason:?}");
    place.run(&["audit", "verify"]).exits(0);
}

#[test]
fn a_file_that_is_not_wasm() {
    refuse_module("not wasm", b"#!/bin/sh\necho hello\n");
}

#[test]
fn an_empty_file() {
    refuse_module("empty", b"");
}

#[test]
fn wat_text() {
    refuse_module("WAT text", b"(module)");
}

#[test]
fn a_truncated_module() {
    let whole = wat::parse_str(CAT).unwrap();
    refuse_module("truncated", &whole[..whole.len() - 10]);
}

#[test]
fn precompiled_native_code() {
    refuse_module("cwasm", b"\x7fELF\x02\x01\x01 and so on");
}

#[test]
fn an_unknown_import() {
    let guest = r#"(module (import "env" "launch_missiles" (func)) (memory (export "memory") 1) (func (export "_start")))"#;
    refuse_module("unknown import", &wat::parse_str(guest).unwrap());
}

#[test]
fn a_library() {
    refuse_module("library", &wat::parse_str("(module (func (export \"add\")))").unwrap());
}

#[test]
fn files_that_are_not_there() {
    let place = Place::new();
    place.module("guest.wasm", &exit(0));
    std::fs::create_dir(place.path().join("sub")).unwrap();
    let dir = place.path().to_str().unwrap();
    let cases: [(&str, &[&str]); 7] = [
        ("missing module", &["run", "none.wasm"]),
        ("module is a directory", &["run", "sub"]),
        ("missing input", &["run", "guest.wasm", "--input", "none.txt"]),
        ("missing read directory", &["run", "guest.wasm", "--read", "none:/x"]),
        ("read of a file", &["run", "guest.wasm", "--read", "guest.wasm:/x"]),
        ("missing identity", &["submit", "guest.wasm", "--host", "127.0.0.1:1", "--identity", "none.key"]),
        ("no audit log", &["audit", "verify", "--dir", "sub"]),
    ];
    for (name, arguments) in cases {
        let said = if name == "no audit log" {
            let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
            start(command.args(arguments).env_clear().current_dir(place.path())).finish()
        } else {
            place.run(arguments)
        };
        check(name, &said, &[(dir, "DIR")]);
    }
}

#[test]
fn options_that_make_no_sense() {
    let place = Place::new();
    place.module("guest.wasm", &exit(0));
    let cases: [(&str, &[&str]); 8] = [
        ("unknown flag", &["run", "--frobnicate", "guest.wasm"]),
        ("unknown command", &["launch"]),
        ("bad size", &["run", "guest.wasm", "--memory", "lots"]),
        ("bad duration", &["run", "guest.wasm", "--timeout", "30"]),
        ("bad variable", &["run", "guest.wasm", "--env", "A"]),
        ("bad priority", &["run", "guest.wasm", "--priority", "101"]),
        ("relative guest directory", &["run", "guest.wasm", "--read", ".:docs"]),
        ("no memory", &["run", "guest.wasm", "--memory", "0"]),
    ];
    for (name, arguments) in cases {
        check(name, &place.run(arguments), &[]);
    }
}

#[test]
fn more_than_the_host_allows() {
    let place = Place::new();
    place.module("guest.wasm", &exit(0));
    check("too much memory", &place.run(&["run", "guest.wasm", "--memory", "2GiB"]), &[]);
    check("unknown queue", &place.run(&["run", "guest.wasm", "--queue", "night"]), &[]);
    let unknown = format!("sha256:{}", "0".repeat(64));
    check("unknown module", &place.run(&["run", &unknown]), &[]);
}

#[test]
fn a_configuration_with_a_typo() {
    let place = Place::new();
    place.module("guest.wasm", &exit(0));
    place.run(&["init"]).exits(0);
    let file = place.data().join("strongroom.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("[max_limits]", "[max_limit]")).unwrap();
    let line = text.lines().position(|line| line == "[max_limits]").unwrap() + 1;
    let line = format!(":{line}:");
    let replaced = [(place.path().to_str().unwrap(), "DIR"), (line.as_str(), ":LINE:")];
    for command in [&["run", "guest.wasm"][..], &["serve"], &["init"], &["job", "list"]] {
        check("configuration with a typo", &place.run(command), &replaced);
    }
}

// Red without `apart_from` in `config check`; without the one of `directory::config` it is no fault of usage.
#[test]
fn a_volume_around_the_data_directory() {
    let place = Place::new();
    place.module("guest.wasm", &exit(0));
    place.run(&["init"]).exits(0);
    let file = place.data().join("strongroom.toml");
    let dir = place.path().canonicalize().unwrap();
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str(&format!("\n[volumes.all]\npath = {dir:?}\n"));
    std::fs::write(&file, text).unwrap();
    let replaced = [(dir.to_str().unwrap(), "DIR")];
    let by_name = ["config", "check", file.to_str().unwrap()];
    for command in [&["run", "guest.wasm"][..], &["serve"], &["config", "check"], &by_name] {
        check("volume around the data directory", &place.run(command), &replaced);
    }
}

// Red without `trusts` in `config check`; without the one of `directory::config` it is no fault of usage.
#[test]
fn an_authority_of_receivers_that_is_none() {
    let place = Place::new();
    place.module("guest.wasm", &exit(0));
    place.run(&["init"]).exits(0);
    // An empty sequence, which begins as a certificate does.
    let authority = place
        .file("ca.pem", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
        .canonicalize()
        .unwrap();
    let file = place.data().join("strongroom.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str(&format!(
        "\n[[forward]]\nname = \"siem\"\nto = \"syslog+tls://localhost:6514\"\nca_file = {authority:?}\n"
    ));
    std::fs::write(&file, text).unwrap();
    let dir = place.path().canonicalize().unwrap();
    let replaced = [(dir.to_str().unwrap(), "DIR")];
    for command in [&["run", "guest.wasm"][..], &["serve"], &["config", "check"]] {
        check("authority of receivers that is none", &place.run(command), &replaced);
    }
}

// Red without `try_lock` in `Home::lock`.
#[test]
fn a_second_host_on_one_directory() {
    let place = Place::new();
    let serving = place.serve();
    let pid = serving.pid().to_string();
    let said = place.run(&["serve", "--listen", "127.0.0.1:0"]);
    let replaced = [
        (place.path().to_str().unwrap(), "DIR"),
        (serving.address.as_str(), "ADDRESS"),
        (pid.as_str(), "PID"),
    ];
    check("second host", &said, &replaced);
    place.run(&["job", "list"]).exits(0);
}

#[test]
fn a_port_in_use() {
    let place = Place::new();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = place.run(&["serve", "--log", "error", "--listen", &address]);
    check("port in use", &said, &[(&address, "ADDRESS")]);
    // What could not start leaves the directory free.
    place.module("guest.wasm", &exit(3));
    place.run(&["run", "guest.wasm"]).exits(3);
}

// Red when a host without a pinned key is taken at its word.
#[test]
fn hosts_that_cannot_be_trusted() {
    let place = Place::new();
    place.module("guest.wasm", &exit(0));
    let serving = place.serve();
    let address = serving.address.as_str();
    let dir = place.path().to_str().unwrap();

    let said = place.run(&["submit", "guest.wasm", "--host", address]);
    check("host without a pinned key", &said, &[(address, "ADDRESS"), (dir, "DIR")]);

    let other = place.run(&["init", "--json"]).json()["log_key"].as_str().unwrap().to_owned();
    let said = place.run(&["submit", "guest.wasm", "--host", address, "--host-key", &other]);
    check(
        "wrong host key",
        &said,
        &[(address, "ADDRESS"), (&other, "OTHER-KEY"), (&serving.host_key, "KEY")],
    );

    let stranger = Place::new();
    stranger.module("guest.wasm", &exit(0));
    let key = stranger.run(&["init", "--json"]).json()["client_key"].as_str().unwrap().to_owned();
    let said = stranger.run(&["submit", "guest.wasm", "--host", address, "--host-key", &serving.host_key]);
    check("unknown key", &said, &[(address, "ADDRESS"), (&key, "KEY")]);
    let jobs = place.run(&["job", "list", "--json"]).exits(0).json();
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 0, "nothing was accepted");
}

#[test]
fn nobody_serves() {
    let place = Place::new();
    place.module("guest.wasm", &exit(0));
    check("nobody serves", &place.run(&["submit", "guest.wasm"]), &[(place.path().to_str().unwrap(), "DIR")]);
}

// Red without the test of the mode in `check_private`.
#[test]
fn a_secret_key_that_others_can_read() {
    let place = Place::new();
    place.module("guest.wasm", &exit(0));
    place.run(&["init"]).exits(0);
    let key = place.data().join("keys/client.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let dir = place.path().to_str().unwrap();
    check("key that others can read", &place.run(&["run", "guest.wasm"]), &[(dir, "DIR")]);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let keys = place.data().join("keys");
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o755)).unwrap();
    check("key directory that others can read", &place.run(&["run", "guest.wasm"]), &[(dir, "DIR")]);
}

#[test]
fn a_data_directory_that_is_a_file() {
    let place = Place::new();
    place.file("data", "");
    let said = place.run(&["job", "list"]);
    check("data directory is a file", &said, &[(place.path().to_str().unwrap(), "DIR")]);
}

#[test]
fn an_unwritable_data_directory() {
    let place = Place::new();
    let dir = place.path();
    // The super-user may write anywhere, so the command runs as somebody else when the test is the super-user's.
    let nobody = 65_534;
    let is_root = chown(dir, Some(nobody), Some(nobody)).is_ok();
    let binary = dir.join("strongroom");
    copy_program(&binary);
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = Command::new(&binary);
    command.arg("--dir").arg(place.data()).arg("init").env_clear();
    if is_root {
        command.uid(nobody).gid(nobody);
    }
    let said = start(&mut command).finish();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    check("unwritable data directory", &said, &[(dir.to_str().unwrap(), "DIR")]);
}

/// On a file system of a few pages, where the system lets the test make one.
#[test]
fn a_full_data_directory() {
    let place = Place::new();
    let small = place.path().join("small");
    std::fs::create_dir(&small).unwrap();
    // Room for the keys but not for everything.
    let said = in_small_filesystem(&small, "nr_inodes=64,size=24k", "init");
    let Some(said) = said else {
        eprintln!(
            "not run: this system lets nobody mount a small file system; home::place has the words under test"
        );
        return;
    };
    let line = said.stderr.clone();
    let path = line.strip_prefix("error: ").and_then(|rest| rest.split(": ").next()).unwrap().to_owned();
    assert!(Path::new(&path).starts_with(&small), "{line}");
    check("full data directory", &said, &[(&path, "FILE")]);
}

fn in_small_filesystem(dir: &Path, options: &str, command: &str) -> Option<Said> {
    let script = r#"mount -t tmpfs -o "$1" none "$2" || exit 99; exec "$3" --dir "$2/data" "$4""#;
    let mut unshare = Command::new("unshare");
    unshare.args(["--map-root-user", "--mount", "sh", "-c", script, "sh", options]);
    unshare.arg(dir).arg(env!("CARGO_BIN_EXE_strongroom")).arg(command);
    let said = start(&mut unshare).finish();
    let made = said.code != 99 && !said.stderr.starts_with("unshare:");
    made.then_some(said)
}

#[test]
fn errors_are_json_for_programs() {
    let place = Place::new();
    let said = place.run(&["run", "none.wasm", "--json"]).exits(126);
    let error: serde_json::Value = serde_json::from_str(&said.stderr).unwrap();
    assert_eq!((&error["exit"], &error["error"]["code"]), (&126.into(), &"usage".into()));
    assert!(error["error"]["message"].as_str().unwrap().contains("none.wasm"));
    // Also when the command line itself cannot be read.
    let said = place.run(&["run", "--json", "--frobnicate"]).exits(126);
    let error: serde_json::Value = serde_json::from_str(&said.stderr).unwrap();
    assert!(error["error"]["message"].as_str().unwrap().contains("--frobnicate"), "{error}");
    // But not because the guest is to be told so.
    let said = place.run(&["run", "--frobnicate", "--", "--json"]).exits(126);
    assert!(said.stderr.starts_with("error: "), "{said:?}");
}
