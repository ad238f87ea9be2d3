//! Whether something new may begin: not while the host stops, and not on the last of the disk.
//!
//! A full disk ends a host, since it can no longer keep its promises. So what is new is refused while there is still room for what was
//! promised before: running jobs end, results are fetched, the log goes on.
//!
//! *Never:* stops what runs. *Bound:* one look at the disk in a second, whoever asks.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use strongroom_job::{Refusal, RefusalCode};

use super::service::HostService;
use crate::clock::Stopwatch;
use crate::disk;

/// How long a look at the disk counts.
const COUNTS: Duration = Duration::from_secs(1);

/// What must stay free on the file system of the data directory.
#[derive(Debug)]
pub(super) struct Reserve {
    /// The directories whose file systems are looked at.
    places: [PathBuf; 2],
    bytes: u64,
    /// Bytes of uploads that are under way.
    promised: Arc<AtomicU64>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    at: Option<Stopwatch>,
    /// Free bytes, if somebody can say.
    free: Option<u64>,
    /// The same, when that is less than the reserve.
    short: Option<u64>,
}

impl Reserve {
    /// For the data directory in which the directory `blobs` is, and for that one: it may be a link to another disk.
    pub(super) fn of(blobs: &Path, bytes: u64) -> Self {
        let places = [blobs.parent().unwrap_or(blobs).to_owned(), blobs.to_owned()];
        Self { places, bytes, promised: Arc::default(), seen: Mutex::default() }
    }

    /// Whether there is room for so many bytes beside the reserve; with `promised`, they are somebody's from then on. Nobody else looks in between.
    fn take(&self, bytes: u64, promised: bool) -> Result<(), Refusal> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if self.bytes > 0 && seen.at.is_none_or(|at| at.passed() >= COUNTS) {
            let free = self.places.iter().filter_map(|place| free(place)).min();
            let short = free.filter(|free| *free < self.bytes);
            match (seen.short, short) {
                (None, Some(free)) => {
                    tracing::warn!(
                        free,
                        reserve = self.bytes,
                        "the disk has less room than disk_reserve_bytes: new jobs and uploads are refused until there is more"
                    );
                }
                (Some(_), None) => tracing::info!("the disk has room again: new jobs are taken"),
                _ => {}
            }
            *seen = Seen { at: Some(Stopwatch::start()), free, short };
        }
        let wanted = self.promised.load(Ordering::Acquire).saturating_add(bytes);
        let short = |free: &u64| self.bytes > 0 && free.saturating_sub(wanted) < self.bytes;
        let Some(free) = seen.free.filter(short) else {
            if promised {
                self.promised.store(wanted, Ordering::Release);
            }
            return Ok(());
        };
        let text = format!(
            "the host's disk has {free} bytes free, {wanted} of them for what is being sent, and keeps {} for what it promised before \
             (disk_reserve_bytes); try again later, or tell its operator",
            self.bytes
        );
        Err(Refusal::new(RefusalCode::Busy, text))
    }
}

impl Reserve {
    /// Whether there is room for something that announces no bytes.
    fn check(&self) -> Result<(), Refusal> {
        self.take(0, false)
    }

    /// Room for so many bytes, for as long as the answer lives.
    fn promise(&self, bytes: u64) -> Result<Promised, Refusal> {
        self.take(bytes, true)?;
        Ok(Promised { bytes, of: Arc::clone(&self.promised) })
    }
}

/// What is free for us where the directory is; none when nobody can say, which is no reason to refuse.
fn free(place: &Path) -> Option<u64> {
    match disk::free_bytes(place) {
        Ok(free) => Some(free),
        Err(error) => {
            tracing::debug!(%error, ?place, "the room on the disk cannot be seen");
            None
        }
    }
}

/// Room on the disk that somebody was promised; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Promised {
    bytes: u64,
    of: Arc<AtomicU64>,
}

impl Drop for Promised {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl HostService {
    /// Room for an upload of so many bytes.
    pub(super) fn promise(&self, bytes: u64) -> Result<Promised, Refusal> {
        self.reserve.promise(bytes)
    }

    /// From now on nothing new is accepted.
    pub(super) fn refuse_new(&self) {
        self.stopping.close();
    }

    /// Whether something new may begin.
    pub(super) fn check_open(&self) -> Result<(), Refusal> {
        if self.stopping.is_closed() {
            let text = "the host is shutting down; try again when it is back";
            return Err(Refusal::new(RefusalCode::ShuttingDown, text));
        }
        Ok(())
    }

    /// Whether the disk has room for something new.
    pub(super) fn check_room(&self) -> Result<(), Refusal> {
        self.reserve.check()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    // Red when `take` does not count what was promised, or what is asked for.
    #[test]
    fn what_is_being_sent_counts_against_the_reserve() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = dir.path().join("blobs");
        std::fs::create_dir(&blobs).unwrap();
        // Others write to this disk, too: a quarter of it is more than they do meanwhile.
        let quarter = disk::free_bytes(dir.path()).unwrap() / 4;
        let reserve = Reserve::of(&blobs, quarter);
        reserve.check().unwrap();
        drop(reserve.promise(quarter).unwrap());
        assert_eq!(reserve.promise(quarter * 4).unwrap_err().code, RefusalCode::Busy);
        let held = reserve.promise(quarter * 2).unwrap();
        assert!(reserve.promise(quarter * 2).is_err());
        drop(held);
        drop(reserve.promise(quarter * 2).unwrap());
    }

    /// A look at the disk takes a moment, in which all of them would see the same room.
    // Red when what was promised is added after `take` let go of `seen`, with a moment in between.
    #[test]
    fn of_many_that_come_at_once_only_those_get_room_who_have_it() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = dir.path().join("blobs");
        std::fs::create_dir(&blobs).unwrap();
        let eighth = disk::free_bytes(dir.path()).unwrap() / 8;
        // Room for five of them, and more than half of one for what others write meanwhile.
        let reserve = Reserve::of(&blobs, eighth * 2 + eighth / 2);
        let gate = std::sync::Barrier::new(16);
        let taken: Vec<_> = std::thread::scope(|scope| {
            let ask = || {
                gate.wait();
                reserve.promise(eighth).ok()
            };
            let asked: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
            asked.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(taken.len(), 5);
        drop(taken);
        assert_eq!(reserve.promised.load(Ordering::Acquire), 0);
    }
}
