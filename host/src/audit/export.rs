//! Exporting: a copy of the log that was checked after it was made, and holds only what its checkpoint covers.
//!
//! *Never:* overwrites anything. *Crash:* a half-made copy has a temporary name and no checkpoint.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use strongroom_job::PublicKey;
use strongroom_job::succession::Succession;
use strongroom_job::tile::Tile;

use super::files::{CHECKPOINT, COSIGNED, FileError, Files, KEYS, LOG_PUB, Signer, WrongKey};
use super::verify::{Options, Verified, VerifyError, verify_dir};

/// Why a log was not exported. Nothing is left at the destination.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Something is there already.
    #[error("{}: there is something already: choose a name that is free", .0.display())]
    Exists(PathBuf),
    /// A file of the log.
    #[error(transparent)]
    File(#[from] FileError),
    /// The log is not the one that was asked for.
    #[error(transparent)]
    WrongKey(#[from] WrongKey),
    /// The copy does not verify, so neither does the log.
    #[error("the log does not verify, so nothing was exported: {0}")]
    Verify(#[from] VerifyError),
    /// The destination cannot be written.
    #[error("cannot write the copy: {0}")]
    Write(#[from] io::Error),
}

/// Copies the log in `dir` to the new directory `dest` as its checkpoint stands now, and verifies the copy.
///
/// Works beside a running host. `expected` is the key that the log must be signed with, when the caller knows it.
///
/// # Errors
/// When `dest` exists, the log does not verify, or a file cannot be read or written.
pub(super) fn export(dir: &Path, dest: &Path, expected: Option<&PublicKey>) -> Result<Verified, ExportError> {
    if fs::symlink_metadata(dest).is_ok() {
        return Err(ExportError::Exists(dest.to_owned()));
    }
    let files = Files::new(dir);
    let signer = files.signer()?;
    signer.check(expected)?;
    let Signer { verifier, keys } = signer;
    let statements = files.statements()?;
    let cosigned = files.cosigned(&verifier)?;
    let checkpoint = files.checkpoint(&verifier)?;

    let parent = dest.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Removed when dropped: an error on the way leaves nothing.
    let copy = tempfile::Builder::new().prefix(".strongroom-export-").tempdir_in(parent)?;
    for tile in Tile::all(checkpoint.size()) {
        write(copy.path(), &tile.to_string(), &files.tile_or_full(tile)?)?;
    }
    write(copy.path(), LOG_PUB, format!("{verifier}\n").as_bytes())?;
    write(copy.path(), CHECKPOINT, checkpoint.signed().as_str().as_bytes())?;
    if keys.keys().len() > 1 {
        write(copy.path(), KEYS, &Succession::to_file(&statements))?;
    }
    if let Some(cosigned) = cosigned {
        write(copy.path(), COSIGNED, cosigned.signed().as_str().as_bytes())?;
    }

    let options = Options { key: Some(*verifier.key()), ..Options::default() };
    let verified = verify_dir(copy.path(), &options, &mut ())?;
    // `tempdir_in` makes it for the owner only, but a log is made to be shown.
    share(copy.path())?;
    fs::rename(copy.path(), dest)?;
    Ok(verified)
}

fn write(dir: &Path, file: &str, bytes: &[u8]) -> io::Result<()> {
    let path = dir.join(file);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, bytes)
}

#[cfg(unix)]
fn share(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn share(_: &Path) -> io::Result<()> {
    Ok(())
}
