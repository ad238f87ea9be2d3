//! What a host gives up before it listens, should its sandbox ever fail.
//!
//! The sandbox is what keeps a guest in. This is the second wall: a host that somebody took over from inside has the files of this list and no
//! others, no capability, no other user, and none of the system calls that such a story goes on with. In the order of a start:
//!
//! 1. [`become_user`]: not root;
//! 2. the data directory is the user's alone ([`Home::check_guarded`](crate::home::Home::check_guarded));
//! 3. [`Plan`]: what the host of this configuration needs;
//! 4. [`confine`]: privileges, files (Landlock) and system calls (seccomp) go, before there is a second thread.
//!
//! *Owns:* nothing that lasts but the process's own rights. *Never:* can be taken back, by anybody; is relied on by the sandbox.
//! *Spec:* `docs/adr/0013-the-host-confines-itself.md`.

mod calls;
pub(crate) mod kernel;
mod plan;
mod privileges;
mod user;
mod worker;

use std::io;
use std::os::fd::OwnedFd;

use serde::Serialize;
use strongroom_job::Name;

pub use kernel::{Enforced, Open, Right};
pub use plan::Plan;
pub use user::{UserError, become_user};
pub(crate) use worker::confine_worker;

use crate::config::Confine;

/// How far a host is confined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confinement {
    /// By Landlock: files outside those that it needs, signals to other processes.
    pub files: Enforced,
    /// Whose grant keeps the files wide: a principal that may name any directory. None: they are as narrow as can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub any_directory: Option<Name>,
    /// By seccomp: system calls that no host makes.
    pub calls: Enforced,
}

/// A process that is confined. To be kept as long as the process serves.
#[derive(Debug)]
pub struct Confined {
    confinement: Confinement,
    _held: Vec<OwnedFd>,
}

/// Why a host does not serve as it is confined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfineError {
    /// A privilege stays.
    #[error("the privileges of this process cannot be given up: {0}")]
    Privileges(#[source] io::Error),
    /// Landlock, which must be there.
    #[error(
        "confine = \"required\": this kernel takes files from a process {} (Landlock). Run Linux 6.12 or newer with Landlock \
         switched on, or set confine = \"try\"",
        how(*.0)
    )]
    Files(Enforced),
    /// seccomp, which must be there.
    #[error(
        "confine = \"required\": this kernel does not filter system calls (seccomp). Run one that does, or set confine = \"try\""
    )]
    Calls,
    /// A grant without bounds.
    #[error(
        "confine = \"required\": principal {0} may name any directory, so nothing can be taken from this process. Give it volumes \
         in place of any_directory, or set confine = \"try\""
    )]
    AnyDirectory(Name),
}

const fn how(enforced: Enforced) -> &'static str {
    match enforced {
        Enforced::Not => "not at all",
        Enforced::Partly | Enforced::Whole => "in part only",
    }
}

impl Confined {
    /// How far.
    #[must_use]
    pub const fn confinement(&self) -> &Confinement {
        &self.confinement
    }
}

/// Confines the calling thread and all that it starts, as the plan says. To be called while it is the only one.
///
/// What the kernel does not offer is in the answer, or, if the configuration demands it, the reason not to go on. Privileges go in any case.
///
/// # Errors
/// When a privilege cannot be given up, or `demand` is not met. Nothing untrusted may run in this process then.
pub fn confine(plan: Plan, demand: Confine) -> Result<Confined, ConfineError> {
    let required = demand == Confine::Required;
    if let Some(principal) = plan.any_directory.clone().filter(|_| required) {
        return Err(ConfineError::AnyDirectory(principal));
    }
    privileges::give_up().map_err(ConfineError::Privileges)?;
    let files = kernel::close_files(&plan.open, false);
    let calls = calls::close();
    if required && files != Enforced::Whole {
        return Err(ConfineError::Files(files));
    }
    if required && calls != Enforced::Whole {
        return Err(ConfineError::Calls);
    }
    let confinement = Confinement { files, any_directory: plan.any_directory, calls };
    Ok(Confined { confinement, _held: plan.held })
}
