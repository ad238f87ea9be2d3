//! `strongroom config`: whether a host would start with a file, and what it would then do. *Never:* changes the file.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_job::Digest;

use super::Common;
use super::console::Console;
use super::directory::trusts;
use super::exit::{Exit, Failure};
use crate::config::{Config, ConfigError, Governs, Setting};
use crate::home::Home;

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say whether a host would start with it, and if not, which line is wrong
    Check(FileArgs),
    /// Show every value in force, and whether a line of the file or a default set it
    Show(FileArgs),
    /// Print the digests of what governs a host, as the log records them when they change
    Digest(FileArgs),
}

#[derive(Args, Debug)]
pub(super) struct FileArgs {
    /// Configuration file [default: that of the data directory]
    #[arg(value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Good<'a> {
    file: &'a Path,
    principals: usize,
    volumes: usize,
}

#[derive(Serialize)]
struct Digests<'a> {
    file: &'a Path,
    configuration: Digest,
    principals: Digest,
    policy: Digest,
}

#[derive(Serialize)]
struct All<'a> {
    file: &'a Path,
    settings: Vec<One>,
}

#[derive(Serialize)]
struct One {
    key: String,
    /// In TOML.
    value: Option<String>,
    /// None for a default.
    line: Option<usize>,
}

pub(super) fn config(common: &Common, command: &ConfigCommand, console: &Console) -> Result<Exit, Failure> {
    let (ConfigCommand::Check(FileArgs { file })
    | ConfigCommand::Show(FileArgs { file })
    | ConfigCommand::Digest(FileArgs { file })) = command;
    let file = named(common, file.as_deref())?;
    let text = Config::read(&file)?;
    let wrong = |fault| ConfigError::Wrong { path: file.clone(), fault };
    match command {
        ConfigCommand::Check(_) => {
            let config = Config::parse(&text).map_err(wrong)?;
            fits(&file, &config)?;
            check(&file, &config, console)?;
        }
        ConfigCommand::Digest(_) => digest(&file, Config::parse(&text).map_err(wrong)?.governs, console)?,
        ConfigCommand::Show(_) => show(&file, Config::settings(&text).map_err(wrong)?, console)?,
    }
    Ok(Exit::Status(0))
}

/// The file that was named, or that of the data directory.
fn named(common: &Common, file: Option<&Path>) -> Result<PathBuf, Failure> {
    match file {
        Some(file) => Ok(file.to_owned()),
        None => Ok(Home::open(&common.directory()?)?.config()),
    }
}

/// A file with which a host would start, and what it says.
pub(super) fn checked(common: &Common, args: &FileArgs) -> Result<(PathBuf, Config), Failure> {
    let file = named(common, args.file.as_deref())?;
    let config = Config::load(&file)?;
    fits(&file, &config)?;
    Ok((file, config))
}

/// Whether a host could do what the checked file says: its paths, its destinations.
fn fits(file: &Path, config: &Config) -> Result<(), Failure> {
    if let Some(home) = home_of(file) {
        let inside = |error| ConfigError::Overlap { path: file.to_owned(), error };
        config.apart_from(home.dir()).map_err(inside)?;
    }
    trusts(file, config)
}

/// The data directory that `file` is the configuration of, if it is in one.
fn home_of(file: &Path) -> Option<Home> {
    let directory = file.canonicalize().ok()?.parent()?.to_owned();
    Home::open(&directory).ok().filter(|home| file.file_name() == home.config().file_name())
}

fn check(file: &Path, config: &Config, console: &Console) -> Result<(), Failure> {
    let (principals, volumes) = (config.principals.len(), config.volumes.len());
    if console.json() {
        return console.document(&Good { file, principals, volumes });
    }
    console.print(format_args!(
        "{}: a host starts with it ({principals} principals, {volumes} volumes)",
        file.display()
    ))
}

fn digest(file: &Path, governs: Governs, console: &Console) -> Result<(), Failure> {
    let Governs { configuration, principals, policy } = governs;
    if console.json() {
        return console.document(&Digests { file, configuration, principals, policy });
    }
    console.print(format_args!(
        "configuration {configuration}\nprincipals    {principals}\npolicy        {policy}"
    ))
}

fn show(file: &Path, settings: Vec<Setting>, console: &Console) -> Result<(), Failure> {
    if console.json() {
        let one = |Setting { key, value, line }| One { key, value, line };
        return console.document(&All { file, settings: settings.into_iter().map(one).collect() });
    }
    let text = Config::explained(&settings);
    console.print(format_args!("# {}\n{}", file.display(), text.trim_end()))
}
