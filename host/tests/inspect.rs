//! `strongroom module inspect`: every prebuilt example, and files that want to harm whoever looks at them.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "common/bomb.rs"]
#[allow(unreachable_pub, reason = "a module of several test crates")]
mod bomb;
mod cli_support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cli_support::{Place, Said, start};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

fn prebuilt() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/prebuilt")
}

fn inspect(place: &Place, file: &Path, more: &[&str]) -> Said {
    let mut arguments = vec!["module", "inspect", file.to_str().unwrap()];
    arguments.extend(more);
    place.run(&arguments)
}

fn report(place: &Place, file: &Path, exit: i32) -> Value {
    inspect(place, file, &["--json"]).exits(exit).json()
}

#[test]
fn every_prebuilt_example_says_what_made_it_and_what_it_can_use() {
    let place = Place::new();
    let mut reports: BTreeMap<String, Value> = BTreeMap::new();
    for entry in std::fs::read_dir(prebuilt()).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        let report = report(&place, &file, 0);
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(report["refusals"], json!([]), "{name}");
        assert_eq!(report["length"], std::fs::metadata(&file).unwrap().len(), "{name}");
        let can_use: Vec<&str> =
            report["can_use"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(can_use.contains(&"streams"), "{name}: {can_use:?}");
        for area in can_use {
            assert!(report["granted_with"][area].is_string(), "{name}: {area}");
        }
        reports.insert(name, report);
    }
    assert!(reports.len() >= 8, "only {} examples", reports.len());

    let wordcount = &reports["wordcount.wasm"];
    assert_eq!(wordcount["kind"], "core module");
    let areas = ["arguments", "environment", "streams", "files"];
    assert_eq!(wordcount["can_use"], json!(areas), "wordcount reads files, and neither clock nor network");
    let made = reports["log-summary.wasm"]["producers"].as_array().unwrap();
    assert!(made.iter().any(|made| made["field"] == "language" && made["name"] == "Go"), "{made:?}");
    // What a component says lies in the modules inside it.
    let component = &reports["jsonl-group.wasm"];
    assert_eq!(component["kind"], "component");
    let made = component["producers"].as_array().unwrap();
    assert!(made.iter().any(|made| made["field"] == "processed-by" && made["name"] == "rustc"), "{made:?}");
    let words = inspect(&place, &prebuilt().join("wordcount.wasm"), &[]).exits(0);
    for part in [
        "arguments      what stands after --",
        "files          --read DIR:/PATH",
        "wasi_snapshot_preview1",
        "_start",
    ] {
        assert!(words.out().contains(part), "{part}: {}", words.out());
    }
}

// Red without the loop over `unknown` in the runtime's `inspect.rs`: then only the first one is told.
#[test]
fn everything_that_would_be_refused_is_told_at_once() {
    let place = Place::new();
    let file = place.module(
        "many.wasm",
        r#"(module (import "env" "a" (func)) (import "env" "b" (func)) (import "wasi_snapshot_preview1" "sock_open" (func))
            (import "wasi_snapshot_preview1" "fd_write" (func))
            (memory i64 1) (func $f (return_call $f)))"#,
    );
    let said = inspect(&place, &file, &[]).exits(120);
    let parts = ["memory64", "tail calls", "`env::a`", "`env::b`", "sock_open`", "no `_start`"];
    for part in parts {
        assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
    }
    assert!(!said.stderr.contains("fd_write"), "{}", said.stderr);
    assert_eq!(report(&place, &file, 120)["refusals"].as_array().unwrap().len(), 5);

    let later = place.module("later.wasm", r#"(component (import "wasi:cli/stdin@0.3.0" (instance)))"#);
    let said = inspect(&place, &later, &[]).exits(120);
    assert!(
        said.stderr.contains("`wasi:cli/stdin@0.3.0`") && said.stderr.contains("wasi:cli/run"),
        "{said:?}"
    );

    // The right name and the wrong type is known to the compiler only.
    let wrong = place.module(
        "wrong.wasm",
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)) (memory (export "memory") 1) (func (export "_start")))"#,
    );
    assert_eq!(report(&place, &wrong, 120)["refusals"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_no_module_is_named_for_what_it_is() {
    let place = Place::new();
    let wordcount = std::fs::read(prebuilt().join("wordcount.wasm")).unwrap();
    let half = &wordcount[..wordcount.len() / 2];
    for (name, bytes, kind, says) in [
        ("empty.wasm", &b""[..], Value::Null, "is empty"),
        ("text.wat", b"(module)", Value::Null, "wasm-tools parse"),
        ("native.cwasm", b"\x7fELF\x02\x01\x01", Value::Null, "native code"),
        ("picture.png", b"\x89PNG", Value::Null, "not WebAssembly"),
        ("magic.wasm", b"\0asm", Value::Null, "cut short"),
        ("half.wasm", half, "core module".into(), "cut short"),
    ] {
        let file = place.file(name, bytes);
        let said = inspect(&place, &file, &[]).exits(120);
        assert!(said.stderr.contains(says), "{name}: {said:?}");
        let report = report(&place, &file, 120);
        assert_eq!((&report["kind"], &report["imports"]), (&kind, &json!({})), "{name}");
    }
}

/// A custom section.
fn section(name: &str, content: &[u8]) -> Vec<u8> {
    let mut body = text(name);
    body.extend(content);
    [vec![0], number(body.len()), body].concat()
}

fn text(text: &str) -> Vec<u8> {
    [number(text.len()), text.as_bytes().to_vec()].concat()
}

/// LEB128.
fn number(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 127 {
        bytes.push(u8::try_from(number & 127).unwrap() | 128);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}

// Red without `cut` in the command's `inspect.rs`, and without `line`.
#[test]
fn a_hostile_file_fills_no_screen_and_steers_no_terminal() {
    let place = Place::new();
    let long = "\\1b[2J\\0a".repeat(4_000);
    let imports: String =
        (0..3_000).map(|n| format!(r#"(import "e{n}{long}" "x" (func))"#)).take(40).collect();
    let more: String =
        (0..3_000).map(|n| format!(r#"(import "wasi_snapshot_preview1" "u{n}" (func))"#)).collect();
    let mut wasm = wat::parse_str(format!("(module {imports}{more})")).unwrap();
    let name = "\u{1b}]0;owned\u{7}\u{202e}".repeat(1_000);
    let values: Vec<u8> =
        (0..500).flat_map(|n| [text(&format!("{n}{name}")), text(&name)].concat()).collect();
    let fields = [number(1), text("language"), number(500), values].concat();
    wasm.extend(section("producers", &fields));
    // One that breaks its own rules says nothing.
    wasm.extend(section("producers", &[255, 255, 255]));
    let file = place.file("hostile.wasm", &wasm);
    for more in [&[][..], &["--json"]] {
        let said = inspect(&place, &file, more).exits(120);
        for shown in [said.out(), said.stderr.as_str()] {
            assert!(shown.len() < 400_000, "{} bytes", shown.len());
            let harmful = |char: char| char != '\n' && char.is_control() || char == '\u{202e}';
            let steers = shown.chars().find(|char| harmful(*char));
            assert!(!more.is_empty() || steers.is_none(), "{steers:?}");
        }
        assert!(said.stderr.contains("more reasons"), "{}", said.stderr.len());
        if more.is_empty() {
            assert!(said.out().contains("and 2040 more"), "imports that are not shown are counted");
            assert!(said.stderr.lines().count() < 70, "a name with newlines is one line");
        }
    }
}

/// The children of a process.
fn children(of: u32) -> Vec<Pid> {
    let parent = format!("PPid:\t{of}\n");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        if std::fs::read_to_string(path.join("status")).is_ok_and(|status| status.contains(&parent)) {
            found.extend(path.file_name().and_then(|pid| Pid::from_raw(pid.to_str()?.parse().ok()?)));
        }
    }
    found
}

// Red with the module compiled by the command itself: there is no compiler to kill then, and it compiles for minutes.
#[test]
fn who_inspects_a_module_does_not_compile_it_in_his_own_process() {
    let place = Place::new();
    let file = place.file("bomb.wasm", bomb::bomb(1000, 8000));
    for arguments in [&["module", "inspect"][..], &["run", "--learn"]] {
        let mut arguments = arguments.to_vec();
        arguments.push(file.to_str().unwrap());
        let mut running = start(&mut place.command(&arguments));
        let mut killed = 0;
        for _ in 0..6_000 {
            if !running.is_running() {
                break;
            }
            // One that has just gone needs no signal.
            killed += children(running.pid())
                .into_iter()
                .filter(|pid| kill_process(*pid, Signal::KILL).is_ok())
                .count();
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(killed > 0, "{arguments:?}");
        let said = running.finish().exits(125);
        assert!(said.stderr.contains("killed by signal 9"), "{said:?}");
    }
}
