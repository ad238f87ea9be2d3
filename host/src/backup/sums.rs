//! The list of a backup's files with the digest of each: written last, so that what has none is no backup.
//!
//! *Crash:* no list, or one without its last line. *Spec:* `docs/formats/backup.md`.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read as _, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use strongroom_job::{Digest, Digester, Timestamp};

use super::{BackupError, io_at};
use crate::blobs;
use crate::home::place::{PRIVATE_DIRECTORY, PRIVATE_FILE};

/// The list's name.
pub(super) const LIST: &str = "backup";
const FIRST: &str = "strongroom backup 1";
/// Longest list: some thirty million files. Whoever reads it has each path in memory, and no line of it.
const MAX_LIST_BYTES: u64 = 4 << 30;
/// Longest line: a path of a backup is far shorter.
const MAX_LINE_BYTES: u64 = 8 << 10;
/// Nothing of a backup lies so deep.
const MAX_DEPTH: usize = 16;

/// Lines in front of the files.
const HEAD_LINES: usize = 4;

/// A backup's list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sums {
    /// When it was begun, by the host's machine: what was erased before is not in it, what was erased since may be.
    pub(super) time: Timestamp,
    /// Whether secret keys are in it.
    pub(super) with_keys: bool,
    /// Each file below the backup.
    pub(super) files: BTreeMap<PathBuf, Digest>,
}

impl Sums {
    /// Makes everything below `dir` the owner's alone and durable, and the list of it. The list itself is not written.
    pub(super) fn seal(dir: &Path, time: Timestamp, with_keys: bool) -> Result<Self, BackupError> {
        let mut files = BTreeMap::new();
        for path in walk(dir)? {
            let full = dir.join(&path);
            let failed = io_at(&full);
            fs::set_permissions(&full, PermissionsExt::from_mode(PRIVATE_FILE)).map_err(&failed)?;
            File::open(&full).and_then(|file| file.sync_all()).map_err(&failed)?;
            let digest = blobs::measure(&full).map_err(&failed)?.digest;
            files.insert(path, digest);
        }
        Ok(Self { time, with_keys, files })
    }

    /// Writes the list, durably. One that nobody could read is refused.
    pub(super) fn write(&self, dir: &Path) -> Result<(), BackupError> {
        let path = dir.join(LIST);
        let write = || {
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(true).mode(PRIVATE_FILE).open(&path)?;
            let mut to = BufWriter::new(file);
            self.write_to(&mut to, MAX_LIST_BYTES)?;
            to.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
        };
        write().map_err(io_at(&path))
    }

    fn write_to(&self, to: &mut impl Write, most: u64) -> io::Result<()> {
        let keys = if self.with_keys { "with" } else { "none" };
        let head = format!("{FIRST}\ntime {}\nkeys {keys}\n\n", self.time.as_millis());
        let lines =
            self.files.iter().map(|(path, digest)| format!("{}  {}\n", digest.to_hex(), path.display()));
        let (mut digester, mut length) = (Digester::new(), 0);
        for piece in std::iter::once(head).chain(lines) {
            length += piece.len() as u64;
            if length > most.saturating_sub(MAX_LINE_BYTES) {
                return Err(io::Error::other("these are more files than the list of a backup may have"));
            }
            digester.update(piece.as_bytes());
            to.write_all(piece.as_bytes())?;
        }
        to.write_all(format!("end {}\n", digester.finish().to_hex()).as_bytes())
    }

    /// Reads the list of the backup in `dir`.
    pub(super) fn read(dir: &Path) -> Result<Self, BackupError> {
        let path = dir.join(LIST);
        let wrong = |problem: &str| BackupError::NoBackup { path: path.clone(), problem: problem.into() };
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(wrong("it is not there")),
            opened => opened.map_err(io_at(&path))?,
        };
        match Self::parse(BufReader::new(file.take(MAX_LIST_BYTES))) {
            Err(Unread::Io(error)) => Err(io_at(&path)(error)),
            Err(Unread::Wrong(problem)) => Err(wrong(&problem)),
            Ok(sums) => Ok(sums),
        }
    }

    /// Reads line after line, each when the next one is there: the last is the sum of all before.
    fn parse(mut from: impl BufRead) -> Result<Self, Unread> {
        let mut parsed = Parsed::default();
        let mut digester = Digester::new();
        let mut line = next(&mut from)?.ok_or("it is cut off")?;
        while let Some(following) = next(&mut from)? {
            digester.update(line.as_bytes());
            digester.update(b"\n");
            parsed.line(&line)?;
            line = following;
        }
        let end = line.strip_prefix("end ").ok_or("it is cut off: its last line is not there")?;
        if end != digester.finish().to_hex() {
            return Err("its last line is not the sum of the others".into());
        }
        let time = parsed.time.ok_or("it is cut off")?;
        let with_keys = parsed.with_keys.ok_or("it is cut off")?;
        if parsed.lines < HEAD_LINES {
            return Err("it is cut off".into());
        }
        Ok(Self { time, with_keys, files: parsed.files })
    }

    /// Whether these files are below `dir`, and no others. Their bytes are not read.
    pub(super) fn names_all(&self, dir: &Path) -> Result<(), BackupError> {
        let damaged = |path: &Path, problem: &str| BackupError::Damaged {
            path: dir.join(path),
            problem: problem.into(),
        };
        let mut found = walk_but_list(dir)?;
        found.sort();
        if let Some(missing) = self.files.keys().find(|path| found.binary_search(path).is_err()) {
            return Err(damaged(missing, "it is not there"));
        }
        match found.iter().find(|path| !self.files.contains_key(*path)) {
            Some(stranger) => Err(damaged(stranger, "it is not in the backup's list")),
            None => Ok(()),
        }
    }
}

/// Why there is no list.
#[derive(Debug)]
enum Unread {
    Io(io::Error),
    Wrong(String),
}

impl<T: Into<String>> From<T> for Unread {
    fn from(problem: T) -> Self {
        Self::Wrong(problem.into())
    }
}

/// The next line, without its end; none behind the last.
fn next(from: &mut impl BufRead) -> Result<Option<String>, Unread> {
    let mut line = Vec::new();
    from.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(Unread::Io)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err("it is cut off, or a line of it is too long".into());
    }
    String::from_utf8(line).map(Some).map_err(|_| "it is no text".into())
}

/// What the lines said so far.
#[derive(Default)]
struct Parsed {
    lines: usize,
    time: Option<Timestamp>,
    with_keys: Option<bool>,
    files: BTreeMap<PathBuf, Digest>,
}

impl Parsed {
    fn line(&mut self, line: &str) -> Result<(), String> {
        self.lines += 1;
        match self.lines {
            1 if line != FIRST => Err(format!("it does not begin with `{FIRST}`; another version made it")),
            1 => Ok(()),
            2 => {
                let time = line.strip_prefix("time ").and_then(|time| time.parse().ok());
                self.time = Some(Timestamp::from_millis(time.ok_or("line 2 is no time")?));
                Ok(())
            }
            3 => {
                self.with_keys = match line {
                    "keys with" => Some(true),
                    "keys none" => Some(false),
                    _ => return Err("line 3 does not say whether there are keys".into()),
                };
                Ok(())
            }
            HEAD_LINES if line.is_empty() => Ok(()),
            HEAD_LINES => Err("line 4 is not empty".into()),
            number => self.file(number, line),
        }
    }

    fn file(&mut self, number: usize, line: &str) -> Result<(), String> {
        let parsed = line.split_once("  ").and_then(|(digest, path)| {
            Some((format!("sha256:{digest}").parse::<Digest>().ok()?, PathBuf::from(path)))
        });
        let (digest, path) = parsed.ok_or_else(|| format!("line {number} is no digest and path"))?;
        // Whoever restores writes there.
        if path.components().any(|part| !matches!(part, Component::Normal(_))) || path.has_root() {
            return Err(format!("line {number}: the path leads out of the backup"));
        }
        if self.files.insert(path, digest).is_some() {
            return Err(format!("line {number}: the path stands there twice"));
        }
        Ok(())
    }
}

/// Each file below `dir`, relative to it. Directories become the owner's alone and durable.
fn walk(dir: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let mut found = Vec::new();
    for (path, is_dir) in below(dir)? {
        if is_dir {
            let full = dir.join(&path);
            fs::set_permissions(&full, PermissionsExt::from_mode(PRIVATE_DIRECTORY))
                .and_then(|()| File::open(&full)?.sync_all())
                .map_err(io_at(&full))?;
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

fn walk_but_list(dir: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let files = below(dir)?.into_iter().filter(|(path, is_dir)| !is_dir && path != Path::new(LIST));
    Ok(files.map(|(path, _)| path).collect())
}

/// Each name below `dir`, relative to it, and whether it is a directory. A link or anything else is refused.
fn below(dir: &Path) -> Result<Vec<(PathBuf, bool)>, BackupError> {
    let (mut found, mut left) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(inside) = left.pop() {
        let full = dir.join(&inside);
        let failed = io_at(&full);
        for entry in fs::read_dir(&full).map_err(&failed)? {
            let entry = entry.map_err(&failed)?;
            let (path, kind) = (inside.join(entry.file_name()), entry.file_type().map_err(&failed)?);
            if !kind.is_dir() && !kind.is_file() || path.components().count() > MAX_DEPTH {
                let problem = "neither a file nor a directory, or too deep".into();
                return Err(BackupError::Damaged { path: dir.join(path), problem });
            }
            if kind.is_dir() {
                left.push(path.clone());
            }
            found.push((path, kind.is_dir()));
        }
    }
    Ok(found)
}

/// Copies a file of a backup; it must have this digest.
pub(super) fn copy_checked(from: &Path, to: &Path, digest: &Digest) -> Result<u64, BackupError> {
    if let Some(above) = to.parent() {
        fs::create_dir_all(above).map_err(io_at(above))?;
    }
    let length = fs::copy(from, to).map_err(io_at(from))?;
    // Of the copy: what is restored is what was checked.
    let found = blobs::measure(to).map_err(io_at(to))?.digest;
    if found == *digest {
        return Ok(length);
    }
    let problem = format!("its digest is {found}, and the list says {digest}");
    Err(BackupError::Damaged { path: from.into(), problem })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn sums() -> Sums {
        let files = BTreeMap::from([
            (PathBuf::from("audit/checkpoint"), Digest::of(b"c")),
            (PathBuf::from("strongroom.toml"), Digest::of(b"t")),
        ]);
        Sums { time: Timestamp::from_millis(1_800_000_000_000), with_keys: false, files }
    }

    fn text(sums: &Sums) -> String {
        let mut bytes = Vec::new();
        sums.write_to(&mut bytes, MAX_LIST_BYTES).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn parse(text: &str) -> Result<Sums, String> {
        Sums::parse(text.as_bytes()).map_err(|problem| match problem {
            Unread::Io(error) => error.to_string(),
            Unread::Wrong(problem) => problem,
        })
    }

    /// The list of version 1, as it stays.
    const LIST_1: &str = "strongroom backup 1\ntime 1800000000000\nkeys none\n\n\
        2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6  audit/checkpoint\n\
        e3b98a4da31a127d4bde6e43033f66ba274cab0eb7eb1c70ec41402bf6273dd8  strongroom.toml\n";

    #[test]
    fn the_list_has_one_form_and_comes_back() {
        let text = text(&sums());
        let end = Digest::of(LIST_1.as_bytes()).to_hex();
        assert_eq!(text, format!("{LIST_1}end {end}\n"));
        assert_eq!(parse(&text).unwrap(), sums());
    }

    #[test]
    fn no_byte_of_the_list_can_change_and_no_end_can_be_cut_off() {
        let text = text(&sums());
        for place in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[place] ^= 1;
            assert!(parse(&String::from_utf8(bytes).unwrap()).is_err(), "byte {place}");
            assert!(parse(&text[..place]).is_err(), "cut at {place}");
        }
    }

    // `restore` would write there.
    #[test]
    fn a_list_leads_nowhere_else() {
        for path in ["../x", "/x", "a/../../x"] {
            let mut sums = sums();
            sums.files.insert(path.into(), Digest::of(b"x"));
            assert!(parse(&text(&sums)).unwrap_err().contains("out of the backup"), "{path}");
        }
    }

    #[test]
    fn a_list_of_many_files_comes_back_and_one_too_long_is_not_written() {
        let mut many = sums();
        for number in 0..20_000_u64 {
            let digest = Digest::of(&number.to_be_bytes());
            many.files.insert(PathBuf::from("blobs").join(digest.to_hex()), digest);
        }
        let written = text(&many);
        assert_eq!(parse(&written).unwrap(), many);
        let most = written.len() as u64;
        let error = many.write_to(&mut io::sink(), most).unwrap_err().to_string();
        assert!(error.contains("more files than"), "{error}");
        many.write_to(&mut io::sink(), most + MAX_LINE_BYTES).unwrap();
    }

    /// Whoever reads a list holds one line of it at a time, and that has a bound.
    #[test]
    fn a_line_without_an_end_is_not_read_to_it() {
        let endless = io::repeat(b'x');
        assert!(matches!(Sums::parse(BufReader::new(endless)), Err(Unread::Wrong(_))));
    }
}
