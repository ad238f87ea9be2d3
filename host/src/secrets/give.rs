//! Secrets on their way to one attempt: variables, and files in a private directory that is gone with it.
//!
//! Files lie in memory where there is a tmpfs that we may use (`/dev/shm` on Linux), so that a value never reaches a disk in
//! clear; elsewhere in the data directory's `scratch`, mode 0700, removed like everything there.
//!
//! *Crash:* files stay until the next start of the same directory's host, or of the machine.

use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use strongroom_job::{Digest, JobId, SecretForm, SecretUse};
use zeroize::Zeroizing;

use super::{SecretError, Vault, system};
use crate::rooms::{Room, Rooms};

/// Where Linux keeps shared memory: a tmpfs on nearly every machine.
const SHARED_MEMORY: &str = "/dev/shm";
/// `f_type` of a tmpfs.
const TMPFS: i128 = 0x0102_1994;

/// The place of files with secrets.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    rooms: Rooms,
}

/// The secrets of one attempt; none by default. The files are there until it is removed or dropped.
#[derive(Default)]
pub(crate) struct Given {
    variables: Vec<(String, Zeroizing<String>)>,
    files: Option<Room>,
}

/// The directory in shared memory of the host of the data directory `dir`, whose lock this process holds: made if need be, and empty. None
/// where files with secrets would lie in the data directory.
pub fn in_shared_memory(dir: &Path) -> Option<PathBuf> {
    in_memory(dir).filter(|path| Rooms::open(path).is_ok() && is_ours(path))
}

impl Memory {
    /// Takes the place over, and removes what a crash left there. `dir` is the data directory, whose host we are.
    ///
    /// # Errors
    /// When neither memory nor `fallback`, a directory of that data directory, can be used.
    pub(crate) fn open(dir: &Path, fallback: &Path) -> io::Result<Self> {
        let path = in_shared_memory(dir);
        Ok(Self { rooms: Rooms::open(path.as_deref().unwrap_or(fallback))? })
    }

    /// A part of the place, in a directory of this name.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn within(&self, name: &str) -> io::Result<Self> {
        Ok(Self { rooms: self.rooms.within(name)? })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.rooms.path()
    }
}

impl Given {
    /// Reads every secret that the job asks for. Blocks on the disk.
    ///
    /// # Errors
    /// Names the first secret that is not there or does not open; no file is left then.
    pub(crate) fn prepare(
        vault: &Vault,
        memory: &Memory,
        job: JobId,
        asked: &[SecretUse],
    ) -> Result<Self, SecretError> {
        let mut given = Self { variables: Vec::new(), files: None };
        for SecretUse { name, form } in asked {
            let value = vault.get(name)?;
            match form {
                SecretForm::Env(variable) => {
                    let text = std::str::from_utf8(&value).ok().filter(|text| !text.contains('\0'));
                    let text = text.ok_or_else(|| SecretError::NotText(name.clone()))?;
                    given.variables.push((variable.clone(), Zeroizing::new(text.to_owned())));
                }
                SecretForm::File(file) => {
                    let room = match given.files.take() {
                        Some(room) => room,
                        None => memory.rooms.room(&job.to_string()).map_err(|error| system(name, &error))?,
                    };
                    let path = room.path().join(file.as_str());
                    given.files = Some(room);
                    write(&path, &value).map_err(|error| system(name, &error))?;
                }
            }
        }
        Ok(given)
    }

    /// Name and value of each variable.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The directory with the files, if there are any.
    pub(crate) fn files(&self) -> Option<&Path> {
        self.files.as_ref().map(Room::path)
    }

    /// Removes the files, on a thread that may wait.
    pub(crate) async fn remove(self) {
        if let Some(room) = self.files {
            room.remove().await;
        }
    }
}

fn write(path: &Path, value: &[u8]) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o400).open(path)?.write_all(value)
}

/// A name that only hosts of this data directory use: one at a time, as its lock says.
fn in_memory(dir: &Path) -> Option<PathBuf> {
    let shared = Path::new(SHARED_MEMORY);
    let found = rustix::fs::statfs(shared).ok()?;
    let owner = rustix::process::geteuid().as_raw();
    let hex = Digest::of(dir.as_os_str().as_encoded_bytes()).to_hex();
    let path = shared.join(format!("strongroom-{owner}-{}", &hex[..16]));
    // Anybody may make names there. One that is not ours is left alone.
    let free = !path.exists() || is_ours(&path);
    (i128::from(found.f_type) == TMPFS && free).then_some(path)
}

/// A directory, no link, of this user's, closed to all others.
fn is_ours(path: &Path) -> bool {
    let owner = rustix::process::geteuid().as_raw();
    std::fs::symlink_metadata(path)
        .is_ok_and(|found| found.is_dir() && found.uid() == owner && found.mode() & 0o777 == 0o700)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::os::unix::fs::PermissionsExt as _;

    use strongroom_job::Name;

    use super::*;
    use crate::home::Home;

    struct Site {
        dir: tempfile::TempDir,
        vault: Vault,
        memory: Memory,
    }

    fn site() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::of(&Home::create(dir.path()).unwrap());
        let memory = Memory::open(dir.path(), &dir.path().join("fallback")).unwrap();
        Site { dir, vault, memory }
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    impl Site {
        fn give(&self, secret: &str, form: SecretForm) -> Result<Given, SecretError> {
            let asked = [SecretUse { name: name(secret), form }];
            Given::prepare(&self.vault, &self.memory, JobId::from_bytes([1; 16]), &asked)
        }
    }

    impl Drop for Site {
        fn drop(&mut self) {
            if let Some(path) = in_memory(self.dir.path()) {
                let _ = std::fs::remove_dir(path);
            }
        }
    }

    #[tokio::test]
    async fn files_are_private_and_gone_afterwards() {
        let site = site();
        site.vault.set(&name("cert"), b"\0\xff").unwrap();
        let given = site.give("cert", SecretForm::File(name("client.pem"))).unwrap();
        let directory = given.files().unwrap().to_owned();
        let file = directory.join("client.pem");
        assert_eq!(std::fs::read(&file).unwrap(), b"\0\xff");
        assert_eq!(directory.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o400);
        given.remove().await;
        assert!(!directory.exists());
        // What a crash left goes with the next start.
        std::mem::forget(site.give("cert", SecretForm::File(name("x"))).unwrap());
        assert!(directory.exists());
        Memory::open(site.dir.path(), &site.dir.path().join("fallback")).unwrap();
        assert!(!directory.exists());
    }

    #[test]
    fn a_variable_is_text() {
        let site = site();
        site.vault.set(&name("token"), "gehe\u{ed}m".as_bytes()).unwrap();
        let given = site.give("token", SecretForm::Env("TOKEN".into())).unwrap();
        assert_eq!(given.variables().collect::<Vec<_>>(), [("TOKEN", "gehe\u{ed}m")]);
        assert!(given.files().is_none());
        for value in [b"a\0b".as_slice(), b"\xff"] {
            site.vault.set(&name("token"), value).unwrap();
            let error = site.give("token", SecretForm::Env("TOKEN".into())).err().unwrap();
            assert!(matches!(error, SecretError::NotText(_)), "{error}");
        }
        assert!(matches!(site.give("none", SecretForm::Env("A".into())), Err(SecretError::Absent(_))));
    }

    // Asked twice, before the place is opened and after: without the first alone, the second keeps the promise.
    #[test]
    fn a_place_that_is_not_ours_is_not_used() {
        let site = site();
        let Some(path) = in_memory(site.dir.path()) else { return };
        std::fs::remove_dir(&path).unwrap();
        let elsewhere = site.dir.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::write(elsewhere.join("keep"), b"x").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        let memory = Memory::open(site.dir.path(), &site.dir.path().join("fallback")).unwrap();
        let room = memory.rooms.room("a").unwrap();
        assert!(room.path().starts_with(site.dir.path().join("fallback")));
        assert!(elsewhere.join("keep").exists());
        std::fs::remove_file(&path).unwrap();
    }
}
