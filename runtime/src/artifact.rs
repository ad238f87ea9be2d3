//! Compiled code as bytes: made by [`precompile`], in another process if need be, and loaded by an engine of the same kind.
//!
//! *Owns:* the form of these bytes, and the only unsafe code of this crate. *Never:* decides whom to believe. Altered bytes
//! are somebody else's machine code with all the rights of this process, and nothing in them can tell: so loading takes a
//! [`Vouched`], and whoever makes one has checked where the bytes come from.
//!
//! ```text
//! "strongroom artifact 1\n" ‖ u32, little-endian: length of the head ‖ head, JSON ‖ native code, an ELF file of wasmtime's
//! ```

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::{Deserialize, Serialize};

use crate::config::{Allocation, EngineConfig};
use crate::engine::{Engine, Half};
use crate::features;
use crate::module::{
    Code, Entry, Metering, Module, ModuleInfo, ModuleKind, compile, engine_error, too_big, unpanicked,
};
use crate::refusal::ModuleError;

const MAGIC: &[u8] = b"strongroom artifact 1\n";

/// Which engines can load an artifact: the version of this crate, everything that decides what the compiler makes (target,
/// processor features, settings, WebAssembly features, wasmtime's version), and the metering.
///
/// Made of letters, digits, `.` and `-`, at most 64 bytes of it, so that it can be part of a file's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Compatibility(String);

/// An artifact that somebody vouches for.
#[derive(Debug)]
pub struct Vouched(Vec<u8>);

/// Why an artifact is not loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// Not an artifact, or cut short.
    #[error("these bytes are not compiled code of this version: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// Compiled for an engine of another version or configuration.
    #[error("the code was compiled for {made_for}, this engine is {engine}")]
    Incompatible {
        /// The engine that it was compiled for.
        made_for: Compatibility,
        /// This engine.
        engine: Compatibility,
    },
    /// It does not fit this engine, or its imports do not.
    #[error(transparent)]
    Module(#[from] ModuleError),
}

/// What must be known of a module before its code is loaded.
#[derive(Serialize, Deserialize)]
struct Head {
    compatibility: Compatibility,
    metering: Metering,
    info: ModuleInfo,
}

/// Checks, compiles and links a WebAssembly binary, as [`Engine::compile_with`] does, for engines that are started with
/// `config`. Reserves no pool and starts no thread that stays, so that it works in a process with little address space.
///
/// # Errors
///
/// See [`ModuleError`]. Whether the module fits the engine's pool is found out by [`Engine::load`] only.
pub fn precompile(config: &EngineConfig, wasm: &[u8], metering: Metering) -> Result<Vec<u8>, ModuleError> {
    config.check().map_err(|error| engine_error(&error))?;
    let config = EngineConfig { allocation: Allocation::OnDemand, ..config.clone() };
    let half = Half::new(&config, metering, false).map_err(|error| engine_error(&error))?;
    let (info, entry) = compile(&half, wasm)?;
    encode(&Head { compatibility: compatibility(&half, metering), metering, info }, &entry)
}

impl Engine {
    /// Which artifacts this engine loads.
    ///
    /// # Errors
    ///
    /// [`ModuleError::Engine`] when the metered half of the engine cannot be started.
    pub fn compatibility(&self, metering: Metering) -> Result<Compatibility, ModuleError> {
        let half = self.inner.half(metering).map_err(|error| engine_error(&error))?;
        Ok(compatibility(half, metering))
    }

    /// Makes a module of compiled code, without compiling: copies it, and resolves its imports.
    ///
    /// # Errors
    ///
    /// See [`ArtifactError`].
    pub fn load(&self, artifact: &Vouched) -> Result<Module, ArtifactError> {
        let (head, native) = decode(&artifact.0)?;
        let half = self.inner.half(head.metering).map_err(|error| engine_error(&error))?;
        let engine = compatibility(half, head.metering);
        if head.compatibility != engine {
            return Err(ArtifactError::Incompatible { made_for: head.compatibility, engine });
        }
        let entry = unpanicked(|| deserialize(half, head.info.kind, native)?.link(half))?;
        Ok(Module::assemble(self, half, head.metering, head.info, entry))
    }
}

impl Module {
    /// The artifact that [`precompile`] makes of the same bytes.
    ///
    /// # Errors
    ///
    /// [`ModuleError::Engine`] when memory for it is refused.
    pub fn artifact(&self) -> Result<Vec<u8>, ModuleError> {
        let inner = &self.inner;
        let half = inner.engine.half(inner.metering).map_err(|error| engine_error(&error))?;
        let compatibility = compatibility(half, inner.metering);
        encode(&Head { compatibility, metering: inner.metering, info: inner.info.clone() }, &inner.entry)
    }
}

impl Vouched {
    /// Vouches for an artifact.
    ///
    /// # Safety
    ///
    /// The bytes must be what [`precompile`] or [`Module::artifact`] of a trusted program gave, all of them, unchanged since:
    /// kept where nobody else can write, or authenticated with a key that nobody else has. Anything else is as good as
    /// running a stranger's machine code. Bytes for another engine, and bytes that were cut short, are found out.
    #[must_use]
    #[expect(unsafe_code, reason = "what is asserted here cannot be checked; see the contract")]
    pub const unsafe fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes, as they were given.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[expect(unsafe_code, reason = "wasmtime cannot check native code, and says so with `unsafe`")]
fn deserialize(half: &Half, kind: ModuleKind, native: &[u8]) -> Result<Code, ModuleError> {
    match kind {
        ModuleKind::Core => {
            // SAFETY: `native` is part of a `Vouched`, whose maker asserted that wasmtime's own `serialize` wrote it, in a
            // program of this version. wasmtime copies the bytes before it looks at them.
            unsafe { wasmtime::Module::deserialize(&half.engine, native) }.map(Code::Core)
        }
        ModuleKind::Component => {
            // SAFETY: as above.
            unsafe { wasmtime::component::Component::deserialize(&half.engine, native) }.map(Code::Component)
        }
    }
    .map_err(too_big)
}

impl fmt::Display for Compatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn compatibility(half: &Half, metering: Metering) -> Compatibility {
    // The standard hasher may change with the toolchain. Then everything is compiled once more, which does no harm.
    let mut hasher = DefaultHasher::new();
    half.engine.precompile_compatibility_hash().hash(&mut hasher);
    // Checked when a module is compiled, and not again when it is loaded.
    features::enabled().hash(&mut hasher);
    let metering = match metering {
        Metering::None => "plain",
        Metering::Fuel => "fuel",
    };
    Compatibility(format!("{}-{:016x}-{metering}", env!("CARGO_PKG_VERSION"), hasher.finish()))
}

fn encode(head: &Head, entry: &Entry) -> Result<Vec<u8>, ModuleError> {
    let failed = |error: &dyn fmt::Display| ModuleError::Engine { message: error.to_string() };
    let head = serde_json::to_vec(head).map_err(|error| failed(&error))?;
    let length = u32::try_from(head.len()).map_err(|error| failed(&error))?;
    let native = entry.native().map_err(|error| failed(&error))?;
    let mut bytes = Vec::with_capacity(MAGIC.len() + 4 + head.len() + native.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(&native);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<(Head, &[u8]), ArtifactError> {
    let malformed = |what| ArtifactError::Malformed { what };
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| malformed("they do not begin like it"))?;
    let (length, rest) = rest.split_first_chunk().ok_or_else(|| malformed("they are cut short"))?;
    let length = u32::from_le_bytes(*length) as usize;
    let (head, native) = rest.split_at_checked(length).ok_or_else(|| malformed("they are cut short"))?;
    let head = serde_json::from_slice(head).map_err(|_| malformed("the head cannot be read"))?;
    Ok((head, native))
}
