//! The quota on growth, held in the act of writing.
//!
//! Growth is how much longer a file becomes than it is at that moment: overwriting costs nothing, a hole costs its length, and
//! what is deleted or cut is not given back. As POSIX has it for a full disk, a write of which a part fits writes that part, and
//! only one of which nothing fits fails: "quota exceeded" (`EDQUOT`) or, for the length of one file, "file too large"
//! (`EFBIG`). Making a file longer without writing (`set_size`) is done wholly or refused.
//!
//! *Bound:* no byte past the quota is handed to the system. Writes of one run go one after the other, so that two streams
//! cannot both take the last byte. A file that another process cuts or lengthens meanwhile may be charged too much or too
//! little by that.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::soft::SoftLimits;

use super::sys;

/// The largest position that the kernel knows.
const MAX_POSITION: u64 = i64::MAX.unsigned_abs();

/// Where to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// At this offset.
    Offset(u64),
    /// At the end, wherever it is.
    End,
}

impl At {
    /// Where to go on after `bytes` were written.
    pub(super) fn after(self, bytes: usize) -> Self {
        match self {
            Self::Offset(offset) => Self::Offset(offset.saturating_add(bytes as u64)),
            Self::End => Self::End,
        }
    }
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrote {
    pub(super) bytes: usize,
    /// The position after it.
    pub(super) end: u64,
}

/// Writes and lengthens files within the limits of one run. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    soft: SoftLimits,
    /// Held from the look at a file's length to the end of the write.
    writing: Arc<Mutex<()>>,
    /// The run is over: nothing more is written.
    closed: Arc<AtomicBool>,
}

impl Disk {
    pub(super) fn new(soft: SoftLimits) -> Self {
        Self { soft, writing: Arc::default(), closed: Arc::default() }
    }

    /// Ends all writing: what has begun is waited for, at most `most`, and what has not never begins.
    pub(super) async fn close(self, most: Duration) {
        self.closed.store(true, Ordering::SeqCst);
        if !matches!(self.writing.try_lock(), Err(TryLockError::WouldBlock)) {
            return;
        }
        let written = tokio::task::spawn_blocking(move || drop(self.lock()));
        // A disk that takes longer is not the guest's doing, and its slot is not the disk's.
        let _ = tokio::time::timeout(most, written).await;
    }

    /// It guards no data, so one poisoned by a panic is as good as any.
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    ///
    /// `EPIPE` when the run is over.
    fn begin(&self) -> io::Result<MutexGuard<'_, ()>> {
        let writing = self.lock();
        if self.closed.load(Ordering::SeqCst) { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(writing) }
    }

    /// Writes `bytes`, or the first part of them that fits. Blocks.
    ///
    /// # Errors
    ///
    /// `EFBIG` or `EDQUOT` when nothing fits, and what the system says.
    pub(super) fn write(&self, file: &File, bytes: &[u8], at: At) -> io::Result<Wrote> {
        let _writing = self.begin()?;
        let length = file.metadata()?.len();
        let start = match at {
            At::Offset(offset) => offset,
            At::End => length,
        };
        if start > MAX_POSITION {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let fitting = self.fitting(length, start, bytes.len())?;
        let charged = growth(length, start, fitting);
        self.charge(charged)?;
        let answer = match at {
            At::Offset(offset) => sys::write_at(file, &bytes[..fitting], offset),
            At::End => sys::append(file, &bytes[..fitting]),
        };
        let grown = growth(length, start, *answer.as_ref().unwrap_or(&0));
        self.soft.shrink_disk(charged - grown);
        let written = answer?;
        let end = match at {
            At::Offset(offset) => offset.saturating_add(written as u64),
            At::End => file.metadata()?.len(),
        };
        Ok(Wrote { bytes: written, end })
    }

    /// Makes `file` `length` bytes long. Blocks.
    ///
    /// # Errors
    ///
    /// As for [`Disk::write`].
    pub(super) fn set_length(&self, file: &File, length: u64) -> io::Result<()> {
        let _writing = self.begin()?;
        let growth = length.saturating_sub(file.metadata()?.len());
        if growth > 0 && self.soft.file_size(length).is_err() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.charge(growth)?;
        file.set_len(length).inspect_err(|_| self.soft.shrink_disk(growth))
    }

    /// How many of `asked` bytes at `start` may be written into a file of this length. A limit that cuts them short is written
    /// down also when a part fits: the guest may fail for that part.
    fn fitting(&self, length: u64, start: u64, asked: usize) -> io::Result<usize> {
        let end = start.saturating_add(asked as u64);
        if asked == 0 || end <= length {
            return Ok(asked);
        }
        let mut most = end;
        if self.soft.file_size(end).is_err() {
            // A file that the host made longer than that may still be overwritten.
            most = self.soft.largest_file().max(length);
            if most <= start {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
        let left = length.saturating_add(self.soft.disk_left());
        if most > left {
            most = left;
            self.soft.hit_disk(end - length);
            if most <= start {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
        }
        Ok(usize::try_from(most - start).unwrap_or(asked))
    }

    fn charge(&self, growth: u64) -> io::Result<()> {
        self.soft.grow_disk(growth).map_err(|_| io::ErrorKind::QuotaExceeded.into())
    }
}

/// By how much a file of this length grows when `written` bytes go to `start`. A write of nothing moves no end.
fn growth(length: u64, start: u64, written: usize) -> u64 {
    if written == 0 { 0 } else { start.saturating_add(written as u64).saturating_sub(length) }
}

/// Work on a helper thread. What has not begun when this is dropped never does.
#[derive(Debug)]
pub(super) struct Task<T>(JoinHandle<io::Result<T>>);

/// Starts `work` on a helper thread.
pub(super) fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Task<T> {
    Task(tokio::task::spawn_blocking(work))
}

impl<T> Task<T> {
    /// Keeps the work from beginning; what has begun goes on.
    pub(super) fn abort(&self) {
        self.0.abort();
    }
}

impl<T> Future for Task<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|joined| match joined {
            Ok(answer) => answer,
            Err(error) => match error.try_into_panic() {
                Ok(payload) => std::panic::resume_unwind(payload),
                Err(_) => Err(io::ErrorKind::Interrupted.into()),
            },
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::limits::Limits;
    use crate::outcome::Usage;
    use crate::quantity::ByteSize;

    // Red without the lock in `write`: a thread then sees room that another takes, and is refused a part that would fit.
    #[test]
    fn writers_at_once_fill_the_quota_exactly() {
        const QUOTA: u64 = 10;
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("f")).unwrap();
        let start = Barrier::new(4);
        for _ in 0..300 {
            file.set_len(0).unwrap();
            let soft = SoftLimits::new(&Limits { disk: ByteSize::bytes(QUOTA), ..Limits::default() });
            let disk = Disk::new(soft.clone());
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        start.wait();
                        while disk.write(&file, &[b'x'; 7], At::End).is_ok() {}
                        assert_eq!(disk.soft.disk_left(), 0, "refused while there was room");
                    });
                }
            });
            let mut usage = Usage::default();
            soft.measure(&mut usage);
            assert_eq!((file.metadata().unwrap().len(), usage.disk), (QUOTA, ByteSize::bytes(QUOTA)));
        }
    }

    // Red without the look at `closed` in `begin`.
    #[tokio::test]
    async fn nothing_is_written_once_the_run_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("f")).unwrap();
        let disk = Disk::new(SoftLimits::new(&Limits::default()));
        disk.write(&file, b"in time", At::End).unwrap();
        disk.clone().close(Duration::from_secs(60)).await;
        assert_eq!(disk.write(&file, b"late", At::End).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(disk.set_length(&file, 0).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(file.metadata().unwrap().len(), 7);
    }

    // Red without the wait for the lock in `close`.
    #[tokio::test]
    async fn what_is_being_written_is_waited_for() {
        let disk = Disk::new(SoftLimits::new(&Limits::default()));
        let written = Arc::new(AtomicBool::new(false));
        let (begun, has_begun) = std::sync::mpsc::channel();
        let writer = std::thread::spawn({
            let (disk, written) = (disk.clone(), Arc::clone(&written));
            move || {
                let _writing = disk.begin().unwrap();
                begun.send(()).unwrap();
                std::thread::sleep(Duration::from_millis(50));
                written.store(true, Ordering::SeqCst);
            }
        });
        has_begun.recv().unwrap();
        disk.close(Duration::from_secs(60)).await;
        assert!(written.load(Ordering::SeqCst));
        writer.join().unwrap();
    }
}
