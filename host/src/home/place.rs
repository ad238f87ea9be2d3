//! Making directories and files so that they are whole, private and durable, and saying what to do when that fails.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::HomeError;

pub(crate) const PRIVATE_DIRECTORY: u32 = 0o700;
pub(crate) const PRIVATE_FILE: u32 = 0o600;
/// Permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;

/// Makes a directory and those above it, as far as they are missing, durably; returns where it really is.
pub(crate) fn directory(path: &Path) -> Result<PathBuf, HomeError> {
    let missing =
        path.ancestors().take_while(|above| !above.as_os_str().is_empty() && !above.exists()).count();
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_DIRECTORY)
        .create(path)
        .map_err(|error| failed(path, &error))?;
    let made = path.canonicalize().map_err(|error| failed(path, &error))?;
    // A directory whose own name a power cut takes takes all that was promised in it along.
    for name in made.ancestors().take(missing) {
        sync_parent(name)?;
    }
    Ok(made)
}

/// Makes a directory that is the owner's alone.
pub(crate) fn private_directory(path: &Path) -> Result<(), HomeError> {
    match DirBuilder::new().mode(PRIVATE_DIRECTORY).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {
            check_private(path, PRIVATE_DIRECTORY)
        }
        other => other.map_err(|error| failed(path, &error)),
    }
}

/// Refuses what other users can read or replace: a secret that leaked is not a secret, however well it is kept now.
pub(crate) fn check_private(path: &Path, wanted: u32) -> Result<(), HomeError> {
    let metadata = std::fs::metadata(path).map_err(|error| failed(path, &error))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(HomeError::TooOpen { path: path.into(), mode, wanted });
    }
    Ok(())
}

/// Writes a private file that must not exist yet. `false` when it does: somebody else made it first, whole.
///
/// *Crash:* the name appears only for a file that is complete and synced; a crash before leaves a file with a temporary
/// name, which nobody reads.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<bool, HomeError> {
    // Every command comes by here: what is there already costs no write.
    let made = path.symlink_metadata().is_err()
        && match temporary(path, bytes)?.persist_noclobber(path) {
            Ok(_) => true,
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => return Err(failed(path, &error.error)),
        };
    sync_parent(path)?;
    Ok(made)
}

/// Gives a whole, synced file its name unless the name is taken; somebody else's file then stays as it is.
pub(crate) fn link_new(file: &Path, path: &Path) -> Result<(), HomeError> {
    match std::fs::hard_link(file, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed(path, &error)),
        _ => sync_parent(path),
    }
}

/// Writes a private file in place of the one that may be there.
///
/// *Crash:* the old file or the new one, whole.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    temporary(path, bytes)?.persist(path).map_err(|error| failed(path, &error.error))?;
    sync_parent(path)
}

/// A synced file beside `path`, mode 0600, that goes away unless it gets its name.
fn temporary(path: &Path, bytes: &[u8]) -> Result<NamedTempFile, HomeError> {
    let failed = |error: io::Error| failed(path, &error);
    let mut file = NamedTempFile::new_in(path.parent().unwrap_or(path)).map_err(failed)?;
    write_synced(file.as_file_mut(), bytes).map_err(failed)?;
    Ok(file)
}

fn write_synced(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes the names in a file's directory durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), HomeError> {
    let parent = path.parent().unwrap_or(path);
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(|error| failed(parent, &error))
}

/// Makes the name of a directory durable, unless the directory above may not be read: then it is not ours to make.
pub(super) fn sync_name(dir: &Path) -> Result<(), HomeError> {
    let above = dir.parent().unwrap_or(dir);
    match File::open(above) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        opened => opened.and_then(|above| above.sync_all()).map_err(|error| failed(above, &error)),
    }
}

/// Takes a lock file for this process, as long as the value lives; none when another process has it.
pub(crate) fn sole_use(path: &Path) -> Result<Option<File>, HomeError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(PRIVATE_FILE);
    let lock = options.open(path).map_err(|error| failed(path, &error))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(path, &error)),
    }
}

/// An error with the path that it is about and what would help.
pub(crate) fn failed(path: &Path, error: &io::Error) -> HomeError {
    let (problem, mend) = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            ("the disk is full".into(), "Free some space there, or choose another directory with --dir")
        }
        ErrorKind::PermissionDenied => (
            "permission denied".into(),
            "Make it readable and writable for this user, or choose another directory with --dir",
        ),
        ErrorKind::ReadOnlyFilesystem => {
            ("the file system is read-only".into(), "Choose another directory with --dir")
        }
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => (
            "a file is where a directory must be".into(),
            "Move the file away, or choose another directory with --dir",
        ),
        ErrorKind::IsADirectory => ("a directory is where a file must be".into(), "Move the directory away"),
        _ => (error.to_string(), "Check the path, or choose another directory with --dir"),
    };
    HomeError::Path { path: path.into(), problem, mend }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_is_there_is_never_replaced_by_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert!(write_new(&path, b"first").unwrap());
        assert!(!write_new(&path, b"second").unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        replace(&path, b"third").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"third");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_full_disk_is_called_by_its_name() {
        let mut full = File::options().write(true).open("/dev/full").unwrap();
        let error = write_synced(&mut full, b"x").unwrap_err();
        let text = failed(Path::new("/data/keys"), &error).to_string();
        assert_eq!(
            text,
            "/data/keys: the disk is full. Free some space there, or choose another directory with --dir"
        );
    }

    // Red without the test of OTHERS in `check_private`.
    #[test]
    fn what_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        private_directory(&path).unwrap();
        for mode in [0o740, 0o704, 0o710, 0o701, 0o720] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let error = private_directory(&path).unwrap_err();
            assert!(matches!(error, HomeError::TooOpen { mode: found, .. } if found == mode), "{error}");
            assert!(error.to_string().contains("Run: chmod 700 "), "{error}");
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
        private_directory(&path).unwrap();
    }

    #[test]
    fn a_file_in_place_of_a_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        std::fs::write(&path, b"").unwrap();
        for error in [private_directory(&path).unwrap_err(), directory(&path.join("x")).unwrap_err()] {
            assert!(error.to_string().contains("a file is where a directory must be"), "{error}");
        }
    }
}
