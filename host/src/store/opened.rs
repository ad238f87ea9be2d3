//! A store between its opening and its first group.
//!
//! *Owns:* the order in which it is opened: what a crash left, the files, the rows. *Crash:* see each of the parts that it calls.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use strongroom_job::Timestamp;
use tokio::sync::{mpsc, watch};

use super::base::Base;
use super::current::Current;
use super::fault::Fault;
use super::journal::{self, Journal, JournalError, Recovered};
use super::overlay::Overlay;
use super::recent::Recent;
use super::renew::{self, Renewer};
use super::unpublished::Unpublished;
use super::{
    ActiveJobs, Closing, Effect, Listener, MAX_PENDING, OpenError, PublishedHead, ReadError, Store, compact,
    fresh, keys, leftovers, read, settings, writer,
};
use crate::clock::Clock;
use crate::meters::Meters;

/// A store that was opened and has not begun to write.
///
/// Between the two the host compares it with the published log and tells it what time it is.
pub struct Opened {
    pub(super) current: Current,
    journal: Journal,
    path: PathBuf,
    start: writer::Start,
    renewed_above: u64,
    reserve: u64,
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
        let mut parts = Parts::open(path)?;
        if anew && parts.current.is_stale().map_err(|error| damaged(path, &error))? {
            let Parts { current, journal } = parts;
            parts = match compact::anew(path, current, journal.next())? {
                Some(current) => Parts { current, journal },
                None => Parts::open(path)?,
            };
        }
        let Parts { current, mut journal } = parts;
        // What was erased may be in files that wait to be used again, too. One that is in use keeps what it had behind its entries.
        if anew && current.is_stale().map_err(|error| damaged(path, &error))? {
            journal.drop_spare().map_err(|error| OpenError::Io { path: path.into(), error })?;
        }
        let start = writer::Start::read(&current).map_err(|error| damaged(path, &error))?;
        current.look_for_rare().map_err(|error| damaged(path, &error))?;
        if anew {
            current.let_go_from(start.log_size).map_err(|error| damaged(path, &error))?;
        }
        Ok(Opened {
            current,
            journal,
            path: path.into(),
            start,
            renewed_above: renew::FLOOR_BYTES,
            reserve: renew::RESERVE_BYTES,
        })
    }
}

fn damaged(path: &Path, problem: &dyn fmt::Display) -> OpenError {
    OpenError::Damaged { path: path.into(), problem: problem.to_string() }
}

/// What a state is made of: the rows of sled and of the journal, and where the journal goes on.
struct Parts {
    current: Current,
    journal: Journal,
}

impl Parts {
    /// Opens them, in the layout of this version.
    fn open(path: &Path) -> Result<Self, OpenError> {
        let refused = |error| OpenError::Sled { path: path.into(), error };
        let db = settings::open(&settings::of(path)).map_err(refused)?;
        writer::lay_out(&db, path).map_err(|error| match error {
            writer::LayoutError::Version => {
                OpenError::Version { path: path.into(), problem: error.to_string() }
            }
            writer::LayoutError::Read(ReadError::Io(error)) => OpenError::Io { path: path.into(), error },
            error => damaged(path, &error),
        })?;
        let from = db.get(keys::JOURNAL).map_err(refused)?.map(|bytes| bytes.as_ref().try_into());
        let from = from.transpose().map_err(|_| damaged(path, &writer::LayoutError::Number))?;
        let from = from.map_or(0, u64::from_be_bytes);
        let recovered = Journal::open(&journal::of(path), from, journal::FILE_BYTES);
        let Recovered { journal, groups } = recovered.map_err(|error| match error {
            JournalError::Io { path, error } => OpenError::Io { path, error },
            error @ JournalError::Damaged { .. } => damaged(path, &error),
        })?;
        let overlay = Overlay::default();
        for group in groups {
            overlay.take(group);
        }
        Ok(Self { current: Current::new(overlay, db), journal })
    }
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

    /// Has sled's file written anew when it is longer than this (and than twice what a new one would have), and not only when it is longer than what a busy host needs: for
    /// who wants to see it happen.
    #[must_use]
    pub fn renewed_above(mut self, bytes: u64) -> Self {
        self.renewed_above = bytes;
        self
    }

    /// Has the journal's files made with this length from now on, and rows given to sled when they would fill two of them: for who wants to
    /// see that happen.
    #[must_use]
    pub fn journal_files(mut self, bytes: u64) -> Self {
        self.journal.set_file_bytes(bytes);
        self
    }

    /// Leaves so many bytes of the disk free when sled's file is written anew; never less than what a host needs for its own writes.
    #[must_use]
    pub fn reserve(mut self, bytes: u64) -> Self {
        self.reserve = bytes.max(renew::RESERVE_BYTES);
        self
    }

    /// Starts the writer.
    ///
    /// # Errors
    /// When sled's file cannot be opened a second time.
    pub fn start(self, clock: Arc<Clock>, fault: Box<dyn Fault>) -> Result<(Store, Closing), OpenError> {
        self.start_telling(clock, fault, Box::new(|_: Vec<Effect>| {}))
    }

    /// [`Opened::start`] with somebody who hears what each group means.
    ///
    /// # Errors
    /// As [`Opened::start`].
    pub fn start_telling(
        self,
        clock: Arc<Clock>,
        fault: Box<dyn Fault>,
        listener: Box<dyn Listener>,
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
        let (recent, unpublished) = (Recent::default(), Unpublished::default());
        let store = Store {
            current: current.clone(),
            pending,
            durable,
            recent: recent.clone(),
            unpublished: unpublished.clone(),
            failed,
            counts,
            meters: Arc::clone(&meters),
        };
        let told = writer::Told { durable: made_durable, recent, unpublished, listener, meters };
        let renewer = Renewer::new(&self.path, &current.base(), self.renewed_above, self.reserve);
        let renewer = renewer.map_err(|error| OpenError::Sled { path: self.path.clone(), error })?;
        let journal = Arc::new(Mutex::new(self.journal));
        let opened = renew::Renewed { db: current.base(), sync };
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
