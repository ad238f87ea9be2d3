//! Content-addressed files: modules, inputs and long outputs, each named by the SHA-256 of its bytes.
//!
//! *Owns:* `DIR/blobs` and `DIR/tmp`. *Never:* holds a blob in memory; knows who may have it.
//! *Crash:* a blob is written to `tmp`, fsynced, renamed into place, and its directory fsynced. A crash before the rename
//! leaves a file in `tmp`, which the next start removes; after it, the blob is whole. A second copy of the same bytes
//! renames over the first, which changes nothing.
//! *Spec:* `docs/formats/state.md`.

use std::collections::{BTreeSet, HashSet};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strongroom_job::{Digest, Digester, OutputSummary};
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;

/// The blobs of one host.
#[derive(Clone, Debug)]
pub struct Blobs {
    root: Arc<Root>,
}

#[derive(Debug)]
struct Root {
    blobs: PathBuf,
    tmp: PathBuf,
    /// Directories of `blobs` whose names are durable; 256 at most. Locked while one of them is made so.
    named: Mutex<BTreeSet<PathBuf>>,
    /// Blobs that this process kept a short time ago. Locked while a file gets its name or loses it.
    fresh: Mutex<Fresh>,
}

/// What was kept since the last sweep began, and between that one and the one before. Whoever keeps a blob names it a short time
/// later, so it must not be removed before; what an earlier process kept is named by now or never.
#[derive(Debug, Default)]
struct Fresh {
    now: HashSet<Digest>,
    before: HashSet<Digest>,
}

impl Fresh {
    fn holds(&self, digest: &Digest) -> bool {
        self.now.contains(digest) || self.before.contains(digest)
    }
}

/// A blob that is being written. Dropped before [`Draft::keep`], it leaves nothing.
#[derive(Debug)]
pub struct Draft {
    root: Arc<Root>,
    file: File,
    path: tempfile::TempPath,
    digester: Digester,
    length: u64,
}

impl Blobs {
    /// Opens or makes the two directories, and removes what a crash left in `tmp`.
    ///
    /// # Errors
    /// When a directory cannot be made, read or cleared.
    pub fn open(blobs: &Path, tmp: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(tmp)?;
        std::fs::create_dir_all(blobs)?;
        for left in std::fs::read_dir(tmp)? {
            std::fs::remove_file(left?.path())?;
        }
        let (named, fresh) = (Mutex::default(), Mutex::default());
        Ok(Self { root: Arc::new(Root { blobs: blobs.into(), tmp: tmp.into(), named, fresh }) })
    }

    /// The directory of all of them.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.root.blobs
    }

    /// Begins a blob.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub async fn draft(&self) -> io::Result<Draft> {
        let root = Arc::clone(&self.root);
        let made = tokio::task::spawn_blocking(move || tempfile::NamedTempFile::new_in(&root.tmp)).await;
        let (file, path) = made.map_err(io::Error::other)??.into_parts();
        Ok(Draft {
            root: Arc::clone(&self.root),
            file: File::from_std(file),
            path,
            digester: Digester::new(),
            length: 0,
        })
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// When there is no such blob, or it cannot be read.
    pub async fn read(&self, digest: &Digest) -> io::Result<File> {
        File::open(self.root.place(digest)).await
    }

    /// The whole blob, at most `max` bytes.
    ///
    /// # Errors
    /// When there is no such blob, it is longer, its bytes are not those of its name, or it cannot be read.
    pub async fn load(&self, digest: &Digest, max: u64) -> io::Result<Vec<u8>> {
        let path = self.root.place(digest);
        if fs::metadata(&path).await?.len() > max {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {max} bytes")));
        }
        let bytes = fs::read(&path).await?;
        // Disks forget: what runs must be what was signed.
        if Digest::of(&bytes) != *digest {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the file's bytes are not those of its name",
            ));
        }
        Ok(bytes)
    }
}

/// Whether a blob is in the directory `blobs`.
#[must_use]
pub fn is_there(blobs: &Path, digest: &Digest) -> bool {
    place(blobs, digest).is_file()
}

/// Length and digest of any file, which is never whole in memory. Blocks.
///
/// # Errors
/// When it cannot be read.
pub fn measure(file: &Path) -> io::Result<OutputSummary> {
    let mut file = std::fs::File::open(file)?;
    let (mut digester, mut length, mut piece) = (Digester::new(), 0, vec![0; 64 << 10]);
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(OutputSummary { length, digest: digester.finish() });
        }
        digester.update(&piece[..read]);
        length += read as u64;
    }
}

/// The file of a blob in the directory `blobs`.
#[must_use]
pub fn place(blobs: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.to_hex();
    blobs.join(&hex[..2]).join(hex)
}

impl Blobs {
    /// Begins a sweep: every blob that was not kept since the sweep before this one began. Blocks.
    ///
    /// *Bound:* some 50 bytes of memory for each blob.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn sweep(&self) -> io::Result<HashSet<Digest>> {
        {
            let mut fresh = self.root.fresh();
            fresh.before = std::mem::take(&mut fresh.now);
        }
        let mut found = HashSet::new();
        for directory in std::fs::read_dir(&self.root.blobs)? {
            let directory = directory?;
            // Whatever is not ours was put there by somebody else, and stays.
            if !directory.file_type()?.is_dir() {
                continue;
            }
            for file in std::fs::read_dir(directory.path())? {
                let file = file?;
                let digest = file.file_name().to_str().and_then(|hex| format!("sha256:{hex}").parse().ok());
                found.extend(digest.filter(|digest| self.root.place(digest) == file.path()));
            }
        }
        let fresh = self.root.fresh();
        found.retain(|digest| !fresh.holds(digest));
        Ok(found)
    }

    /// Whether there is such a blob.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        is_there(&self.root.blobs, digest)
    }

    /// Removes those of these blobs that were not kept once more meanwhile; says how many of them are gone. Blocks. Whoever reads one now reads it to its
    /// end.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn remove(&self, blobs: &HashSet<Digest>) -> io::Result<usize> {
        let mut removed = 0;
        for digest in blobs {
            // Held over the removal: a blob that is kept now comes before it, and stays, or after it, and is there again.
            let fresh = self.root.fresh();
            if fresh.holds(digest) {
                continue;
            }
            match std::fs::remove_file(self.root.place(digest)) {
                // The keeper and an erasure may be about to remove the same file.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
            removed += 1;
        }
        Ok(removed)
    }
}

impl Root {
    fn fresh(&self) -> MutexGuard<'_, Fresh> {
        // Every change is a single insertion or removal.
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, digest: &Digest) -> PathBuf {
        place(&self.blobs, digest)
    }

    /// Makes a directory for blobs, and its name durable: also of one that is there, since another draft may have just made it,
    /// or a host that was killed before it synced it.
    fn prepare(&self, directory: &Path) -> io::Result<()> {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if !named.contains(directory) {
            std::fs::create_dir_all(directory)?;
            std::fs::File::open(&self.blobs)?.sync_all()?;
            named.insert(directory.into());
        }
        Ok(())
    }
}

impl Draft {
    /// Adds bytes.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).await?;
        self.digester.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Bytes so far.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Where the bytes so far can be read while more are coming.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Hands all bytes so far to the operating system, so that a reader of [`Draft::path`] sees them.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.file.flush().await
    }

    /// The digest of the bytes so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digester.clone().finish()
    }

    /// Makes the blob durable under its digest.
    ///
    /// # Errors
    /// When the disk fails; nothing is kept then.
    pub async fn keep(self) -> io::Result<(Digest, u64)> {
        let Self { root, mut file, path, digester, length } = self;
        let digest = digester.finish();
        file.flush().await?;
        file.sync_all().await?;
        let place = root.place(&digest);
        let renamed = tokio::task::spawn_blocking(move || {
            let directory = place.parent().unwrap_or(&root.blobs);
            root.prepare(directory)?;
            {
                let mut fresh = root.fresh();
                fresh.now.insert(digest);
                path.persist(&place).map_err(|error| error.error)?;
            }
            std::fs::File::open(directory)?.sync_all()
        });
        renamed.await.map_err(io::Error::other)??;
        Ok((digest, length))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[tokio::test]
    async fn a_kept_blob_is_there_and_a_dropped_draft_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (place, tmp) = (dir.path().join("blobs"), dir.path().join("tmp"));
        let blobs = Blobs::open(&place, &tmp).unwrap();
        let mut draft = blobs.draft().await.unwrap();
        draft.write(b"ab").await.unwrap();
        draft.write(b"c").await.unwrap();
        assert_eq!(draft.keep().await.unwrap(), (Digest::of(b"abc"), 3));
        assert_eq!(blobs.load(&Digest::of(b"abc"), 3).await.unwrap(), b"abc");
        assert_eq!(blobs.load(&Digest::of(b"abc"), 2).await.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        drop(blobs.draft().await.unwrap());
        assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 0);
    }

    // Red without `before` in `holds`.
    #[tokio::test]
    async fn only_what_was_kept_long_ago_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&dir.path().join("blobs"), &dir.path().join("tmp")).unwrap();
        let keep = async |bytes: &[u8]| {
            let mut draft = blobs.draft().await.unwrap();
            draft.write(bytes).await.unwrap();
            draft.keep().await.unwrap().0
        };
        let (old, again) = (keep(b"old").await, keep(b"again").await);
        assert_eq!(blobs.sweep().unwrap(), HashSet::new(), "it may have been kept just now");
        let new = keep(b"new").await;
        let found = blobs.sweep().unwrap();
        assert_eq!(found, HashSet::from([old, again]));
        // Kept once more after it was found.
        keep(b"again").await;
        assert_eq!(blobs.remove(&found).unwrap(), 1);
        assert_eq!(blobs.remove(&found).unwrap(), 1, "red when one that is gone already is an error");
        assert!(blobs.read(&old).await.is_err());
        assert_eq!(blobs.load(&again, 9).await.unwrap(), b"again");
        assert_eq!(blobs.load(&new, 9).await.unwrap(), b"new");
        // What another process kept was kept long ago.
        let next = Blobs::open(&dir.path().join("blobs"), &dir.path().join("tmp")).unwrap();
        assert_eq!(next.sweep().unwrap(), HashSet::from([again, new]));
    }

    // Red without the comparison in `load`.
    #[tokio::test]
    async fn a_blob_that_the_disk_altered_is_not_given_out() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&dir.path().join("blobs"), &dir.path().join("tmp")).unwrap();
        let mut draft = blobs.draft().await.unwrap();
        draft.write(b"abc").await.unwrap();
        let (digest, _) = draft.keep().await.unwrap();
        std::fs::write(blobs.root.place(&digest), b"abd").unwrap();
        assert_eq!(blobs.load(&digest, 9).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn what_a_crash_left_in_tmp_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (place, tmp) = (dir.path().join("blobs"), dir.path().join("tmp"));
        std::fs::create_dir(&tmp).unwrap();
        std::fs::write(tmp.join("half"), b"x").unwrap();
        Blobs::open(&place, &tmp).unwrap();
        assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 0);
    }
}
