//! `strongroom fsck`: whether everything in a data directory is as it must be, and how to mend what is not.

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;
use strongroom_job::StateFault;

use crate::fsck::{Report, check};
use crate::home::Home;
use crate::mend::{Mended, mend};

use super::Common;
use super::console::Console;
use super::directory::config;
use super::escape::line;
use super::exit::{Exit, Failure};

#[derive(Args, Debug)]
pub(super) struct FsckArgs {
    /// Move the state to quarantine and make it anew from the audit log, whatever is wrong with it
    #[arg(long)]
    rebuild: bool,
}

#[derive(Serialize)]
struct Finding {
    part: &'static str,
    problem: String,
}

/// What was found, for programs.
#[derive(Serialize)]
struct Found {
    dir: String,
    clean: bool,
    findings: Vec<Finding>,
    more: usize,
    checked: Vec<String>,
    unchecked: Vec<String>,
    notes: Vec<String>,
    start: String,
    mend: Vec<String>,
}

/// What was made anew, for programs.
#[derive(Serialize)]
struct Rebuilt {
    dir: String,
    records: u64,
    jobs: u64,
    forgotten: u64,
    stripped: u64,
    blobs_gone: u64,
    quarantine: Option<String>,
}

pub(super) fn fsck(common: &Common, args: &FsckArgs, console: &Console) -> Result<Exit, Failure> {
    // Makes nothing: a mistyped directory must not become an empty one that is clean.
    let dir = common.directory()?;
    let home = if args.rebuild { Home::open(&dir)? } else { Home::open_to_check(&dir)? };
    let config = config(&home);
    let locked = if args.rebuild { home.lock()? } else { home.lock_to_check()? };
    let dir = home.dir().display().to_string();
    if args.rebuild {
        let config = config?;
        let problem = "an operator had it made anew";
        let mended = mend(&locked, &config, StateFault::GivenUp, problem).map_err(|error| {
            Failure::fault(format_args!(
                "{dir}: the state could not be rebuilt: {error}. Nothing was changed"
            ))
        })?;
        return rebuilt(dir, &mended, console);
    }
    let config = config.map_err(|failure| failure.to_string());
    let report = check(&locked, config.as_ref().map_err(String::as_str)).map_err(Failure::fault)?;
    let exit = if report.is_clean() { Exit::Status(0) } else { Exit::No };
    if console.json() {
        console.document(&found(dir, report))?;
    } else {
        console.print(words(&dir, &report))?;
    }
    Ok(exit)
}

fn found(dir: String, report: Report) -> Found {
    let clean = report.is_clean();
    let Report { checked, findings, more, unchecked, notes, start, mend, .. } = report;
    let findings = findings.into_iter().map(|(part, problem)| Finding { part, problem }).collect();
    Found { dir, clean, findings, more, checked, unchecked, notes, start, mend }
}

fn words(dir: &str, report: &Report) -> String {
    let verdict = match report.is_clean() {
        true => "everything is as it must be",
        false => "not everything is as it must be",
    };
    let mut text = format!("{dir}: {verdict}");
    let mut lines = |name: &str, items: &mut dyn Iterator<Item = String>| {
        for item in items {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n{name:<9} {}", line(&item));
        }
    };
    lines("wrong", &mut report.findings.iter().map(|(part, problem)| format!("{part}: {problem}")));
    if report.more > 0 {
        lines("wrong", &mut std::iter::once(format!("and {} more", report.more)));
    }
    lines("checked", &mut report.checked.iter().cloned());
    lines("unchecked", &mut report.unchecked.iter().cloned());
    lines("beside", &mut report.notes.iter().cloned());
    lines("a start", &mut std::iter::once(format!("would {}", report.start)));
    lines("to mend", &mut report.mend.iter().cloned());
    text
}

fn rebuilt(dir: String, mended: &Mended, console: &Console) -> Result<Exit, Failure> {
    let crate::store::rebuild::Rebuilt { records, jobs, forgotten, stripped, blobs_gone, .. } =
        mended.rebuilt;
    let quarantine = mended.aside.as_ref().map(|aside| aside.display().to_string());
    if console.json() {
        console.document(&Rebuilt { dir, records, jobs, forgotten, stripped, blobs_gone, quarantine })?;
        return Ok(Exit::Status(0));
    }
    let aside = quarantine.map_or_else(String::new, |aside| format!("\nbefore    {aside}"));
    console.print(format_args!(
        "{dir}: the state was made anew\nrecords   {records}, each replayed and held against the log\njobs      {jobs}, and {forgotten} that \
         were forgotten\ngone      what {stripped} jobs left, and {blobs_gone} modules or inputs{aside}"
    ))?;
    Ok(Exit::Status(0))
}
