//! Making a data directory of a backup.
//!
//! Everything is copied to a directory without a name and checked there, so that what is restored is what was checked. The state is made of
//! it as after a loss. Then the directory gets its name.
//!
//! *Never:* makes a key; writes over anything. *Crash:* no directory of that name, or the whole one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use strongroom_job::checkpoint::SignedCheckpoint;
use strongroom_job::merkle::{LeafIndex, TreeHead};
use strongroom_job::succession::KeyRole;
use strongroom_job::{Digest, Record, StateFault, Timestamp};

use super::sums::{Sums, copy_checked};
use super::{BackupError, Head, UNFINISHED, io_at, name, parent};
use crate::audit::verify::{Observer, Options, verify_dir};
use crate::config::Config;
use crate::home::Home;
use crate::home::place::PRIVATE_DIRECTORY;
use crate::mend;
use crate::store::rebuild::Rebuilt;

/// Keys that a start would make anew, so that nobody would know the host any more.
const NEEDED: [&str; 3] = ["host.key", "log.key", "client.key"];
/// The key of secrets for jobs, if there are any.
const SECRETS_KEY: &str = "secrets.key";
/// The configuration in a backup.
const CONFIG: &str = "strongroom.toml";

/// What to restore, and with what.
#[derive(Clone, Copy, Debug)]
pub struct Restore<'a> {
    /// The backup.
    pub from: &'a Path,
    /// The data directory to make: one that is not there, or is empty.
    pub dir: &'a Path,
    /// The directory of the secret keys, for a backup that has none.
    pub keys: Option<&'a Path>,
    /// A checkpoint of the log that is known from elsewhere.
    pub known: Option<&'a [u8]>,
}

/// A directory that was restored.
#[derive(Clone, Copy, Debug)]
pub struct Restored {
    /// Its log.
    pub head: Head,
    /// The state that was made of it.
    pub rebuilt: Rebuilt,
    /// When the backup was made.
    pub taken: Timestamp,
    /// Files.
    pub files: u64,
}

/// Makes a data directory of a backup. Blocks.
///
/// # Errors
/// When the backup is not as it was made, the keys are not those of its log, the log is behind `known` or another, or `dir` is not empty. Nothing is at
/// `dir` then that was not there before.
pub fn restore(what: &Restore<'_>) -> Result<Restored, BackupError> {
    let is_free = match fs::read_dir(what.dir) {
        Ok(mut names) => names.next().is_none(),
        Err(_) => fs::symlink_metadata(what.dir).is_err(),
    };
    if !is_free {
        return Err(BackupError::Exists(what.dir.into()));
    }
    let sums = Sums::read(what.from)?;
    sums.names_all(what.from)?;
    // Before hours are spent on the rest.
    Config::elsewhere(&what.from.join(CONFIG))?;
    let above = parent(what.dir);
    let room = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .permissions(PermissionsExt::from_mode(PRIVATE_DIRECTORY))
        .tempdir_in(above)
        .map_err(io_at(above))?;
    for (path, digest) in &sums.files {
        let from = what.from.join(path);
        is_named_so(&from, path, digest)?;
        copy_checked(&from, &room.path().join(path), digest)?;
    }
    // Directories of a copy have the mode that the user's mask leaves.
    Sums::seal(room.path(), sums.time, sums.with_keys)?;
    keys(what.keys, &room.path().join("keys"))?;
    let home = Home::create(room.path())?;
    are_pairs(&home)?;
    // What it names, such as volumes, belongs to the machine on which the directory will be served, and is looked at there.
    let config = Config::elsewhere(&home.config())?;
    let locked = home.lock()?;
    let key_chain = locked.key_chain(KeyRole::Log)?;
    let known = match what.known {
        None => None,
        Some(bytes) => {
            let origin = config.log_origin.parse().map_err(|_| wrong_keys("log_origin is no name"))?;
            let known = SignedCheckpoint::parse(bytes)?.verify_kept(&origin, &key_chain)?;
            Some(TreeHead { size: known.size(), root: known.head().root })
        }
    };
    let options = Options { key: Some(*key_chain.current()), known, live: false };
    let verified = verify_dir(&locked.audit(), &options, &mut Records)?;
    let head = Head { size: verified.size().get(), root: verified.checkpoint.head().root };
    let mended = mend::mend_within(&locked, &config.bounds, StateFault::Lost, "a backup was restored")?;
    drop(locked);
    Sums::seal(room.path(), sums.time, sums.with_keys)?;
    name(room.path(), what.dir)?;
    Ok(Restored { head, rebuilt: mended.rebuilt, taken: sums.time, files: sums.files.len() as u64 })
}

/// A blob's name is the digest of its bytes, whoever wrote the list.
fn is_named_so(from: &Path, path: &Path, digest: &Digest) -> Result<(), BackupError> {
    let hex = digest.to_hex();
    if !path.starts_with("blobs") || path == Path::new("blobs").join(&hex[..2]).join(&hex) {
        return Ok(());
    }
    let problem = format!("its bytes are those of {digest}");
    Err(BackupError::Damaged { path: from.into(), problem })
}

/// Puts the secret keys there that are not in the backup, and sees that all are there that a host must not make anew.
fn keys(given: Option<&Path>, keys: &Path) -> Result<(), BackupError> {
    for file in NEEDED.into_iter().chain([SECRETS_KEY]) {
        let (to, from): (PathBuf, _) = (keys.join(file), given.map(|given| given.join(file)));
        if to.exists() {
            continue;
        }
        match from.filter(|from| from.exists()) {
            // With the mode that it has: one that others could read is refused with the directory.
            Some(from) => drop(fs::copy(&from, &to).map_err(io_at(&from))?),
            None if file == SECRETS_KEY => {}
            None => {
                let problem = format!(
                    "{file} is not in the backup: name the directory of the host's secret keys with --keys"
                );
                return Err(BackupError::Keys(problem));
            }
        }
    }
    Ok(())
}

/// Each secret key is the one whose public half the backup has.
fn are_pairs(home: &Home) -> Result<(), BackupError> {
    for file in NEEDED {
        let path = home.keys().join(file);
        let public = path.with_extension("pub");
        let text = fs::read_to_string(&public).map_err(io_at(&public))?;
        if text.trim_end() != home.key(file.trim_end_matches(".key"))?.public().to_string() {
            let problem = format!(
                "{file} is not the other half of the key in the backup: it is another host's, or of another time"
            );
            return Err(BackupError::Keys(problem));
        }
    }
    Ok(())
}

fn wrong_keys(problem: &str) -> BackupError {
    BackupError::Keys(problem.into())
}

/// Reads each entry: bytes that nobody can read are no record.
struct Records;

impl Observer for Records {
    fn entry(&mut self, _: LeafIndex, entry: &[u8]) -> Result<(), String> {
        Record::from_leaf(entry).map(drop).map_err(|error| format!("not a record: {error}"))
    }
}
