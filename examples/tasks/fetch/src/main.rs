//! Makes one HTTP request through `wasi:http`: `fetch [OPTIONS] URL`.
//!
//! ```text
//! --post               send stdin as the body of a POST
//! --method METHOD      another method than GET, or than POST with --post
//! --header NAME:VALUE  one more header; may be repeated
//! --timeout SECONDS    give up when the server makes us wait that long, at each step
//! ```
//!
//! Prints the status, where a redirect leads (nobody follows it), and the length and SHA-256 of the body, which is never held
//! whole. A status of 400 or more is an answer like any other.
//!
//! Exit: 0 answered, 1 denied, unreachable, broken off, or wrong arguments: a component made by rustc 1.95 can tell only
//! success and failure.

mod exchange;

use std::io::Write;
use std::process::ExitCode;

use strongroom_guest::{Args, Failure, run};

use crate::exchange::{Ask, Url, exchange};

/// Longest `--timeout`, in seconds.
const MAX_TIMEOUT_SECONDS: u64 = 3600;

fn main() -> ExitCode {
    run("fetch", fetch)
}

fn fetch(args: Args, out: &mut dyn Write) -> Result<(), Failure> {
    let answer = exchange(&ask(args)?)?;
    writeln!(out, "status {}", answer.status)?;
    if let Some(location) = answer.location {
        writeln!(out, "location {}", location.escape_debug())?;
    }
    writeln!(out, "bytes {}", answer.bytes)?;
    writeln!(out, "sha256 {}", answer.sha256)?;
    Ok(())
}

fn ask(mut args: Args) -> Result<Ask, Failure> {
    let post = args.flag("--post");
    let method = args.value("--method")?.unwrap_or_else(|| if post { "POST" } else { "GET" }.to_owned());
    let timeout = args.parsed("--timeout")?;
    if timeout.is_some_and(|seconds: u64| seconds > MAX_TIMEOUT_SECONDS) {
        return Err(Failure::usage(format!("--timeout: {MAX_TIMEOUT_SECONDS} seconds at most")));
    }
    let mut headers = Vec::new();
    while let Some(header) = args.value("--header")? {
        let Some((name, value)) = header.split_once(':') else {
            return Err(Failure::usage(format!("--header {header:?}: there is no colon after the name")));
        };
        headers.push((name.to_owned(), value.trim().as_bytes().to_owned()));
    }
    let mut urls = args.rest()?.into_iter();
    let (Some(url), None) = (urls.next(), urls.next()) else {
        return Err(Failure::usage("usage: fetch [--post] [--method METHOD] [--header NAME:VALUE] URL"));
    };
    Ok(Ask { method, url: Url::parse(&url)?, headers, timeout, post })
}
