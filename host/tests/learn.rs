//! `strongroom run --learn`: what a module needs is what it says, no more and no less, and nothing is granted without an answer.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli_support;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use cli_support::{CAT, Place, print};
use serde_json::json;

/// An example, and a place with directories `docs` and `out`, the first with two files.
fn place_with(example: &str) -> Place {
    let place = Place::new();
    let prebuilt = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/prebuilt").join(example);
    std::fs::copy(prebuilt, place.path().join("m.wasm")).unwrap();
    std::fs::create_dir(place.path().join("docs")).unwrap();
    std::fs::create_dir(place.path().join("out")).unwrap();
    place.file("docs/a.txt", "one two\n");
    place.file("docs/b.txt", "three\n");
    place
}

#[test]
fn a_module_that_is_given_nothing_says_what_it_looked_for() {
    let place = place_with("wordcount.wasm");
    let learned = place.run(&["run", "--learn", "--json", "m.wasm", "--", "/docs"]);
    assert_ne!(learned.code, 0, "it could not read: {learned:?}");
    let document = learned.json();
    assert_eq!(document["denied"], json!([{ "what": "read /docs", "option": "--read ./docs:/docs" }]));
    assert_eq!((&document["rounds"], &document["exit"]), (&json!(1), &json!(learned.code)));
    assert_eq!(document["options"], json!(["--deterministic"]), "nothing was granted, so nothing was used");
}

// Red when `mounts` in `needs.rs` keeps what was not touched: `--write out:/out` stays in the list.
#[test]
fn the_printed_command_is_the_smallest_and_works() {
    let place = place_with("wordcount.wasm");
    let typed = [
        "run",
        "--learn",
        "--write",
        "docs:/docs",
        "m.wasm",
        "--write",
        "out:/out",
        "--memory=64MiB",
        "--",
        "/docs",
    ];
    let learned = place.run(&typed).exits(0);
    assert!(learned.stderr.contains("14"), "the guest's output is on standard error: {learned:?}");
    let docs = place.path().canonicalize().unwrap().join("docs");
    let expected = format!(
        "# ran once; the last time it exited with status 0\n\
         # not used: --write docs:/docs (it only read)\n\
         # not used: --write out:/out\n\
         # not used: the clock\n\
         # not used: random bytes\n\
         # the smallest command with which it runs the same way:\n\
         strongroom run m.wasm --memory=64MiB --read docs:/docs --deterministic -- /docs\n\n\
         # in the strongroom.toml of a host, for whoever shall submit it:\n\
         [volumes.docs]\npath = \"{}\"\naccess = \"read\"\n\n\
         [[principals]]\nname = \"NAME\"\nkey = \"ed25519:KEY\"\nvolumes = {{ docs = \"read\" }}\n",
        docs.display()
    );
    assert_eq!(learned.out(), expected);
    let command = learned.out().lines().find(|line| !line.starts_with('#')).unwrap();
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let said = place.run(&words).exits(0);
    assert_eq!(said.out(), learned.stderr, "it runs as it ran when it had more");
    assert!(!place.data().join("state").exists() || said.code == 0);
}

#[test]
fn the_printed_lines_are_a_configuration() {
    let place = place_with("wordcount.wasm");
    let document = place
        .run(&["run", "--learn", "--json", "m.wasm", "--read", "docs:/docs", "--", "/docs"])
        .exits(0)
        .json();
    let key = "ed25519:3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29";
    let policy = document["policy"].as_str().unwrap().replace("ed25519:KEY", key).replace("NAME", "someone");
    let text = format!("log_origin = \"example.com/x\"\n{policy}\n");
    let config = strongroom::config::Config::load(&place.file("strongroom.toml", text)).unwrap();
    let docs = config.volumes.values().next().unwrap();
    assert_eq!(docs.path, place.path().canonicalize().unwrap().join("docs"));
    assert_eq!(config.principals[0].volumes.len(), 1);
}

#[test]
fn a_trial_is_no_job() {
    let place = place_with("wordcount.wasm");
    place.run(&["run", "--learn", "m.wasm", "--read", "docs:/docs", "--", "/docs"]).exits(0);
    let jobs = place.run(&["job", "list", "--json"]).exits(0).json();
    assert_eq!(jobs["jobs"], json!([]), "nothing was accepted, so nothing is recorded");
    let left: Vec<_> = std::fs::read_dir(place.data().join("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn limits_input_and_exit_status_are_those_of_run() {
    let place = Place::new();
    place.module("loop.wasm", cli_support::LOOP);
    place.run(&["run", "--learn", "loop.wasm", "--timeout", "100ms"]).exits(124);
    place.module("exit.wasm", &cli_support::exit(7));
    place.run(&["run", "--learn", "exit.wasm"]).exits(7);
    place.module("cat.wasm", CAT);
    let said = place.run_with_input(&["run", "--learn", "cat.wasm", "--input", "-"], b"hello").exits(0);
    assert_eq!(said.stderr, "hello");
    // More than is shown is counted, not kept.
    let many = "x".repeat(100_000);
    let said =
        place.run_with_input(&["run", "--learn", "cat.wasm", "--input", "-"], many.as_bytes()).exits(0);
    assert!(
        said.stderr.len() < 70_000 && said.stderr.contains("[34464 more bytes]"),
        "{}",
        said.stderr.len()
    );
    let digest = format!("sha256:{}", "0".repeat(64));
    assert!(place.run(&["run", "--learn", &digest]).exits(126).stderr.contains("module's file"));
    place.module("bad.wasm", r#"(module (import "env" "x" (func)) (func (export "_start")))"#);
    assert!(place.run(&["run", "--learn", "bad.wasm"]).exits(120).stderr.contains("env::x"));
}

/// Reads the wall clock, then draws random bytes.
const CLOCK_AND_CHANCE: &str = r#"(module
    (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (drop (call $time (i32.const 0) (i64.const 0) (i32.const 0)))
        (drop (call $random (i32.const 0) (i32.const 8)))))"#;

// Red without `Sources::told` in the runtime's `told.rs`.
#[test]
fn clocks_and_randomness_count_as_used_and_their_stand_ins_as_denied() {
    let place = Place::new();
    place.module("m.wasm", CLOCK_AND_CHANCE);
    let used = place.run(&["run", "--learn", "--json", "m.wasm"]).exits(0).json();
    assert_eq!((&used["options"], &used["unused"], &used["denied"]), (&json!([]), &json!([]), &json!([])));
    let denied = place.run(&["run", "--learn", "--json", "m.wasm", "--deterministic"]).exits(0).json();
    let whats: Vec<_> = denied["denied"].as_array().unwrap().iter().map(|it| it["what"].clone()).collect();
    assert_eq!(whats, ["read the clock", "draw random bytes"]);
    assert_eq!(denied["options"], json!(["--deterministic"]), "a stand-in is no capability");
    // A job that is not observed tells nothing of its stand-ins: it got what it asked for.
    place.module("print.wasm", &print(1, "hi", 2));
    let lines = place.run(&["run", "--json", "m.wasm", "--deterministic"]).exits(0).lines();
    let end = &lines.last().unwrap()["job"]["end"];
    assert!(end.get("denied").is_none_or(|denied| *denied == json!([])), "{end}");
}

/// Types `answers` at a terminal where the command runs; gives what the terminal showed.
fn at_a_terminal(place: &Place, arguments: &str, answers: &str) -> String {
    let inner = format!("{} run --dir data --learn {arguments}", env!("CARGO_BIN_EXE_strongroom"));
    let mut script = Command::new("script");
    script.args(["-qec", &inner, "/dev/null"]).current_dir(place.path()).env("TERM", "dumb");
    script.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = script
        .spawn()
        .unwrap_or_else(|error| panic!("this test makes a terminal with `script` of util-linux: {error}"));
    child.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).replace('\r', "")
}

// Red with `asks` always false in `learn/mod.rs`: the questions are never put.
#[test]
fn at_a_terminal_it_asks_and_runs_again_until_nothing_is_new() {
    let place = place_with("wordcount.wasm");
    let shown = at_a_terminal(&place, "m.wasm -- /docs /more", "y\nout\n");
    assert!(shown.contains("The module wants to read /docs."), "{shown}");
    assert!(shown.contains("(y = ./docs, or another path, enter = none)"), "{shown}");
    let command = "strongroom run m.wasm --read docs:/docs --read out:/more --deterministic -- /docs /more";
    assert!(shown.contains(command), "{shown}");
    assert!(shown.contains("# ran "), "{shown}");

    let place = place_with("wordcount.wasm");
    let shown = at_a_terminal(&place, "m.wasm -- /docs", "\n");
    assert!(shown.contains("strongroom run m.wasm --deterministic -- /docs"), "enter is no: {shown}");
    assert!(shown.contains("# denied: read /docs (--read ./docs:/docs)"), "{shown}");
}

/// A server that answers one request.
fn server() -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            request.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello").unwrap();
        String::from_utf8(request).unwrap()
    });
    (address, served)
}

#[test]
fn a_request_is_asked_for_before_it_is_sent() {
    let place = place_with("fetch.wasm");
    let (address, served) = server();
    let arguments = format!("m.wasm -- http://{address}/v1/x");
    let shown = at_a_terminal(&place, &arguments, "\n");
    assert!(shown.contains(&format!("The module wants to send GET to http://{address}.")), "{shown}");
    assert!(shown.contains("strongroom run m.wasm --deterministic -- "), "enter is no: {shown}");
    assert!(shown.contains("need not grant it anything"), "{shown}");
    assert!(!served.is_finished(), "nothing was sent");

    let shown = at_a_terminal(&place, &arguments, "/v1\n");
    assert!(shown.contains("status 200"), "{shown}");
    assert!(served.join().unwrap().starts_with("GET /v1/x HTTP/1.1"));
    let command = format!("strongroom run m.wasm --http 'GET http://{address}/v1' --deterministic -- ");
    assert!(shown.contains(&command), "{shown}");
    assert!(shown.contains(&format!("http = [\"GET http://{address}/v1\"]")), "{shown}");
}

#[test]
fn addresses_and_names_are_asked_for_one_by_one() {
    let place = Place::new();
    let netcat = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tests/fixtures/netcat.wasm");
    std::fs::copy(netcat, place.path().join("m.wasm")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let served = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"heard\n").unwrap());
    let arguments = format!("m.wasm --timeout 60s -- connect {address} resolve localhost");
    let shown = at_a_terminal(&place, &arguments, "y\n80\n");
    served.join().unwrap();
    assert!(shown.contains("connect: heard"), "{shown}");
    assert!(shown.contains(&format!("The module wants to connect to tcp://{address}.")), "{shown}");
    assert!(shown.contains("To which port of localhost may it connect?"), "{shown}");
    let rules = format!("--connect tcp://{address} --connect tcp://localhost:80");
    let command = format!("strongroom run m.wasm --timeout 60s {rules} --deterministic -- connect");
    assert!(shown.contains(&command), "{shown}");

    // A name alone leads to no address of this machine: that takes the address itself.
    let shown = at_a_terminal(&place, "m.wasm -- resolve localhost", "80\n");
    assert!(shown.contains("# denied: look up localhost, which has only private"), "{shown}");
}
