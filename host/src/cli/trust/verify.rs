//! `strongroom trust verify`: whether a file is good now, and goes on from a version that somebody pinned.

use std::path::PathBuf;

use clap::Args;
use strongroom_job::Digest;
use strongroom_job::note::KeyName;

use super::{Shown, draft, name, wrong};
use crate::cli::console::Console;
use crate::cli::exit::{Exit, Failure};
use crate::cli::view::time;

#[derive(Args, Debug)]
pub(in crate::cli) struct VerifyArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The origin of the log of the host that it must be for [default: any]
    #[arg(long, value_name = "ORIGIN")]
    log: Option<KeyName>,
    /// The digest of a version that you trust: the file must have it, and go on from it [default: the first version is believed]
    #[arg(long, value_name = "DIGEST")]
    pinned: Option<Digest>,
}

pub(super) fn verify(args: &VerifyArgs, console: &Console) -> Result<Exit, Failure> {
    let VerifyArgs { file, log, pinned } = args;
    let draft = draft(file, log.as_ref())?;
    let whole = draft.clone().finish().map_err(|error| wrong(file, &error))?;
    if let Some(pinned) = pinned
        && !whole.versions().iter().any(|version| version.body().digest() == *pinned)
    {
        let text = format!("{}: none of its versions is {pinned}, which you pinned", file.display());
        return Err(Failure::no("not-pinned", text));
    }
    let last = whole.in_force();
    let shown = Shown::of(file, &draft)?;
    if shown.expired {
        let (name, at) = (name(last), time(last.expires()));
        let text = format!("{}: {name} expired at {at}: ask its operators for a next one", file.display());
        return Err(Failure::no("expired", text));
    }
    shown.print(console)?;
    if !console.json() {
        let host = if log.is_some() { "the host that you named" } else { "the host: name it with --log" };
        let first = if pinned.is_some() {
            ""
        } else {
            ", and that version 1 is the right one: pin one with --pinned"
        };
        console.print(format_args!(
            "checked   every signature, from the first version on; that it is valid now\nbelieved  that it is for {host}{first}"
        ))?;
    }
    Ok(Exit::Status(0))
}
