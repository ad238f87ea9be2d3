//! `strongroom audit forwarded`: how far each destination of the audit log is. Works on files, beside a running host.

use std::path::Path;

use serde::Serialize;
use strongroom_job::PublicKey;

use crate::config::Config;
use crate::forward::{Rejected, Status, statuses};

use super::console::Console;
use super::escape::line;
use super::exit::{Exit, Failure};

/// One destination, for programs.
#[derive(Serialize)]
struct Told<'a> {
    name: &'a str,
    to: &'a str,
    /// The first record that it may not have; null before a host has begun.
    next: Option<u64>,
    behind: u64,
    problem: Option<&'a str>,
    rejected: Option<&'a Rejected>,
}

/// Status 1 when a destination needs somebody.
pub(super) fn forwarded(home: &Path, key: Option<&PublicKey>, console: &Console) -> Result<Exit, Failure> {
    let config = Config::load(&home.join("strongroom.toml"))?;
    let statuses = statuses(home, key, &config.forwards)
        .map_err(|error| Failure::no("bad-log", format_args!("{}: {error}", home.join("audit").display())))?;
    if statuses.is_empty() && !console.json() {
        console.print("the configuration has no [[forward]]: the log is on this machine only")?;
    }
    for status in &statuses {
        let Status { name, to, next, behind, problem, rejected, .. } = status;
        if console.json() {
            console.document(&Told {
                name,
                to,
                next: *next,
                behind: *behind,
                problem: problem.as_deref(),
                rejected: rejected.as_ref(),
            })?;
            continue;
        }
        let place = match next {
            Some(next) => format!("next record {next}, {behind} behind"),
            None => format!("not begun, {behind} behind"),
        };
        let problem = problem.as_ref().map_or_else(String::new, |problem| format!("\n  {}", line(problem)));
        let rejected = rejected.as_ref().map_or_else(String::new, refused);
        console.print(format_args!("{name}  {}  {place}{rejected}{problem}", line(to)))?;
    }
    let stuck = statuses.iter().any(|status| status.problem.is_some());
    Ok(Exit::Status(u8::from(stuck)))
}

fn refused(rejected: &Rejected) -> String {
    let Rejected { records, maybe, first, last, why } = rejected;
    let why = if why.is_empty() { "no reason given" } else { why };
    format!(
        "\n  rejected {records}, and perhaps {maybe} more, of the records {first} to {last}; the last for: {}",
        line(why)
    )
}
