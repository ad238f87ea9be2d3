//! The `main` of a task.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use crate::{Args, Failure};

/// Longest error line, in characters: a message may quote input, and input may be one endless line.
const MAX_ERROR_CHARS: usize = 1000;

/// Runs a task: gives it its arguments and a buffered stdout, and turns a failure into an exit code.
///
/// The output is flushed in every case, so what a task wrote before it failed is kept, and an output that
/// cannot be written is itself a failure: data never goes missing with exit code 0. A failure is one line on
/// stderr, `name: sentence`, with control characters escaped.
pub fn run(name: &str, task: impl FnOnce(Args, &mut dyn Write) -> Result<(), Failure>) -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let result = Args::from_env().and_then(|args| task(args, &mut out));
    let flushed =
        out.flush().map_err(|error| Failure::failed(format!("the output could not be written: {error}")));
    match result.and(flushed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing is left to do when stderr is broken too; the exit code still tells.
            let _ = writeln!(io::stderr(), "{}", error_line(name, &failure));
            ExitCode::from(failure.code())
        }
    }
}

/// One printable line, however the message looks.
fn error_line(name: &str, failure: &Failure) -> String {
    let mut line = format!("{name}: ");
    for (count, c) in failure.to_string().trim_end().chars().enumerate() {
        if count == MAX_ERROR_CHARS {
            line.push('…');
            break;
        }
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    // Red without the escape: the line has two lines and a terminal sequence in it.
    #[test]
    fn an_error_is_one_line_without_control_characters() {
        let failure = Failure::input("bad row\n\u{1b}[31mred\u{7}");
        assert_eq!(error_line("t", &failure), "t: bad row\\n\\u{1b}[31mred\\u{7}");
    }

    // Red without the cut: the line is as long as the message.
    #[test]
    fn an_error_quoting_an_endless_line_is_cut() {
        let failure = Failure::input("x".repeat(10 * MAX_ERROR_CHARS));
        let line = error_line("t", &failure);
        assert_eq!(line.chars().count(), "t: ".len() + MAX_ERROR_CHARS + 1);
        assert!(line.ends_with('…'));
    }
}
