//! A socket in a directory: for the directory's owner on this machine.
//!
//! The socket is made under a name in a private directory, gets its mode there, and only then its own name: at no moment can anybody else
//! reach it, and no process-wide umask is needed. A leftover of a host that was killed is replaced by the same step. Whoever makes one
//! holds the directory's lock, so it is no running host's.
//!
//! *Never:* believes the mode alone: the kernel says who connects, and only the host's own user and root are answered.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

const MODE: u32 = 0o600;
/// What the kernel has room for, with the byte that ends it: 108 on Linux, 104 elsewhere.
const MAX_PATH_BYTES: usize = 103;

/// A socket that is listened to. Its name goes with it, if it was made here.
#[derive(Debug)]
pub(super) struct Local {
    listener: UnixListener,
    name: Option<OwnName>,
    owner: u32,
}

/// What a socket that was made here is called.
#[derive(Debug)]
struct OwnName {
    path: PathBuf,
    /// The socket that the name stood for when it was made: another one of that name is not ours to remove.
    inode: u64,
}

impl Local {
    /// Listens at `path`, by way of another name beside it: its directory is open to nobody else.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        let made = path.with_extension("sock.new");
        match std::fs::remove_file(&made) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = short(&made, |made| UnixListener::bind(made))?;
        std::fs::set_permissions(&made, PermissionsExt::from_mode(MODE))?;
        let metadata = std::fs::symlink_metadata(&made)?;
        if metadata.mode() & 0o777 != MODE {
            let problem = format!("the file system keeps no modes: {:04o}", metadata.mode() & 0o777);
            return Err(io::Error::other(problem));
        }
        std::fs::rename(&made, path)?;
        let owner = rustix::process::geteuid().as_raw();
        let name = Some(OwnName { path: path.to_owned(), inode: metadata.ino() });
        Ok(Self { listener, name, owner })
    }

    /// Listens at a socket that was handed over.
    pub(super) fn handed(socket: OwnedFd) -> io::Result<Self> {
        let listener = std::os::unix::net::UnixListener::from(socket);
        listener.set_nonblocking(true)?;
        let owner = rustix::process::geteuid().as_raw();
        Ok(Self { listener: UnixListener::from_std(listener)?, name: None, owner })
    }

    /// The next connection of somebody who may connect. Others are closed before a byte of theirs is read.
    pub(super) async fn accept(&self) -> io::Result<Option<UnixStream>> {
        let (stream, _) = self.listener.accept().await?;
        let peer = stream.peer_cred()?.uid();
        if !may_connect(peer, self.owner) {
            tracing::warn!(peer, "somebody else's process connected to the socket for administration");
            return Ok(None);
        }
        Ok(Some(stream))
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Some(OwnName { path, inode }) = &self.name
            && std::fs::symlink_metadata(path).is_ok_and(|found| found.ino() == *inode)
        {
            // A leftover does no harm: nobody answers, and the next host replaces it.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The host's own user, and root, who could be that user.
const fn may_connect(peer: u32, owner: u32) -> bool {
    peer == owner || peer == 0
}

/// Connects to the socket at `path`.
pub(super) async fn connect(path: &Path) -> io::Result<UnixStream> {
    let stream = short(path, |path| std::os::unix::net::UnixStream::connect(path))?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Does `what` with `path`, or with a shorter one to the same place: a socket's own has room for little.
fn short<T>(path: &Path, what: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= MAX_PATH_BYTES {
        return what(path);
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = File::open(directory)?;
    what(&Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_and_root_may_connect() {
        for (peer, owner, may) in [(1000, 1000, true), (0, 1000, true), (1001, 1000, false), (1000, 0, false)]
        {
            assert_eq!(may_connect(peer, owner), may, "{peer} to a socket of {owner}");
        }
    }

    #[tokio::test]
    async fn a_socket_is_the_owners_alone_wherever_it_is_and_goes_with_its_host() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(100));
        std::fs::create_dir(&deep).unwrap();
        for place in [dir.path(), &deep] {
            let path = place.join("admin.sock");
            // What a killed host left.
            drop(std::os::unix::net::UnixListener::bind(dir.path().join("left")).unwrap());
            std::fs::rename(dir.path().join("left"), &path).unwrap();
            let local = Local::bind(&path).unwrap();
            assert_eq!(path.metadata().unwrap().mode() & 0o777, MODE);
            let (connected, accepted) = tokio::join!(connect(&path), local.accept());
            assert!(connected.is_ok() && accepted.unwrap().is_some());
            drop(local);
            assert!(!path.exists(), "its name is gone");
        }
    }
}
