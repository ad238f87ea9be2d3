//! The second signed head: the newest checkpoint that witnesses cosigned, in a file beside `checkpoint`.
//!
//! *Never:* covers more than `checkpoint` does, or less than it did before. *Crash:* the old file or the new one; both are true, and
//! `checkpoint` alone says what the log is.

use std::fs::File;
use std::io;
use std::path::Path;

use strongroom_job::checkpoint::{Checkpoint, CheckpointError};
use strongroom_job::cosignature::{Cosignature, attach};
use strongroom_job::merkle::TreeSize;
use strongroom_job::note::VerifierKey;

use super::durable::{DurableDir, Hook};
use super::files::{COSIGNED, COSIGNED_PENDING, FileError, Files};
use super::read::{LogReader, ReadError};

/// Why a cosigned checkpoint is not kept. The file is as it was, unless writing failed.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// A file of the log.
    #[error(transparent)]
    File(#[from] FileError),
    /// More than the log has, or less than the file has.
    #[error("a checkpoint of {size} entries is not kept: {kept} are cosigned, {published} are published")]
    Size {
        /// What was to be kept.
        size: TreeSize,
        /// What the file has.
        kept: TreeSize,
        /// What the log has.
        published: TreeSize,
    },
    /// More cosignatures than a checkpoint holds.
    #[error(transparent)]
    Form(#[from] CheckpointError),
    /// The disk.
    #[error("checkpoint.cosigned: {0}")]
    Write(#[from] io::Error),
}

/// The log as its checkpoint stands now, made durable first: what a witness has cosigned, a power cut must not take back.
///
/// # Errors
/// When the log cannot be read, or is not the one of `log`, or its names cannot be synced.
pub fn published(dir: &Path, log: &VerifierKey) -> Result<LogReader, ReadError> {
    let reader = LogReader::open(dir, Some(log.key()))?;
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| FileError::io(".", error))?;
    Ok(reader)
}

/// Keeps `checkpoint` with these cosignatures, durably.
///
/// # Errors
/// When it does not fit between what is kept and what is published, or the disk fails.
pub fn keep(
    dir: &Path,
    log: &VerifierKey,
    checkpoint: &Checkpoint,
    cosignatures: &[Cosignature],
) -> Result<(), KeepError> {
    keep_with(dir, log, checkpoint, cosignatures, None)
}

/// [`keep`] with a hook around every durable step, for tests.
///
/// # Errors
/// As [`keep`], and when the hook says so.
pub fn keep_with(
    dir: &Path,
    log: &VerifierKey,
    checkpoint: &Checkpoint,
    cosignatures: &[Cosignature],
    hook: Option<Hook>,
) -> Result<(), KeepError> {
    let files = Files::new(dir);
    let kept = files.cosigned(log)?.map_or(TreeSize::ZERO, |kept| kept.size());
    let published = files.checkpoint(log)?.size();
    let size = checkpoint.size();
    if size < kept || size > published {
        return Err(KeepError::Size { size, kept, published });
    }
    let text = attach(checkpoint, cosignatures)?.to_string();
    // The log's writer has a pending file of its own: the two write at the same time.
    let mut durable = DurableDir::with_pending(dir, COSIGNED_PENDING, hook);
    durable.write(COSIGNED, text.as_bytes())?;
    Ok(durable.sync_names()?)
}
