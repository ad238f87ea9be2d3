//! `strongroom module`: register, list and look into modules.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_job::ModuleView;
use strongroom_runtime::MAX_MODULE_SIZE;
use strongroom_sdk::{Client, Source};

use super::console::Console;
use super::exit::{Exit, Failure};
use super::inspect::inspect;
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
    /// Show what a module is, what made it, what it can use when it is granted, and what would be refused; needs no host
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
        ModuleCommand::Inspect(args) => inspect(&args.file, &read(&args.file)?, console),
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
