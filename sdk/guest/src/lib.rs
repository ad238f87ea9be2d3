//! For people who write tasks: what almost every task repeats, and nothing else.
//!
//! A task is an ordinary WASI command: `main`, arguments, standard input and output, files below the
//! directories that were granted. This crate adds four things to it, none of which needs anything from the
//! host beyond plain WASI, so a task that uses it runs under any WASI runtime:
//!
//! 1. [`run`]: a `main` that may fail, with one line on stderr and a fixed exit code;
//! 2. [`Failure`]: whose fault it was, as that exit code;
//! 3. [`Args`]: options by name, and an error for those that nobody asked for;
//! 4. [`read_all`]: a whole input, never larger than what the task said it can hold.
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
//! *Never*: imports host functions other than WASI's; has dependencies; allocates without a bound of its own.

#![forbid(unsafe_code)]

mod args;
mod failure;
mod input;
mod task;

pub use args::Args;
pub use failure::Failure;
pub use input::read_all;
pub use task::run;
