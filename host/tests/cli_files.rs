//! The command line for scratch space, artifacts, secrets and denials.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli_support;

use cli_support::{Place, exit};

/// Makes `/scratch/out/a` with `hello` in it. Its first directory is the scratch directory.
const LEAVES: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 1024) "out/a") (data (i32.const 2048) "hello")
    (func (export "_start")
        (if (call $open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 5) (i32.const 1)
                (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 512))
            (then unreachable))
        (i32.store (i32.const 0) (i32.const 2048)) (i32.store (i32.const 4) (i32.const 5))
        (drop (call $write (i32.load (i32.const 512)) (i32.const 0) (i32.const 1) (i32.const 16)))))"#;

#[test]
fn artifacts_are_saved_by_run_and_fetched_later() {
    let place = Place::new();
    place.module("leaves.wasm", LEAVES);
    let said = place.run(&["run", "leaves.wasm", "--out", "results", "--json"]).exits(0);
    let lines = said.lines();
    let end = &lines.last().unwrap()["job"]["end"];
    assert_eq!((&end["artifacts"][0]["name"], &end["artifacts"][0]["length"]), (&"a".into(), &5.into()));
    assert_eq!(std::fs::read(place.path().join("results/a")).unwrap(), b"hello");

    let job = lines[0]["job"].as_str().unwrap();
    let shown = place.run(&["job", "show", job]).exits(0);
    assert!(shown.out().contains("artifact   a, 5 B, sha256:"), "{shown:?}");
    let fetched = place.run(&["job", "fetch", job, "a", "--to", "again", "--json"]).exits(0).json();
    assert_eq!(fetched["artifacts"][0]["path"], "again/a");
    assert_eq!(std::fs::read(place.path().join("again/a")).unwrap(), b"hello");
    let said = place.run(&["job", "fetch", job, "b"]).exits(120);
    assert!(said.stderr.contains("left no artifact \"b\"; it left a"), "{said:?}");
}

#[test]
fn malformed_values_show_the_right_form() {
    let place = Place::new();
    place.module("exit.wasm", &exit(0));
    for (option, value, form) in [
        ("--connect", "db.example.com", "example.com:443"),
        ("--connect", "ftp://a.example:1", "tcp:// or udp://"),
        ("--listen", "localhost:80", "tcp://127.0.0.1:8080"),
        ("--http", "example.com", "https:// or http://"),
        ("--secret", "Token", "api-token=API_TOKEN"),
        ("--cpu", "10", "such as 30s"),
        ("--disk", "1TiB", "such as 64MiB"),
        ("--file-size", "x", "such as 64MiB"),
        ("--http-limit", "-1", "such as 64MiB"),
        ("--files", "many", "invalid digit"),
    ] {
        let value = format!("{option}={value}");
        let said = place.run(&["run", "exit.wasm", &value]).exits(126);
        assert!(said.stderr.contains(form), "{value}: {said:?}");
    }
    assert!(!place.data().exists(), "nothing was made");
}

#[test]
fn every_option_reaches_the_signed_job() {
    let place = Place::new();
    place.module("exit.wasm", &exit(0));
    let options = [
        "run",
        "--scratch",
        "--connect",
        "db.example.com:5432",
        "--listen",
        "127.0.0.1:8080",
        "--http",
        "https://example.com/v1",
        "--cpu",
        "9s",
        "--disk",
        "1MiB",
        "--file-size",
        "2MiB",
        "--files",
        "3",
        "--handles",
        "44",
        "--sockets",
        "5",
        "--http-limit",
        "6MiB",
        "--instances",
        "7",
        "--host-buffer",
        "8MiB",
        "exit.wasm",
    ];
    place.run(&options).exits(0);
    let records = place.run(&["audit", "show", "--json"]).exits(0).lines();
    let admitted = records.iter().find(|line| line["record"]["type"] == "admitted").unwrap();
    let (grant, limits) = (&admitted["record"]["grant"], &admitted["record"]["limits"]);
    assert_eq!(grant["connect"], serde_json::json!(["tcp://db.example.com:5432"]));
    assert_eq!(grant["listen"], serde_json::json!(["tcp://127.0.0.1:8080"]));
    assert_eq!(grant["http"], serde_json::json!(["GET,HEAD https://example.com:443/v1"]));
    assert_eq!(grant["scratch"], true);
    let values = [
        "cpu_ms",
        "disk_bytes",
        "file_bytes",
        "files",
        "handles",
        "sockets",
        "http_bytes",
        "instances",
        "host_buffer_bytes",
    ]
    .map(|key| limits[key].as_u64().unwrap());
    assert_eq!(values, [9_000, 1 << 20, 2 << 20, 3, 44, 5, 6 << 20, 7, 8 << 20]);
}

#[test]
fn secrets_are_stored_listed_given_and_forgotten() {
    let place = Place::new();
    place.module("exit.wasm", &exit(0));
    let said = place.run_with_input(&["secret", "set", "token", "-v"], b"hush\n").exits(0);
    assert!(said.stderr.contains("no key may ask for it yet") && !said.stderr.contains("hush"), "{said:?}");
    place.file("cert", b"\xff\n");
    place.run(&["secret", "set", "cert", "--from-file", "cert"]).exits(0);
    assert_eq!(place.run(&["secret", "list"]).exits(0).out(), "cert\ntoken\n");
    let refused = place.run(&["run", "exit.wasm", "--secret", "token=TOKEN"]).exits(120);
    assert!(refused.stderr.contains("not granted: secret token as variable TOKEN"), "{refused:?}");
    let config = place.data().join("strongroom.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("# secrets = [\"api-token\"]", "secrets = [\"token\"]")).unwrap();
    place.run(&["run", "exit.wasm", "--secret", "token=TOKEN"]).exits(0);
    place.run(&["secret", "remove", "token"]).exits(0);
    let gone = place.run(&["secret", "remove", "token"]).exits(126);
    assert!(gone.stderr.contains("the secret token is not there"), "{gone:?}");
    let faulted = place.run(&["run", "exit.wasm", "--secret", "token=TOKEN"]).exits(125);
    assert!(faulted.stderr.contains("the secret token is not there"), "{faulted:?}");
    let long = vec![b'x'; (64 << 10) + 1];
    assert!(
        place
            .run_with_input(&["secret", "set", "long"], &long)
            .exits(126)
            .stderr
            .contains("longer than 65536")
    );
    assert_eq!(
        place.run(&["secret", "list", "--json"]).exits(0).json(),
        serde_json::json!({ "secrets": ["cert"] })
    );
}
