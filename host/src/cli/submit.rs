//! `strongroom submit`: a job for a host that is running, here or elsewhere.

use clap::Args;
use serde::Serialize;
use strongroom_job::SignedAcceptance;
use strongroom_sdk::{Accepted, AcceptedJob, Client, runs_as};

use super::console::{Console, stdout_failed};
use super::exit::{Exit, Failure};
use super::remote::RemoteArgs;
use super::repeat::RepeatArgs;
use super::signal::Stop;
use super::task::{BareName, Prepared, TaskArgs};
use super::watch::{Broken, Watch, tell_accepted, tell_end, tell_late};
use super::{Common, with_runtime};

/// Submit a job.
#[derive(Args, Debug)]
pub(super) struct SubmitArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Show what the guest writes, wait for its end, and exit as `run` does
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    repeat: RepeatArgs,
    #[command(flatten)]
    task: TaskArgs,
}

pub(super) fn submit(common: &Common, args: SubmitArgs, console: &Console) -> Result<Exit, Failure> {
    let SubmitArgs { remote, wait, repeat, task } = args;
    tell_late(&task, console);
    let task = task.prepare(BareName::Volume, &common.home()?)?;
    with_runtime(async {
        let client = remote.connect(common).await?;
        let result = send(&client, &task, &repeat, wait, console).await;
        client.close().await;
        result
    })
}

/// What the host took, and its signature under that: evidence, to be kept.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    accepted: &'a AcceptedJob,
    acceptance: &'a SignedAcceptance,
}

async fn send(
    client: &Client,
    task: &Prepared,
    repeat: &RepeatArgs,
    wait: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    let (module, input) = task.push(client, console).await?;
    let signed = client.sign(&repeat.add_to(task.job(module, input))).await?;
    let Accepted { jobs, acceptance } = client.submit_for_acceptance(&signed).await?;
    let accepted = *jobs.first().ok_or_else(|| Failure::fault("the host accepted no job"))?;
    if !wait {
        if console.json() {
            console.document(&Document { accepted: &accepted, acceptance: &acceptance })?;
        } else {
            console.print(runs_as(&accepted))?;
        }
        return Ok(Exit::Status(0));
    }
    tell_accepted(console, &accepted)?;
    let job = runs_as(&accepted);
    let mut stop = Stop::listen()?;
    let mut watch = Watch::new(console);
    tokio::select! {
        finished = watch.follow(client, job) => match finished {
            Ok(finished) => tell_end(console, &finished),
            Err(Broken::Host(error)) => Err(error.into()),
            Err(Broken::Output(error)) => {
                cancel(client, &accepted, console).await?;
                Err(stdout_failed(&error))
            }
        },
        () = stop.asked() => {
            // The host has the job, and would go on without us.
            cancel(client, &accepted, console).await?;
            Ok(Exit::Cancelled)
        }
    }
}

/// Stops what was submitted; a job that was there before is somebody else's to stop.
async fn cancel(client: &Client, accepted: &AcceptedJob, console: &Console) -> Result<(), Failure> {
    if let Some(existing) = accepted.existing {
        console.say(format_args!("job {existing} was there before and goes on"));
    } else {
        client.cancel(accepted.job).await?;
        console.say("cancelled");
    }
    Ok(())
}
