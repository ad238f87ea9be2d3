//! A store between its opening and its first group.
//!
//! *Owns:* the order in which it is opened: what a crash left, the files, the rows. *Crash:* see each of the parts that it calls.

use std::fmt;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use strongroom_job::Timestamp;
use tokio::sync::{mpsc, watch};

use super::base::{self, Base};
use super::current::Current;
use super::fault::Fault;
use super::journal::{self, Journal, JournalError, Recovered};
use super::overlay::Overlay;
use super::renew::{self, Renewer};
use super::{
    ActiveJobs, Closing, Listener, MAX_PENDING, OpenError, PublishedHead, ReadError, Store, compact, fresh,
    keys, leftovers, read, settings, writer,
};
use crate::clock::Clock;
use crate::meters::Meters;

/// A store that was opened and has not begun to write.
///
/// Between the two the host compares it with the published log and tells it what time it is.
pub struct Opened {
    db: sled::Db,
    pub(super) current: Current,
    journal: Journal,
    path: PathBuf,
    start: writer::Start,
    renewed_above: u64,
}

impl Store {
    /// Opens the store in `path`, or makes an empty one there. When something was erased from it since, its files are written anew.
    ///
    /// # Errors
    /// When sled refuses, or a row does not fit.
    pub fn open(path: &Path) -> Result<Opened, OpenError> {
        Self::open_with(path, true)
    }

    /// [`Store::open`] for who only wants to look, at a copy: its files are not written anew.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_as_it_is(path: &Path) -> Result<Opened, OpenError> {
        Self::open_with(path, false)
    }

    fn open_with(path: &Path, anew: bool) -> Result<Opened, OpenError> {
        compact::mend(path)
            .and_then(|()| leftovers::remove(path))
            .map_err(|error| OpenError::Io { path: path.into(), error })?;
        fresh::make(path, settings::of).map_err(|error| OpenError::Sled { path: path.into(), error })?;
        let damaged = |problem: String| OpenError::Damaged { path: path.into(), problem };
        let laid_out = |db: &sled::Db| {
            writer::lay_out(db, path).map_err(|error| match error {
                writer::LayoutError::Version => {
                    OpenError::Version { path: path.into(), problem: error.to_string() }
                }
                error => damaged(error.to_string()),
            })
        };
        let mut db = settings::open(&settings::of(path))
            .map_err(|error| OpenError::Sled { path: path.into(), error })?;
        laid_out(&db)?;
        let (mut journal, overlay) = recover(&db, path)?;
        if anew && is_stale(&db, &overlay).map_err(|error| OpenError::Sled { path: path.into(), error })? {
            empty(&db, path, &overlay, &mut journal)
                .map_err(|error| OpenError::Io { path: path.into(), error })?;
            drop(db);
            db = compact::open(path)?;
            (journal, _) = recover(&db, path)?;
        }
        let current = Current::new(overlay, db.clone());
        let start = writer::Start::read(&current).map_err(|error| damaged(error.to_string()))?;
        Ok(Opened { db, current, journal, path: path.into(), start, renewed_above: renew::FLOOR_BYTES })
    }
}

/// What sled may not have yet, and the journal that has it, of the state in `path`.
fn recover(db: &sled::Db, path: &Path) -> Result<(Journal, Overlay), OpenError> {
    let failed = |error| OpenError::Io { path: path.into(), error };
    let damaged = |problem: String| OpenError::Damaged { path: path.into(), problem };
    let from = db.get(keys::JOURNAL).map_err(|error| OpenError::Sled { path: path.into(), error })?;
    let from = from.map(|bytes| bytes.as_ref().try_into().map(u64::from_be_bytes)).unwrap_or(Ok(0));
    let from = from.map_err(|_| damaged("a counter has the wrong number of bytes".into()))?;
    let dir = journal::of(path);
    if !dir.exists() {
        DirBuilder::new().mode(0o700).create(&dir).map_err(failed)?;
        File::open(path).and_then(|dir| dir.sync_all()).map_err(failed)?;
    }
    let Recovered { journal, groups } = Journal::open(&dir, from).map_err(|error| match error {
        JournalError::Io { path, error } => OpenError::Io { path, error },
        JournalError::Damaged { .. } => damaged(error.to_string()),
    })?;
    let overlay = Overlay::default();
    for group in groups {
        overlay.take(group);
    }
    Ok((journal, overlay))
}

/// Whether the files may hold what was erased.
fn is_stale(db: &sled::Db, overlay: &Overlay) -> sled::Result<bool> {
    Ok(overlay.sets(keys::STALE) || db.contains_key(keys::STALE)?)
}

/// Gives sled everything that is in the journal, whose files go.
fn empty(db: &sled::Db, path: &Path, overlay: &Overlay, journal: &mut Journal) -> io::Result<()> {
    let sync = File::open(path.join("db"))?;
    base::take(&overlay.lower(), journal.next(), |piece| base::give(db, &sync, piece))?;
    overlay.clear_lower();
    journal.forget_below(journal.next(), true)
}

impl Opened {
    /// Leaves of the log in this store.
    #[must_use]
    pub const fn log_size(&self) -> u64 {
        self.start.log_size
    }

    /// The log as it was last published, if it ever was.
    #[must_use]
    pub const fn published(&self) -> Option<PublishedHead> {
        self.start.published
    }

    /// The time of the latest record.
    #[must_use]
    pub const fn latest(&self) -> Timestamp {
        self.start.latest
    }

    /// The jobs that are not over: whoever schedules takes them, once.
    #[must_use]
    pub fn take_active(&mut self) -> ActiveJobs {
        std::mem::take(&mut self.start.active)
    }

    /// The leaves from `from` on that are kept here, in order; stops at the first that is not.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn leaves(&self, from: u64, most: usize) -> Result<Vec<Vec<u8>>, ReadError> {
        read::leaves(&self.current, from, self.start.log_size, most)
    }

    /// Has sled's file written anew when it is longer than this, and not only when it is longer than what a busy host needs: for who
    /// wants to see it happen.
    #[must_use]
    pub fn renewed_above(mut self, bytes: u64) -> Self {
        self.renewed_above = bytes;
        self
    }

    /// Starts the writer.
    ///
    /// # Errors
    /// When sled's file cannot be opened a second time.
    pub fn start(self, clock: Arc<Clock>, fault: Box<dyn Fault>) -> Result<(Store, Closing), OpenError> {
        self.start_telling(clock, fault, Box::new(drop))
    }

    /// [`Opened::start`] with somebody who hears what each group means.
    ///
    /// # Errors
    /// As [`Opened::start`].
    pub fn start_telling(
        self,
        clock: Arc<Clock>,
        fault: Box<dyn Fault>,
        listener: Listener,
    ) -> Result<(Store, Closing), OpenError> {
        let file = self.path.join("db");
        let sync = File::open(&file).map_err(|error| OpenError::Io { path: file.clone(), error })?;
        // What a killed host left with the operating system is told of from now on: its name, and its last rows. sled syncs those
        // at nearly every opening, but not when they end with a segment.
        for made in [fresh::above(&self.path), &file] {
            let synced = File::open(made).and_then(|file| file.sync_all());
            synced.map_err(|error| OpenError::Io { path: made.into(), error })?;
        }
        let (pending, requests) = mpsc::channel(MAX_PENDING);
        let (made_durable, durable) = watch::channel(self.start.log_size);
        let (failing, failed) = watch::channel(None);
        let counts = self.start.counts.clone();
        let current = self.current;
        let meters = Arc::new(Meters::default());
        let store =
            Store { current: current.clone(), pending, durable, failed, counts, meters: Arc::clone(&meters) };
        let told = writer::Told { durable: made_durable, listener, meters };
        let renewer = Renewer::new(&self.path, &self.db, self.renewed_above);
        let renewer = renewer.map_err(|error| OpenError::Sled { path: self.path.clone(), error })?;
        let journal = Arc::new(Mutex::new(self.journal));
        let opened = renew::Renewed { db: self.db, sync };
        let base = Base::start(opened, current.clone(), Arc::clone(&journal), renewer, failing.clone());
        let thread = base.and_then(|base| {
            let writer = writer::Writer::new(current, journal, base, clock, fault, told, self.start);
            let thread = std::thread::Builder::new().name("store-writer".into());
            thread.spawn(move || writer.run(requests, &failing))
        });
        let thread = thread.map_err(|error| OpenError::Io { path: self.path, error })?;
        let failed = store.failed.clone();
        Ok((store, Closing { thread, failed }))
    }
}

// By hand: sled's own `Debug` writes out every row.
impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("path", &self.path).field("start", &self.start).finish_non_exhaustive()
    }
}
