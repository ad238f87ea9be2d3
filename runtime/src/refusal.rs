//! Why a module is refused, and the look at its first bytes.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::MAX_MODULE_SIZE;
use crate::module::{ENTRY_POINTS, ModuleKind};
use crate::quantity::ByteSize;
use crate::verdict::{MAX_MESSAGE, plain};

/// What is wrong with a module. Shown, it is one line of printable characters; the fields hold names as the module has them.
/// Always the fault of whoever made or sent it, except [`ModuleError::Engine`].
///
/// It can be serialized, for whoever compiles in a process of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// No bytes.
    #[error("the module is empty")]
    Empty,
    /// More than [`MAX_MODULE_SIZE`](crate::MAX_MODULE_SIZE).
    #[error("the module is {size} bytes large; {max} is the most that is accepted", size = size.as_u64())]
    TooLarge {
        /// Its size.
        size: ByteSize,
        /// The most that is accepted.
        max: ByteSize,
    },
    /// WebAssembly text.
    #[error(
        "this is WebAssembly text (WAT), not a binary: assemble it first, with `wasm-tools parse` or `wat2wasm`"
    )]
    Text,
    /// Native code: an ELF file, for example a precompiled `.cwasm`.
    #[error(
        "this is native code (an ELF file, such as a precompiled .cwasm), which cannot be checked and is never run: \
         send the WebAssembly binary it was made from"
    )]
    Native,
    /// Not WebAssembly at all.
    #[error("this is not WebAssembly: it does not start with the bytes 00 61 73 6d")]
    NotWasm,
    /// It ends before its end.
    #[error("the module is cut short (at byte {offset}): send the whole file")]
    Truncated {
        /// Where more bytes were expected.
        offset: u64,
    },
    /// It breaks the rules of WebAssembly.
    #[error("the module is not valid WebAssembly: {} (at byte {offset})", plain(.message, MAX_MESSAGE))]
    Invalid {
        /// Which rule.
        message: String,
        /// Where.
        offset: u64,
    },
    /// It needs a proposal that is off here.
    #[error("the module needs a WebAssembly feature that is off here: {feature}; build it without")]
    FeatureOff {
        /// The proposal's name; several are joined by commas.
        feature: String,
    },
    /// It is a library, or something else that cannot be started.
    #[error(
        "the {kind} is not a program: it has no `{missing}`; build it as a WASI command, not as a library"
    )]
    NotACommand {
        /// What it is.
        kind: ModuleKind,
        /// The export that a program has.
        #[serde(deserialize_with = "entry_point")]
        missing: EntryPoint,
    },
    /// It imports something that nobody here provides.
    #[error(
        "the module imports `{}`, which does not exist here: only WASI preview 1 and WASI 0.2 commands are linked",
        plain(.import, MAX_MESSAGE)
    )]
    UnknownImport {
        /// `module::field`, or the interface and the item of it.
        import: String,
    },
    /// It is valid, but larger in some respect than the engine has room for.
    #[error("the module does not fit this engine: {}", plain(.why, MAX_MESSAGE))]
    TooBig {
        /// Which part, how large, and how large it may be.
        why: String,
    },
    /// The engine could not be started, or could not compile a valid module.
    #[error("the engine could not compile the module: {}", plain(.message, MAX_MESSAGE))]
    Engine {
        /// What it said.
        message: String,
    },
}

/// The name of an export that makes a program.
type EntryPoint = &'static str;

fn entry_point<'de, D: Deserializer<'de>>(input: D) -> Result<EntryPoint, D::Error> {
    let name = Cow::<str>::deserialize(input)?;
    ENTRY_POINTS.into_iter().find(|known| *known == name).ok_or_else(|| de::Error::custom("no entry point"))
}

/// What the header says it is, without parsing further.
pub(crate) fn sniff(wasm: &[u8]) -> Result<ModuleKind, ModuleError> {
    const MAGIC: &[u8] = b"\0asm";
    const ELF: &[u8] = b"\x7fELF";
    /// Magic, then version and layer.
    const HEADER: usize = 8;

    let size = ByteSize::bytes(wasm.len() as u64);
    if wasm.is_empty() {
        return Err(ModuleError::Empty);
    }
    if size > MAX_MODULE_SIZE {
        return Err(ModuleError::TooLarge { size, max: MAX_MODULE_SIZE });
    }
    if wasm.starts_with(ELF) {
        return Err(ModuleError::Native);
    }
    if !wasm.starts_with(MAGIC) {
        return Err(if is_text(wasm) { ModuleError::Text } else { ModuleError::NotWasm });
    }
    match wasm.get(4..HEADER) {
        None => Err(ModuleError::Truncated { offset: size.as_u64() }),
        Some([1, 0, 0, 0]) => Ok(ModuleKind::Core),
        Some([_, 0, 1, 0]) => Ok(ModuleKind::Component),
        Some(other) => Err(ModuleError::Invalid {
            message: format!("unknown version {other:02x?} in the header"),
            offset: 4,
        }),
    }
}

/// Text starts with an opening parenthesis, after blanks and comments.
fn is_text(bytes: &[u8]) -> bool {
    let mut rest = bytes.trim_ascii_start();
    while rest.starts_with(b";;") {
        let line = rest.iter().position(|&b| b == b'\n').map_or(rest.len(), |at| at + 1);
        rest = rest[line..].trim_ascii_start();
    }
    rest.starts_with(b"(")
}
