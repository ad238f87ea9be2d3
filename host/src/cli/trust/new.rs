//! `strongroom trust new`: a first version, or the next one, unsigned.

use std::path::PathBuf;

use clap::Args;
use strongroom_job::PublicKey;
use strongroom_job::note::KeyName;
use strongroom_job::trust::{TrustBody, TrustDraft, TrustError, TrustFile};
use strongroom_sdk::When;

use super::{Shown, absolute, read, wrong};
use crate::cli::Common;
use crate::cli::console::Console;
use crate::cli::directory::config;
use crate::cli::exit::{Exit, Failure};
use crate::cli::plan::when;
use crate::clock::Clock;
use crate::home::{Home, place};

#[derive(Args, Debug)]
pub(in crate::cli) struct NewArgs {
    /// The file to make, with every version before it; it must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// An operator's public key; once for each [default: those of the version before]
    #[arg(long = "operator", value_name = "KEY")]
    operators: Vec<PublicKey>,
    /// How many operators must sign this version and the next [default: as in the version before]
    #[arg(long, value_name = "N")]
    threshold: Option<u64>,
    /// Until when its operators are operators: a time such as 2027-12-01T08:00:00+01:00, or so long from now, such as +90d
    #[arg(long, value_name = "WHEN", value_parser = when)]
    expires: When,
    /// The trust file that this is the next version of [default: the one in --dir, if there is one]
    #[arg(long, value_name = "FILE")]
    after: Option<PathBuf>,
    /// The origin of the log of the host that it is for [default: that of the version before, or of --dir]
    #[arg(long, value_name = "ORIGIN")]
    log: Option<KeyName>,
}

pub(super) fn new(common: &Common, args: &NewArgs, console: &Console) -> Result<Exit, Failure> {
    let before = before(common, args)?;
    let now = Clock::default().now();
    let expires = match args.expires {
        When::At(at) => at,
        When::In(delay) => now.saturating_add(delay),
    };
    if expires <= now {
        return Err(Failure::usage("--expires has passed: its operators could never do anything"));
    }
    let last = before.as_ref().map(TrustFile::in_force);
    let operators = match last {
        _ if !args.operators.is_empty() => args.operators.as_slice(),
        Some(last) => last.operators(),
        None => {
            return Err(Failure::usage("a first version needs its operators: --operator KEY, once for each"));
        }
    };
    let threshold = match (args.threshold, last) {
        (Some(threshold), _) => threshold,
        (None, Some(last)) => last.threshold(),
        (None, None) => {
            return Err(Failure::usage("a first version needs a --threshold: how many operators must sign"));
        }
    };
    let log = match (&args.log, last) {
        (Some(log), _) => log.clone(),
        (None, Some(last)) => last.log().clone(),
        (None, None) => origin(common)?,
    };
    let version = last.map_or(1, |last| last.version().saturating_add(1));
    let unusable = |error: TrustError| Failure::usage(format_args!("this version cannot be made: {error}"));
    let body = TrustBody::new(log, version, expires, threshold, operators).map_err(unusable)?;
    let made = match before {
        Some(before) => before.then(body),
        None => TrustDraft::first(body),
    };
    let made = made.map_err(Failure::usage)?;
    if !place::write_new(&absolute(&args.file)?, &made.to_bytes())? {
        let file = args.file.display();
        return Err(Failure::usage(format_args!("{file} exists: name a file that does not")));
    }
    Shown::of(&args.file, &made)?.print(console)?;
    Ok(Exit::Status(0))
}

/// The file that the new version follows from.
fn before(common: &Common, args: &NewArgs) -> Result<Option<TrustFile>, Failure> {
    let path = match &args.after {
        Some(path) => path.clone(),
        // An operator need not have a directory of the host.
        None => match Home::open(&common.directory()?) {
            Ok(home) if home.trust().exists() => home.trust(),
            Ok(_) | Err(_) => return Ok(None),
        },
    };
    let file = TrustFile::parse(&read(&path)?, None).map_err(|error| wrong(&path, &error))?;
    Ok(Some(file))
}

/// The name of the log of the directory's host.
fn origin(common: &Common) -> Result<KeyName, Failure> {
    let home = Home::open(&common.directory()?)?;
    let origin = config(&home)?.log_origin;
    origin
        .parse()
        .map_err(|error| Failure::usage(format_args!("{}: log_origin: {error}", home.config().display())))
}
