//! Taking a backup beside a host that goes on.
//!
//! First the log as its checkpoint stands, then the evidence of its records, then a state is made of the two, which names the files that
//! the log's jobs need, and those are copied: each thing after what asks for it. What a host erases or lets go meanwhile may be missing then:
//! a state cannot be made, or a file is gone. A key may be replaced. Each of these ends the attempt, and the next begins with the newer log.
//!
//! *Crash:* see `backup`.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use strongroom_job::{Digest, PublicKey, StateFault};

use super::sums::{LIST, Sums};
use super::{BackupError, Head, UNFINISHED, io_at, name, parent, room};
use crate::audit::read::{LogReader, ReadError};
use crate::audit::verify::Verified;
use crate::blobs;
use crate::clock::Clock;
use crate::evidence::{self, Reader};
use crate::home::Home;
use crate::home::place::PRIVATE_DIRECTORY;
use crate::home::rotation::ROLES;
use crate::mend;
use crate::store::rebuild::{Rebuilt, Terms, rebuild};
use crate::store::{OpenError, Store};

/// How often it is begun again because the host changed something that was being copied.
const ATTEMPTS: u32 = 3;
/// What of `keys` is no secret.
const PUBLIC: [&str; 2] = ["pub", "chain"];
/// A key that every start can make anew.
const CACHE_KEY: &str = "cache.key";
/// A rotation that is under way.
const NEXT: &str = "next";

/// A backup that was made.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// The log in it.
    pub head: Head,
    /// What came of making a state of it.
    pub rebuilt: Rebuilt,
    /// Files.
    pub files: u64,
    /// Of these, those that the earlier backup has, too, and that share its room on the disk.
    pub shared: u64,
}

/// Makes a backup of a data directory in the new directory `dest`; with the secret keys if `with_keys`. Files that the backup in `onto` has, with the
/// same bytes, become further names of these.
///
/// Works beside a running host, and without one. Blocks, for as long as it takes to copy everything and to replay the log.
///
/// # Errors
/// When `dest` is there, something is damaged, or cannot be read or written. Nothing has the name `dest` then.
pub fn take(home: &Home, dest: &Path, with_keys: bool, onto: Option<&Path>) -> Result<Taken, BackupError> {
    if fs::symlink_metadata(dest).is_ok() {
        return Err(BackupError::Exists(dest.into()));
    }
    let earlier = onto.map(|onto| Ok::<_, BackupError>((onto, Sums::read(onto)?))).transpose()?;
    room::check(home, dest)?;
    let mut attempts = 1..=ATTEMPTS;
    let (room, time, head, rebuilt) = loop {
        let attempt = attempts.next();
        // Before anything is copied: what is erased later may still be in it.
        let time = Clock::default().now();
        // Removed when dropped.
        let room = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .permissions(PermissionsExt::from_mode(PRIVATE_DIRECTORY))
            .tempdir_in(parent(dest));
        let room = room.map_err(io_at(parent(dest)))?;
        match copy(home, room.path(), with_keys) {
            Ok((head, rebuilt)) => break (room, time, head, rebuilt),
            Err(error) if attempt.is_some_and(|attempt| attempt < ATTEMPTS) && may_pass(&error) => {
                tracing::info!(%error, "the host changed what was being copied; the copy begins again");
            }
            Err(error) => return Err(error),
        }
    };
    let sums = Sums::seal(room.path(), time, with_keys)?;
    let shared = match &earlier {
        Some((dir, earlier)) => share(room.path(), &sums, dir, earlier)?,
        None => 0,
    };
    sums.write(room.path())?;
    // The names of shared files are new, and that of the list.
    sync_directories(room.path(), &sums)?;
    name(room.path(), dest)?;
    Ok(Taken { head, rebuilt, files: sums.files.len() as u64, shared })
}

/// Whether a host that serves can be why, and a newer copy would be good.
const fn may_pass(error: &BackupError) -> bool {
    matches!(
        error,
        BackupError::Rebuild(_)
            | BackupError::Blob { .. }
            | BackupError::Keys(_)
            | BackupError::Export(_)
            | BackupError::Evidence(_)
            | BackupError::Home(_)
    )
}

fn copy(home: &Home, to: &Path, with_keys: bool) -> Result<(Head, Rebuilt), BackupError> {
    let key = home.log_key()?.public();
    let audit = to.join("audit");
    let log = LogReader::open(&home.audit(), Some(&key)).map_err(read)?;
    let verified = log.export(&audit)?;
    let head = Head { size: verified.size().get(), root: verified.checkpoint.head().root };
    evidence::copy(&home.evidence(), &to.join("evidence"), head.size)?;
    let (rebuilt, named) = state(home, to, &key, &verified)?;
    for (digest, what) in named {
        blob(home, to, digest, what)?;
    }
    for file in [home.config(), home.trust(), home.known_hosts()] {
        copy_if_there(&file, &to.join(file.file_name().unwrap_or_default()))?;
    }
    directory(&home.dir().join("contradictions"), &to.join("contradictions"), &|_| true)?;
    // Encrypted, with a key that is among the secret ones.
    directory(&home.dir().join("secrets"), &to.join("secrets"), &|_| true)?;
    keys(home, to, with_keys, &key)?;
    Ok((head, rebuilt))
}

fn read(error: ReadError) -> BackupError {
    match error {
        ReadError::File(error) => error.into(),
        error => BackupError::Keys(error.to_string()),
    }
}

/// Makes a state of the copy, to see that one comes of it, and which files it names. It is removed again.
fn state(
    home: &Home,
    to: &Path,
    key: &PublicKey,
    verified: &Verified,
) -> Result<(Rebuilt, BTreeMap<Digest, String>), BackupError> {
    let room = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .permissions(PermissionsExt::from_mode(PRIVATE_DIRECTORY))
        .tempdir_in(to)
        .map_err(io_at(to))?;
    let path = room.path().join("state");
    let mut source = Reader::open(&to.join("evidence")).map_err(io_at(to))?;
    let log = LogReader::open(&to.join("audit"), Some(key)).map_err(read)?;
    let blobs = home.blobs();
    let terms = Terms {
        now: Clock::default().now(),
        // It serves nobody, so it bars nobody.
        submittable: Duration::ZERO,
        has_blob: &|digest| blobs::is_there(&blobs, digest),
        found: StateFault::GivenUp,
        problem: String::new(),
    };
    let made = rebuild(&path, mend::history(&log, verified), &mut source, &terms)?;
    let rebuilt = made.put(&room.path().join("aside"))?;
    let failed = |error: &dyn std::fmt::Display| BackupError::Io {
        path: path.clone(),
        error: io::Error::other(error.to_string()),
    };
    let opened = Store::open_as_it_is(&path).map_err(|error: OpenError| failed(&error))?;
    let mut named = BTreeMap::new();
    opened
        .named_files(&mut |digest, what| {
            named.entry(digest).or_insert(what);
        })
        .map_err(|error| failed(&error))?;
    drop(opened);
    Ok((rebuilt, named))
}

fn blob(home: &Home, to: &Path, digest: Digest, what: String) -> Result<(), BackupError> {
    let (from, copy) = (blobs::place(&home.blobs(), &digest), blobs::place(&to.join("blobs"), &digest));
    let wrong = |problem: String| BackupError::Blob { digest, what, problem };
    private_directories(copy.parent().unwrap_or(to), to)?;
    match fs::copy(&from, &copy) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(wrong(error.to_string())),
        copied => copied.map_err(io_at(&from))?,
    };
    let found = blobs::measure(&copy).map_err(io_at(&copy))?.digest;
    if found == digest { Ok(()) } else { Err(wrong(format!("its bytes are those of {found}"))) }
}

/// The keys' files, which must fit each other and the log: somebody may be replacing one.
fn keys(home: &Home, to: &Path, with_keys: bool, key: &PublicKey) -> Result<(), BackupError> {
    let (from, copied) = (home.keys(), to.join("keys"));
    let ends = |path: &Path, with: &str| path.extension().is_some_and(|ending| ending == with);
    directory(&from, &copied, &|path| {
        let public = PUBLIC.iter().any(|ending| ends(path, ending));
        public || (with_keys && ends(path, "key") && !path.ends_with(CACHE_KEY))
    })?;
    let changing = || BackupError::Keys("a key is being replaced; when that is over, try again".into());
    if fs::read_dir(&from).map_err(io_at(&from))?.flatten().any(|entry| ends(&entry.path(), NEXT)) {
        return Err(changing());
    }
    let copy = Home::open(to)?;
    for role in ROLES {
        let path = copy.keys().join(format!("{role}.pub"));
        let public = fs::read_to_string(&path).map_err(io_at(&path))?;
        let public: Option<PublicKey> = public.trim_end().parse().ok();
        let secret = if with_keys { Some(copy.key(role.as_str())?.public()) } else { public };
        let last = copy.successions(role)?.last().map(|last| *last.new_key());
        if public.is_none() || secret != public || last.is_some_and(|last| Some(last) != public) {
            return Err(changing());
        }
        if role.as_str() == "log" && public != Some(*key) {
            return Err(changing());
        }
    }
    Ok(())
}

/// Copies the files of a directory, as far as there is one.
fn directory(from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<(), BackupError> {
    let listing = match fs::read_dir(from) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.map_err(io_at(from))?,
    };
    private_directories(to, to.parent().unwrap_or(to))?;
    for entry in listing {
        let path = entry.map_err(io_at(from))?.path();
        if path.is_file() && wanted(&path) {
            copy_if_there(&path, &to.join(path.file_name().unwrap_or_default()))?;
        }
    }
    Ok(())
}

fn copy_if_there(from: &Path, to: &Path) -> Result<(), BackupError> {
    match fs::copy(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        copied => copied.map(drop).map_err(io_at(from)),
    }
}

/// Makes directories below `top`, the owner's alone from the start.
fn private_directories(dir: &Path, top: &Path) -> Result<(), BackupError> {
    debug_assert!(dir.starts_with(top), "nothing is made elsewhere");
    DirBuilder::new().recursive(true).mode(PRIVATE_DIRECTORY).create(dir).map_err(io_at(dir))
}

/// Puts names of the earlier backup's files in the place of files that are equal. Their bytes are read again: a backup that got damaged is no
/// reason for another one.
fn share(dir: &Path, sums: &Sums, earlier: &Path, known: &Sums) -> Result<u64, BackupError> {
    let mut shared = 0;
    for (path, digest) in &sums.files {
        let there = earlier.join(path);
        let is_equal = known.files.get(path) == Some(digest)
            && blobs::measure(&there).is_ok_and(|measured| measured.digest == *digest);
        if !is_equal {
            continue;
        }
        let (here, beside) = (dir.join(path), dir.join(LIST));
        // Another file system has no names for it: then the copy stays.
        if fs::hard_link(&there, &beside).is_ok() {
            fs::rename(&beside, &here).map_err(io_at(&here))?;
            shared += 1;
        }
    }
    Ok(shared)
}

fn sync_directories(dir: &Path, sums: &Sums) -> Result<(), BackupError> {
    let mut above: Vec<_> = sums.files.keys().filter_map(|path| path.parent()).collect();
    above.push(Path::new(""));
    above.sort();
    above.dedup();
    for path in above {
        let full = dir.join(path);
        fs::File::open(&full).and_then(|names| names.sync_all()).map_err(io_at(&full))?;
    }
    Ok(())
}
