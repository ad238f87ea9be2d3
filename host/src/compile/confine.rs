//! What a compiler's process gives up before it reads a module.
//!
//! *Owns:* its rlimits, its Landlock domain, its seccomp filter. *Never:* relies on one of the three alone: rlimits bound what it
//! takes, Landlock and seccomp what it touches, should a module ever take the compiler over.
//! *Bound:* `ChildLimits`. Everything is inherited by its threads and can never be taken back.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::confine::Enforced;

/// The most that a child takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildLimits {
    /// Address space, bytes: everything that it maps, so also every stack and every library.
    pub memory_bytes: u64,
    /// Processor time of all its threads, seconds.
    pub cpu_seconds: u64,
}

/// What the kernel took from the process, besides its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// By Landlock: opening files and directories, binding and connecting TCP, signals to others.
    pub files: Enforced,
    /// By seccomp: all system calls but those of computing and of pipes that are open.
    pub calls: Enforced,
}

/// Descriptors that the process may have: the three that it was started with.
const DESCRIPTORS: u64 = 3;

/// Confines the calling thread, all threads that it will start, and (the limits) the whole process. To be called while there is
/// one thread.
///
/// Landlock and seccomp are applied as far as the kernel goes; the answer says how far that was.
///
/// # Errors
/// When a limit cannot be set. Nothing untrusted may be read then.
pub fn confine(limits: &ChildLimits) -> io::Result<Confinement> {
    kernel::be_the_first_to_go();
    let files = kernel::close_files();
    for (resource, most) in [
        (Resource::As, limits.memory_bytes),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nofile, DESCRIPTORS),
    ] {
        lower(resource, most, most)?;
    }
    // The first says why by its signal, the second cannot be caught.
    lower(Resource::Cpu, limits.cpu_seconds, limits.cpu_seconds.saturating_add(1))?;
    Ok(Confinement { files, calls: kernel::close_calls() })
}

/// Lowers a limit; one that is lower already stays.
fn lower(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let allowed = getrlimit(resource).maximum;
    let least = |most: u64| Some(allowed.map_or(most, |allowed| allowed.min(most)));
    Ok(setrlimit(resource, Rlimit { current: least(soft), maximum: least(hard) })?)
}

#[cfg(target_os = "linux")]
mod kernel {
    use libc::c_long;
    use seccompiler::{Error, SeccompAction, SeccompRule};

    use crate::confine::Enforced;
    use crate::confine::kernel::linux::{self, Calls};

    /// Memory, threads, pipes that are open, and an end. Whoever asks for more is told EPERM, not killed: libraries ask for
    /// things that they can do without.
    const ALLOWED: &[c_long] = &[
        libc::SYS_brk,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        // Refused by another filter, in other words.
        libc::SYS_clone3,
        libc::SYS_close,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_futex,
        libc::SYS_getpid,
        libc::SYS_getrandom,
        libc::SYS_gettid,
        libc::SYS_madvise,
        libc::SYS_membarrier,
        libc::SYS_mmap,
        libc::SYS_mprotect,
        libc::SYS_mremap,
        libc::SYS_munmap,
        libc::SYS_nanosleep,
        libc::SYS_ppoll,
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_restart_syscall,
        libc::SYS_rseq,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sched_getaffinity,
        libc::SYS_sched_yield,
        libc::SYS_set_robust_list,
        libc::SYS_sigaltstack,
        libc::SYS_tgkill,
        libc::SYS_write,
        libc::SYS_writev,
    ];

    /// When memory runs out, the kernel should take the compiler and leave the host.
    pub(super) fn be_the_first_to_go() {
        // Best effort: without `/proc`, the kernel judges by size alone.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    }

    /// A Landlock domain in which nothing is allowed.
    pub(super) fn close_files() -> Enforced {
        linux::close_files(&[], true)
    }

    pub(super) fn close_calls() -> Enforced {
        let closed = allowed().and_then(|allowed| {
            linux::close_calls([(allowed, SeccompAction::Allow, linux::refuse(libc::EPERM))])
        });
        if closed.is_ok() { Enforced::Whole } else { Enforced::Not }
    }

    /// [`ALLOWED`], and threads, but no processes.
    fn allowed() -> Result<Calls, Error> {
        const THREAD: u64 = libc::CLONE_THREAD as u64;
        let mut allowed = linux::calls(ALLOWED);
        let thread = SeccompRule::new(vec![linux::bits(0, THREAD, THREAD)?])?;
        allowed.insert(libc::SYS_clone, vec![thread]);
        Ok(allowed)
    }
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    use crate::confine::Enforced;

    pub(super) fn be_the_first_to_go() {}

    pub(super) fn close_files() -> Enforced {
        Enforced::Not
    }

    pub(super) fn close_calls() -> Enforced {
        Enforced::Not
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::fs::{self, File};
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Landlock and seccomp bind a thread, so each can be looked at alone, in a thread that ends afterwards.
    fn in_a_thread(work: impl FnOnce() + Send + 'static) {
        std::thread::spawn(work).join().unwrap();
    }

    // Red without the call of `handle_access` for files, and without the one for TCP.
    #[test]
    fn landlock_alone_closes_files_and_connections() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        in_a_thread(move || {
            if kernel::close_files() != Enforced::Whole {
                return;
            }
            assert_eq!(File::open(&file).unwrap_err().kind(), ErrorKind::PermissionDenied);
            assert_eq!(fs::remove_file(&file).unwrap_err().kind(), ErrorKind::PermissionDenied);
            assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::PermissionDenied);
            assert_eq!(TcpListener::bind("127.0.0.1:0").unwrap_err().kind(), ErrorKind::PermissionDenied);
        });
        assert!(dir.path().join("file").exists());
    }

    // Red without `close_calls` as a whole, whether it owns up to it or not.
    #[test]
    fn seccomp_alone_closes_files_and_sockets_and_leaves_threads() {
        let dir = tempfile::tempdir().unwrap();
        let filters = fs::exists("/proc/sys/kernel/seccomp/actions_avail").unwrap();
        in_a_thread(move || {
            let closed = kernel::close_calls();
            if !filters {
                return;
            }
            assert_eq!(closed, Enforced::Whole);
            assert_eq!(File::open(dir.path()).unwrap_err().kind(), ErrorKind::PermissionDenied);
            assert_eq!(UnixStream::pair().unwrap_err().kind(), ErrorKind::PermissionDenied);
            assert_eq!(std::thread::spawn(|| 6 * 7).join().unwrap(), 42);
        });
    }
}
