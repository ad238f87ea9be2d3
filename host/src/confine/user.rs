//! Whose process a host is: nobody's but its own user's.
//!
//! *Never:* goes on as root unless it was told to in so many words; comes back to root.

use std::path::{Path, PathBuf};

/// Why a host does not serve as this user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// As root.
    #[error(
        "a host does not serve as root. Start it as the user that {} belongs to; or name that user in {}: run_as = \"USER\". \
         Where there is no other user, as in some containers: strongroom serve --as-root",
        .dir.display(),
        .dir.join("strongroom.toml").display()
    )]
    Root {
        /// The data directory.
        dir: PathBuf,
    },
    /// `run_as` names nobody.
    #[error("run_as: this machine has no user {0:?}. Make one (useradd --system {0}), or name another")]
    Unknown(String),
    /// `run_as` names root under whatever name.
    #[error("run_as: {0:?} is root. Name an ordinary user")]
    IsRoot(String),
    /// `run_as` names another user than who started the host, who is not root.
    #[error(
        "run_as: this host is to run as {wanted:?}, and was started by user {found}, who cannot become that. Start it as root, \
         or as {wanted:?}"
    )]
    Another {
        /// Whom it names.
        wanted: String,
        /// Who started the host.
        found: u32,
    },
    /// The data directory is somebody else's.
    #[error(
        "{}: it belongs to user {found}, and run_as says {wanted:?}. Run: chown -R {wanted}: {}",
        .dir.display(),
        .dir.display()
    )]
    NotTheirs {
        /// The data directory.
        dir: PathBuf,
        /// Whose it is.
        found: u32,
        /// Whose it must be.
        wanted: String,
    },
    /// The system refused.
    #[error("run_as: cannot become user {user:?}: {problem}")]
    Refused {
        /// Whom.
        user: String,
        /// What happened.
        problem: String,
    },
}

/// Makes this process the user's that its host is to run as: `run_as`, or whoever started it. To be called while there is one thread, and
/// before anything of the host is opened.
///
/// # Errors
/// When that is root, unless `as_root` says that it may be and nobody else was named; when the user is not there, or is not who the data
/// directory `dir` belongs to.
pub fn become_user(run_as: Option<&str>, as_root: bool, dir: &Path) -> Result<(), UserError> {
    let found = rustix::process::geteuid();
    let Some(user) = run_as else {
        return if found.is_root() && !as_root { Err(UserError::Root { dir: dir.into() }) } else { Ok(()) };
    };
    system::become_user(user, found.as_raw(), dir)
}

#[cfg(target_os = "linux")]
mod system {
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    use nix::errno::Errno;
    use nix::unistd::{
        Gid, Uid, User, getresgid, getresuid, initgroups, setgid, setresgid, setresuid, setuid,
    };

    use super::UserError;

    pub(super) fn become_user(user: &str, found: u32, dir: &Path) -> Result<(), UserError> {
        let refused = |problem: String| UserError::Refused { user: user.into(), problem };
        let failed = |errno: Errno| refused(errno.to_string());
        let known = User::from_name(user).map_err(failed)?.ok_or_else(|| UserError::Unknown(user.into()))?;
        if known.uid.is_root() {
            return Err(UserError::IsRoot(user.into()));
        }
        if known.uid.as_raw() == found {
            return Ok(());
        }
        if found != 0 {
            return Err(UserError::Another { wanted: user.into(), found });
        }
        let owner = fs::metadata(dir).map_err(|error| refused(format!("{}: {error}", dir.display())))?.uid();
        if owner != known.uid.as_raw() {
            return Err(UserError::NotTheirs { dir: dir.into(), found: owner, wanted: user.into() });
        }
        let name = CString::new(user).map_err(|error| refused(error.to_string()))?;
        // The user last: nobody else may change the groups.
        initgroups(&name, known.gid).map_err(failed)?;
        setresgid(known.gid, known.gid, known.gid).map_err(failed)?;
        setresuid(known.uid, known.uid, known.uid).map_err(failed)?;
        stays(known.uid, known.gid).then_some(()).ok_or_else(|| refused("there is a way back to root".into()))
    }

    /// Asked of the system, and tried.
    fn stays(uid: Uid, gid: Gid) -> bool {
        let is = getresuid().is_ok_and(|now| [now.real, now.effective, now.saved] == [uid; 3])
            && getresgid().is_ok_and(|now| [now.real, now.effective, now.saved] == [gid; 3]);
        let root_group = Gid::from_raw(0);
        is && setuid(Uid::from_raw(0)).is_err() && (gid == root_group || setgid(root_group).is_err())
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::path::Path;

    use super::UserError;

    pub(super) fn become_user(user: &str, _found: u32, _dir: &Path) -> Result<(), UserError> {
        Err(UserError::Refused { user: user.into(), problem: "only Linux is known here".into() })
    }
}
