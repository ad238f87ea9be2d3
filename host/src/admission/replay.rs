//! A grant for running a finished job once more, to see whether it ends in the same way. It is no job: nothing is accepted and
//! nothing is recorded.

use std::path::Path;

use strongroom_job::{Capabilities, Digest, JobId, SCRATCH_PATH, Task};
use strongroom_runtime::Grant;

use super::grant::PROGRAM_NAME;

/// What an attempt of the job saw, with the same stand-ins for clocks and randomness.
///
/// # Errors
/// What the job was given that nobody can give a second time: a real clock, randomness, directories, the network, secrets; or
/// scratch space, when `scratch` is missing.
pub fn replay(
    task: &Task,
    envelope: &Digest,
    job: JobId,
    scratch: Option<&Path>,
) -> Result<Grant, &'static str> {
    let Capabilities {
        mounts, clock, random, connect, listen, http, secrets, scratch: wants_scratch, ..
    } = &task.capabilities;
    let lost = [
        ("a clock", *clock),
        ("randomness", *random),
        ("directories", !mounts.is_empty()),
        ("the network", !(connect.is_empty() && listen.is_empty() && http.is_empty())),
        ("secrets", !secrets.is_empty()),
        ("scratch space", *wants_scratch && scratch.is_none()),
    ];
    if let Some((what, _)) = lost.into_iter().find(|(_, given)| *given) {
        return Err(what);
    }
    let mut grant = Grant::none().arg(PROGRAM_NAME).args(&task.args).seed(seed(envelope, job));
    for (name, value) in &task.env {
        grant = grant.env(name, value);
    }
    if let Some(scratch) = scratch.filter(|_| *wants_scratch) {
        grant = grant.write_dir(scratch, SCRATCH_PATH);
    }
    Ok(grant)
}

/// Where a job's stand-ins for clocks and randomness begin: the same in every attempt, wherever it is made.
pub(super) fn seed(envelope: &Digest, job: JobId) -> [u8; 32] {
    *Digest::of(&[envelope.as_bytes().as_slice(), job.as_bytes()].concat()).as_bytes()
}
