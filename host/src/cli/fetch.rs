//! `strongroom job fetch`, and the end of `run --out`: artifacts from the host to files.
//!
//! *Never:* a file outside of the directory that was named, whatever the host calls an artifact.
//! *Crash:* each file appears whole under its name, or not at all.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use strongroom_job::{Artifact, JobId};
use strongroom_sdk::Client;

use super::amount::show_size;
use super::console::Console;
use super::escape::line;
use super::exit::{Exit, Failure};
use super::remote::RemoteArgs;

/// Fetch what a job left.
#[derive(Args, Debug)]
pub(super) struct FetchArgs {
    #[command(flatten)]
    pub(super) remote: RemoteArgs,
    /// Its id
    #[arg(value_name = "JOB")]
    job: JobId,
    /// Only these artifacts [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Directory for the files, made if need be; files of the same names are replaced
    #[arg(long, value_name = "DIR", default_value = ".")]
    to: PathBuf,
}

/// One artifact that is a file now.
#[derive(Serialize)]
struct Saved<'a> {
    #[serde(flatten)]
    artifact: &'a Artifact,
    path: String,
}

pub(super) async fn fetch(client: &Client, args: &FetchArgs, console: &Console) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Document<'a> {
        job: JobId,
        artifacts: Vec<Saved<'a>>,
    }
    let (job, to) = (args.job, &args.to);
    let left = client.show(job).await?.end.map(|end| end.artifacts).unwrap_or_default();
    if let Some(name) = args.names.iter().find(|name| !left.iter().any(|artifact| artifact.name == **name)) {
        // The host says why there is none.
        drop(client.artifact(job, name, 0).await?);
    }
    let wanted = |artifact: &&Artifact| args.names.is_empty() || args.names.contains(&artifact.name);
    let mut artifacts = Vec::new();
    for artifact in left.iter().filter(wanted) {
        let path = save(client, job, artifact, to).await?.display().to_string();
        if !console.json() {
            console.print(line(&format!("{path}  {}", show_size(artifact.length))))?;
        }
        artifacts.push(Saved { artifact, path });
    }
    if console.json() {
        console.document(&Document { job, artifacts })?;
    } else if artifacts.is_empty() {
        console.say("the job left no artifacts");
    }
    Ok(Exit::Status(0))
}

/// Fetches all artifacts of a job that is over.
pub(super) async fn fetch_all(
    client: &Client,
    job: JobId,
    artifacts: &[Artifact],
    to: &Path,
    console: &Console,
) -> Result<(), Failure> {
    std::fs::create_dir_all(to).map_err(|error| failed(to, &error))?;
    for artifact in artifacts {
        let path = save(client, job, artifact, to).await?;
        console.say(line(&format!("{}  {}", path.display(), show_size(artifact.length))));
    }
    Ok(())
}

async fn save(client: &Client, job: JobId, artifact: &Artifact, to: &Path) -> Result<PathBuf, Failure> {
    let name = &artifact.name;
    if !Artifact::is_name(name) {
        return Err(Failure::fault(format_args!(
            "the host says that the job left {name:?}, which is no name for an artifact; nothing was written"
        )));
    }
    let path = to.join(name);
    let directory = path.parent().unwrap_or(to);
    std::fs::create_dir_all(directory).map_err(|error| failed(directory, &error))?;
    // Whatever the user's own files get: the process's umask decides.
    let mode = Permissions::from_mode(0o666);
    let file = tempfile::Builder::new().permissions(mode).tempfile_in(directory);
    let file = file.map_err(|error| failed(directory, &error))?;
    let writer = file.as_file().try_clone().map_err(|error| failed(&path, &error))?;
    let mut writer = tokio::fs::File::from_std(writer);
    client.artifact(job, name, 0).await?.copy_to(&mut writer).await?;
    file.persist(&path).map_err(|error| failed(&path, &error.error))?;
    Ok(path)
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::fault(format_args!("{}: {error}", path.display()))
}
