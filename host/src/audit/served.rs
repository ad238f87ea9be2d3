//! Which files of the log may be shown to anybody, under which names.
//!
//! A name is a fixed word or is read by the parser of tiles, which knows one spelling for each; nothing else is ever joined to the
//! directory's path. *Never:* shows what the checkpoint does not cover, or follows a link.
//! *Spec:* C2SP tlog-tiles.

use std::fs::File;
use std::path::Path;

use strongroom_job::note::{MAX_NOTE_BYTES, VerifierKey};
use strongroom_job::succession::MAX_SUCCESSIONS_BYTES;
use strongroom_job::tile::Tile;

use super::files::{CHECKPOINT, COSIGNED, FileError, Files, KEYS, LOG_PUB};

/// Where the newest checkpoint is, cosigned or not. Ours, not the specification's.
const LATEST: &str = "checkpoint.latest";

/// The log's directory, for showing.
#[derive(Debug)]
pub(crate) struct LogFiles {
    files: Files,
    log: VerifierKey,
    /// Whether `/checkpoint` is the cosigned one. A file that is left from a time with witnesses would stand still for ever.
    witnessed: bool,
}

/// A file to show.
#[derive(Debug)]
pub(crate) enum Shown {
    /// Text that changes.
    Head(Vec<u8>),
    /// A tile or a bundle, which never changes, and its length.
    Part(File, u64),
}

impl LogFiles {
    pub(crate) fn new(dir: &Path, log: VerifierKey, witnessed: bool) -> Self {
        Self { files: Files::new(dir), log, witnessed }
    }

    /// What is at this path, which begins with a slash; none when there is nothing to show.
    pub(crate) fn show(&self, path: &str) -> Result<Option<Shown>, FileError> {
        let head = |file| self.files.read(file, MAX_NOTE_BYTES).map(|bytes| Some(Shown::Head(bytes)));
        match path.strip_prefix('/') {
            Some(CHECKPOINT) if self.witnessed && self.files.exists(COSIGNED)? => head(COSIGNED),
            Some(CHECKPOINT | LATEST) => head(CHECKPOINT),
            Some(COSIGNED) if self.files.exists(COSIGNED)? => head(COSIGNED),
            Some(LOG_PUB) => head(LOG_PUB),
            Some(KEYS) if self.files.exists(KEYS)? => {
                self.files.read(KEYS, MAX_SUCCESSIONS_BYTES).map(|bytes| Some(Shown::Head(bytes)))
            }
            Some(tile) => match tile.parse::<Tile>() {
                Ok(tile) if tile.is_within(self.files.checkpoint(&self.log)?.size()) => self.part(tile),
                _ => Ok(None),
            },
            None => Ok(None),
        }
    }

    fn part(&self, tile: Tile) -> Result<Option<Shown>, FileError> {
        match self.files.open(&tile.to_string()) {
            Ok((file, length)) => Ok(Some(Shown::Part(file, length))),
            // A partial tile gave way to the full one.
            Err(FileError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
