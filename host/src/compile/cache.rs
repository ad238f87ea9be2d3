//! Compiled code on disk, under a MAC.
//!
//! ```text
//! DIR/cache/<digest of the module, hex>.<compatibility>     HMAC-SHA-256, 32 bytes ‖ artifact
//! ```
//!
//! The MAC covers what the code is for as well as the code, so that one file cannot stand in for another: a module that may do
//! little would otherwise run as one that may do much.
//!
//! *Owns:* `DIR/cache`. *Never:* loads anything; gives out bytes that could still change: a file is read into memory, checked there,
//! and used from there.
//! *Bound:* `compile_cache_bytes`; what was not used for longest goes first.
//! *Crash:* a file gets its name when it is written; nothing is synced, because what the power takes away fails its MAC and is
//! compiled again.
//! *Spec:* `docs/formats/state.md`.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hmac::{Hmac, KeyInit as _, Mac as _};
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
use sha2::Sha256;
use strongroom_job::Digest;
use strongroom_runtime::Compatibility;

use super::message::MAX_ARTIFACT_BYTES;

/// Separates this use of the key from any other.
const DOMAIN: &[u8] = b"strongroom compiled module 1";
const MAC_BYTES: usize = 32;
/// A file that is being written.
const UNFINISHED: &str = ".new-";
const PRIVATE_DIRECTORY: u32 = 0o700;

/// Code that this host has compiled.
pub struct Cache {
    dir: PathBuf,
    key: Hmac<Sha256>,
    max_bytes: u64,
    /// Held while files are counted and removed.
    tidying: Mutex<()>,
}

/// An artifact whose MAC is right, in memory.
pub struct Verified(Vec<u8>);

impl Cache {
    /// Opens the directory, or makes it, and removes what a crash left unfinished.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(dir: &Path, key: &[u8; 32], max_bytes: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(PRIVATE_DIRECTORY).create(dir)?;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self::of(dir, key, max_bytes))
    }

    fn of(dir: &Path, key: &[u8; 32], max_bytes: u64) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let key = Hmac::new_from_slice(key).expect("32 bytes are a key");
        Self { dir: dir.into(), key, max_bytes, tidying: Mutex::default() }
    }

    /// Reads every file of a cache that no host uses, one at a time. Says which are not this host's, and why; how many are. Changes
    /// nothing, not even a time. Blocks.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn check(dir: &Path, key: &[u8; 32], found: &mut dyn FnMut(&Path, io::Error)) -> io::Result<u64> {
        let cache = Self::of(dir, key, 0);
        let mut good = 0;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let checked = match name.to_str().and_then(parse) {
                // What is no file might never end.
                Some((digest, compatibility)) if entry.file_type()?.is_file() => {
                    cache.verified(&entry.path(), &digest, &compatibility).map(drop)
                }
                _ if name.to_string_lossy().starts_with(UNFINISHED) => {
                    Err(io::Error::new(ErrorKind::InvalidData, "it was not finished"))
                }
                _ => Err(io::Error::new(ErrorKind::InvalidData, "it is no file of a compiled module")),
            };
            match checked {
                Ok(()) => good += 1,
                Err(error) => found(&entry.path(), error),
            }
        }
        Ok(good)
    }

    /// What the module was compiled to for such an engine, if that is here and its MAC is right. A file with a wrong one is
    /// removed, with a warning. Blocks.
    pub fn find(&self, digest: &Digest, compatibility: &Compatibility) -> Option<Verified> {
        let path = self.place(digest, compatibility);
        match self.read(&path, digest, compatibility) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled code is discarded; the module is compiled again");
                self.forget(digest, compatibility);
                None
            }
        }
    }

    /// Keeps an artifact. A failure costs time at the next start, so it is a warning. Blocks.
    pub fn keep(&self, digest: &Digest, compatibility: &Compatibility, artifact: &[u8]) {
        let length = (MAC_BYTES + artifact.len()) as u64;
        if length > self.max_bytes {
            return;
        }
        let path = self.place(digest, compatibility);
        let kept = self.write(&path, digest, compatibility, artifact).and_then(|()| self.tidy());
        if let Err(error) = kept {
            tracing::warn!(path = %path.display(), %error, "compiled code cannot be kept");
        }
    }

    /// Removes one entry.
    pub fn forget(&self, digest: &Digest, compatibility: &Compatibility) {
        // One that stays is refused again.
        let _ = fs::remove_file(self.place(digest, compatibility));
    }

    fn place(&self, digest: &Digest, compatibility: &Compatibility) -> PathBuf {
        self.dir.join(format!("{}.{compatibility}", digest.to_hex()))
    }

    fn mac(&self, digest: &Digest, compatibility: &Compatibility, artifact: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.key.clone();
        let compatibility = compatibility.to_string();
        for part in [DOMAIN, digest.as_bytes(), compatibility.as_bytes(), artifact] {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac
    }

    fn read(&self, path: &Path, digest: &Digest, compatibility: &Compatibility) -> io::Result<Verified> {
        let (file, verified) = self.verified(path, digest, compatibility)?;
        // The time of use. Without it, the entry only looks older than it is.
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let _ = futimens(&file, &Timestamps { last_access: now, last_modification: now });
        Ok(verified)
    }

    fn verified(
        &self,
        path: &Path,
        digest: &Digest,
        compatibility: &Compatibility,
    ) -> io::Result<(File, Verified)> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let Some(length) =
            length.checked_sub(MAC_BYTES as u64).filter(|length| *length <= MAX_ARTIFACT_BYTES)
        else {
            return Err(io::Error::new(ErrorKind::InvalidData, "the file has an impossible length"));
        };
        let mut tag = [0; MAC_BYTES];
        file.read_exact(&mut tag)?;
        let mut artifact = Vec::with_capacity(usize::try_from(length).map_err(io::Error::other)?);
        (&mut file).take(length).read_to_end(&mut artifact)?;
        // In constant time, and over the bytes that will be used, not over those of the file.
        self.mac(digest, compatibility, &artifact)
            .verify_slice(&tag)
            .map_err(|_| io::Error::new(ErrorKind::InvalidData, "its MAC is not this host's"))?;
        Ok((file, Verified(artifact)))
    }

    fn write(
        &self,
        path: &Path,
        digest: &Digest,
        compatibility: &Compatibility,
        artifact: &[u8],
    ) -> io::Result<()> {
        let tag = self.mac(digest, compatibility, artifact).finalize().into_bytes();
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.dir)?;
        file.write_all(&tag)?;
        file.write_all(artifact)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    /// Removes what was used longest ago, until the rest fits.
    fn tidy(&self) -> io::Result<()> {
        let _one = self.tidying.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                continue;
            }
            let metadata = entry.metadata()?;
            entries.push((metadata.modified()?, entry.path(), metadata.len()));
        }
        let mut total: u64 = entries.iter().map(|(_, _, length)| length).sum();
        entries.sort();
        for (_, path, length) in entries {
            if total <= self.max_bytes {
                break;
            }
            fs::remove_file(path)?;
            total -= length;
        }
        Ok(())
    }
}

/// The module and the engine that a file's name says.
fn parse(name: &str) -> Option<(Digest, Compatibility)> {
    let (digest, compatibility) = name.split_once('.')?;
    let compatibility = serde_json::from_value(compatibility.into()).ok()?;
    Some((format!("sha256:{digest}").parse().ok()?, compatibility))
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("dir", &self.dir)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

impl Verified {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verified({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn engine(name: &str) -> Compatibility {
        serde_json::from_value(name.into()).unwrap()
    }

    fn open(dir: &Path) -> Cache {
        Cache::open(dir, &KEY, 1 << 20).unwrap()
    }

    fn found(cache: &Cache, digest: &Digest) -> Option<Vec<u8>> {
        cache.find(digest, &engine("1")).map(Verified::into_bytes)
    }

    #[test]
    fn what_is_kept_is_found_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("cache");
        let cache = open(&place);
        let digest = Digest::of(b"module");
        assert_eq!(found(&cache, &digest), None);
        cache.keep(&digest, &engine("1"), b"code");
        assert_eq!(found(&cache, &digest).unwrap(), b"code");
        assert_eq!(found(&open(&place), &digest).unwrap(), b"code");
        assert!(cache.find(&digest, &engine("2")).is_none());
        assert_eq!(found(&cache, &Digest::of(b"other")), None);
        assert_eq!(place.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let file = cache.place(&digest, &engine("1"));
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    // Red without `verify_slice`.
    #[test]
    fn a_file_with_any_byte_changed_is_discarded() {
        let dir = tempfile::tempdir().unwrap();
        let cache = open(dir.path());
        let digest = Digest::of(b"module");
        let path = cache.place(&digest, &engine("1"));
        cache.keep(&digest, &engine("1"), b"code");
        let whole = fs::read(&path).unwrap();
        let changed = (0..whole.len()).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        });
        let cut = (0..whole.len()).map(|length| whole[..length].to_vec());
        let longer = [[&whole[..], b"x"].concat()];
        for bytes in changed.chain(cut).chain(longer) {
            fs::write(&path, &bytes).unwrap();
            assert_eq!(found(&cache, &digest), None, "{bytes:?}");
            assert!(!path.exists(), "it is removed, so that it is made again");
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(found(&cache, &digest).unwrap(), b"code");
    }

    // Red with the MAC over the artifact alone.
    #[test]
    fn a_file_cannot_stand_in_for_another() {
        let dir = tempfile::tempdir().unwrap();
        let cache = open(dir.path());
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        cache.keep(&one, &engine("1"), b"code");
        fs::copy(cache.place(&one, &engine("1")), cache.place(&two, &engine("1"))).unwrap();
        fs::copy(cache.place(&one, &engine("1")), cache.place(&one, &engine("2"))).unwrap();
        assert_eq!(found(&cache, &two), None);
        assert!(cache.find(&one, &engine("2")).is_none());
        assert!(found(&cache, &one).is_some());
    }

    #[test]
    fn a_file_of_another_key_is_discarded() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"module");
        Cache::open(dir.path(), &[8; 32], 1 << 20).unwrap().keep(&digest, &engine("1"), b"code");
        assert_eq!(found(&open(dir.path()), &digest), None);
    }

    // Red without `tidy`; red without `futimens`, when the wrong one goes.
    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), &KEY, 3 * (100 + MAC_BYTES as u64)).unwrap();
        let digests: Vec<_> = (0..4_u8).map(|n| Digest::of(&[n])).collect();
        for (age, digest) in digests[..3].iter().enumerate() {
            cache.keep(digest, &engine("1"), &[0; 100]);
            let file = File::open(cache.place(digest, &engine("1"))).unwrap();
            let then = Timespec { tv_sec: 1000 + i64::try_from(age).unwrap(), tv_nsec: 0 };
            futimens(&file, &Timestamps { last_access: then, last_modification: then }).unwrap();
        }
        assert!(found(&cache, &digests[0]).is_some());
        cache.keep(&digests[3], &engine("1"), &[0; 100]);
        let here: Vec<_> = digests.iter().map(|digest| found(&cache, digest).is_some()).collect();
        assert_eq!(here, [true, false, true, true]);
        cache.keep(&digests[1], &engine("1"), &[0; 1000]);
        assert!(found(&cache, &digests[1]).is_none(), "larger than the whole cache");
    }

    #[test]
    fn what_a_crash_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(format!("{UNFINISHED}x")), b"half").unwrap();
        open(dir.path());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
