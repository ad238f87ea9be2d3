//! From bytes to something that can be run: look, check, compile, link.
//!
//! *Never:* accepts anything but a WebAssembly binary; native code from outside is refused by its first bytes.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wasmparser::{ComponentExternalKind, ExternalKind, Parser, Payload, Validator};
use wasmtime::component::Component;
use wasmtime_wasi::p2::bindings::CommandPre;

use crate::drive::panic_text;
use crate::engine::{Engine, EngineError, EngineInner, Half};
use crate::features;
use crate::quantity::ByteSize;
use crate::refusal::{ModuleError, sniff};
use crate::sandbox::Guest;

/// A program, compiled and linked, ready to run any number of times. Cheap to clone.
#[derive(Clone)]
pub struct Module {
    pub(crate) inner: Arc<ModuleInner>,
}

pub(crate) struct ModuleInner {
    pub(crate) engine: Arc<EngineInner>,
    pub(crate) wasm: wasmtime::Engine,
    pub(crate) entry: Entry,
    pub(crate) metering: Metering,
    pub(crate) info: ModuleInfo,
}

/// The program with its imports resolved.
pub(crate) enum Entry {
    Core {
        program: wasmtime::InstancePre<Guest>,
        /// `_start`, looked up once.
        start: wasmtime::ModuleExport,
        /// The memory that host calls read and write.
        memory: Option<wasmtime::ModuleExport>,
    },
    Component(CommandPre<Guest>),
}

/// Compiled code whose imports are not resolved yet.
pub(crate) enum Code {
    Core(wasmtime::Module),
    Component(Component),
}

/// Whether compiled code counts fuel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Metering {
    /// No counting; a run with a fuel limit is refused.
    #[default]
    None,
    /// Counts every instruction, which slows a computing guest down. `Usage::fuel` is known.
    Fuel,
}

/// What kind of program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ModuleKind {
    /// A core module: a WASI preview 1 command with `_start`.
    Core,
    /// A component: a WASI 0.2 command with `wasi:cli/run`.
    Component,
}

impl fmt::Display for ModuleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Core => "core module",
            Self::Component => "component",
        })
    }
}

/// What a module says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// Core module or component.
    pub kind: ModuleKind,
    /// What it asks its host for, in the order of the file.
    pub imports: Vec<Import>,
    /// The names that it offers, in the order of the file.
    pub exports: Vec<String>,
    /// Its size.
    pub size: ByteSize,
}

/// One import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// The module of a core import, or the whole interface that a component imports (`wasi:cli/stdin@0.2.3`).
    pub interface: String,
    /// The field of a core import; a component imports interfaces as a whole.
    pub item: Option<String>,
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.item {
            Some(item) => write!(f, "{}::{item}", self.interface),
            None => f.write_str(&self.interface),
        }
    }
}

/// The export that makes a core module a program.
pub(crate) const START: &str = "_start";
/// The memory of a core module that preview 1 works on.
const MEMORY: &str = "memory";
/// The export that makes a component a program, any 0.2 version of it.
const RUN: &str = "wasi:cli/run@0.2";
/// The same without a version, as a refusal names it.
const RUN_NAME: &str = "wasi:cli/run";
/// What a refusal may say is missing.
pub(crate) const ENTRY_POINTS: [&str; 2] = [START, RUN_NAME];

/// Checks a module and lists what it imports and exports, without compiling it.
///
/// # Errors
///
/// See [`ModuleError`]. That it is a program, and that its imports exist, is checked by [`Engine::compile`] only.
pub fn inspect(wasm: &[u8]) -> Result<ModuleInfo, ModuleError> {
    let kind = sniff(wasm)?;
    valid(wasm)?;
    listed(kind, wasm)
}

/// Holds the file against the rules of WebAssembly, as far as it is on here.
pub(crate) fn valid(wasm: &[u8]) -> Result<(), ModuleError> {
    let checked = Validator::new_with_features(features::enabled()).validate_all(wasm);
    checked.map(drop).map_err(|error| invalid(wasm, &error))
}

/// What a valid file imports and exports.
pub(crate) fn listed(kind: ModuleKind, wasm: &[u8]) -> Result<ModuleInfo, ModuleError> {
    let mut info = ModuleInfo {
        kind,
        imports: Vec::new(),
        exports: Vec::new(),
        size: ByteSize::bytes(wasm.len() as u64),
    };
    list(wasm, &mut info).map_err(|error| invalid(wasm, &error))?;
    Ok(info)
}

impl Module {
    pub(crate) fn compile(engine: &Engine, wasm: &[u8], metering: Metering) -> Result<Self, ModuleError> {
        let half = engine.inner.half(metering).map_err(|error| engine_error(&error))?;
        let (info, entry) = compile(half, wasm)?;
        Ok(Self::assemble(engine, half, metering, info, entry))
    }

    pub(crate) fn assemble(
        engine: &Engine,
        half: &Half,
        metering: Metering,
        info: ModuleInfo,
        entry: Entry,
    ) -> Self {
        let (engine, wasm) = (Arc::clone(&engine.inner), half.engine.clone());
        Self { inner: Arc::new(ModuleInner { engine, wasm, entry, metering, info }) }
    }

    /// What it is, what it imports and exports.
    pub fn info(&self) -> &ModuleInfo {
        &self.inner.info
    }

    /// Whether its runs can be given a fuel limit.
    pub fn metering(&self) -> Metering {
        self.inner.metering
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module")
            .field("kind", &self.inner.info.kind)
            .field("size", &self.inner.info.size)
            .finish()
    }
}

/// Everything between bytes and a program that can be run, for one engine.
pub(crate) fn compile(half: &Half, wasm: &[u8]) -> Result<(ModuleInfo, Entry), ModuleError> {
    let info = inspect(wasm)?;
    require_command(&info)?;
    let entry = unpanicked(|| {
        let engine = &half.engine;
        match info.kind {
            ModuleKind::Core => Code::Core(wasmtime::Module::from_binary(engine, wasm).map_err(too_big)?),
            ModuleKind::Component => Code::Component(Component::from_binary(engine, wasm).map_err(too_big)?),
        }
        .link(half)
    })?;
    Ok((info, entry))
}

/// A compiler that panics over a hostile module must not take the host with it.
pub(crate) fn unpanicked<T>(work: impl FnOnce() -> Result<T, ModuleError>) -> Result<T, ModuleError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|payload| Err(ModuleError::Engine { message: panic_text(payload.as_ref()) }))
}

impl Code {
    /// Resolves the imports. What is left to go wrong afterwards is the guest's run.
    pub(crate) fn link(&self, half: &Half) -> Result<Entry, ModuleError> {
        match self {
            Self::Core(module) => link_core(half, module),
            Self::Component(component) => link_component(half, component),
        }
    }
}

impl Entry {
    pub(crate) fn memory(&self) -> Option<wasmtime::ModuleExport> {
        match self {
            Self::Core { memory, .. } => *memory,
            Self::Component(_) => None,
        }
    }

    /// The code as wasmtime writes it down: native, and only for an engine of the same configuration.
    pub(crate) fn native(&self) -> wasmtime::Result<Vec<u8>> {
        match self {
            Self::Core { program, .. } => program.module().serialize(),
            Self::Component(linked) => linked.instance_pre().component().serialize(),
        }
    }
}

fn link_core(half: &Half, module: &wasmtime::Module) -> Result<Entry, ModuleError> {
    let start = module.get_export(START).and_then(|ty| ty.func().cloned());
    if !start.is_some_and(|ty| ty.params().len() == 0 && ty.results().len() == 0) {
        return Err(ModuleError::NotACommand { kind: ModuleKind::Core, missing: START });
    }
    let no_start = ModuleError::NotACommand { kind: ModuleKind::Core, missing: START };
    let start = module.get_export_index(START).ok_or(no_start)?;
    let memory = module.get_export_index(MEMORY);
    let linked = half.core.instantiate_pre(module);
    linked.map(|program| Entry::Core { program, start, memory }).map_err(|error| {
        match error.downcast_ref::<wasmtime::UnknownImportError>() {
            Some(unknown) => {
                ModuleError::UnknownImport { import: format!("{}::{}", unknown.module(), unknown.name()) }
            }
            None => unlinkable(&error),
        }
    })
}

fn link_component(half: &Half, component: &Component) -> Result<Entry, ModuleError> {
    let linked = half.component.instantiate_pre(component).map_err(|error| unlinkable(&error))?;
    CommandPre::new(linked).map(Entry::Component).map_err(|_| NO_RUN)
}

const NO_RUN: ModuleError = ModuleError::NotACommand { kind: ModuleKind::Component, missing: RUN_NAME };

pub(crate) fn require_command(info: &ModuleInfo) -> Result<(), ModuleError> {
    match info.kind {
        ModuleKind::Core if info.exports.iter().any(|name| name == START) => Ok(()),
        ModuleKind::Core => Err(ModuleError::NotACommand { kind: info.kind, missing: START }),
        ModuleKind::Component if info.exports.iter().any(|name| name.starts_with(RUN)) => Ok(()),
        ModuleKind::Component => Err(NO_RUN),
    }
}

/// Reads the names at the outermost level; what is nested in a component is its own business.
fn list(wasm: &[u8], info: &mut ModuleInfo) -> wasmparser::Result<()> {
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    let item = Some(import.name.to_owned());
                    info.imports.push(Import { interface: import.module.to_owned(), item });
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.kind == ExternalKind::Func {
                        info.exports.push(export.name.to_owned());
                    }
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    info.imports.push(Import { interface: import?.name.name.to_owned(), item: None });
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export?;
                    if matches!(export.kind, ComponentExternalKind::Instance | ComponentExternalKind::Func) {
                        info.exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn invalid(wasm: &[u8], error: &wasmparser::BinaryReaderError) -> ModuleError {
    let missing = features::missing(wasm);
    if !missing.is_empty() {
        return ModuleError::FeatureOff { feature: missing.join(", ") };
    }
    let offset = error.offset() as u64;
    if error.message().starts_with("unexpected end") {
        return ModuleError::Truncated { offset };
    }
    ModuleError::Invalid { message: error.message().to_owned(), offset }
}

pub(crate) fn engine_error(error: &EngineError) -> ModuleError {
    ModuleError::Engine { message: error.to_string() }
}

/// A valid module that wasmtime will not compile, or not load, asks for more than the pool has.
#[expect(clippy::needless_pass_by_value, reason = "used as an error map, which passes by value")]
pub(crate) fn too_big(error: wasmtime::Error) -> ModuleError {
    ModuleError::TooBig { why: format!("{error:#}") }
}

/// A component's import that is missing or of another type. wasmtime says so in words, names between backticks.
fn unlinkable(error: &wasmtime::Error) -> ModuleError {
    let text = format!("{error:#}");
    let names: Vec<&str> = text.split('`').skip(1).step_by(2).take(2).collect();
    if names.is_empty() {
        return ModuleError::TooBig { why: text };
    }
    ModuleError::UnknownImport { import: names.join("::") }
}
