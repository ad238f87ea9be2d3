//! `strongroom job`: look at jobs, their output, and stop them.

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use strongroom_job::{JobId, JobState, MAX_LIST, OutputStream};
use strongroom_sdk::{Client, ListFilter};

use super::Common;
use super::console::Console;
use super::exit::{Exit, Failure};
use super::fetch::{FetchArgs, fetch};
use super::local::with_client;
use super::remote::RemoteArgs;
use super::view::{Shown, details, table};
use super::watch::Watch;

/// What to do with jobs.
#[derive(Debug, Subcommand)]
pub(super) enum JobCommand {
    /// List jobs, newest first
    List(ListArgs),
    /// Show everything about one job
    Show(OneArgs),
    /// Print what a job's guest wrote
    Logs(LogsArgs),
    /// Fetch the files that a job left in /scratch/out
    Fetch(FetchArgs),
    /// Stop a job
    Cancel(OneArgs),
}

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Only jobs in this state, such as `running`
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<JobState>,
    /// Only jobs accepted before this one
    #[arg(long, value_name = "JOB")]
    before: Option<JobId>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_LIST)))]
    limit: u32,
}

#[derive(Args, Debug)]
pub(super) struct OneArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Its id
    #[arg(value_name = "JOB")]
    job: JobId,
}

#[derive(Args, Debug)]
pub(super) struct LogsArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Go on until the job is over
    #[arg(short, long)]
    follow: bool,
    /// Only one of the two streams
    #[arg(long, value_name = "STREAM", value_enum)]
    stream: Option<Stream>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stream {
    Stdout,
    Stderr,
}

pub(super) fn job(common: &Common, command: JobCommand, console: &Console) -> Result<Exit, Failure> {
    match command {
        JobCommand::List(args) => {
            with_client(common, &args.remote, console, async |client| list(client, &args, console).await)
        }
        JobCommand::Show(args) => {
            with_client(common, &args.remote, console, async |client| show(client, args.job, console).await)
        }
        JobCommand::Logs(args) => {
            with_client(common, &args.one.remote, console, async |client| logs(client, &args, console).await)
        }
        JobCommand::Fetch(args) => {
            with_client(common, &args.remote, console, async |client| fetch(client, &args, console).await)
        }
        JobCommand::Cancel(args) => {
            with_client(common, &args.remote, console, async |client| cancel(client, args.job, console).await)
        }
    }
}

async fn list(client: &Client, args: &ListArgs, console: &Console) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Page<'a> {
        jobs: Vec<Shown<'a>>,
        more: bool,
    }
    let filter = ListFilter { before: args.before, state: args.state, limit: args.limit };
    let page = client.list(filter).await?;
    if console.json() {
        let jobs = page.jobs.iter().map(Shown).collect();
        console.document(&Page { jobs, more: page.more })?;
        return Ok(Exit::Status(0));
    }
    console.print(table(&page.jobs))?;
    if let (true, Some(last)) = (page.more, page.jobs.last()) {
        console.say(format_args!("there are older jobs: --before {}", last.job));
    }
    Ok(Exit::Status(0))
}

async fn show(client: &Client, job: JobId, console: &Console) -> Result<Exit, Failure> {
    let view = client.show(job).await?;
    if console.json() {
        console.document(&Shown(&view))?
    } else {
        console.print(details(&view))?
    }
    Ok(Exit::Status(0))
}

async fn logs(client: &Client, args: &LogsArgs, console: &Console) -> Result<Exit, Failure> {
    let streams: &[OutputStream] = match args.stream {
        Some(Stream::Stdout) => &[OutputStream::Stdout],
        Some(Stream::Stderr) => &[OutputStream::Stderr],
        None => &[OutputStream::Stdout, OutputStream::Stderr],
    };
    Watch::new(console).show(client, args.one.job, streams, args.follow).await?;
    Ok(Exit::Status(0))
}

async fn cancel(client: &Client, job: JobId, console: &Console) -> Result<Exit, Failure> {
    let view = client.cancel(job).await?;
    if console.json() {
        console.document(&Shown(&view))?;
    } else {
        console.print(format_args!("{job}: asked to stop, it was {}", view.state))?;
    }
    Ok(Exit::Status(0))
}

fn state(text: &str) -> Result<JobState, String> {
    const STATES: &str =
        "queued, running, succeeded, failed, exceeded, trapped, cancelled, interrupted, faulted";
    serde_json::from_value(text.into()).map_err(|_| format!("expected one of {STATES}"))
}
