//! System calls that a host never makes.
//!
//! A list of what is denied, and not of what is allowed: the host is wasmtime, tokio, sled, the C library's resolver and the start of a
//! compiler, and a call that one of them makes on one machine in a thousand would stop an honest host there. What is denied is what none
//! of them makes, and what a way out of the kernel's bounds begins with: other processes' memory, namespaces and mounts, code in the
//! kernel, and interfaces that most of its local exploits came through. A compiler inherits the list, and goes on to its own, which is short
//! and of what is allowed (`compile`).
//!
//! Who asks is told EPERM, and not killed: a library that tries a call and can do without goes on.

#[cfg(target_os = "linux")]
pub(super) use linux::close;

#[cfg(not(target_os = "linux"))]
pub(super) fn close() -> super::Enforced {
    super::Enforced::Not
}

#[cfg(target_os = "linux")]
mod linux {
    use libc::c_long;
    use seccompiler::{Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

    use crate::confine::Enforced;
    use crate::confine::kernel::linux::{Calls, bits, calls, close_calls, refuse, with_twins};

    const DENIED: &[c_long] = &[
        // Memory, descriptors and registers of other processes.
        libc::SYS_kcmp,
        libc::SYS_pidfd_getfd,
        libc::SYS_process_madvise,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_ptrace,
        // Another view of the file system, or a way around the one that is there.
        libc::SYS_chroot,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fsopen,
        libc::SYS_fspick,
        libc::SYS_mount,
        libc::SYS_mount_setattr,
        libc::SYS_move_mount,
        libc::SYS_name_to_handle_at,
        libc::SYS_open_by_handle_at,
        libc::SYS_open_tree,
        libc::SYS_pivot_root,
        libc::SYS_umount2,
        // Namespaces. A user namespace gives every capability in it, and with that the kernel's least tried code.
        libc::SYS_setns,
        libc::SYS_unshare,
        // Code in the kernel, or another kernel.
        libc::SYS_bpf,
        libc::SYS_delete_module,
        libc::SYS_finit_module,
        libc::SYS_init_module,
        libc::SYS_kexec_file_load,
        libc::SYS_kexec_load,
        // Interfaces that nothing here uses, and many exploits did. What io_uring does, no filter sees.
        libc::SYS_add_key,
        libc::SYS_fanotify_init,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_io_uring_setup,
        libc::SYS_keyctl,
        libc::SYS_lookup_dcookie,
        libc::SYS_perf_event_open,
        libc::SYS_personality,
        libc::SYS_request_key,
        libc::SYS_userfaultfd,
        libc::SYS_vhangup,
        // The machine: its clock, its name, its swap, its quotas, its log, its end.
        libc::SYS_acct,
        libc::SYS_adjtimex,
        libc::SYS_clock_adjtime,
        libc::SYS_clock_settime,
        libc::SYS_mknodat,
        libc::SYS_quotactl,
        libc::SYS_reboot,
        libc::SYS_setdomainname,
        libc::SYS_sethostname,
        libc::SYS_settimeofday,
        libc::SYS_swapoff,
        libc::SYS_swapon,
        libc::SYS_syslog,
        // Whoever it is now, it stays: the user was changed before this.
        libc::SYS_capset,
        libc::SYS_setfsgid,
        libc::SYS_setfsuid,
        libc::SYS_setgid,
        libc::SYS_setgroups,
        libc::SYS_setregid,
        libc::SYS_setresgid,
        libc::SYS_setresuid,
        libc::SYS_setreuid,
        libc::SYS_setuid,
    ];

    /// Calls of this processor that others do not have.
    #[cfg(target_arch = "x86_64")]
    const DENIED_HERE: &[c_long] = &[
        libc::SYS__sysctl,
        libc::SYS_ioperm,
        libc::SYS_iopl,
        libc::SYS_mknod,
        libc::SYS_modify_ldt,
        libc::SYS_uselib,
        libc::SYS_ustat,
    ];
    #[cfg(not(target_arch = "x86_64"))]
    const DENIED_HERE: &[c_long] = &[];

    /// Sockets that the host has: its clients and destinations, a local syslog, and what the resolver asks the kernel about its addresses.
    const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

    /// Requests by which a program types into the terminal that it was started from.
    const TYPING: [u64; 2] = [libc::TIOCSTI, libc::TIOCLINUX];

    /// Denies the list to this thread and all that it starts.
    pub(in crate::confine) fn close() -> Enforced {
        let closed =
            denied().and_then(|denied| close_calls([(denied, refuse(libc::EPERM), SeccompAction::Allow)]));
        match closed {
            Ok(()) => Enforced::Whole,
            Err(error) => {
                tracing::debug!(%error, "system calls cannot be filtered");
                Enforced::Not
            }
        }
    }

    fn denied() -> Result<Calls, Error> {
        let mut denied = calls(DENIED);
        denied.extend(calls(DENIED_HERE));
        // A new process is the compiler's; a new namespace is nobody's.
        let namespaces = [
            libc::CLONE_NEWCGROUP,
            libc::CLONE_NEWIPC,
            libc::CLONE_NEWNET,
            libc::CLONE_NEWNS,
            libc::CLONE_NEWPID,
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWUTS,
        ];
        let in_one = |flag: i32| {
            let flag = u64::from(flag.unsigned_abs());
            Ok(SeccompRule::new(vec![bits(0, flag, flag)?])?)
        };
        denied.insert(libc::SYS_clone, namespaces.into_iter().map(in_one).collect::<Result<_, Error>>()?);
        let others = FAMILIES.into_iter().map(|family| {
            Ok(SeccompCondition::new(
                0,
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::Ne,
                family.unsigned_abs().into(),
            )?)
        });
        let other_family = SeccompRule::new(others.collect::<Result<_, Error>>()?)?;
        denied.insert(libc::SYS_socket, vec![other_family.clone()]);
        denied.insert(libc::SYS_socketpair, vec![other_family]);
        let typing = |request: u64| {
            let is = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, request)?;
            Ok(SeccompRule::new(vec![is])?)
        };
        denied.insert(libc::SYS_ioctl, TYPING.into_iter().map(typing).collect::<Result<_, Error>>()?);
        Ok(with_twins(denied))
    }
}
