//! What a worker's process gives up before it sees a job.
//!
//! What the host gave up, it has given up already: it was started by the host. On top of that it has no files but those that it is told, no
//! programs, no signals, no sockets of this machine, and none of the network unless its tenant may reach out.
//!
//! A list of what is denied, for the reason that the host's own is one ([`super::calls`]): it runs the same engine.
//!
//! *Never:* can be taken back. *Bound:* private memory of the process, as it is told.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::kernel::{self, Enforced, Open};
use super::plan::Plan;
use super::{calls, privileges};

/// Confines the calling thread and all that it starts. To be called while it is the only one. Says how far files and system calls are
/// closed.
///
/// # Errors
/// When a privilege cannot be given up or a limit cannot be set. Nothing untrusted may run then.
pub(crate) fn confine_worker(
    open: &[Open],
    network: bool,
    data_bytes: u64,
) -> io::Result<(Enforced, Enforced)> {
    // Best effort: when memory runs out, the kernel should take a tenant's worker and leave the host. A host that is confined keeps this
    // file closed; then the kernel judges by size.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    privileges::give_up()?;
    let allowed = getrlimit(Resource::Data).maximum;
    let most = Some(allowed.map_or(data_bytes, |allowed| allowed.min(data_bytes)));
    setrlimit(Resource::Data, Rlimit { current: most, maximum: most })?;
    let mut open = open.to_vec();
    if network {
        open.extend(Plan::names());
    }
    let files = kernel::close_files(&open, !network);
    let own = calls::close();
    let more = more::close(network);
    Ok((files, if more == Enforced::Whole { own } else { Enforced::Not }))
}

#[cfg(target_os = "linux")]
mod more {
    use libc::c_long;
    use seccompiler::{Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

    use crate::confine::Enforced;
    use crate::confine::kernel::linux::{Calls, bits, calls, close_calls, refuse, with_twins};

    const DENIED: &[c_long] = &[
        // Programs.
        libc::SYS_execve,
        libc::SYS_execveat,
        // Other processes: those of the host's user are the host and the workers of other tenants.
        libc::SYS_kill,
        libc::SYS_tkill,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_tgsigqueueinfo,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_send_signal,
        libc::SYS_setpriority,
        libc::SYS_sched_setaffinity,
        libc::SYS_sched_setattr,
        libc::SYS_sched_setparam,
        libc::SYS_sched_setscheduler,
        libc::SYS_ioprio_set,
        libc::SYS_setpgid,
        libc::SYS_setsid,
        // Memory and queues that processes share by name.
        libc::SYS_mq_open,
        libc::SYS_mq_unlink,
        libc::SYS_msgctl,
        libc::SYS_msgget,
        libc::SYS_msgrcv,
        libc::SYS_msgsnd,
        libc::SYS_semctl,
        libc::SYS_semget,
        libc::SYS_semop,
        libc::SYS_shmat,
        libc::SYS_shmctl,
        libc::SYS_shmget,
        // What Landlock does not ask about: whose a file is, and who may open it. No guest changes that. Times of files are what guests set.
        libc::SYS_fchmod,
        libc::SYS_fchmodat,
        FCHMODAT2,
        libc::SYS_fchown,
        libc::SYS_fchownat,
        libc::SYS_setxattr,
        libc::SYS_lsetxattr,
        libc::SYS_fsetxattr,
        SETXATTRAT,
        libc::SYS_removexattr,
        libc::SYS_lremovexattr,
        libc::SYS_fremovexattr,
        REMOVEXATTRAT,
        // Nor who hears of changes of them.
        libc::SYS_inotify_init1,
        libc::SYS_inotify_add_watch,
    ];

    /// Calls that are too new to have a name, the same on every machine.
    const FCHMODAT2: c_long = 452;
    const SETXATTRAT: c_long = 463;
    const REMOVEXATTRAT: c_long = 466;

    #[cfg(target_arch = "x86_64")]
    const DENIED_HERE: &[c_long] = &[
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_chmod,
        libc::SYS_chown,
        libc::SYS_lchown,
        libc::SYS_inotify_init,
    ];
    #[cfg(not(target_arch = "x86_64"))]
    const DENIED_HERE: &[c_long] = &[];

    /// The part of a socket's type that says what it is.
    const KIND: u64 = 0xf;

    pub(super) fn close(network: bool) -> Enforced {
        let closed = denied(network)
            .and_then(|denied| close_calls([(denied, refuse(libc::EPERM), SeccompAction::Allow)]));
        if closed.is_ok() { Enforced::Whole } else { Enforced::Not }
    }

    fn denied(network: bool) -> Result<Calls, Error> {
        const THREAD: u64 = libc::CLONE_THREAD as u64;
        const STREAM: u64 = libc::SOCK_STREAM as u64;
        let mut denied = calls(DENIED);
        denied.extend(calls(DENIED_HERE));
        // Threads, and no processes.
        denied.insert(libc::SYS_clone, vec![SeccompRule::new(vec![bits(0, THREAD, 0)?])?]);
        // Signals within this process, and limits of it: the C library needs them.
        let own = u64::from(std::process::id());
        let other =
            |argument, own| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, own);
        denied.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![other(0, own)?])?]);
        denied.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![other(0, 0)?])?]);
        // A pair of sockets leads nowhere else, unless it is one of datagrams: those can be sent to any address.
        let kinds = (0..=KIND).filter(|kind| *kind != STREAM);
        let kinds = kinds.map(|kind| Ok(SeccompRule::new(vec![bits(1, KIND, kind)?])?));
        denied.insert(libc::SYS_socketpair, kinds.collect::<Result<_, Error>>()?);
        // No socket of this machine: the host's own is one. Those of the network, if anybody of the tenant may reach out.
        let sockets = if network {
            let others =
                [libc::AF_INET, libc::AF_INET6].map(|family| other(0, u64::from(family.unsigned_abs())));
            vec![SeccompRule::new(others.into_iter().collect::<Result<_, _>>()?)?]
        } else {
            Vec::new()
        };
        denied.insert(libc::SYS_socket, sockets);
        Ok(with_twins(denied))
    }
}

#[cfg(not(target_os = "linux"))]
mod more {
    use crate::confine::Enforced;

    pub(super) fn close(_network: bool) -> Enforced {
        Enforced::Not
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::io::ErrorKind;
    use std::net::UdpSocket;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
    use std::path::Path;
    use std::process::Command;

    use rustix::process::{getppid, getrlimit, test_kill_process};

    use super::*;

    /// seccomp binds a thread, so it can be looked at in one that ends afterwards. False where the kernel has none.
    fn in_a_thread(network: bool, work: impl FnOnce() + Send + 'static) -> bool {
        let filters = Path::new("/proc/sys/kernel/seccomp/actions_avail").exists();
        let confined = move || {
            let closed = more::close(network);
            if filters {
                assert_eq!(closed, Enforced::Whole);
                work();
            }
        };
        std::thread::spawn(confined).join().unwrap();
        filters
    }

    fn refused<T>(what: &str, tried: io::Result<T>) {
        assert_eq!(tried.err().map(|error| error.kind()), Some(ErrorKind::PermissionDenied), "{what}");
    }

    // Red with an empty list in `close`: each of them is let through.
    #[test]
    fn a_worker_reaches_no_process_no_program_and_no_socket_of_this_machine() {
        for network in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
            let address = listener.local_addr().unwrap();
            let parent = getppid().unwrap();
            let path = dir.path().join("file");
            let file = std::fs::File::create(&path).unwrap();
            let mode = file.metadata().unwrap().permissions();
            let ran = in_a_thread(network, move || {
                refused("the host's own socket", UnixStream::connect_addr(&address));
                refused("a datagram to any address", UnixDatagram::unbound());
                refused("a pair of datagrams", UnixDatagram::pair());
                refused("another program", Command::new("/bin/true").spawn());
                refused("who may open a file", std::fs::set_permissions(&path, mode.clone()));
                refused("who may open one that is open", file.set_permissions(mode));
                refused("whose a file is", std::os::unix::fs::chown(&path, None, None));
                refused("a signal", test_kill_process(parent).map_err(io::Error::from));
                assert_eq!(UdpSocket::bind("127.0.0.1:0").is_ok(), network, "a socket of the network");
            });
            assert!(ran || !Path::new("/proc/sys/kernel/seccomp").exists());
        }
    }

    #[test]
    fn a_worker_has_threads_pairs_of_streams_and_its_own_limits() {
        in_a_thread(false, || {
            assert_eq!(std::thread::spawn(|| 6 * 7).join().unwrap(), 42);
            UnixStream::pair().unwrap();
            getrlimit(Resource::Nofile);
        });
    }
}
