//! Counts lines, words and bytes of directory trees, or of stdin.
//!
//! `wordcount DIR...` prints one line, the same that `find DIR... -type f -exec cat {} + | wc` prints;
//! `wordcount --files DIR...` prints a line per file, each counted alone, then their sum.
//!
//! *Never*: prints a total that leaves out a file which it could not read.

mod count;
mod walk;

use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;

use strongroom_guest::{Args, Failure, run};

use crate::count::{Counter, Counts};

fn main() -> ExitCode {
    run("wordcount", wordcount)
}

fn wordcount(mut args: Args, out: &mut dyn Write) -> Result<(), Failure> {
    let per_file = args.flag("--files");
    let paths = args.rest()?;
    if paths.is_empty() {
        let mut counter = Counter::new();
        counter.read(io::stdin().lock())?;
        writeln!(out, "{}", counter.finish())?;
        return Ok(());
    }
    let total = if per_file { list_files(&paths, out)? } else { count_all(&paths)? };
    let name = if per_file { " total" } else { "" };
    writeln!(out, "{total}{name}")?;
    Ok(())
}

/// Counts all files as one text, so a word may begin in one file and end in the next, as with `cat`.
fn count_all(paths: &[String]) -> Result<Counts, Failure> {
    let mut counter = Counter::new();
    walk::each_file(paths, |path| read_file(&mut counter, path))?;
    Ok(counter.finish())
}

/// Prints each file's counts and returns their sum.
fn list_files(paths: &[String], out: &mut dyn Write) -> Result<Counts, Failure> {
    let mut total = Counts::default();
    walk::each_file(paths, |path| {
        let mut counter = Counter::new();
        read_file(&mut counter, path)?;
        let counts = counter.finish();
        total += counts;
        writeln!(out, "{counts} {path}")?;
        Ok(())
    })?;
    Ok(total)
}

fn read_file(counter: &mut Counter, path: &str) -> Result<(), Failure> {
    let file = File::open(path).map_err(|error| Failure::at(path, &error))?;
    counter.read(file).map_err(|error| Failure::at(path, &error))
}
