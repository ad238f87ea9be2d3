//! What reaches the user, and where: standard output for results, standard error for words, JSON for programs.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use super::escape;
use super::exit::Failure;

/// The two streams, and how they are to be used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Console {
    json: bool,
    verbose: u8,
    stdout_is_terminal: bool,
    stderr_is_terminal: bool,
    colour: bool,
}

impl Console {
    pub(super) fn new(json: bool, verbose: u8) -> Self {
        let stderr_is_terminal = io::stderr().is_terminal();
        #[expect(clippy::disallowed_methods, reason = "NO_COLOR changes colours and nothing else")]
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            json,
            verbose,
            stdout_is_terminal: io::stdout().is_terminal(),
            stderr_is_terminal,
            colour: stderr_is_terminal && !plain,
        }
    }

    /// Whether results are JSON.
    pub(super) const fn json(&self) -> bool {
        self.json
    }

    pub(super) const fn verbose(&self) -> u8 {
        self.verbose
    }

    pub(super) const fn stdout_is_terminal(&self) -> bool {
        self.stdout_is_terminal
    }

    pub(super) const fn stderr_is_terminal(&self) -> bool {
        self.stderr_is_terminal
    }

    /// Whether Strongroom itself may say something on standard error while a guest runs.
    pub(super) const fn talks(&self) -> bool {
        !self.json && (self.stderr_is_terminal || self.verbose > 0)
    }

    /// Words about the work, on standard error: only on a terminal or with `-v`.
    pub(super) fn say(&self, words: impl fmt::Display) {
        if self.talks() {
            // Words that cannot be shown are not worth failing for.
            let _ = writeln!(io::stderr(), "strongroom: {}", escape::text(&words.to_string()));
        }
    }

    /// An error, on standard error, whether that is a terminal or not.
    pub(super) fn fail(&self, failure: &Failure) {
        if failure.quiet {
            return;
        }
        if self.json {
            #[derive(Serialize)]
            struct Document<'a> {
                error: &'a Failure,
                exit: u8,
            }
            if let Ok(text) = serde_json::to_string(&Document { error: failure, exit: failure.exit.code() }) {
                let _ = writeln!(io::stderr(), "{text}");
            }
            return;
        }
        let label = if self.colour { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
        let _ = writeln!(io::stderr(), "{label} {}", escape::text(&failure.to_string()));
    }

    /// A result for people, on standard output, with a newline at its end.
    pub(super) fn print(&self, text: impl fmt::Display) -> Result<(), Failure> {
        let text = text.to_string();
        let shown = if self.stdout_is_terminal { escape::text(&text) } else { text };
        write_line(&shown)
    }

    /// A result for programs: one JSON document in one line.
    pub(super) fn document(&self, document: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(document)
            .map_err(|error| Failure::fault(format_args!("cannot write JSON: {error}")))?;
        write_line(&text)
    }
}

fn write_line(line: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(|error| stdout_failed(&error))
}

pub(super) fn stdout_failed(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::unread();
    }
    Failure::fault(format_args!("cannot write to standard output: {error}"))
}
