//! Files that go from the host to a worker, over its control socket.
//!
//! *Bound:* [`MOST`] at once. A worker sends none.

use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Most files of one job: its socket, the module's code, its input.
pub(super) const MOST: usize = 3;
/// The byte that the files travel with.
const MARK: u8 = b'J';

/// Sends files, without waiting: a worker that does not take them is no use.
///
/// # Errors
/// `WouldBlock` when the socket is full; anything else when the worker is gone.
pub(super) fn send(to: impl AsFd, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("too many files for one message"));
    }
    sendmsg(to, &[IoSlice::new(&[MARK])], &mut control, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for the files of the next job; none at the end.
///
/// # Errors
/// When the socket cannot be read, or something else came.
pub(super) fn receive(from: impl AsFd) -> io::Result<Option<Vec<OwnedFd>>> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut mark = [0];
    let got = recvmsg(from, &mut [IoSliceMut::new(&mut mark)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if got.bytes == 0 {
        return Ok(None);
    }
    let files: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        })
        .flatten()
        .collect();
    if mark != [MARK] || files.len() < MOST - 1 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a job came without its files"));
    }
    Ok(Some(files))
}

/// These bytes in a file in memory that nobody can change, to be read by whoever it is passed to.
///
/// # Errors
/// When the system refuses the memory.
#[cfg(target_os = "linux")]
pub(crate) fn seal(bytes: &[u8]) -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

    let mut file =
        std::fs::File::from(memfd_create("code", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(bytes)?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}

/// Only Linux has such files; nowhere else is `isolation = "process"` taken.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub(crate) fn seal(_: &[u8]) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn files_arrive_in_order_and_the_end_is_told() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (one, two) = (seal(b"one").unwrap(), seal(b"two").unwrap());
        send(&ours, &[one.as_fd(), two.as_fd()]).unwrap();
        send(&ours, &[two.as_fd(), one.as_fd(), two.as_fd()]).unwrap();
        drop(ours);
        let read = |file: &OwnedFd| {
            let mut bytes = [0; 3];
            File::from(file.try_clone().unwrap()).read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        let first = receive(&theirs).unwrap().unwrap();
        assert_eq!(first.iter().map(read).collect::<Vec<_>>(), [*b"one", *b"two"]);
        let second = receive(&theirs).unwrap().unwrap();
        assert_eq!(second.iter().map(read).collect::<Vec<_>>(), [*b"two", *b"one", *b"two"]);
        assert!(receive(&theirs).unwrap().is_none());
    }

    // Red without `fcntl_add_seals`: a worker could change the code that the next one loads.
    #[test]
    fn nobody_can_change_code_that_is_passed_on() {
        let sealed = File::from(seal(b"code").unwrap());
        assert!(sealed.write_at(b"evil", 0).is_err());
        assert!(sealed.set_len(0).is_err());
        assert!(sealed.set_len(9).is_err());
    }
}
