//! Backups: a copy of everything that a host cannot make again, as of one checkpoint, and what brings it back.
//!
//! The state is not copied. It is made anew from the log, the evidence and the files that the log's jobs need (`store::rebuild`), which is
//! also how a backup is checked before it gets its name: what passes for one could be restored when it was made.
//!
//! `take` makes one, beside a host that goes on, if `room` finds that the disk has room for it; `restore` makes a data directory of one; `sums` is the list of its files, written last.
//!
//! *Never:* writes into a directory that is there; copies secret keys unless told to. *Crash:* what is not whole has a temporary name and
//! no list. *Spec:* `docs/formats/backup.md`.

mod restore;
mod room;
mod sums;
mod take;

use std::io;
use std::path::{Path, PathBuf};

use strongroom_job::Digest;
use strongroom_job::checkpoint::CheckpointError;
use strongroom_job::merkle::Hash;

use crate::audit::verify::VerifyError;
use crate::audit::{ExportError, FileError};
use crate::config::ConfigError;
use crate::evidence::CopyError;
use crate::home::HomeError;
use crate::mend::MendError;
use crate::store::rebuild::RebuildError;

pub use restore::{Restore, Restored, restore};
pub use take::{Taken, take};

/// Beginning of the name of what is not a whole backup, or no whole data directory, yet.
const UNFINISHED: &str = ".strongroom-unfinished-";

/// Why there is no backup, or no data directory. Nothing is left where one should be.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something is there already.
    #[error("{}: there is something already: choose a name that is free", .0.display())]
    Exists(PathBuf),
    /// A file or directory.
    #[error("{}: {error}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The disk has no room for it.
    #[error(
        "{}: a backup takes {needed} bytes or more, and the disk has {free} free, of which {reserve} are the host's (disk_reserve_bytes). Free \
         some, or choose another disk",
        .path.display()
    )]
    Room {
        /// Where it was to be.
        path: PathBuf,
        /// What there is to copy, bytes.
        needed: u64,
        /// What is free there, bytes.
        free: u64,
        /// What the host keeps of it, where it is the host's disk, too; bytes.
        reserve: u64,
    },
    /// The backup's list of files is not there or not whole.
    #[error("{}: {problem}. This is no whole backup: take another one", .path.display())]
    NoBackup {
        /// The list.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file of the backup is not as it was when the backup was made.
    #[error("{}: {problem}. The backup is damaged, or was changed: take another one", .path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file that the log's jobs need is not what its name says.
    #[error("blobs: {digest}, {what}: {problem}; `strongroom fsck` says more")]
    Blob {
        /// Its name.
        digest: Digest,
        /// What it is to whom.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The keys do not fit the log or each other.
    #[error("keys: {0}")]
    Keys(String),
    /// The checkpoint that is known from elsewhere.
    #[error("the checkpoint that is known: {0}")]
    Known(Box<CheckpointError>),
    /// The data directory, or its keys.
    #[error(transparent)]
    Home(Box<HomeError>),
    /// The configuration in the backup.
    #[error(transparent)]
    Config(Box<ConfigError>),
    /// The log cannot be copied.
    #[error("the log: {0}")]
    Export(Box<ExportError>),
    /// The log cannot be read.
    #[error("the log: {0}")]
    File(Box<FileError>),
    /// The log does not verify.
    #[error("the log: {0}")]
    Verify(Box<VerifyError>),
    /// The evidence cannot be copied.
    #[error("the evidence: {0}")]
    Evidence(#[from] CopyError),
    /// No state comes of the copy.
    #[error("no state can be made of the log and the evidence: {0}")]
    Rebuild(Box<RebuildError>),
    /// No state comes of the backup.
    #[error("no state can be made of the backup: {0}")]
    Mend(Box<MendError>),
}

macro_rules! boxed {
    ($($variant:ident($error:ty);)*) => {$(
        impl From<$error> for BackupError {
            fn from(error: $error) -> Self {
                Self::$variant(Box::new(error))
            }
        }
    )*};
}

// Some of them are long, and an error is on its way through many functions.
boxed! {
    Known(CheckpointError);
    Home(HomeError);
    Config(ConfigError);
    Export(ExportError);
    File(FileError);
    Verify(VerifyError);
    Rebuild(RebuildError);
    Mend(MendError);
}

/// The log that a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Records.
    pub size: u64,
    /// Its root.
    pub root: Hash,
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> BackupError + '_ {
    move |error| BackupError::Io { path: path.into(), error }
}

/// Where the directory `path` gets its name.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Gives a directory that is whole and durable its name.
fn name(made: &Path, path: &Path) -> Result<(), BackupError> {
    std::fs::rename(made, path).map_err(io_at(path))?;
    std::fs::File::open(parent(path)).and_then(|above| above.sync_all()).map_err(io_at(path))
}
