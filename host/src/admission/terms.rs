//! What one attempt is given, as plain values; and the grant that they are.
//!
//! Two steps, because a guest may run in another process than the one that decided: the values are what goes there, and the grant
//! is made where the guest runs. A worker has nothing to decide by, so it takes the host's word; nobody takes a worker's.
//!
//! *Owns:* the only place that makes a `Grant` of a job. *Never:* decides; that is `grant.rs`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strongroom_job::{Access, Capabilities};
use strongroom_runtime::Grant;

use super::network;

/// What an attempt is given. Made by [`AdmittedJob::terms`](super::AdmittedJob::terms), and read back by workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrantTerms {
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) directories: Vec<Directory>,
    pub(super) seed: [u8; 32],
    /// Clock, randomness and network are given as they are asked for: each was held against the policy before.
    pub(super) asked: Capabilities,
}

/// A directory of the host, resolved by policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Directory {
    pub(super) host: PathBuf,
    /// A directory below it, reached without following any link.
    pub(super) below: Option<String>,
    pub(super) guest: String,
    pub(super) access: Access,
}

impl Directory {
    /// The directory of the host in which it lies, and how far it is open.
    pub(crate) fn place(&self) -> (&Path, Access) {
        (&self.host, self.access)
    }
}

impl GrantTerms {
    /// Adds a variable.
    pub(crate) fn env(&mut self, name: &str, value: &str) {
        self.env.push((name.into(), value.into()));
    }

    /// Adds a directory of the host's own.
    pub(crate) fn directory(&mut self, host: &Path, guest: &str, access: Access) {
        self.directories.push(Directory { host: host.into(), below: None, guest: guest.into(), access });
    }

    /// Every directory of it.
    pub(crate) fn directories(&self) -> impl Iterator<Item = &Directory> {
        self.directories.iter()
    }

    /// The grant.
    pub(crate) fn grant(&self) -> Grant {
        let mut grant = Grant::none().args(&self.args).seed(self.seed);
        for (name, value) in &self.env {
            grant = grant.env(name, value);
        }
        for Directory { host, below, guest, access } in &self.directories {
            let access = match access {
                Access::Read => strongroom_runtime::Access::Read,
                Access::ReadWrite => strongroom_runtime::Access::ReadWrite,
            };
            grant = match below {
                None => grant.dir(host, guest, access),
                Some(below) => grant.dir_below(host, below, guest, access),
            };
        }
        if self.asked.clock {
            grant = grant.clock();
        }
        if self.asked.random {
            grant = grant.randomness();
        }
        network::give(grant, &self.asked)
    }
}
