//! How far a destination is: a small file, replaced whole.
//!
//! It also remembers the log as it was seen last. A log that does not begin with that one was replaced or rolled back: what the
//! destination has is then evidence that this directory has lost, and nothing of another log may be mixed into it.
//!
//! *Owns:* `forward/NAME.cursor`. *Crash:* the old file or the new one; records between the two are sent again.
//! *Spec:* `docs/formats/forwarding.md`.

use std::path::{Path, PathBuf};

use strongroom_job::Name;
use strongroom_job::merkle::{HASH_BYTES, Hash, TreeHead, TreeSize};
use strongroom_job::note::VerifierKey;

use super::{Trouble, kept};
use crate::audit::read::LogReader;
use crate::home::place;

const FIRST_LINE: &str = "strongroom cursor v1";

/// A place in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Name and key of the log.
    log: String,
    /// The first record that the destination may not have.
    pub(super) next: u64,
    /// The log, when that was written.
    seen: TreeHead,
}

impl Cursor {
    pub(super) fn path(home: &Path, name: &Name) -> PathBuf {
        kept::path(home, name, "cursor")
    }

    /// Before `next`, in the log as it is now.
    pub(super) fn at(log: &LogReader, next: u64) -> Self {
        Self { log: log.verifier().to_string(), next, seen: *log.checkpoint().head() }
    }

    /// The cursor at `path`; none when there is no such file.
    pub(super) fn load(path: &Path) -> Result<Option<Self>, Trouble> {
        let Some(text) = kept::read(path)? else { return Ok(None) };
        match Self::parse(&text) {
            Some(cursor) => Ok(Some(cursor)),
            None => Err(Trouble::Stuck(format!(
                "{}: damaged. Remove it, and the destination begins where its `from` says",
                path.display()
            ))),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut value = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ');
        if value("strongroom")? != FIRST_LINE.strip_prefix("strongroom ")? {
            return None;
        }
        let log = value("log")?.to_owned();
        let next = value("next")?.parse().ok()?;
        let size: u64 = value("size")?.parse().ok()?;
        let root: [u8; HASH_BYTES] = hex::decode(value("root")?).ok()?.try_into().ok()?;
        let seen = TreeHead { size: TreeSize::new(size).ok()?, root: Hash::from_bytes(root) };
        (lines.next().is_none() && next <= size).then_some(Self { log, next, seen })
    }

    fn written(&self) -> String {
        let Self { log, next, seen } = self;
        let (size, root) = (seen.size.get(), hex::encode(seen.root.as_bytes()));
        format!("{FIRST_LINE}\nlog {log}\nnext {next}\nsize {size}\nroot {root}\n")
    }

    /// Makes it durable.
    pub(super) fn save(&self, path: &Path) -> Result<(), Trouble> {
        place::replace(path, self.written().as_bytes()).map_err(Trouble::later)
    }

    /// Whether `log` is the one that the cursor is of, and goes on where that was.
    pub(super) fn fits(&self, log: &LogReader) -> Result<(), Trouble> {
        // By any of its keys: the cursor may be from before one was replaced.
        if !self.log.parse().is_ok_and(|kept: VerifierKey| log.keys().is_of(&kept)) {
            let found = log.verifier();
            return Err(Trouble::Stuck(format!(
                "the log is {found}, the cursor is of {}: another log is in this directory. Restore the old one, or give the \
                 destination a new name",
                self.log
            )));
        }
        match log.begins_with(&self.seen) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Trouble::Stuck(format!(
                "the log does not begin with the {} records that it had when they were forwarded: it was rolled back or \
                 rewritten. The destination holds what is missing here. Restore the log, or give the destination a new name",
                self.seen.size
            ))),
            Err(error) => Err(Trouble::later(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor() -> Cursor {
        let seen = TreeHead { size: TreeSize::new(300).unwrap(), root: Hash::from_bytes([7; HASH_BYTES]) };
        Cursor { log: "example.com/log+0+x".into(), next: 299, seen }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.cursor");
        assert_eq!(Cursor::load(&path).unwrap(), None);
        cursor().save(&path).unwrap();
        assert_eq!(Cursor::load(&path).unwrap(), Some(cursor()));
    }

    #[test]
    fn a_damaged_file_is_no_cursor() {
        let good = cursor().written();
        assert!(Cursor::parse(&good).is_some());
        for bad in [
            String::new(),
            good.replace("v1", "v2"),
            good.replace("next 299", "next 301"),
            good.replace("next 299", "next -1"),
            good.replace("root 07", "root 7"),
            format!("{good}more\n"),
            good[..good.len() / 2].to_owned(),
        ] {
            assert_eq!(Cursor::parse(&bad), None, "{bad}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.cursor");
        std::fs::write(&path, b"\xff\xfe").unwrap();
        assert!(matches!(Cursor::load(&path), Err(Trouble::Stuck(_))));
    }
}
