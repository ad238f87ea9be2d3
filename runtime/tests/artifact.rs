//! Compiled code made apart from the engine that runs it: the same program, the same refusals, and nothing of another engine.
#![allow(missing_docs, reason = "test names say it")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{command, engine, run, small};
use strongroom_runtime::{
    Allocation, ArtifactError, ByteSize, Engine, EngineConfig, Grant, Limits, Metering, ModuleError, Outcome,
    Vouched, precompile,
};

fn vouched(bytes: Vec<u8>) -> Vouched {
    // SAFETY: each caller gives what `precompile` or `artifact` just made, whole, or cut where the head cannot be read.
    unsafe { Vouched::new(bytes) }
}

fn program() -> Vec<u8> {
    wat::parse_str(command("(call $proc_exit (i32.const 7))")).unwrap()
}

const COMPONENT: &[u8] = include_bytes!("fixtures/probe.wasm");

#[test]
fn what_was_compiled_elsewhere_runs_as_if_compiled_here() {
    let config = engine().config().clone();
    assert_eq!(config.allocation, Allocation::Pooled, "the other side has no pool; this one must");
    for metering in [Metering::None, Metering::Fuel] {
        let artifact = precompile(&config, &program(), metering).unwrap();
        let module = engine().load(&vouched(artifact)).unwrap();
        assert_eq!(module.metering(), metering);
        assert_eq!(module.info(), engine().compile(&program()).unwrap().info());
        assert_eq!(run(&module, &Grant::none(), &Limits::default()).outcome(), &Outcome::Exited(7));
    }
}

#[test]
fn a_component_too() {
    let artifact = precompile(engine().config(), COMPONENT, Metering::None).unwrap();
    let module = engine().load(&vouched(artifact)).unwrap();
    assert_eq!(module.info(), &strongroom_runtime::inspect(COMPONENT).unwrap());
}

#[test]
fn a_module_gives_the_artifact_that_precompiling_makes() {
    let here = engine().compile(&program()).unwrap().artifact().unwrap();
    assert_eq!(here, precompile(engine().config(), &program(), Metering::None).unwrap());
    assert!(engine().load(&vouched(here)).is_ok());
}

#[test]
fn the_same_is_refused_for_the_same_reason() {
    let refused = |wasm: &[u8]| precompile(engine().config(), wasm, Metering::None).unwrap_err();
    let native = engine().compile(&program()).unwrap().artifact().unwrap();
    for wasm in [
        b"".to_vec(),
        b"(module)".to_vec(),
        program()[..20].to_vec(),
        // Neither the artifact nor the ELF file inside it is taken for a module.
        native.clone(),
        native[native.windows(4).position(|window| window == b"\x7fELF").unwrap()..].to_vec(),
        wat::parse_str("(module)").unwrap(),
        wat::parse_str("(module (memory i64 1))").unwrap(),
        wat::parse_str(r#"(module (import "env" "x" (func)) (func (export "_start")))"#).unwrap(),
    ] {
        assert_eq!(refused(&wasm), engine().compile(&wasm).unwrap_err());
    }
}

#[test]
fn what_does_not_fit_the_pool_is_refused_when_it_is_loaded() {
    let wasm = wat::parse_str(r#"(module (memory 20000) (func (export "_start")))"#).unwrap();
    let artifact = precompile(engine().config(), &wasm, Metering::None).unwrap();
    let error = engine().load(&vouched(artifact)).unwrap_err();
    assert_eq!(error, ArtifactError::Module(engine().compile(&wasm).unwrap_err()));
    assert!(matches!(error, ArtifactError::Module(ModuleError::TooBig { .. })), "{error}");
}

// Red without the comparison in `Engine::load`: wasmtime's own check then answers, in words of its own.
#[test]
fn code_for_another_engine_is_not_loaded() {
    let other = EngineConfig { memory_reservation: ByteSize::gib(2), ..engine().config().clone() };
    let artifact = precompile(&other, &program(), Metering::None).unwrap();
    let error = engine().load(&vouched(artifact.clone())).unwrap_err();
    let ArtifactError::Incompatible { made_for, engine: here } = error else { panic!("{error}") };
    assert_eq!(here, engine().compatibility(Metering::None).unwrap());
    assert_ne!(made_for, here);
    assert_ne!(engine().compatibility(Metering::Fuel).unwrap(), here);
    let engine = Engine::new(EngineConfig { max_concurrent: 1, ..other }).unwrap();
    assert_eq!(engine.compatibility(Metering::None).unwrap(), made_for);
    engine.load(&vouched(artifact)).unwrap();
}

#[test]
fn a_pool_of_another_size_takes_the_same_code() {
    let config = EngineConfig { max_concurrent: 3, max_memory: ByteSize::mib(64), ..small() };
    let engine = Engine::new(config).unwrap();
    let artifact = precompile(&small(), &program(), Metering::None).unwrap();
    engine.load(&vouched(artifact)).unwrap();
}

// Red with `split_at` in place of `split_at_checked` in `decode`.
#[test]
fn a_head_that_is_cut_short_is_an_error() {
    let artifact = precompile(engine().config(), &program(), Metering::None).unwrap();
    let native = artifact.windows(4).position(|window| window == b"\x7fELF").unwrap();
    for length in 0..native {
        let error = engine().load(&vouched(artifact[..length].to_vec())).unwrap_err();
        assert!(matches!(error, ArtifactError::Malformed { .. }), "{length}: {error}");
    }
    let error = engine().load(&vouched(artifact[..native].to_vec())).unwrap_err();
    assert!(matches!(error, ArtifactError::Module(_)), "{error}");
}

#[test]
fn a_compatibility_can_be_part_of_a_file_name() {
    for metering in [Metering::None, Metering::Fuel] {
        let name = engine().compatibility(metering).unwrap().to_string();
        assert!(
            name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b)),
            "{name}"
        );
    }
}

#[test]
fn a_refusal_survives_being_sent() {
    for wat in ["(module)", "(component)", r#"(module (import "a" "b" (func)) (func (export "_start")))"#] {
        let error = engine().compile(&wat::parse_str(wat).unwrap()).unwrap_err();
        let sent = serde_json::to_vec(&error).unwrap();
        assert_eq!(serde_json::from_slice::<ModuleError>(&sent).unwrap(), error);
    }
}
