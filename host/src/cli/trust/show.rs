//! `strongroom trust show`: what a file says, also when it is not signed by enough yet.

use std::path::PathBuf;

use clap::Args;

use super::{Shown, draft};
use crate::cli::console::Console;
use crate::cli::exit::{Exit, Failure};

#[derive(Args, Debug)]
pub(in crate::cli) struct ShowArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn show(args: &ShowArgs, console: &Console) -> Result<Exit, Failure> {
    let shown = draft(&args.file, None)?;
    Shown::of(&args.file, &shown)?.print(console)?;
    Ok(Exit::Status(0))
}
