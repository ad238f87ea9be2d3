//! `strongroom trust sign`: one more signature under the last version of a file.

use std::path::PathBuf;

use clap::Args;
use strongroom_job::SecretKey;
use strongroom_sdk::Identity;

use super::{Shown, absolute, draft, name};
use crate::cli::Common;
use crate::cli::console::Console;
use crate::cli::exit::{Exit, Failure};
use crate::home::{Home, place};

#[derive(Args, Debug)]
pub(in crate::cli) struct SignArgs {
    /// The file, which gets the signature
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Secret key file to sign with [default: keys/client.key in --dir]
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

pub(super) fn sign(common: &Common, args: &SignArgs, console: &Console) -> Result<Exit, Failure> {
    let file = &args.file;
    let key = key(common, args)?;
    let mut signed = draft(file, None)?;
    let added = signed.sign(&key).map_err(|error| {
        let public = key.public();
        Failure::usage(format_args!(
            "{}: {error}. Sign with an operator's key (--identity), or have {public} named in a next version",
            file.display()
        ))
    })?;
    if added {
        place::replace(&absolute(file)?, &signed.to_bytes())?;
        console.say(format_args!("signed {}", name(signed.last().body())));
    } else {
        console.say(format_args!("{} had signed {} before", key.public(), name(signed.last().body())));
    }
    Shown::of(file, &signed)?.print(console)?;
    Ok(Exit::Status(0))
}

fn key(common: &Common, args: &SignArgs) -> Result<SecretKey, Failure> {
    match &args.identity {
        None => Ok(Home::open(&common.directory()?)?.client_key()?),
        Some(file) => {
            let loaded = Identity::load(file);
            let loaded = loaded.map_err(|error| Failure::usage(format_args!("--identity {error}")))?;
            Ok(loaded.secret().clone())
        }
    }
}
