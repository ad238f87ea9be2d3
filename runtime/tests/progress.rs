//! What a guest says of its own work: progress and a result, of core modules and components alike.
#![allow(missing_docs, reason = "test names say it")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::time::Duration;

use common::{Ran, bounded, engine, run_with};
use strongroom_runtime::{
    ByteSize, CancelToken, Grant, LimitKind, Limits, MAX_PROGRESS_TEXT, MAX_RESULT, Module, Outcome,
    Progress, Sandbox, Stdio, TrapKind, examine,
};
use tokio::sync::watch;

/// Where a guest has its text, and where its memory ends.
const DATA: usize = 1024;
const END: usize = 2 << 16;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Core,
    Component,
}

const BOTH: [Kind; 2] = [Kind::Core, Kind::Component];

/// A guest with `data` at [`DATA`] whose program is `body`; it may call `$progress` and `$set_result`.
fn guest(kind: Kind, data: &[u8], body: &str) -> Vec<u8> {
    let data: String = data.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let memory = format!(r#"(memory (export "memory") 2) (data (i32.const {DATA}) "{data}")"#);
    let text = match kind {
        Kind::Core => format!(
            r#"(module
                (import "strongroom:job/report@0.1.0" "progress" (func $progress (param i32 i32 i32)))
                (import "strongroom:job/report@0.1.0" "set-result" (func $set_result (param i32 i32) (result i32)))
                {memory}
                (func (export "_start") {body}))"#
        ),
        Kind::Component => format!(
            r#"(component
                (import "strongroom:job/report@0.1.0" (instance $report
                    (export "progress" (func (param "percent" u32) (param "text" string)))
                    (export "set-result" (func (param "bytes" (list u8)) (result (result))))))
                (core module $memory {memory})
                (core instance $memory (instantiate $memory))
                (alias core export $memory "memory" (core memory $bytes))
                (core func $progress (canon lower (func $report "progress") (memory $bytes)))
                (core func $set_result (canon lower (func $report "set-result") (memory $bytes)))
                (core module $program
                    (import "host" "progress" (func $progress (param i32 i32 i32)))
                    (import "host" "set-result" (func $set_result (param i32 i32) (result i32)))
                    (import "host" "memory" (memory 2))
                    (func (export "run") (result i32) {body} (i32.const 0)))
                (core instance $program (instantiate $program (with "host" (instance
                    (export "progress" (func $progress))
                    (export "set-result" (func $set_result))
                    (export "memory" (memory $bytes))))))
                (alias core export $program "run" (core func $run))
                (func $run (result (result)) (canon lift (core func $run)))
                (instance $command (export "run" (func $run)))
                (export "wasi:cli/run@0.2.0" (instance $command)))"#
        ),
    };
    wat::parse_str(text).unwrap()
}

fn progress(percent: i32, at: usize, length: usize) -> String {
    format!("(call $progress (i32.const {percent}) (i32.const {at}) (i32.const {length}))\n")
}

/// Traps unless the answer is the expected one: 0 for taken, 1 for refused.
fn set_result(at: usize, length: usize, answer: i32) -> String {
    format!(
        "(if (i32.ne (call $set_result (i32.const {at}) (i32.const {length})) (i32.const {answer})) (then unreachable))\n"
    )
}

fn compiled(kind: Kind, data: &[u8], body: &str) -> Module {
    engine().compile(&guest(kind, data, body)).unwrap()
}

/// Runs it with somebody who watches: what it left, and its newest progress.
fn watched(module: &Module) -> (Ran, Option<Progress>) {
    let (newest, seen) = watch::channel(None);
    let stdio = Stdio::null().progress(newest);
    let ran = run_with(module, &Grant::none(), &Limits::default(), stdio).unwrap();
    (ran, seen.borrow().clone())
}

/// Percent and text of a guest that says one thing.
fn shown(kind: Kind, percent: i32, text: &[u8]) -> (u8, String) {
    let (ran, newest) = watched(&compiled(kind, text, &progress(percent, DATA, text.len())));
    assert_eq!(ran.outcome(), &Outcome::Exited(0), "{kind:?}");
    let newest = newest.unwrap();
    (newest.percent(), newest.text().to_owned())
}

#[test]
fn progress_and_result_arrive_and_the_newest_counts() {
    for kind in BOTH {
        let body = [
            progress(10, DATA, 5),
            set_result(DATA, 5, 0),
            progress(42, DATA + 5, 6),
            set_result(DATA + 5, 6, 0),
        ];
        let (ran, newest) = watched(&compiled(kind, b"firstsecond", &body.concat()));
        assert_eq!(ran.outcome(), &Outcome::Exited(0), "{kind:?}");
        let newest = newest.unwrap();
        assert_eq!((newest.percent(), newest.text()), (42, "second"), "{kind:?}");
        assert_eq!(ran.report.result.as_deref(), Some(&b"second"[..]), "{kind:?}");
    }
}

#[test]
fn a_guest_that_says_nothing_leaves_nothing_and_an_empty_result_is_one() {
    for kind in BOTH {
        let (ran, newest) = watched(&compiled(kind, b"", ""));
        assert_eq!((newest, ran.report.result), (None, None), "{kind:?}");
        let (ran, _) = watched(&compiled(kind, b"", &set_result(END, 0, 0)));
        assert_eq!(ran.report.result, Some(Vec::new()), "{kind:?}");
    }
}

#[test]
fn what_nobody_watches_is_dropped_and_the_result_is_kept() {
    for kind in BOTH {
        let body = progress(10, DATA, 4) + &set_result(DATA, 4, 0);
        let ran = common::run(&compiled(kind, b"text", &body), &Grant::none(), &Limits::default());
        assert_eq!(ran.outcome(), &Outcome::Exited(0), "{kind:?}");
        assert_eq!(ran.report.result.as_deref(), Some(&b"text"[..]), "{kind:?}");
    }
}

#[test]
fn progress_is_seen_while_the_guest_runs_and_its_result_is_kept_when_it_is_stopped() {
    for kind in BOTH {
        let body = set_result(DATA, 4, 0) + &progress(7, DATA, 4) + "(loop $for_ever (br $for_ever))";
        let module = compiled(kind, b"text", &body);
        let report = bounded(async move {
            let (newest, mut seen) = watch::channel(None);
            let cancel = CancelToken::new();
            let stdio = Stdio::null().progress(newest);
            let (token, limits) =
                (cancel.clone(), Limits { wall: Duration::from_secs(50), ..Limits::default() });
            let run = tokio::spawn(async move {
                Sandbox::run(&module, &Grant::none(), &limits, stdio, &token).await.unwrap()
            });
            assert_eq!(seen.wait_for(Option::is_some).await.unwrap().as_ref().unwrap().percent(), 7);
            cancel.cancel();
            let report = run.await.unwrap();
            assert!(seen.changed().await.is_err(), "whoever watches learns that no more will come");
            report
        });
        assert_eq!(report.outcome, Outcome::Cancelled, "{kind:?}");
        assert_eq!(report.result.as_deref(), Some(&b"text"[..]), "{kind:?}");
    }
}

// Red without `min(ALL)`, and with a percentage that is cut to its lowest byte.
#[test]
fn more_than_all_is_all() {
    for kind in BOTH {
        for (percent, seen) in [(0, 0), (100, 100), (101, 100), (256, 100), (i32::MAX, 100), (-1, 100)] {
            assert_eq!(shown(kind, percent, b"x"), (seen, "x".to_owned()), "{kind:?} {percent}");
        }
    }
}

// Red without `harmless` in `shown`.
#[test]
fn a_text_never_steers_a_terminal() {
    for kind in BOTH {
        let (_, text) = shown(kind, 1, "a\x1b[31mb\r\n\u{202e}c\u{9b}d\u{7f}\0\u{feff}ü".as_bytes());
        assert_eq!(
            text, "a\u{fffd}[31mb\u{fffd}\u{fffd}\u{fffd}c\u{fffd}d\u{fffd}\u{fffd}\u{fffd}ü",
            "{kind:?}"
        );
    }
}

// Red without the comparison in `shown`, and without the bytes of `REST_OF_A_CHARACTER`.
#[test]
fn a_long_text_is_cut_between_two_characters() {
    for kind in BOTH {
        let cases = [
            ("x".repeat(200), "x".repeat(200)),
            ("x".repeat(60_000), "x".repeat(200)),
            ("é".repeat(150), "é".repeat(100)),
            (format!("x{}", "é".repeat(150)), format!("x{}", "é".repeat(99))),
            (format!("{}🦀🦀", "x".repeat(196)), format!("{}🦀", "x".repeat(196))),
            (format!("{}🦀", "x".repeat(197)), "x".repeat(197)),
            (format!("{}🦀", "x".repeat(199)), "x".repeat(199)),
            // Each is replaced by a character of three bytes.
            ("\n".repeat(300), "\u{fffd}".repeat(66)),
        ];
        for (text, seen) in cases {
            assert_eq!(shown(kind, 1, text.as_bytes()).1, seen, "{kind:?}");
        }
    }
    assert_eq!(MAX_PROGRESS_TEXT, 200);
}

#[test]
fn a_core_module_may_say_what_is_not_utf_8_and_a_component_may_not() {
    let text = b"caf\xe9 \xff\xc3";
    assert_eq!(shown(Kind::Core, 1, text).1, "caf\u{fffd} \u{fffd}\u{fffd}");
    let (ran, newest) = watched(&compiled(Kind::Component, text, &progress(1, DATA, text.len())));
    assert!(trapped_in_a_host_call(&ran), "{:?}", ran.outcome());
    assert_eq!(newest, None);
}

// Red with `fits` always true, and when a refused result takes the one before with it.
#[test]
fn a_result_that_is_too_large_is_refused_and_the_one_before_stays() {
    let most = MAX_RESULT.as_usize();
    assert_eq!(most, 65_536);
    for kind in BOTH {
        let body = set_result(DATA, most, 0) + &set_result(0, most + 1, 1) + &set_result(0, END, 1);
        let (ran, _) = watched(&compiled(kind, b"begins", &body));
        assert_eq!(ran.outcome(), &Outcome::Exited(0), "{kind:?}");
        let result = ran.report.result.unwrap();
        assert_eq!((result.len(), &result[..6]), (most, &b"begins"[..]), "{kind:?}");
    }
}

fn trapped_in_a_host_call(ran: &Ran) -> bool {
    matches!(ran.outcome(), Outcome::Trapped { kind: TrapKind::HostCall, .. })
}

// Red with an empty slice in place of the error in `given`.
#[test]
fn what_does_not_lie_in_memory_ends_the_run() {
    let wrong =
        [(END - 3, 4), (END, 1), (END + 1, 0), (0xffff_ffff, 1), (0xffff_fff0, 0x20), (0, 0x8000_0000)];
    for kind in BOTH {
        let call = |(at, length): (usize, usize)| [progress(1, at, length), set_result(at, length, 0)];
        for place in wrong {
            for body in call(place) {
                let (ran, newest) = watched(&compiled(kind, b"", &body));
                let judged = trapped_in_a_host_call(&ran);
                assert!(judged, "{kind:?} {place:?}: {:?}", ran.outcome());
                assert_eq!((newest, ran.report.result), (None, None), "{kind:?} {place:?}");
            }
        }
        for body in [(END - 4, 4), (END, 0)].into_iter().flat_map(call) {
            assert_eq!(watched(&compiled(kind, b"", &body)).0.outcome(), &Outcome::Exited(0), "{kind:?}");
        }
    }
}

#[test]
fn a_module_without_a_memory_has_nothing_to_say() {
    let text = r#"(module
        (import "strongroom:job/report@0.1.0" "progress" (func $progress (param i32 i32 i32)))
        (func (export "_start") (call $progress (i32.const 1) (i32.const 0) (i32.const 0))))"#;
    let (ran, newest) = watched(&common::module(text));
    assert!(trapped_in_a_host_call(&ran), "{:?}", ran.outcome());
    assert_eq!(newest, None);
}

// A component's text is lifted by wasmtime, which asks for leave first.
#[test]
fn a_text_larger_than_one_call_may_make_the_host_hold_ends_the_run() {
    let limits = Limits { host_buffer: ByteSize::kib(64), ..Limits::default() };
    for body in [progress(1, 0, 65_537), set_result(0, 65_537, 1)] {
        let module = compiled(Kind::Component, b"", &body);
        let ran = run_with(&module, &Grant::none(), &limits, Stdio::null()).unwrap();
        let exceeded = matches!(ran.outcome(), Outcome::Exceeded { limit: LimitKind::HostBuffer, .. });
        assert!(exceeded, "{:?}", ran.outcome());
    }
}

// Red with the lines of `OWN`, or of `OWN_INTERFACES`, in `areas.rs` taken out: the imports are then told as unknown.
#[test]
fn whoever_looks_into_the_file_finds_nothing_to_refuse_and_nothing_to_grant() {
    for kind in BOTH {
        let found = examine(&guest(kind, b"", &progress(1, DATA, 0)));
        assert_eq!(found.refusals, [], "{kind:?}");
        assert!(found.areas.is_empty(), "{kind:?}: {:?}", found.areas);
        let names: Vec<String> = found.imports.iter().map(ToString::to_string).collect();
        assert!(names.iter().all(|name| name.starts_with("strongroom:job/report@0.1.0")), "{names:?}");
    }
}

/// `examples/tasks/primes` as a core module, and the same source as a component.
///
/// Rebuild the second in `examples/tasks`, and copy it from `target/wasm32-wasip2/release`:
///
/// ```text
/// RUSTFLAGS="--remap-path-prefix=$(cd ../.. && pwd)=/strongroom" cargo build --release --target wasm32-wasip2 -p primes
/// ```
const PRIMES: [&[u8]; 2] =
    [include_bytes!("../../examples/prebuilt/primes.wasm"), include_bytes!("fixtures/primes.wasm")];

#[test]
fn one_call_of_the_guest_sdk_serves_both_kinds() {
    for wasm in PRIMES {
        let module = engine().compile(wasm).unwrap();
        let (newest, seen) = watch::channel(None);
        let grant = Grant::none().args(["primes", "1000000"]);
        let ran = run_with(&module, &grant, &Limits::default(), Stdio::null().progress(newest)).unwrap();
        assert_eq!(ran.outcome(), &Outcome::Exited(0), "{:?}", String::from_utf8_lossy(&ran.stderr));
        assert_eq!(ran.text(), include_str!("../../examples/tasks/primes/expected.txt"));
        let result = ran.report.result.clone().unwrap();
        assert_eq!(
            String::from_utf8(result).unwrap(),
            include_str!("../../examples/tasks/primes/expected-result.json").trim_end()
        );
        let newest = seen.borrow().clone().unwrap();
        assert_eq!((newest.percent(), newest.text()), (100, "1000000 of 1000000 numbers, 78498 primes"));
    }
}
