//! What a path leads to, before wasmtime-wasi opens it.
//!
//! Opening a FIFO waits for its other end, on a thread that no kill reaches; opening a device does what the device likes. No
//! guest can make either, but a granted directory may hold one.
//!
//! The look and the open are two steps. Between them another job with the same writable directory can rename such a file to
//! the path that was looked at. What was opened is then looked at once more and not given to the guest, but the open itself may
//! hang one helper thread, until somebody opens the other end.

use std::fs::File;
use std::io;
use std::sync::Arc;

use super::quota::off_thread;
use super::sys;

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A file, a directory, or a link that the open will not follow.
    Ordinary,
    /// A FIFO, a socket or a device.
    Special,
    /// Nothing.
    Missing,
    /// It cannot be told; whatever forbids it forbids the open, too.
    Unknown,
    /// Other processes rename without pause.
    Unsteady,
}

/// Looks at `path` below `dir`.
///
/// # Errors
///
/// `EPERM` for a [`Found::Special`], `EAGAIN` for a [`Found::Unsteady`]: neither may be opened.
pub(super) async fn look(dir: &Arc<File>, path: &str, follow: bool) -> io::Result<Found> {
    let (dir, path) = (Arc::clone(dir), path.to_owned());
    let found = off_thread(move || Ok(sys::look(&dir, &path, follow))).await?;
    match found {
        Found::Special => Err(io::ErrorKind::PermissionDenied.into()),
        Found::Unsteady => Err(io::ErrorKind::WouldBlock.into()),
        Found::Ordinary | Found::Missing | Found::Unknown => Ok(found),
    }
}
