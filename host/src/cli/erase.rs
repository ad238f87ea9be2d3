//! `strongroom job erase`: what is private of a job goes, for good.

use clap::Args;
use serde::Serialize;
use strongroom_job::{ErasedView, JobId};
use strongroom_sdk::Client;

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
    struct Document<'a> {
        job: JobId,
        #[serde(flatten)]
        erased: &'a ErasedView,
    }
    let job = args.job;
    let erased = client.erase(job, args.batch).await?;
    if console.json() {
        console.document(&Document { job, erased: &erased })?;
        return Ok(Exit::Status(0));
    }
    tell(job, &erased, console)?;
    Ok(Exit::Status(0))
}

fn tell(job: JobId, erased: &ErasedView, console: &Console) -> Result<(), Failure> {
    let ErasedView { jobs, log_index, files_waiting, published, in_clear, damaged, merged } = erased;
    let others = match jobs.saturating_sub(1) {
        0 => String::new(),
        1 => " and 1 other of its envelope".to_owned(),
        others => format!(" and {others} others of its envelope"),
    };
    let when = if *jobs == 0 { "was erased before" } else { "erased" };
    console.print(format_args!("{job}{others}: {when}, record {log_index} says so"))?;
    if !published {
        console.say("no checkpoint covers that record yet; until one does, the host's evidence may hold it: erase it once more to wait for it");
    }
    if *in_clear > 0 {
        console.say(format_args!(
            "{in_clear} of these jobs ended under an earlier version: digests of what they left, and names of artifacts, stay in the log"
        ));
    }
    if *damaged > 0 {
        console.say(format_args!(
            "{damaged} files of the host's evidence are damaged, and what stands behind the damage could not be erased: see `strongroom fsck`"
        ));
    }
    for other in merged {
        console.say(format_args!(
            "job {other} was not run, since this one had its unique key; its own envelope is still there: erase it, too"
        ));
    }
    if *files_waiting > 0 {
        console.say(format_args!("{files_waiting} files go within 20 minutes, or when the host next starts"));
    }
    console.say(
        "the host's state file is written anew soon, or when it next starts; until then it may hold traces",
    );
    Ok(())
}
