//! `strongroom log-level`: how much the host of a directory says in its own log, from now on.

use clap::Args;
use serde::Serialize;

use crate::log_level::Directives;

use super::console::Console;
use super::exit::{Exit, Failure};
use super::socket::{ask, served, tell};
use super::{Common, with_runtime};

const PAGE: &str = "/log-level";

#[derive(Args, Debug)]
pub(super) struct LogLevelArgs {
    /// off, error, warn, info, debug or trace; for a part of the host PART=LEVEL, with commas between: `info,strongroom::store=debug`.
    /// Without it, say what is in force
    #[arg(value_name = "DIRECTIVES")]
    directives: Option<Directives>,
}

#[derive(Serialize)]
struct InForce<'a> {
    log_level: &'a str,
}

pub(super) fn log_level(common: &Common, args: &LogLevelArgs, console: &Console) -> Result<Exit, Failure> {
    let home = served(common)?;
    let body = with_runtime(async {
        match &args.directives {
            None => ask(&home, PAGE).await,
            Some(directives) => match tell(&home, PAGE, directives.to_string().into_bytes()).await? {
                (200, body) => Ok(body),
                (_, body) => Err(Failure::no("not-set", String::from_utf8_lossy(&body).trim())),
            },
        }
    })?;
    let text = String::from_utf8_lossy(&body);
    if console.json() {
        console.document(&InForce { log_level: text.trim() })?;
    } else {
        console.print(text.trim())?;
    }
    Ok(Exit::Status(0))
}
