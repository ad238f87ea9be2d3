//! What an attempt left in its `out` directory, on its way to become artifacts.
//!
//! *Never:* follows a link, opens anything but a regular file, holds a file in memory. A guest chose every name here, and a
//! call of its may still be at work: each name is looked up below an open directory, and what was opened is what is read.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, open, openat, statat};
use strongroom_job::{Artifact, Denial, MAX_ARTIFACT_NAMES_BYTES, MAX_ARTIFACTS};
use tokio::io::AsyncReadExt as _;

use super::empty::DIRECTORY;
use crate::blobs::Blobs;

/// Most bytes of one read.
const PIECE_BYTES: usize = 64 << 10;
/// How files are opened: never waiting for a FIFO's other end, never through a link.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);
/// Most things that cannot be artifacts and are told of.
const MAX_NOTES: usize = 8;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Collected {
    /// Artifacts, durable and sorted by name; and what could not be one.
    Kept(Vec<Artifact>, Vec<Denial>),
    /// More than may be kept: nothing is.
    TooMany {
        /// How many may be, with names as long as these.
        allowed: u64,
        /// How many there are at least.
        found: u64,
    },
}

/// Keeps every regular file below `out` as a blob.
///
/// # Errors
/// When a directory or a file cannot be read, or the blobs' disk does not take it.
pub(crate) async fn collect(out: &Path, blobs: &Blobs) -> io::Result<Collected> {
    let path = out.to_owned();
    let walked = tokio::task::spawn_blocking(move || Walk::of(&path)).await.map_err(io::Error::other)??;
    let Walk { root, names, notes, too_many, .. } = walked;
    if let Some((allowed, found)) = too_many {
        return Ok(Collected::TooMany { allowed, found });
    }
    let mut artifacts = Vec::with_capacity(names.len());
    for name in names {
        let file = open_below(&root, &name)?;
        if let Some(file) = file {
            artifacts.push(keep(name, file, blobs).await?);
        }
    }
    Ok(Collected::Kept(artifacts, notes))
}

async fn keep(name: String, file: OwnedFd, blobs: &Blobs) -> io::Result<Artifact> {
    let mut file = tokio::fs::File::from_std(file.into());
    let mut draft = blobs.draft().await?;
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    loop {
        piece.clear();
        if (&mut file).take(PIECE_BYTES as u64).read_to_end(&mut piece).await? == 0 {
            break;
        }
        draft.write(&piece).await?;
    }
    let (digest, length) = draft.keep().await?;
    Ok(Artifact { name, length, digest })
}

/// A walk over one tree.
struct Walk {
    root: OwnedFd,
    /// Names of regular files, sorted at the end.
    names: Vec<String>,
    bytes: usize,
    notes: Vec<Denial>,
    too_many: Option<(u64, u64)>,
}

impl Walk {
    fn of(out: &Path) -> io::Result<Self> {
        let root = open(out, DIRECTORY, Mode::empty())?;
        let mut walk = Self { root, names: Vec::new(), bytes: 0, notes: Vec::new(), too_many: None };
        let mut waiting = vec![String::new()];
        while let Some(directory) = waiting.pop() {
            let Some(open) = directory_below(&walk.root, &directory)? else { continue };
            for entry in Dir::read_from(&open)? {
                let name = entry?.file_name().to_owned();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                if let Some(inner) = walk.look(&open, &directory, &name)? {
                    waiting.push(inner);
                }
                if walk.too_many.is_some() {
                    return Ok(walk);
                }
            }
        }
        walk.names.sort_unstable();
        walk.notes.sort_unstable_by(|a, b| a.what.cmp(&b.what));
        Ok(walk)
    }

    /// One name of a directory: a directory is to be walked, a file is noted down.
    fn look(&mut self, open: &OwnedFd, directory: &str, name: &CString) -> io::Result<Option<String>> {
        let found = match statat(open, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            other => other?,
        };
        let shown = name.to_string_lossy();
        let path = if directory.is_empty() { shown.into_owned() } else { format!("{directory}/{shown}") };
        let is_name = name.to_str().is_ok() && Artifact::is_name(&path);
        let kind = FileType::from_raw_mode(found.st_mode);
        match kind {
            FileType::RegularFile | FileType::Directory if !is_name => {
                self.note(&path, "a name that is none for an artifact");
            }
            FileType::Directory => return Ok(Some(path)),
            FileType::RegularFile => self.add(path),
            FileType::Symlink => self.note(&path, "a symbolic link"),
            _ => self.note(&path, "no regular file"),
        }
        Ok(None)
    }

    fn add(&mut self, path: String) {
        if self.names.len() == MAX_ARTIFACTS || self.bytes + path.len() > MAX_ARTIFACT_NAMES_BYTES {
            let allowed = self.names.len() as u64;
            self.too_many = Some((allowed, allowed + 1));
            return;
        }
        self.bytes += path.len();
        self.names.push(path);
    }

    fn note(&mut self, path: &str, why: &str) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(Denial { what: format!("artifact {path:?} ({why})"), count: 1 });
        }
    }
}

/// The directory at a path of plain parts; none when it is gone or is another thing by now.
fn directory_below(root: &OwnedFd, path: &str) -> io::Result<Option<OwnedFd>> {
    let mut open = root.try_clone()?;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        match openat(&open, part, DIRECTORY, Mode::empty()) {
            Ok(next) => open = next,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(open))
}

/// The regular file at a path of plain parts; none when it is gone or is another thing by now.
fn open_below(root: &OwnedFd, path: &str) -> io::Result<Option<OwnedFd>> {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let Some(directory) = directory_below(root, directory)? else { return Ok(None) };
    match openat(&directory, name, FILE, Mode::empty()) {
        Ok(file) if FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::RegularFile => Ok(Some(file)),
        Ok(_) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    use strongroom_job::Digest;

    use super::*;

    struct Site {
        dir: tempfile::TempDir,
        blobs: Blobs,
    }

    fn site() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&dir.path().join("blobs"), &dir.path().join("tmp")).unwrap();
        std::fs::create_dir(dir.path().join("out")).unwrap();
        Site { dir, blobs }
    }

    impl Site {
        fn out(&self) -> std::path::PathBuf {
            self.dir.path().join("out")
        }

        async fn collect(&self) -> Collected {
            collect(&self.out(), &self.blobs).await.unwrap()
        }
    }

    #[tokio::test]
    async fn regular_files_are_kept_under_their_digest_and_sorted() {
        let site = site();
        std::fs::create_dir_all(site.out().join("b/c")).unwrap();
        for (name, bytes) in [("z", vec![7; 200_000]), ("b/c/x", b"x".to_vec()), ("a b", Vec::new())] {
            std::fs::write(site.out().join(name), bytes).unwrap();
        }
        let Collected::Kept(artifacts, notes) = site.collect().await else { panic!("kept") };
        let names: Vec<(&str, u64)> =
            artifacts.iter().map(|artifact| (artifact.name.as_str(), artifact.length)).collect();
        assert_eq!((names, notes), (vec![("a b", 0), ("b/c/x", 1), ("z", 200_000)], Vec::new()));
        assert_eq!(artifacts[1].digest, Digest::of(b"x"));
        assert_eq!(site.blobs.load(&artifacts[2].digest, 1 << 20).await.unwrap(), [7; 200_000]);
    }

    // Red without NOFOLLOW in `statat` (the link's target becomes an artifact); a FIFO without NONBLOCK would hang.
    #[tokio::test]
    async fn nothing_but_regular_files_with_plain_names_is_kept() {
        let site = site();
        let secret = site.dir.path().join("secret");
        std::fs::write(&secret, b"secret").unwrap();
        symlink(&secret, site.out().join("link")).unwrap();
        symlink(site.dir.path(), site.out().join("dir")).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        let out = open(site.out(), DIRECTORY, Mode::empty()).unwrap();
        rustix::fs::mknodat(&out, "pipe", FileType::Fifo, mode, 0).unwrap();
        std::fs::write(site.out().join(OsStr::from_bytes(b"\xff")), b"x").unwrap();
        std::fs::write(site.out().join("a\n\u{1b}[2J"), b"x").unwrap();
        std::fs::write(site.out().join("good"), b"x").unwrap();
        let Collected::Kept(artifacts, notes) = site.collect().await else { panic!("kept") };
        assert_eq!(artifacts.iter().map(|found| found.name.as_str()).collect::<Vec<_>>(), ["good"]);
        let notes: Vec<String> = notes.into_iter().map(|note| note.what).collect();
        assert_eq!(
            notes,
            [
                "artifact \"a\\n\\u{1b}[2J\" (a name that is none for an artifact)",
                "artifact \"dir\" (a symbolic link)",
                "artifact \"link\" (a symbolic link)",
                "artifact \"pipe\" (no regular file)",
                "artifact \"\u{fffd}\" (a name that is none for an artifact)",
            ]
        );
    }

    // Red without each half of the condition in `add`.
    #[tokio::test]
    async fn too_many_are_told_and_none_is_kept() {
        let site = site();
        for number in 0..MAX_ARTIFACTS {
            std::fs::write(site.out().join(format!("{number}")), b"x").unwrap();
        }
        assert!(matches!(site.collect().await, Collected::Kept(kept, _) if kept.len() == MAX_ARTIFACTS));
        std::fs::write(site.out().join("more"), b"x").unwrap();
        assert_eq!(site.collect().await, Collected::TooMany { allowed: 100, found: 101 });

        let site = self::site();
        for number in 0..50 {
            std::fs::write(site.out().join(format!("{number:0200}")), b"x").unwrap();
        }
        assert_eq!(site.collect().await, Collected::TooMany { allowed: 40, found: 41 });
    }
}
