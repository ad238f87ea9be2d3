//! The granted directories, opened for a run.

use std::io;

use wasmtime_wasi::filesystem::WasiFilesystemView as _;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;
use wasmtime_wasi::{FsPerms, ResourceTable, WasiCtxBuilder, WasiView as _};

use crate::grant::{Access, Preopen};
use crate::outcome::HostFault;

use super::Files;
use super::nodes::{Node, Place};

/// Preview 1 numbers its granted directories from here on, after stdin, stdout and stderr.
const FIRST_DIRECTORY: u32 = 3;

/// Opens `dirs` in order.
///
/// # Errors
///
/// [`HostFault::Preopen`] for the first that cannot be opened.
pub(crate) fn open(wasi: &mut WasiCtxBuilder, dirs: &[Preopen]) -> Result<(), HostFault> {
    for dir in dirs {
        open_one(wasi, dir).map_err(|source| {
            let path = match &dir.below {
                Some(below) => dir.host.join(below),
                None => dir.host.clone(),
            };
            HostFault::Preopen { path, source }
        })?;
    }
    Ok(())
}

fn open_one(wasi: &mut WasiCtxBuilder, dir: &Preopen) -> io::Result<()> {
    let perms = match dir.access {
        Access::Read => FsPerms::ReadOnly,
        Access::ReadWrite => FsPerms::ReadWrite,
    };
    let opened = match &dir.below {
        Some(below) => wasi.preopened_dir(below::open(&dir.host, below)?.path(), &dir.guest, perms),
        None => wasi.preopened_dir(&dir.host, &dir.guest, perms),
    };
    opened.map(|_| ()).map_err(|error| error.downcast().unwrap_or_else(io::Error::other))
}

#[cfg(target_os = "linux")]
mod below {
    use std::io;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::path::{Path, PathBuf};

    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
    use rustix::io::Errno;

    /// A directory that is held, so that its path means this directory whatever is renamed meanwhile.
    pub(super) struct Held(OwnedFd);

    impl Held {
        /// A path to it, good as long as it is held.
        pub(super) fn path(&self) -> PathBuf {
            PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
        }
    }

    /// Opens `below` in `host`, following no link on the way.
    pub(super) fn open(host: &Path, below: &str) -> io::Result<Held> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let base = openat(CWD, host, flags, Mode::empty())?;
        let path = if below.is_empty() { "." } else { below };
        openat2(&base, path, flags, Mode::empty(), resolve).map(Held).map_err(|errno| match errno {
            Errno::LOOP => told(
                errno,
                "a symbolic link is on the way, which could lead elsewhere; name the directory itself",
            ),
            Errno::XDEV => told(
                errno,
                "it leads out of the directory that it must lie in; leave out `..` and a leading `/`",
            ),
            _ => errno.into(),
        })
    }

    fn told(errno: Errno, why: &str) -> io::Error {
        io::Error::new(io::Error::from(errno).kind(), why)
    }
}

#[cfg(not(target_os = "linux"))]
mod below {
    use std::convert::Infallible;
    use std::io;
    use std::path::{Path, PathBuf};

    pub(super) struct Held(Infallible);

    impl Held {
        pub(super) fn path(&self) -> PathBuf {
            match self.0 {}
        }
    }

    /// Needs `openat2`: a walk step by step could be led elsewhere between two steps.
    pub(super) fn open(_: &Path, _: &str) -> io::Result<Held> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux can confine the way to a directory"))
    }
}

impl Files {
    /// Notes which descriptors of a preview 1 guest are which granted directories. A component asks for them itself.
    ///
    /// # Errors
    ///
    /// None that has been seen; the table that they are listed through is new and has no bound yet.
    pub(crate) fn know(&mut self, wasi: &mut WasiP1Ctx) -> wasmtime::Result<()> {
        let dirs = wasi.filesystem().get_directories()?;
        let table = wasi.ctx().table;
        for (number, (fd, guest)) in (FIRST_DIRECTORY..).zip(dirs) {
            if let Some(node) = Node::new(table.get(&fd)?, Place::root(&guest)) {
                self.nodes.insert(number, node);
            }
        }
        // They were listed to look at them; the guest's own list is still to come, and counts from nothing.
        *table = ResourceTable::new();
        Ok(())
    }
}
