//! `strongroom submit`: a job for a host that is running, here or elsewhere.

use clap::Args;
use strongroom_sdk::Client;

use super::console::{Console, stdout_failed};
use super::exit::{Exit, Failure};
use super::remote::RemoteArgs;
use super::signal::Stop;
use super::task::{BareName, Prepared, TaskArgs};
use super::watch::{Broken, Watch, tell_accepted, tell_end};
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
    task: TaskArgs,
}

pub(super) fn submit(common: &Common, args: SubmitArgs, console: &Console) -> Result<Exit, Failure> {
    let SubmitArgs { remote, wait, task } = args;
    let task = task.prepare(BareName::Volume, &common.home()?)?;
    with_runtime(async {
        let client = remote.connect(common).await?;
        let result = send(&client, &task, wait, console).await;
        client.close().await;
        result
    })
}

async fn send(client: &Client, task: &Prepared, wait: bool, console: &Console) -> Result<Exit, Failure> {
    let (module, input) = task.push(client, console).await?;
    let accepted = client.submit(&task.job(module, input)).await?;
    if !wait {
        if console.json() {
            console.document(&accepted)?;
        } else {
            console.print(accepted.job)?;
        }
        return Ok(Exit::Status(0));
    }
    tell_accepted(console, &accepted)?;
    let mut stop = Stop::listen()?;
    let mut watch = Watch::new(console);
    tokio::select! {
        finished = watch.follow(client, accepted.job) => match finished {
            Ok(finished) => tell_end(console, &finished),
            Err(Broken::Host(error)) => Err(error.into()),
            Err(Broken::Output(error)) => {
                client.cancel(accepted.job).await?;
                Err(stdout_failed(&error))
            }
        },
        () = stop.asked() => {
            // The host has the job, and would go on without us.
            client.cancel(accepted.job).await?;
            console.say("cancelled");
            Ok(Exit::Cancelled)
        }
    }
}
