//! `strongroom queue`: look at queues, pause, drain and open them.

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_job::{Name, QueueMode, QueueView};
use strongroom_sdk::Client;

use super::Common;
use super::console::Console;
use super::exit::{Exit, Failure};
use super::local::with_client;
use super::remote::RemoteArgs;
use super::view;

/// What to do with queues.
#[derive(Debug, Subcommand)]
pub(super) enum QueueCommand {
    /// List the queues, and how many jobs of your tenant are in each
    List(ListArgs),
    /// Take jobs, but start none; for operators
    Pause(OneArgs),
    /// Take no more jobs, and start those that are there; for operators
    Drain(OneArgs),
    /// Take jobs and start them again; for operators
    Resume(OneArgs),
}

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Args, Debug)]
pub(super) struct OneArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Its name
    #[arg(value_name = "QUEUE")]
    queue: Name,
}

pub(super) fn queue(common: &Common, command: QueueCommand, console: &Console) -> Result<Exit, Failure> {
    let (args, mode) = match command {
        QueueCommand::List(args) => {
            return with_client(common, &args.remote, console, async |client| list(client, console).await);
        }
        QueueCommand::Pause(args) => (args, QueueMode::Paused),
        QueueCommand::Drain(args) => (args, QueueMode::Draining),
        QueueCommand::Resume(args) => (args, QueueMode::Open),
    };
    with_client(common, &args.remote, console, async |client| set(client, &args.queue, mode, console).await)
}

async fn list(client: &Client, console: &Console) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct All {
        queues: Vec<QueueView>,
    }
    let queues = client.queues().await?;
    if console.json() {
        console.document(&All { queues })?;
    } else {
        console.print(view::queues(&queues))?;
    }
    Ok(Exit::Status(0))
}

async fn set(client: &Client, queue: &Name, mode: QueueMode, console: &Console) -> Result<Exit, Failure> {
    let view = client.set_queue(queue, mode).await?;
    if console.json() {
        console.document(&view)?;
    } else {
        console.print(format_args!("{queue} is {mode}"))?;
    }
    Ok(Exit::Status(0))
}
