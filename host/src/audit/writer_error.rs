//! What stops the writer: each error says which file, whose fault, and how to go on.

use std::io;

use strongroom_job::checkpoint::CheckpointError;
use strongroom_job::merkle::{LeafIndex, TreeSize, TreeSizeError};
use strongroom_job::note::VerifierKey;
use strongroom_job::tile::Tile;
use strongroom_job::tile::bundle::EntryTooLong;

use super::files::{CHECKPOINT, FileError, LOG_PUB};

/// Why a log cannot be created or opened. Nothing was changed but leftovers of a crash.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file that the log needs.
    #[error(transparent)]
    File(#[from] FileError),
    /// The directory is of another log.
    #[error("{LOG_PUB}: this directory is the log {found}, but the host's key and name make {expected}")]
    OtherLog {
        /// Of the key and name that were passed in.
        expected: Box<VerifierKey>,
        /// Of the directory.
        found: Box<VerifierKey>,
    },
    /// There are tiles, but nothing says how many of them count.
    #[error(
        "{CHECKPOINT}: missing, but there are tiles: restore it from a copy; a new one would be a second history"
    )]
    CheckpointLost,
    /// `create` found a log that has entries.
    #[error("{CHECKPOINT}: there is a log of {size} entries already: open it, or choose an empty directory")]
    HasEntries {
        /// How many.
        size: TreeSize,
    },
    /// The tiles at the right edge are not those that the checkpoint signs.
    #[error(
        "the tiles at the end of the log do not give the root in {CHECKPOINT}: some were altered; run `audit verify`"
    )]
    Edge,
    /// The last bundle and the hashes of its entries disagree.
    #[error("{bundle}: entry {index} is not the one that was published: it was altered; run `audit verify`")]
    LastBundle {
        /// The bundle's file.
        bundle: Tile,
        /// The first entry that differs.
        index: LeafIndex,
    },
    /// The first checkpoint could not be signed.
    #[error(transparent)]
    Sign(#[from] CheckpointError),
    /// The operating system failed.
    #[error("cannot write the audit directory: {0}")]
    Write(#[from] io::Error),
}

/// Why entries were not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The entries do not join the log's end.
    #[error("the entries begin at {first}, but the log has {size} entries: those between are missing")]
    Gap {
        /// Where the entries begin.
        first: LeafIndex,
        /// Where the log ends.
        size: TreeSize,
    },
    /// A published entry came with other bytes.
    #[error(
        "entry {index} is published with other bytes than the ones handed in: the state was rolled back or altered"
    )]
    Rewritten {
        /// The first such entry.
        index: LeafIndex,
    },
    /// An entry that the log cannot hold.
    #[error(transparent)]
    TooLong(#[from] EntryTooLong),
    /// The log is full.
    #[error(transparent)]
    Full(#[from] TreeSizeError),
    /// A file of the log.
    #[error(transparent)]
    File(#[from] FileError),
    /// The checkpoint could not be signed.
    #[error(transparent)]
    Sign(#[from] CheckpointError),
    /// The operating system failed. Whether the last step happened is unknown: only a new start can tell.
    #[error("cannot write the audit directory: {0}")]
    Write(#[from] io::Error),
    /// An earlier publication failed half-way.
    #[error("the log stopped at an earlier error: open it again")]
    Broken,
}

/// Why the log is not the continuation of a tree that was seen earlier.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// It is shorter.
    #[error("the log has {size} entries, but {seen} were published: it was cut off or rolled back")]
    Shrank {
        /// What is there.
        size: TreeSize,
        /// What was there.
        seen: TreeSize,
    },
    /// It has another beginning.
    #[error("the first {size} entries of the log are not those that were published: it was rewritten")]
    Rewritten {
        /// How many entries the older tree had.
        size: TreeSize,
    },
    /// Its tiles cannot be read.
    #[error("cannot read the log's tiles: {0}")]
    Tiles(String),
}
