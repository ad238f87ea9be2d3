//! The stream through which a component writes to a file.

use std::fs::File;
use std::io;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use super::quota::{At, Disk, Task, off_thread};

/// Most bytes in one write: what wasmtime-wasi permits, too.
const MAX_WRITE: usize = 64 * 1024;

/// Bytes go to the file at a place that moves on, or to its end, through the quota.
pub(super) struct FileStream {
    disk: Disk,
    file: Arc<File>,
    state: State,
}

enum State {
    Ready(At),
    /// Answers with where to go on.
    Writing(Task<At>),
    Failed(io::Error),
    Closed,
}

impl FileStream {
    pub(super) fn new(disk: Disk, file: Arc<File>, at: At) -> Self {
        Self { disk, file, state: State::Ready(at) }
    }

    fn start(&self, bytes: Bytes, at: At) -> Task<At> {
        let (disk, file) = (self.disk.clone(), Arc::clone(&self.file));
        off_thread(move || write_all(&disk, &file, &bytes, at))
    }

    /// The failure of the last write, told once.
    fn check(&mut self) -> StreamResult<()> {
        match mem::replace(&mut self.state, State::Closed) {
            State::Failed(error) => Err(StreamError::LastOperationFailed(error.into())),
            State::Closed => Err(StreamError::Closed),
            going @ (State::Ready(_) | State::Writing(_)) => {
                self.state = going;
                Ok(())
            }
        }
    }
}

/// All of `bytes`, or as many as fit and then the failure.
fn write_all(disk: &Disk, file: &File, bytes: &[u8], mut at: At) -> io::Result<At> {
    let mut done = 0;
    while done < bytes.len() {
        match disk.write(file, &bytes[done..], at) {
            Ok(wrote) if wrote.bytes == 0 => return Err(io::ErrorKind::WriteZero.into()),
            Ok(wrote) => {
                done += wrote.bytes;
                at = at.after(wrote.bytes);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(at)
}

#[wasmtime_wasi::async_trait]
impl Pollable for FileStream {
    async fn ready(&mut self) {
        if let State::Writing(task) = &mut self.state {
            self.state = match task.await {
                Ok(at) => State::Ready(at),
                Err(error) => State::Failed(error),
            };
        }
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for FileStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        match self.state {
            State::Ready(at) => {
                self.state = State::Writing(self.start(bytes, at));
                Ok(())
            }
            State::Closed => Err(StreamError::Closed),
            State::Writing(_) | State::Failed(_) => {
                Err(StreamError::trap("wrote to a file without a permit"))
            }
        }
    }

    /// Bytes are handed on as they come: there is nothing else to flush.
    fn flush(&mut self) -> StreamResult<()> {
        self.check()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.check()?;
        Ok(if matches!(self.state, State::Ready(_)) { MAX_WRITE } else { 0 })
    }

    /// The provided version asks for leave several times.
    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.ready().await;
        self.check()?;
        self.write(bytes)?;
        self.ready().await;
        self.check()
    }

    async fn cancel(&mut self) {
        if let State::Writing(task) = mem::replace(&mut self.state, State::Closed) {
            task.abort();
            // What has begun is waited for, so that a guest cannot pile such work up.
            let _ = task.await;
        }
    }
}
