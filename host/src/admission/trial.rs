//! A grant for a run that is no job: somebody tries a module on their own machine, with their own rights, to see what it needs.
//! Nothing is accepted, so nothing is signed, and nothing is recorded.

use std::path::Path;

use strongroom_job::{Access, Capabilities, MountSource, SCRATCH_PATH, Task};
use strongroom_runtime::{self as sandbox, Grant};

use super::grant::PROGRAM_NAME;
use super::network;

/// What a trial of `task` may touch: what it asks for, and `nothing`, an empty directory that stands at `/` unless the task asks
/// for another, so that every path that the guest tries is seen. None when it asks for what only a host has: a volume, a secret,
/// a scratch directory without `scratch`.
#[must_use]
pub fn trial(task: &Task, nothing: &Path, scratch: Option<&Path>) -> Option<Grant> {
    let Capabilities { mounts, clock, random, scratch: wants_scratch, secrets, .. } = &task.capabilities;
    if !secrets.is_empty() {
        return None;
    }
    let mut grant = Grant::none().arg(PROGRAM_NAME).args(&task.args).observe();
    for (name, value) in &task.env {
        grant = grant.env(name, value);
    }
    for mount in mounts {
        let MountSource::Directory(directory) = &mount.source else { return None };
        let access = match mount.access {
            Access::Read => sandbox::Access::Read,
            Access::ReadWrite => sandbox::Access::ReadWrite,
        };
        grant = grant.dir(directory, &mount.path, access);
    }
    if *wants_scratch {
        grant = grant.write_dir(scratch?, SCRATCH_PATH);
    }
    if !mounts.iter().any(|mount| mount.path == "/") {
        grant = grant.read_dir(nothing, "/");
    }
    if *clock {
        grant = grant.clock();
    }
    if *random {
        grant = grant.randomness();
    }
    Some(network::give(grant, &task.capabilities))
}
