//! A look into a file that runs nothing and compiles nothing: what made it, what it can reach, what would be refused.
//!
//! *Never:* trusts a name in the file; whoever shows one escapes it. *Bound:* [`MAX_REFUSALS`] and [`MAX_PRODUCERS`] entries,
//! names in them cut; imports and exports as many as the validator allows.

use std::collections::BTreeSet;

use wasmparser::{KnownCustom, Parser, Payload};

use crate::areas::{Area, behind};
use crate::module::{Import, ModuleKind, listed, require_command, valid};
use crate::quantity::ByteSize;
use crate::refusal::{ModuleError, sniff};

/// Most reasons that are told.
pub const MAX_REFUSALS: usize = 64;
/// Most different producers that are told.
pub const MAX_PRODUCERS: usize = 64;
/// Most bytes of a name or version that a file gives its producer.
const MAX_PRODUCER_NAME: usize = 128;
/// Most bytes of a name in a refusal.
const MAX_REFUSED_NAME: usize = 256;

/// What can be said of a file without compiling it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Core module or component; none where the first bytes do not say.
    pub kind: Option<ModuleKind>,
    /// Its size.
    pub size: ByteSize,
    /// What it asks its host for, in the order of the file. Empty when the file is broken.
    pub imports: Vec<Import>,
    /// The names that it offers, in the order of the file. Empty when the file is broken.
    pub exports: Vec<String>,
    /// What it says that it was made with; nested modules included, each once.
    pub producers: Vec<Producer>,
    /// What its imports can reach, as far as a grant opens it.
    pub areas: BTreeSet<Area>,
    /// Why it would be refused; empty when nothing but compiling can still find fault with it.
    pub refusals: Vec<ModuleError>,
    /// Reasons beyond [`MAX_REFUSALS`].
    pub more_refusals: u64,
}

/// A language or a tool that a file names as its maker. Nobody checks that it is true.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Producer {
    /// `language`, `processed-by` or `sdk`.
    pub field: String,
    /// Such as `Rust`.
    pub name: String,
    /// As the tool writes it; may be empty.
    pub version: String,
}

/// Looks at a file of any content.
pub fn examine(wasm: &[u8]) -> Inspection {
    let mut found = Inspection {
        kind: None,
        size: ByteSize::bytes(wasm.len() as u64),
        imports: Vec::new(),
        exports: Vec::new(),
        producers: Vec::new(),
        areas: BTreeSet::new(),
        refusals: Vec::new(),
        more_refusals: 0,
    };
    let kind = match sniff(wasm) {
        Ok(kind) => kind,
        Err(error) => {
            found.refuse(error);
            return found;
        }
    };
    found.kind = Some(kind);
    if let Err(error) = valid(wasm) {
        // A feature that is off leaves a file whose names can be read.
        let readable = matches!(error, ModuleError::FeatureOff { .. });
        found.refuse(error);
        if !readable {
            return found;
        }
    }
    match listed(kind, wasm) {
        Ok(info) => {
            if let Err(error) = require_command(&info) {
                found.refuse(error);
            }
            (found.imports, found.exports) = (info.imports, info.exports);
        }
        Err(error) => found.refuse(error),
    }
    found.producers = producers(wasm);
    found.judge_imports();
    found
}

impl Inspection {
    fn refuse(&mut self, error: ModuleError) {
        if self.refusals.len() < MAX_REFUSALS {
            self.refusals.push(error);
        } else {
            self.more_refusals += 1;
        }
    }

    fn judge_imports(&mut self) {
        let mut unknown = BTreeSet::new();
        for import in &self.imports {
            match behind(import) {
                Some(areas) => self.areas.extend(areas),
                None => {
                    unknown.insert(cut(import.to_string(), MAX_REFUSED_NAME));
                }
            }
        }
        for import in unknown {
            self.refuse(ModuleError::UnknownImport { import });
        }
    }
}

/// The `producers` sections of the file and of what is nested in it. A section that breaks its own rules says nothing.
fn producers(wasm: &[u8]) -> Vec<Producer> {
    let mut found = BTreeSet::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let Ok(payload) = payload else { break };
        let Payload::CustomSection(section) = payload else { continue };
        let KnownCustom::Producers(fields) = section.as_known() else { continue };
        for field in fields.into_iter().map_while(Result::ok) {
            for value in field.values.into_iter().map_while(Result::ok) {
                if found.len() == MAX_PRODUCERS {
                    return found.into_iter().collect();
                }
                let kept = |text: &str| cut(text.to_owned(), MAX_PRODUCER_NAME);
                found.insert(Producer {
                    field: field.name.to_owned(),
                    name: kept(value.name),
                    version: kept(value.version),
                });
            }
        }
    }
    found.into_iter().collect()
}

/// Cut text ends with an ellipsis, so that nobody takes it for the whole.
fn cut(mut text: String, most: usize) -> String {
    const ELLIPSIS: char = '…';
    if text.len() > most {
        let end = (0..=most - ELLIPSIS.len_utf8()).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push(ELLIPSIS);
    }
    text
}
