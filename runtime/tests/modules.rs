//! What is not a program made of WebAssembly is refused, and told why.
#![allow(missing_docs, reason = "test names say it")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{command, engine};
use strongroom_runtime::{
    ByteSize, Engine, EngineConfig, MAX_MODULE_SIZE, Metering, ModuleError, ModuleKind, inspect,
};

fn refusal(wasm: &[u8]) -> ModuleError {
    engine().compile(wasm).unwrap_err()
}

fn refused(wat: &str) -> ModuleError {
    refusal(&wat::parse_str(wat).unwrap())
}

fn program(wat: &str) -> String {
    format!(r#"(module {wat} (func (export "_start")))"#)
}

#[test]
fn nothing_is_refused() {
    assert_eq!(refusal(b""), ModuleError::Empty);
}

// Red without: `sniff` in `refusal.rs` (the validator then calls it "not WebAssembly", not text).
#[test]
fn text_is_refused() {
    assert_eq!(refusal(b"(module)"), ModuleError::Text);
    assert_eq!(refusal(b"\n ;; a comment (\n\t(component)"), ModuleError::Text);
}

#[test]
fn native_code_is_refused() {
    assert_eq!(refusal(b"\x7fELF\x02\x01\x01 and so on"), ModuleError::Native);
    assert_eq!(
        refusal(&std::fs::read(std::env::current_exe().unwrap()).unwrap()[..1 << 20]),
        ModuleError::Native
    );
}

#[test]
fn what_wasmtime_precompiled_itself_is_refused() {
    let precompiled =
        wasmtime::Engine::default().precompile_module(&wat::parse_str(program("")).unwrap()).unwrap();
    assert_eq!(refusal(&precompiled), ModuleError::Native);
}

#[test]
fn other_files_are_refused() {
    for file in [&b"#!/bin/sh\n"[..], b"PK\x03\x04", b"\0", b"\0\0\0\0", b"MZ", &[0xff; 4096]] {
        assert_eq!(refusal(file), ModuleError::NotWasm, "{file:?}");
    }
}

#[test]
fn random_bytes_behind_a_good_header_are_refused() {
    let mut state = 1_u32;
    for _ in 0..500 {
        let mut wasm = b"\0asm\x01\0\0\0".to_vec();
        for _ in 0..64 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            wasm.push((state >> 24) as u8);
        }
        assert!(matches!(
            refusal(&wasm),
            ModuleError::Truncated { .. } | ModuleError::Invalid { .. } | ModuleError::FeatureOff { .. }
        ));
    }
}

#[test]
fn a_module_cut_short_anywhere_is_refused() {
    let whole = wat::parse_str(command("(drop (i32.const 1))")).unwrap();
    let (mut truncated, mut complete) = (0, 0);
    for len in 1..whole.len() {
        match engine().compile(&whole[..len]) {
            Err(ModuleError::Truncated { .. }) => truncated += 1,
            Err(ModuleError::NotWasm | ModuleError::Invalid { .. } | ModuleError::NotACommand { .. }) => {}
            // All that is missing here is the section with the names of functions.
            Ok(_) => complete += 1,
            Err(other) => panic!("{len} of {} bytes: {other:?}", whole.len()),
        }
    }
    assert!(truncated > whole.len() / 2, "only {truncated} of {} said so", whole.len());
    assert_eq!(complete, 1);
    let component = include_bytes!("fixtures/probe.wasm");
    assert!(matches!(refusal(&component[..component.len() / 2]), ModuleError::Truncated { .. }));
}

#[test]
fn any_flipped_byte_is_a_clean_answer() {
    let whole = wat::parse_str(command("(drop (i32.const 1))")).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut wasm = whole.clone();
        wasm[at] ^= 0x55;
        // It may still be a module, or a program with an import of another name. It must not panic.
        let _ = engine().compile(&wasm);
    }
}

// Red without: the comparison with `MAX_MODULE_SIZE` in `refusal.rs`.
#[test]
fn a_module_too_large_is_refused_unread() {
    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    wasm.resize(MAX_MODULE_SIZE.as_usize() + 1, 0);
    let size = ByteSize::bytes(wasm.len() as u64);
    assert_eq!(refusal(&wasm), ModuleError::TooLarge { size, max: MAX_MODULE_SIZE });
}

// Red without: the validator's set of features in `inspect` (`module.rs`).
#[test]
fn each_feature_that_is_off_is_named() {
    let cases = [
        ("threads", program("(memory 1 1 shared)")),
        ("threads", program("(memory 1) (func (drop (i32.atomic.load (i32.const 0))))")),
        ("memory64", program("(memory i64 1)")),
        ("multi-memory", program("(memory 1) (memory 1)")),
        ("tail calls", program("(func $f (return_call $f))")),
        (
            "relaxed SIMD",
            program("(func (param v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 0)))"),
        ),
        ("exceptions", program("(tag)")),
        ("garbage collection", program("(type (struct))")),
        ("references to host objects (externref)", program("(table 1 externref)")),
        (
            "typed function references",
            program("(type $t (func)) (func (param (ref $t)) (call_ref $t (local.get 0)))"),
        ),
        ("stack switching", program("(type $f (func)) (type (cont $f))")),
        ("custom page sizes", program("(memory 1 (pagesize 1))")),
        (
            "wide arithmetic",
            program("(func (param i64 i64) (result i64 i64) (i64.mul_wide_u (local.get 0) (local.get 1)))"),
        ),
        ("shared-everything threads", program("(type (shared (func)))")),
        ("legacy exceptions", program("(tag $t) (func try catch $t end)")),
        ("component-model async (WASI 0.3)", r#"(component (type (stream u8)))"#.to_owned()),
        ("component-model error contexts", r#"(component (type error-context))"#.to_owned()),
        (
            "memory control",
            program("(memory 1) (func (memory.discard (i32.const 0) (i32.const 0)))"),
        ),
        (
            "component-model threading",
            r#"(component (core func (canon thread.index)))"#.to_owned(),
        ),
        ("component-model values", r#"(component (import "v" (value $v string)) (export "w" (value $v)))"#.to_owned()),
        (
            "component-model garbage collection",
            r#"(component (import "f" (func $f)) (core type $t (func)) (core func (canon lower (func $f) gc (core-type $t))))"#
                .to_owned(),
        ),
    ];
    for (feature, wat) in cases {
        match refused(&wat) {
            ModuleError::FeatureOff { feature: named } => {
                assert!(named.split(", ").any(|name| name == feature), "{feature}: {named}");
            }
            other => panic!("{feature}: {other:?}"),
        }
    }
}

#[test]
fn what_is_on_works() {
    let simd = "(func (result v128) (i32x4.add (v128.const i32x4 1 2 3 4) (v128.const i32x4 1 2 3 4)))";
    let bulk = "(memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 1)))";
    let others = "(func (result i32 i32) (i32.const 1) (i32.extend8_s (i32.const 2))) (table 1 funcref) (global i32 (i32.add (i32.const 1) (i32.const 2)))";
    for wat in [simd, bulk, others] {
        engine().compile(&wat::parse_str(program(wat)).unwrap()).unwrap();
    }
}

#[test]
fn a_library_is_not_a_program() {
    let missing = |wat| match refused(wat) {
        ModuleError::NotACommand { kind, missing } => (kind, missing),
        other => panic!("{other:?}"),
    };
    assert_eq!(missing("(module)"), (ModuleKind::Core, "_start"));
    assert_eq!(missing(r#"(module (func (export "_initialize")))"#), (ModuleKind::Core, "_start"));
    assert_eq!(missing(r#"(module (memory (export "_start") 1))"#), (ModuleKind::Core, "_start"));
    assert_eq!(missing(r#"(module (func (export "_start") (param i32)))"#), (ModuleKind::Core, "_start"));
    assert_eq!(missing("(component)"), (ModuleKind::Component, "wasi:cli/run"));
    let shown = refused("(module)").to_string();
    assert!(shown.contains("core module is not a program") && shown.contains("`_start`"), "{shown}");
}

// wasmtime refuses; this keeps the names in the refusal.
#[test]
fn an_unknown_import_is_named() {
    let import = |module: &str, field: &str, ty: &str| match refused(&program(&format!(
        r#"(import "{module}" "{field}" {ty})"#
    ))) {
        ModuleError::UnknownImport { import } => import,
        other => panic!("{other:?}"),
    };
    assert_eq!(import("env", "launch_missiles", "(func)"), "env::launch_missiles");
    assert_eq!(import("env", "memory", "(memory 1)"), "env::memory");
    // Preview 0 is not linked: past escapes came through it.
    assert_eq!(
        import("wasi_unstable", "fd_write", "(func (param i32 i32 i32 i32) (result i32))"),
        "wasi_unstable::fd_write"
    );
    assert_eq!(import("wasi_snapshot_preview1", "fd_wrote", "(func)"), "wasi_snapshot_preview1::fd_wrote");
}

// Red with the names shown as they are (`plain` taken off `ModuleError`): the fuzzer found it.
#[test]
fn a_refusal_cannot_steer_a_terminal() {
    let import = refused(&program(r#"(import "env\1b[2J" "\0d\0amissiles\u{202e}" (func))"#));
    let twice =
        refused(r#"(module (func (export "a\1b[2J")) (func (export "a\1b[2J")) (func (export "_start")))"#);
    for refusal in [import, twice] {
        let shown = refusal.to_string();
        assert!(shown.contains("[2J"), "{shown}");
        assert!(!shown.contains(|c: char| c.is_control() || c == '\u{202e}'), "{shown:?}");
    }
    let long = refused(&program(&format!(r#"(import "env" "{}" (func))"#, "x".repeat(50_000)))).to_string();
    assert!(long.len() < 1_000, "{} bytes", long.len());
}

#[test]
fn an_import_of_the_wrong_type_is_refused() {
    let error = refused(&program(r#"(import "wasi_snapshot_preview1" "fd_write" (func))"#));
    assert!(error.to_string().contains("wasi_snapshot_preview1::fd_write"), "{error}");
}

#[test]
fn an_unknown_import_of_a_component_is_named() {
    let wat = |import: &str| {
        format!(
            r#"(component {import}
               (core module $main (func (export "run") (result i32) (i32.const 0)))
               (core instance $i (instantiate $main))
               (func $run (result (result)) (canon lift (core func $i "run")))
               (instance $exported (export "run" (func $run)))
               (export "wasi:cli/run@0.2.0" (instance $exported)))"#
        )
    };
    engine().compile(&wat::parse_str(wat("")).unwrap()).unwrap();
    let named = |import: &str| match refused(&wat(import)) {
        ModuleError::UnknownImport { import } => import,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        named(r#"(import "evil:corp/missiles@1.0.0" (instance (export "launch" (func))))"#),
        "evil:corp/missiles@1.0.0::launch"
    );
    assert_eq!(named(r#"(import "launch" (func))"#), "launch");
}

#[test]
fn a_memory_larger_than_the_engine_has_is_refused() {
    let error = refused(&program("(memory 20000)"));
    assert!(matches!(error, ModuleError::TooBig { .. }), "{error:?}");
    assert!(error.to_string().contains("memory"), "{error}");
}

#[test]
fn a_good_module_tells_what_it_needs() {
    let wasm = wat::parse_str(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32)))
            (memory (export "memory") 1)
            (func (export "_start")))"#,
    )
    .unwrap();
    let info = inspect(&wasm).unwrap();
    assert_eq!(info, *engine().compile(&wasm).unwrap().info());
    assert_eq!((info.kind, info.size), (ModuleKind::Core, ByteSize::bytes(wasm.len() as u64)));
    assert_eq!(
        info.imports.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["wasi_snapshot_preview1::fd_close"]
    );
    assert_eq!(info.exports, ["_start"]);

    let component = inspect(include_bytes!("fixtures/probe.wasm")).unwrap();
    assert_eq!(component.kind, ModuleKind::Component);
    assert!(
        component.imports.iter().any(|import| import.interface.starts_with("wasi:sockets/tcp@0.2")),
        "{component:?}"
    );
    assert!(component.exports.iter().any(|name| name.starts_with("wasi:cli/run@0.2")), "{component:?}");
}

#[test]
fn a_module_is_told_whether_it_is_metered() {
    let wasm = wat::parse_str(program("")).unwrap();
    assert_eq!(engine().compile(&wasm).unwrap().metering(), Metering::None);
    assert_eq!(engine().compile_with(&wasm, Metering::Fuel).unwrap().metering(), Metering::Fuel);
}

#[test]
fn a_module_outlives_its_engine() {
    let module = {
        let engine = Engine::new(EngineConfig { max_concurrent: 1, ..common::small() }).unwrap();
        engine.compile(&wat::parse_str(program("")).unwrap()).unwrap()
    };
    let ran =
        common::run(&module, &strongroom_runtime::Grant::none(), &strongroom_runtime::Limits::default());
    assert_eq!(ran.outcome(), &strongroom_runtime::Outcome::Exited(0));
}
