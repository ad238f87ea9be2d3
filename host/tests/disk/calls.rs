//! The system calls that can change a file, as the tracer meets them: which they are, what they are about to do, and the
//! filter that makes the kernel stop a thread at each of them and at no other.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use nix::libc::{self, c_long, user_regs_struct};
use nix::unistd::Pid;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

/// Longest path that is read from a process.
const MAX_PATH: usize = 4096;

/// Every call that can change a file or a name, or make it durable. What is not modelled is in here too: the tracer refuses it
/// below the directory that it records, so that a trace is whole or there is none.
const WATCHED: &[c_long] = &[
    libc::SYS_write,
    libc::SYS_pwrite64,
    libc::SYS_writev,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_copy_file_range,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rmdir,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
];

/// Makes the kernel stop this process, and all that it starts, for its tracer at every watched call. Without a tracer such a
/// call fails from now on.
pub fn watch_me() {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = WATCHED.iter().map(|call| (*call, Vec::new())).collect();
    // Memory that is a file, written behind everybody's back.
    let shared = SeccompCondition::new(
        3,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(libc::MAP_SHARED as u64),
        libc::MAP_SHARED as u64,
    );
    rules.insert(libc::SYS_mmap, vec![SeccompRule::new(vec![shared.unwrap()]).unwrap()]);
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Trace(0), TargetArch::x86_64).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter_all_threads(&program).unwrap();
}

/// A path as a call names it: from a directory's descriptor, or from the current directory.
#[derive(Clone, Debug)]
pub struct Named {
    base: i32,
    path: PathBuf,
}

/// What a stopped thread is about to do.
#[derive(Clone, Debug)]
pub enum Call {
    /// At an offset, or else at the descriptor's position.
    Write {
        fd: i32,
        at: Option<u64>,
        address: u64,
    },
    SetLength {
        fd: i32,
        length: u64,
    },
    Sync {
        fd: i32,
    },
    SyncRange {
        fd: i32,
    },
    Open {
        path: Named,
        flags: i32,
    },
    Rename {
        from: Named,
        to: Named,
    },
    Link {
        to: Named,
    },
    Remove {
        path: Named,
    },
    MakeDir {
        path: Named,
    },
    /// One that the model does not know, with the descriptors or the path that it would change.
    Unknown {
        call: c_long,
        fds: Vec<i32>,
        path: Option<Named>,
    },
}

impl Call {
    /// Reads the call of a thread that stands before it.
    pub fn read(pid: Pid, regs: &user_regs_struct) -> io::Result<Self> {
        let path = |base: u64, address: u64| Named::read(pid, base as i32, address);
        let here = libc::AT_FDCWD as u64;
        let (a, b, c, d) = (regs.rdi, regs.rsi, regs.rdx, regs.r10);
        let fd = a as i32;
        let number = regs.orig_rax as c_long;
        let unknown = |fds: &[i32]| Self::Unknown { call: number, fds: fds.to_vec(), path: None };
        Ok(match number {
            libc::SYS_write => Self::Write { fd, at: None, address: b },
            libc::SYS_pwrite64 => Self::Write { fd, at: Some(d), address: b },
            libc::SYS_ftruncate => Self::SetLength { fd, length: b },
            libc::SYS_fsync | libc::SYS_fdatasync => Self::Sync { fd },
            libc::SYS_sync_file_range => Self::SyncRange { fd },
            libc::SYS_open => Self::Open { path: path(here, a)?, flags: b as i32 },
            libc::SYS_creat => {
                Self::Open { path: path(here, a)?, flags: libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC }
            }
            libc::SYS_openat => Self::Open { path: path(a, b)?, flags: c as i32 },
            // The first field of `struct open_how`.
            libc::SYS_openat2 => Self::Open { path: path(a, b)?, flags: word(pid, c)? as i32 },
            libc::SYS_rename => Self::Rename { from: path(here, a)?, to: path(here, b)? },
            libc::SYS_renameat => Self::Rename { from: path(a, b)?, to: path(c, d)? },
            libc::SYS_renameat2 if regs.r8 as u32 & libc::RENAME_EXCHANGE == 0 => {
                Self::Rename { from: path(a, b)?, to: path(c, d)? }
            }
            libc::SYS_link => Self::Link { to: path(here, b)? },
            libc::SYS_linkat => Self::Link { to: path(c, d)? },
            libc::SYS_unlink | libc::SYS_rmdir => Self::Remove { path: path(here, a)? },
            libc::SYS_unlinkat => Self::Remove { path: path(a, b)? },
            libc::SYS_mkdir => Self::MakeDir { path: path(here, a)? },
            libc::SYS_mkdirat => Self::MakeDir { path: path(a, b)? },
            libc::SYS_truncate => Self::Unknown { call: number, fds: vec![], path: Some(path(here, a)?) },
            libc::SYS_symlink => Self::Unknown { call: number, fds: vec![], path: Some(path(here, b)?) },
            libc::SYS_symlinkat => Self::Unknown { call: number, fds: vec![], path: Some(path(b, c)?) },
            libc::SYS_renameat2 => Self::Unknown { call: number, fds: vec![], path: Some(path(c, d)?) },
            libc::SYS_mmap => {
                let writable = c as i32 & libc::PROT_WRITE != 0 && d as i32 & libc::MAP_ANONYMOUS == 0;
                unknown(if writable { &[0] } else { &[] }).with_fd(regs.r8 as i32)
            }
            libc::SYS_copy_file_range | libc::SYS_splice => unknown(&[c as i32]),
            _ => unknown(&[fd]),
        })
    }

    fn with_fd(self, fd: i32) -> Self {
        match self {
            Self::Unknown { call, fds, path } => {
                Self::Unknown { call, fds: fds.iter().map(|_| fd).collect(), path }
            }
            other => other,
        }
    }
}

impl Named {
    fn read(pid: Pid, base: i32, address: u64) -> io::Result<Self> {
        let mut bytes = memory(pid, address, MAX_PATH)?;
        let end = bytes.iter().position(|byte| *byte == 0);
        bytes.truncate(end.ok_or_else(|| io::Error::other("a path without an end"))?);
        let path = String::from_utf8(bytes).map_err(io::Error::other)?;
        Ok(Self { base, path: path.into() })
    }

    /// Directory, with all links followed, and name. None when there is no such directory.
    pub fn resolve(&self, pid: Pid) -> Option<(PathBuf, String)> {
        let base = match self.base {
            libc::AT_FDCWD => format!("/proc/{pid}/cwd"),
            fd => format!("/proc/{pid}/fd/{fd}"),
        };
        let path = std::fs::read_link(base).ok()?.join(&self.path);
        let name = path.file_name()?.to_str()?.to_owned();
        Some((path.parent()?.canonicalize().ok()?, name))
    }
}

/// At most `length` bytes of a process.
pub fn memory(pid: Pid, address: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let file = File::open(format!("/proc/{pid}/mem"))?;
    let mut read = 0;
    // Whoever asks for more than there is gets what there is.
    while read < length {
        match file.read_at(&mut bytes[read..], address + read as u64) {
            Ok(0) => break,
            Ok(some) => read += some,
            Err(_) if read > 0 => break,
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(read);
    Ok(bytes)
}

fn word(pid: Pid, address: u64) -> io::Result<u64> {
    let bytes = memory(pid, address, 8)?;
    Ok(u64::from_ne_bytes(bytes.try_into().map_err(|_| io::Error::other("half a word"))?))
}
