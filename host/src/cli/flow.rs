//! `strongroom flow`: jobs that wait for each other, described in a file, under one signature.

mod file;
mod words;

use std::collections::HashMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_job::{AcceptedJob, BodyError, On, Outcome};
use strongroom_sdk::{Client, Error, Finished, Flow, FlowJob, runs_as};

use file::{Plan, Step};

use super::Common;
use super::console::Console;
use super::exit::{Exit, Failure};
use super::local::with_client;
use super::progress;
use super::remote::RemoteArgs;
use super::serve::open_many_files;
use super::task::{BareName, Opened, Prepared};
use super::view::{Shown, flow_table};

/// What to do with flows.
#[derive(Debug, Subcommand)]
pub(super) enum FlowCommand {
    /// Submit all jobs of a file, or none of them
    Submit(SubmitArgs),
}

#[derive(Args, Debug)]
pub(super) struct SubmitArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Wait until all jobs are over, and say how each ended
    #[arg(long)]
    wait: bool,
    /// TOML file that describes the jobs
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// One line of `--json`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Line<'a> {
    Accepted {
        name: &'a str,
        #[serde(flatten)]
        accepted: &'a AcceptedJob,
    },
    Finished {
        name: &'a str,
        exit: u8,
        job: Shown<'a>,
    },
}

/// A job of the file whose files are open and whose directories were found.
struct Ready {
    name: String,
    task: Prepared,
    /// Places of the jobs that it waits for, all of them before its own.
    after: Vec<(usize, On)>,
    stdin: Option<file::Stdin>,
}

pub(super) fn flow(common: &Common, command: FlowCommand, console: &Console) -> Result<Exit, Failure> {
    let FlowCommand::Submit(SubmitArgs { remote, wait, file }) = command;
    let home = common.home()?;
    // Each job may have an input of its own.
    open_many_files();
    let Plan { steps } = file::read(&file)?;
    let mut opened = Opened::default();
    let mut jobs = Vec::with_capacity(steps.len());
    for Step { name, task, after, stdin } in steps {
        let task = task.prepare_among(&mut opened, BareName::Volume, &home);
        let task = task.map_err(|failure| failure.about(format_args!("{}: jobs.{name}", file.display())))?;
        jobs.push(Ready { name, task, after, stdin });
    }
    with_client(common, &remote, console, async |client| submit(client, &jobs, wait, console).await)
}

async fn submit(client: &Client, jobs: &[Ready], wait: bool, console: &Console) -> Result<Exit, Failure> {
    let flow = built(client, jobs, console).await?;
    let accepted = client.submit_flow(&flow).await.map_err(|error| named(error, jobs))?;
    for (job, accepted) in jobs.iter().zip(&accepted) {
        if console.json() {
            console.document(&Line::Accepted { name: &job.name, accepted })?;
        } else if !wait {
            console.print(format_args!("{} {}", runs_as(accepted), job.name))?;
        }
    }
    if !wait {
        return Ok(Exit::Status(0));
    }
    let mut exit = Exit::Status(0);
    let mut ends = Vec::new();
    let bar = progress::count(console, jobs.len() as u64);
    for (job, accepted) in jobs.iter().zip(&accepted) {
        let finished = client.wait(runs_as(accepted)).await?;
        let own = Exit::of(&finished.end.outcome);
        if exit == Exit::Status(0) && !matches!(finished.end.outcome, Outcome::Unmet { .. }) {
            exit = own;
        }
        if console.json() {
            let shown = Shown(&finished.view);
            console.document(&Line::Finished { name: &job.name, exit: own.code(), job: shown })?;
        }
        bar.inc(1);
        ends.push(finished);
    }
    bar.finish_and_clear();
    if !console.json() {
        let rows = jobs.iter().zip(&ends).map(|(job, Finished { view, .. })| (job.name.as_str(), view));
        console.print(flow_table(rows))?;
    }
    Ok(exit)
}

/// The flow, once the host has every module and every input.
async fn built(client: &Client, jobs: &[Ready], console: &Console) -> Result<Flow, Failure> {
    let mut flow = Flow::new();
    let mut handles = Vec::with_capacity(jobs.len());
    let mut modules = HashMap::new();
    for Ready { task, after, stdin, .. } in jobs {
        let module = match modules.get(task.module()) {
            Some(module) => *module,
            None => {
                *modules.entry(task.module().to_owned()).or_insert(task.push_module(client, console).await?)
            }
        };
        let input = task.push_input(client, console).await?;
        let mut job = FlowJob::from(task.job(module, input));
        for (place, on) in after {
            let before = handles[*place];
            job = match on {
                On::Success => job.after(before),
                On::Failure => job.after_failure_of(before),
                On::End => job.after_end_of(before),
            };
        }
        job = match stdin {
            None => job,
            Some(file::Stdin::Outputs) => job.stdin_from_outputs(),
            Some(file::Stdin::Artifacts(name)) => job.stdin_from_artifacts(name),
        };
        handles.push(flow.add(job));
    }
    Ok(flow)
}

/// The file has names where the flow has numbers.
fn named(error: Error, jobs: &[Ready]) -> Failure {
    match error {
        Error::InvalidJob(BodyError::BatchTask { index, error, .. }) if index < jobs.len() => {
            Failure::usage(format_args!("jobs.{}: {error}", jobs[index].name))
        }
        error => error.into(),
    }
}
