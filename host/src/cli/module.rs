//! `strongroom module`: register, list and look into modules.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_job::{Digest, ModuleView, RefusalCode};
use strongroom_runtime::{
    Allocation, Engine, EngineConfig, Import, MAX_MODULE_SIZE, ModuleError, ModuleInfo,
};
use strongroom_sdk::{Client, Source};

use super::amount::show_size;
use super::console::Console;
use super::escape::line;
use super::exit::{Exit, Failure};
use super::local::with_client;
use super::remote::RemoteArgs;
use super::task::about_module;
use super::{Common, progress, view};

/// What to do with modules.
#[derive(Debug, Subcommand)]
pub(super) enum ModuleCommand {
    /// Give a module to the host, which checks and compiles it
    Push(PushArgs),
    /// List the modules that the host has
    List(ListArgs),
    /// Show what a module is, what it imports, and which capabilities that can use; needs no host
    Inspect(InspectArgs),
}

#[derive(Args, Debug)]
pub(super) struct PushArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// WebAssembly file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Args, Debug)]
pub(super) struct InspectArgs {
    /// WebAssembly file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn module(common: &Common, command: ModuleCommand, console: &Console) -> Result<Exit, Failure> {
    match command {
        ModuleCommand::Push(args) => {
            let file = open(&args.file)?;
            with_client(common, &args.remote, console, async |client| {
                push(client, &args.file, file, console).await
            })
        }
        ModuleCommand::List(args) => {
            with_client(common, &args.remote, console, async |client| list(client, console).await)
        }
        ModuleCommand::Inspect(args) => inspect(&args.file, console),
    }
}

async fn push(client: &Client, path: &Path, file: File, console: &Console) -> Result<Exit, Failure> {
    let bar = progress::upload(console, "module", "compiling");
    let module = client.push_module(Source::file(file)).on_progress(|at| bar.show(at)).await;
    drop(bar);
    let module = module.map_err(|error| about_module(path.display(), error))?;
    if console.json() {
        console.document(&module)?
    } else {
        console.print(module.digest)?
    }
    Ok(Exit::Status(0))
}

async fn list(client: &Client, console: &Console) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct All {
        modules: Vec<ModuleView>,
    }
    let modules = client.modules().await?;
    if console.json() {
        console.document(&All { modules })?
    } else {
        console.print(view::modules(&modules))?
    }
    Ok(Exit::Status(0))
}

/// What `inspect` finds.
#[derive(Serialize)]
struct Report {
    kind: String,
    length: u64,
    digest: Digest,
    /// Imported names, by the interface that they belong to.
    imports: BTreeMap<String, Vec<String>>,
    exports: Vec<String>,
    /// What the imports can be used for, as far as a grant allows it.
    can_use: Vec<Area>,
    /// Why a host would not take it.
    refusal: Option<String>,
}

fn inspect(path: &Path, console: &Console) -> Result<Exit, Failure> {
    let bytes = read(path)?;
    let named = |error: &ModuleError| {
        Failure::refused(RefusalCode::BadModule, format_args!("{}: {error}", path.display()))
    };
    let info = strongroom_runtime::inspect(&bytes).map_err(|error| named(&error))?;
    let refused = compile(&bytes).err();
    let report = report(&info, &bytes, refused.as_ref());
    if console.json() {
        console.document(&report)?
    } else {
        console.print(words(&report))?
    }
    refused.map_or(Ok(Exit::Status(0)), |error| Err(named(&error)))
}

/// Compiles as a host does, with the smallest engine: whether every import exists is known only then.
fn compile(bytes: &[u8]) -> Result<(), ModuleError> {
    let config =
        EngineConfig { max_concurrent: 1, allocation: Allocation::OnDemand, ..EngineConfig::default() };
    let engine = Engine::new(config).map_err(|error| ModuleError::Engine { message: error.to_string() })?;
    engine.compile(bytes).map(drop)
}

fn report(info: &ModuleInfo, bytes: &[u8], refused: Option<&ModuleError>) -> Report {
    let mut imports: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for import in &info.imports {
        imports.entry(import.interface.clone()).or_default().extend(import.item.clone());
    }
    Report {
        kind: info.kind.to_string(),
        length: bytes.len() as u64,
        digest: Digest::of(bytes),
        imports,
        exports: info.exports.clone(),
        can_use: areas(&info.imports),
        refusal: refused.map(ToString::to_string),
    }
}

/// A part of the world that imports can reach, when the grant opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Area {
    Arguments,
    Environment,
    Streams,
    Files,
    Clocks,
    Randomness,
    Network,
}

impl Area {
    const fn words(self) -> &'static str {
        match self {
            Self::Arguments => "arguments            (always; those after --)",
            Self::Environment => "environment          (only what --env sets)",
            Self::Streams => "standard streams     (--input, --stdout-limit, --stderr-limit)",
            Self::Files => "files                (only below --read and --write)",
            Self::Clocks => "clocks               (unless --deterministic)",
            Self::Randomness => "randomness           (unless --deterministic)",
            Self::Network => "network              (denied)",
        }
    }

    /// The area of an interface name of WASI 0.2, or of a function of preview 1.
    fn of(import: &Import) -> Option<Self> {
        let item = import.item.as_deref().unwrap_or_default();
        let name = match import.interface.as_str() {
            "wasi_snapshot_preview1" => item,
            interface => interface,
        };
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        let areas: [(Self, &[&str]); 7] = [
            (Self::Arguments, &["args_"]),
            (Self::Environment, &["environ_", "wasi:cli/environment"]),
            (Self::Streams, &["fd_read", "fd_write", "wasi:cli/std", "wasi:cli/terminal", "wasi:io/streams"]),
            (Self::Files, &["path_", "fd_prestat", "fd_readdir", "wasi:filesystem/"]),
            (Self::Clocks, &["clock_", "poll_oneoff", "wasi:clocks/"]),
            (Self::Randomness, &["random_", "wasi:random/"]),
            (Self::Network, &["sock_", "wasi:sockets/", "wasi:http/"]),
        ];
        areas.into_iter().find(|(_, prefixes)| starts(prefixes)).map(|(area, _)| area)
    }
}

fn areas(imports: &[Import]) -> Vec<Area> {
    let mut areas: Vec<Area> = imports.iter().filter_map(Area::of).collect();
    // A component's arguments come with its environment.
    if imports.iter().any(|import| import.interface.starts_with("wasi:cli/environment")) {
        areas.push(Area::Arguments);
    }
    areas.sort_unstable();
    areas.dedup();
    areas
}

fn words(report: &Report) -> String {
    let mut text = format!(
        "{}, {} ({} bytes)\n{}\n\nimports",
        report.kind,
        show_size(report.length),
        report.length,
        report.digest
    );
    for (interface, items) in &report.imports {
        let _ = write!(text, "\n  {}", line(interface));
        for item in items {
            let _ = write!(text, "\n    {}", line(item));
        }
    }
    text.push_str("\n\nexports");
    for export in &report.exports {
        let _ = write!(text, "\n  {}", line(export));
    }
    text.push_str("\n\ncan use, as far as it is granted");
    for area in &report.can_use {
        let _ = write!(text, "\n  {}", area.words());
    }
    text
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| Failure::usage(format_args!("module {}: {error}", path.display())))
}

/// At most one byte more than any module may have, which is enough to see that it is too large.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let most = MAX_MODULE_SIZE.as_u64() + 1;
    let read = open(path)?.take(most).read_to_end(&mut bytes);
    read.map_err(|error| Failure::usage(format_args!("module {}: {error}", path.display())))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(interface: &str, item: Option<&str>) -> Import {
        Import { interface: interface.into(), item: item.map(Into::into) }
    }

    #[test]
    fn imports_say_what_can_be_used() {
        let preview1 = ["args_get", "fd_write", "path_open", "sock_accept", "proc_exit"];
        let preview1 = preview1.map(|item| import("wasi_snapshot_preview1", Some(item)));
        assert_eq!(areas(&preview1), [Area::Arguments, Area::Streams, Area::Files, Area::Network]);
        let preview2 = ["wasi:cli/environment@0.2.3", "wasi:clocks/wall-clock@0.2.0", "wasi:cli/exit@0.2.0"];
        let preview2 = preview2.map(|interface| import(interface, None));
        assert_eq!(areas(&preview2), [Area::Arguments, Area::Environment, Area::Clocks]);
        assert_eq!(areas(&[import("env", Some("path_open_sesame"))]), []);
    }
}
