//! Limits that a guest is told about by an error instead of being stopped: disk, files, sockets, HTTP bodies.
//!
//! A program that copes goes on. One that gives up because of it has the limit as its outcome, not a bare exit status that
//! explains nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::{LimitKind, Limits};
use crate::outcome::{Outcome, Usage};
use crate::quantity::ByteSize;

/// The counters of one run. Clones share them; host calls on helper threads count, too.
#[derive(Clone, Debug)]
pub(crate) struct SoftLimits(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    disk: Counter,
    files: Counter,
    sockets: Counter,
    http_body: Counter,
    file_size: u64,
    /// The limit that was hit last: what it allowed, and what the guest wanted.
    hit: Mutex<Option<(LimitKind, u64, u64)>>,
}

#[derive(Debug)]
struct Counter {
    kind: LimitKind,
    allowed: u64,
    used: AtomicU64,
}

impl Counter {
    fn left(&self) -> u64 {
        self.allowed.saturating_sub(self.used.load(Ordering::Relaxed))
    }
}

/// The guest asked for more than its limit leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OverLimit;

impl SoftLimits {
    pub(crate) fn new(limits: &Limits) -> Self {
        let counter = |kind, allowed| Counter { kind, allowed, used: AtomicU64::new(0) };
        Self(Arc::new(Shared {
            disk: counter(LimitKind::Disk, limits.disk.as_u64()),
            files: counter(LimitKind::Files, limits.files.into()),
            sockets: counter(LimitKind::Sockets, limits.sockets.into()),
            http_body: counter(LimitKind::HttpBody, limits.http_body.as_u64()),
            file_size: limits.file_size.as_u64(),
            hit: Mutex::new(None),
        }))
    }

    /// Before files grow by `bytes`.
    pub(crate) fn grow_disk(&self, bytes: u64) -> Result<(), OverLimit> {
        self.take(&self.0.disk, bytes)
    }

    /// What files may still grow by.
    pub(crate) fn disk_left(&self) -> u64 {
        self.0.disk.left()
    }

    /// Notes that the guest wanted files to grow by `bytes`, which is more than is left.
    pub(crate) fn hit_disk(&self, bytes: u64) {
        let disk = &self.0.disk;
        self.hit(disk.kind, disk.allowed, disk.used.load(Ordering::Relaxed).saturating_add(bytes));
    }

    /// Growth that did not come about.
    pub(crate) fn shrink_disk(&self, bytes: u64) {
        self.0.disk.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Before a file, directory or link is created.
    pub(crate) fn create_file(&self) -> Result<(), OverLimit> {
        self.take(&self.0.files, 1)
    }

    /// How many files may still be created.
    pub(crate) fn files_left(&self) -> u64 {
        self.0.files.left()
    }

    /// A creation that did not come about.
    pub(crate) fn uncreate_file(&self) {
        self.0.files.used.fetch_sub(1, Ordering::Relaxed);
    }

    /// Before one file becomes `bytes` long.
    pub(crate) fn file_size(&self, bytes: u64) -> Result<(), OverLimit> {
        let allowed = self.0.file_size;
        if bytes <= allowed {
            return Ok(());
        }
        self.hit(LimitKind::FileSize, allowed, bytes);
        Err(OverLimit)
    }

    /// How long one file may become.
    pub(crate) fn largest_file(&self) -> u64 {
        self.0.file_size
    }

    /// Before a socket is opened.
    pub(crate) fn open_socket(&self) -> Result<(), OverLimit> {
        self.take(&self.0.sockets, 1)
    }

    /// After a socket is closed.
    pub(crate) fn close_socket(&self) {
        self.0.sockets.used.fetch_sub(1, Ordering::Relaxed);
    }

    /// Before `bytes` more of an HTTP body go in or out.
    pub(crate) fn http_body(&self, bytes: u64) -> Result<(), OverLimit> {
        self.take(&self.0.http_body, bytes)
    }

    fn take(&self, counter: &Counter, more: u64) -> Result<(), OverLimit> {
        let within = |used: u64| used.checked_add(more).filter(|total| *total <= counter.allowed);
        match counter.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within) {
            Ok(_) => Ok(()),
            Err(used) => {
                self.hit(counter.kind, counter.allowed, used.saturating_add(more));
                Err(OverLimit)
            }
        }
    }

    fn hit(&self, kind: LimitKind, allowed: u64, wanted: u64) {
        *self.0.hit.lock().unwrap_or_else(PoisonError::into_inner) = Some((kind, allowed, wanted));
    }

    /// A guest that failed after it hit a limit failed because of it, as far as anybody can tell from outside.
    pub(crate) fn explain(&self, outcome: Outcome) -> Outcome {
        if !matches!(outcome, Outcome::Trapped { .. } | Outcome::Exited(1..)) {
            return outcome;
        }
        match *self.0.hit.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((limit, allowed, used)) => Outcome::Exceeded { limit, allowed, used },
            None => outcome,
        }
    }

    pub(crate) fn measure(&self, usage: &mut Usage) {
        let used = |counter: &Counter| counter.used.load(Ordering::Relaxed);
        usage.disk = ByteSize::bytes(used(&self.0.disk));
        usage.files = used(&self.0.files);
        usage.http_body = ByteSize::bytes(used(&self.0.http_body));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soft() -> SoftLimits {
        SoftLimits::new(&Limits { disk: ByteSize::bytes(10), files: 1, ..Limits::default() })
    }

    // Red with `<` for `<=` in `take`, and without the comparison.
    #[test]
    fn the_last_byte_fits_and_one_more_does_not() {
        let soft = soft();
        assert_eq!(soft.grow_disk(10), Ok(()));
        assert_eq!(soft.grow_disk(1), Err(OverLimit));
        assert_eq!(soft.grow_disk(u64::MAX), Err(OverLimit));
        soft.shrink_disk(4);
        assert_eq!(soft.grow_disk(4), Ok(()));
    }

    #[test]
    fn a_failure_is_explained_and_a_success_stands() {
        let soft = soft();
        assert_eq!(soft.explain(Outcome::Exited(1)), Outcome::Exited(1));
        assert_eq!(soft.create_file(), Ok(()));
        assert_eq!(soft.create_file(), Err(OverLimit));
        let why = Outcome::Exceeded { limit: LimitKind::Files, allowed: 1, used: 2 };
        assert_eq!(soft.explain(Outcome::Exited(1)), why);
        assert_eq!(soft.explain(Outcome::Exited(0)), Outcome::Exited(0));
    }
}
