//! `strongroom job erase`: what is private of a job goes, for good.

use clap::Args;
use serde::Serialize;
use strongroom_job::JobId;
use strongroom_sdk::{Client, Erased};

use super::console::Console;
use super::exit::{Exit, Failure};
use super::remote::RemoteArgs;

#[derive(Args, Debug)]
pub(super) struct EraseArgs {
    #[command(flatten)]
    pub(super) remote: RemoteArgs,
    /// Its id
    #[arg(value_name = "JOB")]
    job: JobId,
    /// With all other jobs that came in the same signed batch, or of the same series
    #[arg(long)]
    batch: bool,
}

pub(super) async fn erase(client: &Client, args: &EraseArgs, console: &Console) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Document {
        job: JobId,
        jobs: u32,
        log_index: u64,
        files_waiting: u32,
    }
    let job = args.job;
    let Erased { jobs, log_index, files_waiting } = client.erase(job, args.batch).await?;
    if console.json() {
        console.document(&Document { job, jobs, log_index, files_waiting })?;
        return Ok(Exit::Status(0));
    }
    let others = match jobs.saturating_sub(1) {
        0 => String::new(),
        1 => " and 1 other of its envelope".to_owned(),
        others => format!(" and {others} others of its envelope"),
    };
    console.print(format_args!("{job}{others}: erased, record {log_index} says so"))?;
    if files_waiting > 0 {
        console.say(format_args!("{files_waiting} files go within 20 minutes, or when the host next starts"));
    }
    console.say("the host's state file is written anew when it next starts; until then it may hold traces");
    Ok(Exit::Status(0))
}
