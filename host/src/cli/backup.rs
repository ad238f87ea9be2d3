//! `strongroom backup` and `strongroom restore`. They work on files; a host may serve the directory that is backed up.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::backup::{self, BackupError, Restore, Restored, Taken};
use crate::home::Home;

use super::Common;
use super::console::Console;
use super::exit::{Exit, Failure};
use super::view::time;

/// Longest file with a known checkpoint.
const MAX_KNOWN_BYTES: u64 = 64 << 10;

#[derive(Args, Debug)]
pub(super) struct BackupArgs {
    /// Directory to make
    #[arg(value_name = "DEST")]
    dest: PathBuf,
    /// Copy the secret keys, too: whoever has the backup then is this host, and reads its secrets
    #[arg(long)]
    with_keys: bool,
    /// An earlier backup: equal files share their room on the disk with it
    #[arg(long, value_name = "BACKUP")]
    onto: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct RestoreArgs {
    /// The backup
    #[arg(value_name = "SRC")]
    src: PathBuf,
    /// Directory of the host's secret keys, for a backup that was made without them
    #[arg(long, value_name = "KEYS")]
    keys: Option<PathBuf>,
    /// A checkpoint of this log that is known from elsewhere, such as from a copy of it: refuse a backup that is behind it, or of another history
    #[arg(long, value_name = "CHECKPOINT")]
    known: Option<PathBuf>,
}

/// A backup, for programs.
#[derive(Serialize)]
struct Made {
    backup: String,
    records: u64,
    root: String,
    jobs: u64,
    forgotten: u64,
    blobs_gone: u64,
    files: u64,
    shared: u64,
    with_keys: bool,
}

/// A restored directory, for programs.
#[derive(Serialize)]
struct Back {
    dir: String,
    taken: String,
    records: u64,
    root: String,
    jobs: u64,
    forgotten: u64,
    files: u64,
}

pub(super) fn backup(common: &Common, args: &BackupArgs, console: &Console) -> Result<Exit, Failure> {
    let home = Home::open(&common.directory()?)?;
    let made = backup::take(&home, &args.dest, args.with_keys, args.onto.as_deref()).map_err(failed)?;
    let Taken { head, rebuilt, files, shared } = made;
    let made = Made {
        backup: args.dest.display().to_string(),
        records: head.size,
        root: head.root.to_string(),
        jobs: rebuilt.jobs,
        forgotten: rebuilt.forgotten,
        blobs_gone: rebuilt.blobs_gone,
        files,
        shared,
        with_keys: args.with_keys,
    };
    if console.json() {
        console.document(&made)?;
    } else {
        console.print(made.words())?;
    }
    Ok(Exit::Status(0))
}

impl Made {
    fn words(&self) -> String {
        let Self { backup, records, root, jobs, forgotten, blobs_gone, files, shared, .. } = self;
        let keys = match self.with_keys {
            true => "the secret keys are in it: keep it as secret as they are",
            false => {
                "no secret key is in it: it cannot be served without a copy of the keys directory. What jobs were told and left is in it"
            }
        };
        format!(
            "{backup}: a whole backup\nrecords   {records}, each replayed\nroot      {root}\njobs      {jobs}, and {forgotten} that were forgotten\n\
             gone      {blobs_gone} modules or inputs, before\nfiles     {files}, of which {shared} share their room with the earlier backup\n\
             keys      {keys}\nnot in it what was acknowledged after the last of these records"
        )
    }
}

pub(super) fn restore(common: &Common, args: &RestoreArgs, console: &Console) -> Result<Exit, Failure> {
    let dir = common.directory()?;
    let known = args.known.as_deref().map(|path| {
        let read = || {
            use std::io::Read as _;
            let mut bytes = Vec::new();
            std::fs::File::open(path)?.take(MAX_KNOWN_BYTES).read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>(bytes)
        };
        read().map_err(|error| Failure::usage(format_args!("--known: {}: {error}", path.display())))
    });
    let known = known.transpose()?;
    let what = Restore { from: &args.src, dir: &dir, keys: args.keys.as_deref(), known: known.as_deref() };
    let Restored { head, rebuilt, taken, files } = backup::restore(&what).map_err(failed)?;
    let back = Back {
        dir: dir.display().to_string(),
        taken: time(taken),
        records: head.size,
        root: head.root.to_string(),
        jobs: rebuilt.jobs,
        forgotten: rebuilt.forgotten,
        files,
    };
    if console.json() {
        console.document(&back)?;
    } else {
        let Back { dir, taken, records, root, jobs, forgotten, files } = &back;
        console.print(format_args!(
            "{dir}: restored from a backup of {taken}\nrecords   {records}, each replayed\nroot      {root}\njobs      {jobs}, and {forgotten} that \
             were forgotten\nfiles     {files}, every byte\nmind      if the host went on after the backup, its log has more records than this one. Do not \
             serve both, and read \"Two histories\" in docs/how-to/back-up-and-restore.md before you serve this one"
        ))?;
    }
    Ok(Exit::Status(0))
}

fn failed(error: BackupError) -> Failure {
    match error {
        BackupError::Exists(_) => Failure::usage(error),
        BackupError::Home(error) => (*error).into(),
        BackupError::Config(error) => (*error).into(),
        error @ (BackupError::NoBackup { .. }
        | BackupError::Damaged { .. }
        | BackupError::Blob { .. }
        | BackupError::Verify(_)
        | BackupError::Known(_)
        | BackupError::Evidence(crate::evidence::CopyError::Damaged(_))
        | BackupError::Rebuild(_)
        | BackupError::Mend(_)) => Failure::no("damaged", error),
        error => Failure::fault(error),
    }
}
