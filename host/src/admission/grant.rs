//! What a job asks for, held against what its principal may have.

use std::path::PathBuf;

use strongroom_job::{Access, Capabilities, Digest, Mount, MountSource, Refusal, RefusalCode};
use strongroom_runtime::Grant;

use super::{AdmittedJob, Policy};
use crate::config::{Config, Principal};

/// The guest's `argv[0]`: the same everywhere, since a file's name is not part of what was signed.
const PROGRAM_NAME: &str = "job";

/// A directory of the host, resolved by policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directory {
    host: PathBuf,
    guest: String,
    access: Access,
}

/// Every directory that the job asks for, or the exact list of those that it may not have.
pub(super) fn resolve(
    asked: &Capabilities,
    who: &Principal,
    config: &Config,
) -> Result<Vec<Directory>, Refusal> {
    let mut given = Vec::with_capacity(asked.mounts.len());
    let mut missing = Vec::new();
    for mount in &asked.mounts {
        match resolve_mount(mount, who, config) {
            Ok(host) => given.push(Directory { host, guest: mount.path.clone(), access: mount.access }),
            Err(why) => missing.push(format!("{mount} ({why})")),
        }
    }
    if missing.is_empty() {
        return Ok(given);
    }
    let text = format!("{} asked for more than it is granted: {}", who.name, missing.join("; "));
    Err(Refusal { missing, ..Refusal::new(RefusalCode::NotGranted, text) })
}

fn resolve_mount(mount: &Mount, who: &Principal, config: &Config) -> Result<PathBuf, &'static str> {
    let name = match &mount.source {
        MountSource::Directory(path) if who.any_directory => return Ok(path.into()),
        MountSource::Directory(_) => {
            return Err("this key may only name volumes; the host's configuration can add one");
        }
        MountSource::Volume(name) => name,
    };
    // The same answer for a volume that does not exist and for one that is somebody else's.
    let allowed = who.volumes.get(name).ok_or("no such volume is granted to this key")?;
    let volume = config.volumes.get(name).ok_or("no such volume is granted to this key")?;
    if mount.access > *allowed || mount.access > volume.access {
        return Err("the volume is granted read-only");
    }
    Ok(volume.path.clone())
}

impl AdmittedJob {
    /// What the sandbox gives to the guest: decided anew when the attempt starts, under the policy of that moment.
    ///
    /// # Errors
    /// When the principal or something that it was granted is gone since the job was accepted.
    pub fn grant(&self, policy: &Policy<'_>) -> Result<Grant, Refusal> {
        let who = policy.config.principals.iter().find(|principal| principal.key == self.signer).ok_or_else(
            || {
                Refusal::new(
                    RefusalCode::Forbidden,
                    "the key that signed the job was taken out of this host's configuration: sign it again with a key that the host knows",
                )
            },
        )?;
        let directories = resolve(&self.task.capabilities, who, policy.config)?;
        let seed = Digest::of(&[self.envelope.as_bytes().as_slice(), self.id.as_bytes()].concat());
        let mut grant = Grant::none().arg(PROGRAM_NAME).args(&self.task.args).seed(*seed.as_bytes());
        for (name, value) in &self.task.env {
            grant = grant.env(name, value);
        }
        for Directory { host, guest, access } in directories {
            grant = match access {
                Access::Read => grant.read_dir(host, guest),
                Access::ReadWrite => grant.write_dir(host, guest),
            };
        }
        if self.task.capabilities.clock {
            grant = grant.clock();
        }
        if self.task.capabilities.random {
            grant = grant.randomness();
        }
        Ok(grant)
    }
}
