//! A copy of the evidence that a checkpoint needs, made while a host may be writing, erasing and sweeping.
//!
//! The last segment is cut behind its word that the checkpoint's records stand before it, as a start cuts it. A segment that is not whole
//! was met while it was written over (`erase`), or is damaged: it is read again a few times, and then called damaged.
//!
//! *Never:* changes what is there. *Memory:* one segment.

use std::fs;
use std::io::{self, Cursor, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Entries, Kind, MAGIC, TENANTS, encode, segments};

/// How often a file that is not whole is read.
const READS: u32 = 5;
/// How long between two of them.
const PAUSE: Duration = Duration::from_millis(20);

/// Why evidence was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file holds something else than what was written.
    #[error("{}: it is damaged; `strongroom fsck` says more", .0.display())]
    Damaged(PathBuf),
    /// A file cannot be read or written.
    #[error("{}: {error}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
}

/// Copies what the first `size` records refer to from the directory `from` to the new directory `to`. Nothing is synced.
///
/// # Errors
/// When a file is damaged, or cannot be read or written.
pub(crate) fn copy(from: &Path, to: &Path, size: u64) -> Result<(), CopyError> {
    let failed = |path: &Path, error| CopyError::Io { path: path.into(), error };
    fs::DirBuilder::new().mode(0o700).create(to).map_err(|error| failed(to, error))?;
    let mut found = segments(from).map_err(|error| failed(from, error))?;
    found.retain(|(first, _)| *first < size);
    let last = found.last().map(|(first, _)| *first);
    for (first, path) in found {
        let cut = (Some(first) == last).then_some(size);
        let Some(bytes) = read_whole(&path, |bytes| whole(bytes, cut))? else { continue };
        write(to, &path, &bytes).map_err(|error| failed(&path, error))?;
    }
    let path = from.join(TENANTS);
    if let Some(bytes) = read_whole(&path, |bytes| tenants(bytes, size))? {
        write(to, &path, &bytes).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

/// What `keep` keeps of a file; none when it is gone: swept, which the published log says.
fn read_whole(
    path: &Path,
    keep: impl Fn(&[u8]) -> io::Result<Option<Vec<u8>>>,
) -> Result<Option<Vec<u8>>, CopyError> {
    let failed = |error| CopyError::Io { path: path.into(), error };
    for read in 0..READS {
        if read > 0 {
            std::thread::sleep(PAUSE);
        }
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        if let Some(kept) = keep(&bytes).map_err(failed)? {
            return Ok(Some(kept));
        }
    }
    Err(CopyError::Damaged(path.into()))
}

/// The segment; with `cut`, up to its last word about records up to there. None when it is not whole so far.
fn whole(bytes: &[u8], cut: Option<u64>) -> io::Result<Option<Vec<u8>>> {
    let mut entries = Entries::new(Cursor::new(bytes))?;
    let mut covered = None;
    while let Some(entry) = entries.read_next()? {
        if entry.kind == Kind::Covered && cut.is_some_and(|cut| entry.key.index() <= cut) {
            covered = Some((entry.key.index(), entries.end()));
        }
    }
    Ok(match (cut, covered) {
        (None, _) if entries.is_damaged() => None,
        (None, _) => Some(bytes.to_vec()),
        // What stands behind is of later records, and may be on its way.
        // No segment is longer than memory.
        (Some(cut), Some((index, end))) if index == cut => Some(bytes[..end as usize].to_vec()),
        (Some(_), _) => None,
    })
}

/// The tenants of modules of the first `size` records. An entry may be on its way at the end, and is of a later one.
fn tenants(bytes: &[u8], size: u64) -> io::Result<Option<Vec<u8>>> {
    let mut entries = Entries::new(Cursor::new(bytes))?;
    let mut kept = MAGIC.to_vec();
    while let Some(entry) = entries.read_next()? {
        if entry.key.index() < size {
            kept.extend(encode(entry.kind, &entry.key, &entry.value));
        }
    }
    Ok((!entries.is_damaged()).then_some(kept))
}

fn write(to: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default();
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to.join(name))?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::super::{Entry, Key, file};
    use super::*;

    fn entry(kind: Kind, index: u64, value: &[u8]) -> Entry {
        Entry { kind, key: Key::from(index), value: value.to_vec() }
    }

    #[test]
    fn the_last_segment_ends_where_the_checkpoint_does() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir(&from).unwrap();
        let kept = [entry(Kind::Stdout, 1, b"a"), entry(Kind::Covered, 3, b""), entry(Kind::Covered, 5, b"")];
        let mut last = file(&kept);
        last.extend(encode(Kind::Stdout, &Key::from(9), b"later"));
        last.extend(encode(Kind::Covered, &Key::from(7), b""));
        // An entry that is on its way.
        last.extend([0; 9]);
        fs::write(from.join("00000000000000000002"), &last).unwrap();
        fs::write(from.join("00000000000000000000"), file(&[entry(Kind::Covered, 2, b"")])).unwrap();
        fs::write(from.join("00000000000000000005"), "of later records").unwrap();
        fs::write(from.join(TENANTS), file(&[entry(Kind::Tenants, 1, b"x"), entry(Kind::Tenants, 6, b"y")]))
            .unwrap();
        copy(&from, &to, 5).unwrap();
        assert_eq!(fs::read(to.join("00000000000000000002")).unwrap(), file(&kept));
        assert_eq!(fs::read(to.join(TENANTS)).unwrap(), file(&[entry(Kind::Tenants, 1, b"x")]));
        assert_eq!(fs::read_dir(&to).unwrap().count(), 3);
        // With another one behind it, it must be whole.
        let error = copy(&from, &dir.path().join("other"), 6).unwrap_err();
        assert!(error.to_string().contains("00000000000000000002: it is damaged"), "{error}");
    }

    #[test]
    fn damage_in_front_of_the_checkpoint_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = file(&[entry(Kind::Stdout, 1, b"a"), entry(Kind::Covered, 3, b"")]);
        bytes[MAGIC.len() + 2] ^= 1;
        fs::write(dir.path().join("00000000000000000000"), &bytes).unwrap();
        fs::write(dir.path().join("00000000000000000003"), file(&[entry(Kind::Covered, 5, b"")])).unwrap();
        let error = copy(dir.path(), &dir.path().join("to"), 5).unwrap_err();
        assert!(error.to_string().contains("00000000000000000000: it is damaged"), "{error}");
    }
}
