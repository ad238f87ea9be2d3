//! `strongroom completions` and `strongroom man`: what the table of commands says, for shells and for `man`.
//!
//! *Never:* says anything that the table does not say.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Command, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;
use serde::Serialize;

use super::console::Console;
use super::exit::{Exit, Failure};

/// A shell that is known to take what is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

#[derive(Args, Debug)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Known,
}

#[derive(Args, Debug)]
pub(super) struct ManArgs {
    /// Directory to write `strongroom.1`, `strongroom-serve.1` and so on to; made if it is not there
    #[arg(value_name = "DEST")]
    dest: PathBuf,
}

/// What was written, for programs.
#[derive(Serialize)]
struct Written {
    dest: String,
    pages: usize,
}

pub(super) fn completions(
    table: &mut Command,
    args: &CompletionsArgs,
    console: &Console,
) -> Result<Exit, Failure> {
    let shell = match args.shell {
        Known::Bash => Shell::Bash,
        Known::Zsh => Shell::Zsh,
        Known::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, table, "strongroom", &mut script);
    let script = String::from_utf8(script).map_err(Failure::fault)?;
    console.print(script.trim_end())?;
    Ok(Exit::Status(0))
}

pub(super) fn man(mut table: Command, args: &ManArgs, console: &Console) -> Result<Exit, Failure> {
    let failed = |path: &Path, error| Failure::fault(format_args!("{}: {error}", path.display()));
    // Hands the options that are for all commands down to each of them.
    table.build();
    fs::create_dir_all(&args.dest).map_err(|error| failed(&args.dest, error))?;
    let mut pages = 0;
    let mut left = vec![("strongroom".to_owned(), table)];
    while let Some((name, command)) = left.pop() {
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            left.push((format!("{name}-{}", below.get_name()), below.clone()));
        }
        let path = args.dest.join(format!("{name}.1"));
        // The whole command as one types it is what the synopsis begins with.
        let command = command.display_name(name.clone());
        let mut page = Vec::new();
        Man::new(command)
            .title(name.to_uppercase())
            .render(&mut page)
            .and_then(|()| fs::write(&path, &page))
            .map_err(|error| failed(&path, error))?;
        pages += 1;
    }
    let dest = args.dest.display().to_string();
    if console.json() {
        console.document(&Written { dest, pages })?;
    } else {
        console.print(format_args!("{dest}: {pages} pages"))?;
    }
    Ok(Exit::Status(0))
}
