//! What one worker may touch: what its tenant's principals may ask for, and nothing else.
//!
//! Landlock judges a file by where it lies, however it was reached, and a domain is never widened. So a worker is given the list when it
//! starts, and a job that needs more than its tenant's worker has gets another worker.
//!
//! *Never:* opens anything.

use std::path::Path;

use serde::{Deserialize, Serialize};
use strongroom_job::{Access, Name};

use crate::admission::GrantTerms;
use crate::config::{Config, Principal};
use crate::confine::{Open, Right};

/// The files and the network of one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Walls {
    pub(super) open: Vec<Open>,
    /// Whether it may have sockets of the network.
    pub(super) network: bool,
}

impl Walls {
    /// For the jobs of `tenant`, whose scratch directories and secrets lie in these two places.
    pub(super) fn of(tenant: &Name, config: &Config, scratch: &Path, secrets: &Path) -> Self {
        let theirs = || config.principals.iter().filter(|who| who.tenant == *tenant);
        let mut walls = Self { open: Vec::new(), network: theirs().any(reaches_out) };
        walls.add(scratch, Right::Write);
        walls.add(secrets, Right::Read);
        for (name, granted) in theirs().flat_map(|who| &who.volumes) {
            if let Some(volume) = config.volumes.get(name) {
                walls.add(&volume.path, right((*granted).min(volume.access)));
            }
        }
        walls.sort();
        walls
    }

    /// The same, and what these terms need beyond: of principals that may name any directory.
    pub(super) fn holding(mut self, terms: &GrantTerms) -> Self {
        for (path, access) in terms.directories().map(|directory| directory.place()) {
            let right = right(access);
            let held = |open: &Open| path.starts_with(&open.path) && open.right >= right;
            if !self.open.iter().any(held) {
                self.add(path, right);
            }
        }
        self.sort();
        self
    }

    fn add(&mut self, path: &Path, right: Right) {
        self.open.push(Open { path: path.into(), right });
    }

    /// Two lists of the same things are the same.
    fn sort(&mut self) {
        self.open.sort();
        self.open.dedup();
    }
}

const fn right(access: Access) -> Right {
    match access {
        Access::Read => Right::Read,
        Access::ReadWrite => Right::Write,
    }
}

fn reaches_out(who: &Principal) -> bool {
    who.any_network || !who.connect.is_empty() || !who.listen.is_empty() || !who.http.is_empty()
}
