//! What a job asks for, held against what its principal may have.

use std::path::PathBuf;

use strongroom_job::{Capabilities, Destination, HttpRule, Mount, MountSource, Refusal, RefusalCode};
use strongroom_runtime::Grant;

use super::replay::seed;
use super::terms::{Directory, GrantTerms};
use super::{AdmittedJob, Policy, check_limits, narrow};
use crate::config::{Config, Principal};

/// The guest's `argv[0]`: the same everywhere, since a file's name is not part of what was signed.
pub(super) const PROGRAM_NAME: &str = "job";

/// Every directory that the job asks for, or the exact list of what it asks for and may not have.
pub(super) fn resolve(
    asked: &Capabilities,
    who: &Principal,
    config: &Config,
) -> Result<Vec<Directory>, Refusal> {
    let mut given = Vec::with_capacity(asked.mounts.len());
    let mut missing = Vec::new();
    for mount in &asked.mounts {
        match resolve_mount(mount, who, config) {
            Ok(directory) => given.push(directory),
            Err(why) => missing.push(format!("{mount} ({why})")),
        }
    }
    missing.extend(not_granted(asked, who));
    if missing.is_empty() {
        return Ok(given);
    }
    let text = format!("{} asked for more than it is granted: {}", who.name, missing.join("; "));
    Err(Refusal { missing, ..Refusal::new(RefusalCode::NotGranted, text) })
}

/// What the job asks of the network and of the host's secrets, and its principal may not have.
fn not_granted<'a>(asked: &'a Capabilities, who: &'a Principal) -> impl Iterator<Item = String> + 'a {
    const ASK: &str = "the host's configuration can add it to this key's";
    let network = !who.any_network;
    let connect = move |to: &&Destination| network && !who.connect.iter().any(|rule| rule.covers(to));
    let http = move |rule: &&HttpRule| network && !who.http.iter().any(|granted| granted.covers(rule));
    let connect = asked.connect.iter().filter(connect).map(|to| format!("connect {to} ({ASK} connect)"));
    let listen = asked.listen.iter().filter(move |at| network && !who.listen.contains(at));
    let listen = listen.map(|at| format!("listen {at} ({ASK} listen)"));
    let http = asked.http.iter().filter(http).map(|rule| format!("http {rule} ({ASK} http)"));
    // The same answer for a secret that does not exist and for one that is somebody else's.
    let secrets = asked.secrets.iter().filter(|secret| !who.secrets.contains(&secret.name));
    let secrets = secrets.map(|secret| format!("{secret} ({ASK} secrets)"));
    connect.chain(listen).chain(http).chain(secrets)
}

fn resolve_mount(mount: &Mount, who: &Principal, config: &Config) -> Result<Directory, &'static str> {
    let directory = |host: PathBuf, below: Option<&String>| Directory {
        host,
        below: below.cloned(),
        guest: mount.path.clone(),
        access: mount.access,
    };
    let (name, below) = match &mount.source {
        MountSource::Directory(path) if who.any_directory => return Ok(directory(path.into(), None)),
        MountSource::Directory(_) => {
            return Err("this key may only name volumes; the host's configuration can add one");
        }
        MountSource::Volume(name) => (name, None),
        MountSource::VolumePath { volume, path } => (volume, Some(path)),
    };
    // The same answer for a volume that does not exist and for one that is somebody else's.
    let allowed = who.volumes.get(name).ok_or("no such volume is granted to this key")?;
    let volume = config.volumes.get(name).ok_or("no such volume is granted to this key")?;
    if mount.access > *allowed || mount.access > volume.access {
        return Err("the volume is granted read-only");
    }
    Ok(directory(volume.path.clone(), below))
}

impl AdmittedJob {
    /// What the sandbox gives to the guest: decided anew when the attempt starts, under the policy of that moment. `who` is its signer as the
    /// host knows it then: from the configuration, or as somebody's delegate.
    ///
    /// # Errors
    /// When the principal or something that it was granted is gone since the job was accepted.
    pub fn grant(&self, who: Option<&Principal>, policy: &Policy<'_>) -> Result<Grant, Refusal> {
        Ok(self.terms(who, policy)?.grant())
    }

    /// The same as plain values, which can be added to and sent to a worker.
    ///
    /// # Errors
    /// As [`AdmittedJob::grant`].
    pub(crate) fn terms(&self, who: Option<&Principal>, policy: &Policy<'_>) -> Result<GrantTerms, Refusal> {
        let who = who.filter(|who| who.key == self.signer).ok_or_else(|| {
            Refusal::new(
                RefusalCode::Forbidden,
                "the key that signed the job was taken out of this host's configuration, or its grant has ended: sign it again with a key that the host knows",
            )
        })?;
        if who.tenant != self.context.tenant {
            // What the key is granted there is for that tenant's jobs.
            let text =
                format!("the key that signed the job belongs to tenant {} now: sign it again", who.tenant);
            return Err(Refusal::new(RefusalCode::Forbidden, text));
        }
        narrow::check(&self.task, who)?;
        check_limits(&self.task.limits, &narrow::max_limits(who, policy.config))?;
        let asked = &self.task.capabilities;
        let directories = resolve(asked, who, policy.config)?;
        let args = std::iter::once(PROGRAM_NAME.to_owned()).chain(self.task.args.iter().cloned()).collect();
        let env = self.task.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let seed = seed(&self.envelope, self.id);
        Ok(GrantTerms { args, env, directories, seed, asked: asked.clone() })
    }
}
