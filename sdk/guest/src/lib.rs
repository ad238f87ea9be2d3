//! For people who write tasks: what almost every task repeats, and nothing else.
//!
//! A task is an ordinary WASI command: `main`, arguments, standard input and output, files below the
//! directories that were granted. This crate adds five things to it. Four need nothing from the host beyond
//! plain WASI, so a task that uses them runs under any WASI runtime; one that uses the fifth wants Strongroom:
//!
//! 1. [`run`]: a `main` that may fail, with one line on stderr and a fixed exit code;
//! 2. [`Failure`]: whose fault it was, as that exit code;
//! 3. [`Args`]: options by name, and an error for those that nobody asked for;
//! 4. [`read_all`]: a whole input, never larger than what the task said it can hold;
//! 5. [`progress`] and [`set_result`]: how far the work has come, and what came of it.
//!
//! ```no_run
//! use strongroom_guest::{Failure, run};
//!
//! fn main() -> std::process::ExitCode {
//!     run("shout", |mut args, out| {
//!         let limit = args.parsed("--limit")?.unwrap_or(1 << 20);
//!         args.none_left()?;
//!         let text = strongroom_guest::read_all(std::io::stdin().lock(), limit)?;
//!         let text = String::from_utf8(text).map_err(|_| Failure::input("the input is not UTF-8"))?;
//!         writeln!(out, "{}", text.trim_end().to_uppercase())?;
//!         Ok(())
//!     })
//! }
//! ```
//!
//! *Owns*: the meaning of the exit codes 1, 2 and 64 of a task that uses it.
//! *Never*: imports host functions other than WASI's and the two of `sdk/wit/report.wit`; has dependencies; allocates
//! without a bound of its own.

// One file has an exception, with the reason beside it.
#![deny(unsafe_code)]

mod args;
mod failure;
#[allow(unsafe_code, reason = "a call of a host's function is one that the compiler cannot check")]
mod host;
mod input;
mod report;
mod task;

pub use args::Args;
pub use failure::Failure;
pub use input::read_all;
pub use report::{MAX_RESULT_BYTES, progress, set_result};
pub use task::run;
