//! `strongroom module inspect`: what a file is, what made it, what it can reach, and all that a host would refuse in it.
//!
//! *Never:* runs it, or needs a host. *Bound:* of lists that the file fills, [`MAX_SHOWN`] entries, names cut at [`MAX_NAME`]
//! bytes; how many more there are is told.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use strongroom_job::{Digest, RefusalCode};
use strongroom_runtime::{Allocation, Area, Engine, EngineConfig, Inspection, Metering, examine};

use super::amount::show_size;
use super::console::Console;
use super::escape::line;
use super::exit::{Exit, Failure};
use super::with_runtime;
use crate::compile::{LoadError, Loader};

/// Imports, and exports, that are shown.
const MAX_SHOWN: usize = 1_000;
/// Bytes of one name that are shown.
const MAX_NAME: usize = 200;
/// Bytes of one reason that are shown: two names and the words around them.
const MAX_REASON: usize = 600;

/// What `inspect` finds.
#[derive(Serialize)]
struct Report {
    /// None where the first bytes do not say.
    kind: Option<String>,
    length: u64,
    digest: Digest,
    /// What it says that it was made with; nobody checks that.
    producers: Vec<Made>,
    /// Imported names, by the interface that they belong to.
    imports: BTreeMap<String, Vec<String>>,
    imports_not_shown: usize,
    exports: Vec<String>,
    exports_not_shown: usize,
    /// What the imports can be used for, as far as a grant allows it.
    can_use: Vec<&'static str>,
    /// By what it can use, the options that grant it.
    granted_with: BTreeMap<&'static str, &'static str>,
    /// Why a host would not take it, each reason; empty: it would.
    refusals: Vec<String>,
}

#[derive(Serialize)]
struct Made {
    field: String,
    name: String,
    version: String,
}

pub(super) fn inspect(path: &Path, bytes: &[u8], console: &Console) -> Result<Exit, Failure> {
    let found = examine(bytes);
    let mut report = report(&found, bytes);
    if report.refusals.is_empty() {
        // Whether every import is of the right type, and fits, is known only when it is compiled.
        report.refusals.extend(compile(bytes)?.map(|reason| reason_line(&reason)));
    }
    if console.json() {
        console.document(&report)?;
    } else {
        console.print(words(&report))?;
    }
    let reasons = report.refusals.join("\n  ");
    match report.refusals.len() {
        0 => Ok(Exit::Status(0)),
        1 => Err(Failure::refused(RefusalCode::BadModule, format_args!("{}: {reasons}", path.display()))),
        _ => {
            let text = format_args!("{} would be refused:\n  {reasons}", path.display());
            Err(Failure::refused(RefusalCode::BadModule, text))
        }
    }
}

/// Compiles as a host does, with the smallest engine: what would be refused.
fn compile(bytes: &[u8]) -> Result<Option<LoadError>, Failure> {
    let config =
        EngineConfig { max_concurrent: 1, allocation: Allocation::OnDemand, ..EngineConfig::default() };
    let engine = Engine::new(config).map_err(|error| Failure::fault(format_args!("no sandbox: {error}")))?;
    let compiled = with_runtime(async { Ok(Loader::once(engine, Metering::None, bytes).await) })?;
    match compiled {
        Ok(_) => Ok(None),
        Err(LoadError::Host(reason)) => Err(Failure::fault(reason)),
        Err(error) => Ok(Some(error)),
    }
}

/// One line, whatever a name in it holds.
fn reason_line(reason: &impl std::fmt::Display) -> String {
    line(&cut(&reason.to_string(), MAX_REASON))
}

fn report(found: &Inspection, bytes: &[u8]) -> Report {
    let mut imports: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for import in found.imports.iter().take(MAX_SHOWN) {
        let items = imports.entry(cut(&import.interface, MAX_NAME)).or_default();
        items.extend(import.item.as_deref().map(|item| cut(item, MAX_NAME)));
    }
    let mut refusals: Vec<String> = found.refusals.iter().map(reason_line).collect();
    if found.more_refusals > 0 {
        refusals.push(format!("and {} more reasons", found.more_refusals));
    }
    let made = |made: &strongroom_runtime::Producer| Made {
        field: made.field.clone(),
        name: made.name.clone(),
        version: made.version.clone(),
    };
    Report {
        kind: found.kind.map(|kind| kind.to_string()),
        length: bytes.len() as u64,
        digest: Digest::of(bytes),
        producers: found.producers.iter().map(made).collect(),
        imports,
        imports_not_shown: found.imports.len().saturating_sub(MAX_SHOWN),
        exports: found.exports.iter().take(MAX_SHOWN).map(|name| cut(name, MAX_NAME)).collect(),
        exports_not_shown: found.exports.len().saturating_sub(MAX_SHOWN),
        can_use: found.areas.iter().map(|area| area.name()).collect(),
        granted_with: found.areas.iter().map(|area| (area.name(), granted_with(*area))).collect(),
        refusals,
    }
}

/// How a job asks for an area.
const fn granted_with(area: Area) -> &'static str {
    match area {
        Area::Arguments => "what stands after --",
        Area::Environment => "--env NAME=VALUE, --secret",
        Area::Streams => "always; --input FILE, --stdout-limit SIZE, --stderr-limit SIZE",
        Area::Files => "--read DIR:/PATH, --write DIR:/PATH, --scratch",
        Area::Clocks | Area::Randomness => "by default; --deterministic leaves it out",
        Area::Sockets => "--connect HOST:PORT, --listen ADDRESS:PORT",
        Area::NameLookup => "--connect NAME:PORT, for that name",
        Area::Http => "--http URL",
        _ => "nothing yet",
    }
}

fn words(report: &Report) -> String {
    let kind = report.kind.as_deref().unwrap_or("no WebAssembly binary");
    let size = show_size(report.length);
    let mut text = format!("{kind}, {size} ({} bytes)\n{}", report.length, report.digest);
    if !report.producers.is_empty() {
        text.push_str("\n\nmade with, as it says");
    }
    for made in &report.producers {
        let _ = write!(text, "\n  {:<14} {} {}", made.field, line(&made.name), line(&made.version));
        text.truncate(text.trim_end().len());
    }
    if report.kind.is_none() {
        return text;
    }
    text.push_str("\n\nimports");
    for (interface, items) in &report.imports {
        let _ = write!(text, "\n  {}", line(interface));
        for item in items {
            let _ = write!(text, "\n    {}", line(item));
        }
    }
    more(&mut text, report.imports_not_shown);
    text.push_str("\n\nexports");
    for export in &report.exports {
        let _ = write!(text, "\n  {}", line(export));
    }
    more(&mut text, report.exports_not_shown);
    text.push_str("\n\ncan use, as far as it is granted");
    for (area, options) in report.can_use.iter().filter_map(|area| report.granted_with.get_key_value(area)) {
        let _ = write!(text, "\n  {area:<14} {options}");
    }
    text
}

fn more(text: &mut String, count: usize) {
    if count > 0 {
        let _ = write!(text, "\n  and {count} more");
    }
}

/// Cut text ends with an ellipsis, so that nobody takes it for the whole.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}
