//! The system calls that differ between systems: writing at a place or at the end, and looking at what a path leads to.

#[cfg(target_os = "linux")]
pub(super) use linux::{append, look, write_at};
#[cfg(not(target_os = "linux"))]
pub(super) use portable::{append, look, write_at};

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io::{self, IoSlice};
    use std::os::unix::fs::FileExt;

    use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
    use rustix::io::{Errno, ReadWriteFlags, pwritev2};

    use crate::fs::look::Found;

    /// The kernel gives up whenever anything is renamed meanwhile; so often in a row is no accident.
    const TRIES: usize = 64;

    pub(in crate::fs) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        file.write_at(bytes, offset)
    }

    /// Writes at the end, wherever other processes have moved it to meanwhile.
    pub(in crate::fs) fn append(file: &File, bytes: &[u8]) -> io::Result<usize> {
        Ok(pwritev2(file, &[IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND)?)
    }

    /// What `path` below `dir` is, resolved as the open that follows resolves it. Nothing is opened: a FIFO does not block,
    /// and a device does not notice.
    pub(in crate::fs) fn look(dir: &File, path: &str, follow: bool) -> Found {
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, !follow);
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..TRIES {
            return match openat2(dir, path, flags, Mode::empty(), resolve) {
                Ok(found) => match fstat(&found).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                    Ok(FileType::RegularFile | FileType::Directory | FileType::Symlink) => Found::Ordinary,
                    Ok(_) | Err(_) => Found::Special,
                },
                Err(Errno::NOENT) => Found::Missing,
                Err(Errno::AGAIN) => continue,
                Err(_) => Found::Unknown,
            };
        }
        Found::Unsteady
    }
}

#[cfg(not(target_os = "linux"))]
mod portable {
    use std::fs::File;
    use std::io::{self, Seek, SeekFrom, Write};

    use crate::fs::look::Found;

    pub(in crate::fs) fn write_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        file.seek(SeekFrom::Start(offset))?;
        file.write(bytes)
    }

    pub(in crate::fs) fn append(mut file: &File, bytes: &[u8]) -> io::Result<usize> {
        file.seek(SeekFrom::End(0))?;
        file.write(bytes)
    }

    /// No confined look without `openat2`; wasmtime-wasi's open decides.
    pub(in crate::fs) fn look(_: &File, _: &str, _: bool) -> Found {
        Found::Unknown
    }
}
