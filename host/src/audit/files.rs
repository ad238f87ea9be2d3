//! Reading the audit directory: names, bounds, and who signs.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use strongroom_job::PublicKey;
use strongroom_job::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use strongroom_job::note::{MAX_NOTE_BYTES, VerifierKey};
use strongroom_job::succession::{KeyChain, MAX_SUCCESSIONS_BYTES, Succession};
use strongroom_job::tile::{Content, TILE_WIDTH, Tile, bundle, hashes};

/// The signed size and root: replaced by each publication, and only by it.
pub(super) const CHECKPOINT: &str = "checkpoint";
/// The newest checkpoint that witnesses cosigned: of `checkpoint`'s size or less.
pub(super) const COSIGNED: &str = "checkpoint.cosigned";
/// What becomes [`COSIGNED`].
pub(super) const COSIGNED_PENDING: &str = ".cosigned";
/// The log's name and public key: one line, written once.
pub(super) const LOG_PUB: &str = "log.pub";
/// The statements by which the log's key was replaced, if it ever was: public, so that who pinned an earlier key can follow.
pub(super) const KEYS: &str = "keys";
/// The directory of all tiles and bundles.
pub(super) const TILE: &str = "tile";
/// The one file that is being written. It becomes another by renaming; what is left of it means nothing.
pub(super) const PENDING: &str = ".pending";

const MAX_LOG_PUB_BYTES: usize = 1024;

/// Why a file of the log could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there.
    #[error("{file}: missing")]
    Missing {
        /// The file, relative to the audit directory.
        file: String,
    },
    /// A directory, a link or a device in its place.
    #[error("{file}: not a regular file")]
    NotAFile {
        /// The file, relative to the audit directory.
        file: String,
    },
    /// More bytes than such a file can have.
    #[error("{file}: longer than the {max} bytes that it can have")]
    TooLong {
        /// The file, relative to the audit directory.
        file: String,
        /// The bound.
        max: usize,
    },
    /// Its content has another form.
    #[error("{file}: {problem}")]
    Malformed {
        /// The file, relative to the audit directory.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The operating system failed.
    #[error("{file}: {source}")]
    Io {
        /// The file, relative to the audit directory.
        file: String,
        /// Its reason.
        source: io::Error,
    },
}

impl FileError {
    pub(super) fn io(file: &str, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound {
            Self::Missing { file: file.to_owned() }
        } else {
            Self::Io { file: file.to_owned(), source }
        }
    }

    pub(super) fn malformed(file: &str, problem: &(impl ToString + ?Sized)) -> Self {
        Self::Malformed { file: file.to_owned(), problem: problem.to_string() }
    }

    /// The file, relative to the audit directory.
    #[must_use]
    pub fn file(&self) -> &str {
        match self {
            Self::Missing { file }
            | Self::NotAFile { file }
            | Self::TooLong { file, .. }
            | Self::Malformed { file, .. }
            | Self::Io { file, .. } => file,
        }
    }
}

/// The audit directory, for reading.
#[derive(Clone, Debug)]
pub(super) struct Files {
    dir: PathBuf,
}

impl Files {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// Whether something of that name is there, whatever it is.
    pub(super) fn exists(&self, file: &str) -> Result<bool, FileError> {
        match fs::symlink_metadata(self.path(file)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(FileError::io(file, error)),
        }
    }

    /// A regular file, open for reading, and its length.
    pub(super) fn open(&self, file: &str) -> Result<(File, u64), FileError> {
        let path = self.path(file);
        let failed = |error| FileError::io(file, error);
        // Not through a link, and never opening a pipe that would block.
        if !fs::symlink_metadata(&path).map_err(failed)?.is_file() {
            return Err(FileError::NotAFile { file: file.to_owned() });
        }
        let opened = File::open(&path).map_err(failed)?;
        let length = opened.metadata().map_err(failed)?.len();
        Ok((opened, length))
    }

    /// All bytes of a regular file that has at most `max` of them.
    pub(super) fn read(&self, file: &str, max: usize) -> Result<Vec<u8>, FileError> {
        let failed = |error| FileError::io(file, error);
        let (opened, _) = self.open(file)?;
        let mut bytes = Vec::new();
        // One byte more than allowed is enough to know. A file's length fits in 64 bits.
        opened.take(max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > max {
            return Err(FileError::TooLong { file: file.to_owned(), max });
        }
        Ok(bytes)
    }

    /// The bytes of exactly this tile or bundle.
    pub(super) fn tile(&self, tile: Tile) -> Result<Vec<u8>, FileError> {
        let max = match tile.content() {
            Content::Entries => bundle::MAX_BUNDLE_BYTES,
            Content::Hashes { .. } => hashes::MAX_TILE_BYTES,
        };
        self.read(&tile.to_string(), max)
    }

    /// The bytes of a tile or bundle, cut from the full one when the partial one is gone.
    ///
    /// A running host removes partial tiles once the full one is published. Only for readers: whoever writes must
    /// see what is really there.
    pub(super) fn tile_or_full(&self, tile: Tile) -> Result<Vec<u8>, FileError> {
        let missing = match self.tile(tile) {
            Err(error @ FileError::Missing { .. }) if !tile.is_full() => error,
            other => return other,
        };
        let full = Tile::new(tile.content(), tile.index(), TILE_WIDTH);
        let Some(mut bytes) = full.ok().and_then(|full| self.tile(full).ok()) else { return Err(missing) };
        let length = match tile.content() {
            Content::Hashes { .. } => usize::from(tile.width()) * strongroom_job::merkle::HASH_BYTES,
            Content::Entries => bundle::prefix(&bytes, tile.width()).map_err(|_| missing)?.len(),
        };
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Who signs this log, as its directory says, and the keys before that one. Anybody can write such files: compare one of the keys
    /// with a known one.
    pub(super) fn signer(&self) -> Result<Signer, FileError> {
        let named = self.log_pub()?;
        let keys = KeyChain::of_log(&named).follow(&self.statements()?);
        let keys = keys.map_err(|error| FileError::malformed(KEYS, &error))?;
        let verifier = VerifierKey::new(named.name().clone(), *keys.current());
        Ok(Signer { verifier, keys })
    }

    /// The statements by which the log's key was replaced; none when it never was.
    pub(super) fn statements(&self) -> Result<Vec<Succession>, FileError> {
        if !self.exists(KEYS)? {
            return Ok(Vec::new());
        }
        let bytes = self.read(KEYS, MAX_SUCCESSIONS_BYTES)?;
        Succession::parse_file(&bytes).map_err(|error| FileError::malformed(KEYS, &error))
    }

    /// The one line of `log.pub`. While a rotation is on its way, or was cut off, it may be the key of before.
    pub(super) fn log_pub(&self) -> Result<VerifierKey, FileError> {
        let bytes = self.read(LOG_PUB, MAX_LOG_PUB_BYTES)?;
        let text = str::from_utf8(&bytes).ok().and_then(|text| text.strip_suffix('\n'));
        let text = text.ok_or_else(|| FileError::malformed(LOG_PUB, "expected one line of text"))?;
        text.parse().map_err(|error| FileError::malformed(LOG_PUB, &error))
    }

    /// The current checkpoint, checked against the log's key.
    pub(super) fn checkpoint(&self, verifier: &VerifierKey) -> Result<Checkpoint, FileError> {
        self.signed(CHECKPOINT, verifier)
    }

    /// The cosigned checkpoint, if there is one, checked against the log's key. Read before `checkpoint`, it is never ahead of it.
    pub(super) fn cosigned(&self, verifier: &VerifierKey) -> Result<Option<Checkpoint>, FileError> {
        if self.exists(COSIGNED)? { self.signed(COSIGNED, verifier).map(Some) } else { Ok(None) }
    }

    fn signed(&self, file: &str, verifier: &VerifierKey) -> Result<Checkpoint, FileError> {
        let bytes = self.read(file, MAX_NOTE_BYTES)?;
        let checked: Result<_, CheckpointError> =
            SignedCheckpoint::parse(&bytes).and_then(|signed| signed.verify(verifier.name(), verifier.key()));
        checked.map_err(|error| FileError::malformed(file, &error))
    }
}

/// The directory is of another log than the one that was asked for.
#[derive(Debug, thiserror::Error)]
#[error("the log is signed by {found}, not by {expected}: this is another log, or a forged one{}", unled(*.led))]
pub struct WrongKey {
    /// The key that was asked for.
    pub expected: Box<PublicKey>,
    /// The key in the directory.
    pub found: Box<PublicKey>,
    /// Whether the directory has statements about keys, which do not lead there.
    pub led: bool,
}

const fn unled(led: bool) -> &'static str {
    match led {
        true => "; its `keys` do not lead from the one to the other",
        false => {
            "; or its key was replaced, and the file `keys`, which leads from the one to the other, is missing here"
        }
    }
}

/// Who signs a log.
#[derive(Clone, Debug)]
pub(super) struct Signer {
    /// By the key that counts now.
    pub(super) verifier: VerifierKey,
    /// All its keys, as far as they are known.
    pub(super) keys: KeyChain,
}

impl Signer {
    /// Compares the directory's keys with the one that the caller knows from elsewhere: it may be an earlier one.
    pub(super) fn check(&self, expected: Option<&PublicKey>) -> Result<(), WrongKey> {
        match expected {
            Some(expected) if !self.keys.contains(expected) => {
                let (expected, found) = (Box::new(*expected), Box::new(*self.verifier.key()));
                Err(WrongKey { expected, found, led: self.keys.keys().len() > 1 })
            }
            _ => Ok(()),
        }
    }
}
