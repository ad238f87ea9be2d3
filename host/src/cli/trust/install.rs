//! `strongroom trust install`: a file comes into force, if it goes on from the one that is.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use strongroom_job::note::KeyName;
use strongroom_job::{Role, Timestamp, TrustVersion};

use super::{name, read};
use crate::cli::Common;
use crate::cli::console::Console;
use crate::cli::directory::{config, unlocked};
use crate::cli::exit::{Exit, Failure};
use crate::cli::view::time;
use crate::clock::Clock;
use crate::home::Home;
use crate::trust::{self, InstallError};

#[derive(Args, Debug)]
pub(in crate::cli) struct InstallArgs {
    /// The file, complete
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Serialize)]
struct Installed {
    path: String,
    #[serde(flatten)]
    now: TrustVersion,
    expires: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<TrustVersion>,
}

pub(super) fn install(common: &Common, args: &InstallArgs, console: &Console) -> Result<Exit, Failure> {
    let bytes = read(&args.file)?;
    let home = Home::open(&common.directory()?)?;
    unlocked(&home)?;
    let config = config(&home)?;
    let log: KeyName = config
        .log_origin
        .parse()
        .map_err(|error| Failure::usage(format_args!("{}: log_origin: {error}", home.config().display())))?;
    let locked = home.lock()?;
    let installed = trust::install(&locked, &log, &bytes, Clock::default().now());
    let (file, before) = installed.map_err(|error| match error {
        InstallError::Home(error) => error.into(),
        error @ InstallError::State(_) => Failure::fault(error),
        error => Failure::no(
            "not-installed",
            format_args!("{}: {error}. Nothing was changed", args.file.display()),
        ),
    })?;
    let last = file.in_force();
    let operates =
        config.principals.iter().filter(|who| who.roles.has(Role::Operate) && last.names(&who.key)).count();
    if console.json() {
        let path = home.trust().display().to_string();
        console.document(&Installed { path, now: last.id(), expires: last.expires(), before })?;
    } else {
        let until = time(last.expires());
        console
            .print(format_args!("{} is in force from the host's next start on, until {until}", name(last)))?;
    }
    if operates == 0 {
        console.say(format_args!(
            "nobody operates the host with it: none of its keys is a principal with the role operate in {}",
            home.config().display()
        ));
    }
    Ok(Exit::Status(0))
}
