//! `strongroom job`: look at jobs, their output, stop them, and run them again.

use std::io::{self, Write as _};

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use strongroom_job::{Base64Bytes, JobId, JobState, MAX_LIST, OutputStream};
use strongroom_sdk::{Client, ListFilter};

use super::Common;
use super::console::{Console, stdout_failed};
use super::erase::{EraseArgs, erase};
use super::escape::TerminalWriter;
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
    /// Print what a job's guest gave as its result
    Result(OneArgs),
    /// Fetch the files that a job left in /scratch/out
    Fetch(FetchArgs),
    /// Stop a job
    Cancel(OneArgs),
    /// Run a job that is over once more, as a new job, and print the new id
    Retry(RetryArgs),
    /// Erase what is private of a job that is over, for good; for operators
    Erase(EraseArgs),
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
pub(super) struct RetryArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Leave out its unique key, which may still be taken, also by the job itself
    #[arg(long)]
    drop_unique: bool,
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
        JobCommand::Result(args) => {
            with_client(common, &args.remote, console, async |client| result(client, args.job, console).await)
        }
        JobCommand::Retry(args) => {
            with_client(common, &args.one.remote, console, async |client| retry(client, &args, console).await)
        }
        JobCommand::Erase(args) => {
            with_client(common, &args.remote, console, async |client| erase(client, &args, console).await)
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
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<JobId>,
    }
    let filter = ListFilter { before: args.before, state: args.state, limit: args.limit };
    let page = client.list(filter).await?;
    if console.json() {
        let jobs = page.jobs.iter().map(Shown).collect();
        console.document(&Page { jobs, more: page.next.is_some(), next: page.next })?;
        return Ok(Exit::Status(0));
    }
    console.print(table(&page.jobs))?;
    if let Some(next) = page.next {
        console.say(format_args!("there are older jobs: --before {next}"));
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

async fn result(client: &Client, job: JobId, console: &Console) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Document {
        job: JobId,
        result: Option<Base64Bytes>,
    }
    let result = client.result(job).await?;
    if console.json() {
        console.document(&Document { job, result: result.map(Base64Bytes) })?;
        return Ok(Exit::Status(0));
    }
    let Some(bytes) = result else {
        console.say("the job gave no result");
        return Ok(Exit::Status(0));
    };
    let written = if console.stdout_is_terminal() {
        let mut writer = TerminalWriter::new(io::stdout());
        writer.write_all(&bytes).and_then(|()| writer.finish())
    } else {
        let mut stdout = io::stdout().lock();
        stdout.write_all(&bytes).and_then(|()| stdout.flush())
    };
    written.map_err(|error| stdout_failed(&error))?;
    Ok(Exit::Status(0))
}

async fn retry(client: &Client, args: &RetryArgs, console: &Console) -> Result<Exit, Failure> {
    let drop_unique = |task: &mut strongroom_job::Task| {
        if args.drop_unique {
            task.plan.unique = None;
        }
    };
    let accepted = client.resubmit(args.one.job, drop_unique).await?;
    if console.json() {
        console.document(&accepted)?;
    } else {
        console.print(accepted.job)?;
    }
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
    const STATES: &str = "accepted, scheduled, queued, running, succeeded, failed, exceeded, trapped, cancelled, \
                          interrupted, faulted, expired, dead";
    serde_json::from_value(text.into()).map_err(|_| format!("expected one of {STATES}"))
}
