//! The programs start and do their work. What those do that need a host is tested with a real one, in `host/tests/readme.rs`, which
//! uses the binaries that this test makes cargo build.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::Write as _;
use std::process::{Command, Stdio};

#[test]
fn embed_runs_a_module_without_a_host() {
    let module = concat!(env!("CARGO_MANIFEST_DIR"), "/../prebuilt/wordcount.wasm");
    let mut embed = Command::new(env!("CARGO_BIN_EXE_embed"));
    embed.arg(module).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut embed = embed.spawn().unwrap();
    embed.stdin.take().unwrap().write_all(b"one two\nthree\n").unwrap();
    let output = embed.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let counts: Vec<&str> = text.split_whitespace().take(3).collect();
    assert_eq!(counts, ["2", "3", "14"], "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
}

#[test]
fn the_others_say_how_they_are_used() {
    let programs = [
        ("submit", env!("CARGO_BIN_EXE_submit")),
        ("retry", env!("CARGO_BIN_EXE_retry")),
        ("dag", env!("CARGO_BIN_EXE_dag")),
        ("progress", env!("CARGO_BIN_EXE_progress")),
        ("nightly", env!("CARGO_BIN_EXE_nightly")),
    ];
    for (name, program) in programs {
        let output = Command::new(program).output().unwrap();
        let usage = format!("usage: {name} HOST:PORT");
        assert!(String::from_utf8(output.stderr).unwrap().contains(&usage), "{name}");
        assert_eq!(output.status.code(), Some(1));
    }
}
