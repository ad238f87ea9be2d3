//! What a host needs of the file system, and nothing else.
//!
//! *Owns:* the list. *Never:* opens one of these files for its content, but for the list of this process's own libraries.
//! *Spec:* `docs/reference/config.md`, "Confinement".

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use strongroom_job::{Access, Name};

use super::{Open, Right};
use crate::config::{Config, ForwardTo};

/// What the C library reads to find the address of a name. Each is that very file: one that is exchanged while the host serves is found
/// at its next start. Where it is a link, as those of systemd-resolved are, what it leads to lies in a directory of such files, and is found
/// again in there.
const NAMES: [&str; 8] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
];
/// What of the machine is read: how many processors there are for us, how much memory we have, what it is called.
const MACHINE: [&str; 6] = [
    "/proc/self/cgroup",
    "/proc/self/mountinfo",
    "/proc/self/status",
    "/proc/sys/kernel/hostname",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
];
/// Devices that programs expect, the first for writing, too.
const DEVICES: [(&str, Right); 2] = [("/dev/null", Right::Write), ("/dev/urandom", Right::Read)];
/// Directories of the root that no job has any business in, also none that may name any directory. What is left there by other entries
/// of the list stays.
const NEVER_ANY: [&str; 3] = ["/dev", "/proc", "/sys"];
/// Most entries of the root directory that are looked at.
const MAX_TOP: usize = 1024;

/// What is to stay open, and why it is so much if it is.
#[derive(Debug)]
pub struct Plan {
    pub(super) open: Vec<Open>,
    /// A principal that may name any directory: the first.
    pub(super) any_directory: Option<Name>,
    /// The kernel forgets a rule about a file of `/proc` with the file, so each is held.
    pub(super) held: Vec<OwnedFd>,
}

impl Plan {
    /// For a host of `config` in the data directory `dir`. `shared` is its directory in shared memory, if it has one.
    #[must_use]
    pub fn of(dir: &Path, config: &Config, shared: Option<&Path>) -> Self {
        let mut plan = Self { open: Vec::new(), any_directory: None, held: Vec::new() };
        plan.home(dir);
        for volume in config.volumes.values() {
            let right = if volume.access == Access::ReadWrite { Right::Write } else { Right::Read };
            plan.add(&volume.path, right);
        }
        for forward in &config.forwards {
            match &forward.to {
                // Rotated files lie beside it.
                ForwardTo::File(rules) => plan.directory_of(&rules.path, Right::Write),
                ForwardTo::Unix(socket) => plan.add(socket, Right::Write),
                _ => {}
            }
        }
        for file in config.ca_files() {
            // A reload reads them again, and whoever renews one puts another file in its place.
            plan.directory_of(file, Right::Read);
        }
        if let Some(shared) = shared {
            plan.add(shared, Right::Write);
        }
        plan.system();
        plan.programs();
        if let Some(principal) = config.principals.iter().find(|principal| principal.any_directory) {
            plan.any_directory = Some(principal.name.clone());
            plan.nearly_everything();
        }
        plan.open.sort();
        plan.open.dedup();
        plan
    }

    /// What a process needs that finds the addresses of names, and nothing else.
    pub(super) fn names() -> Vec<Open> {
        let mut plan = Self { open: Vec::new(), any_directory: None, held: Vec::new() };
        plan.names_of_hosts();
        plan.open
    }

    fn add(&mut self, path: &Path, right: Right) {
        self.open.push(Open { path: path.into(), right });
    }

    /// The data directory, and what the links in it lead to: parts of it may lie on other disks.
    fn home(&mut self, dir: &Path) {
        self.add(dir, Right::Own);
        let links = fs::read_dir(dir).into_iter().flatten().flatten();
        let links = links.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
        for target in links.filter_map(|link| link.path().canonicalize().ok()) {
            if target.is_dir() {
                self.add(&target, Right::Own);
            } else if let Some(directory) = target.parent() {
                // It is the configuration, which is somebody else's to write: whoever does may put another file in its place.
                self.add(directory, Right::Read);
            }
        }
    }

    /// The directory that a file lies in, and the one that it lies in really.
    fn directory_of(&mut self, file: &Path, right: Right) {
        let real = file.canonicalize().ok();
        for directory in [Some(file), real.as_deref()].into_iter().flatten().filter_map(Path::parent) {
            self.add(directory, right);
        }
    }

    fn names_of_hosts(&mut self) {
        for name in NAMES {
            self.add(Path::new(name), Right::Read);
            let leads_to = Path::new(name).canonicalize().ok();
            if let Some(directory) = leads_to.as_deref().and_then(Path::parent)
                && directory != Path::new("/etc")
                && directory != Path::new("/")
            {
                self.add(directory, Right::Read);
            }
        }
    }

    fn system(&mut self) {
        self.names_of_hosts();
        for path in MACHINE {
            self.add(Path::new(path), Right::Read);
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            self.held.extend(openat(CWD, path, flags, Mode::empty()).ok());
        }
        for (path, right) in DEVICES {
            self.add(Path::new(path), right);
        }
    }

    /// This program, which compilers are, and what the dynamic linker has mapped for it. Other libraries beside those can be read, since
    /// the C library loads some when it needs them; they cannot be started.
    fn programs(&mut self) {
        // The very file, whatever has its name now.
        self.add(Path::new("/proc/self/exe"), Right::Run);
        let mapped = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        for path in programs_in(&mapped) {
            if let Some(directory) = path.parent().filter(|_| is_library(&path)) {
                self.add(directory, Right::Read);
            }
            self.add(&path, Right::Run);
        }
    }

    /// For who may name any directory: all there is but devices and the kernel's own. Programs cannot be started there, nor devices made.
    fn nearly_everything(&mut self) {
        let top = fs::read_dir("/").into_iter().flatten().flatten().take(MAX_TOP).map(|entry| entry.path());
        for path in top.filter(|path| !NEVER_ANY.iter().any(|never| path == Path::new(never))) {
            self.add(&path, Right::Write);
        }
    }
}

/// The files that `maps` (`proc_pid_maps(5)`) says are mapped to be executed.
fn programs_in(maps: &str) -> BTreeSet<PathBuf> {
    let file = |line: &str| {
        // Address, permissions, offset, device, inode, and then the path, which may hold blanks.
        let mut rest = line.split_once(' ')?.1.trim_start();
        let permissions = rest.split(' ').next()?;
        for _ in 0..4 {
            rest = rest.split_once(' ')?.1.trim_start();
        }
        (permissions.contains('x') && rest.starts_with('/')).then(|| PathBuf::from(rest))
    };
    maps.lines().filter_map(file).collect()
}

fn is_library(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mapped_to_be_executed_is_found() {
        let maps = "\
5581a0000000-5581a0100000 r--p 00000000 fe:00 1234                       /usr/bin/strongroom
5581a0100000-5581a0200000 r-xp 00100000 fe:00 1234                       /usr/bin/strongroom
7f0000000000-7f0000001000 r-xp 00000000 00:00 0
7f0000002000-7f0000003000 r-xp 00000000 fe:00 99                         /opt/with blank/libc.so.6
7f0000004000-7f0000005000 rw-p 00000000 fe:00 98                         /usr/lib/libm.so.6
7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0                          [vdso]
";
        let found: Vec<_> = programs_in(maps).into_iter().collect();
        assert_eq!(found, [Path::new("/opt/with blank/libc.so.6"), Path::new("/usr/bin/strongroom")]);
        assert!(is_library(&found[0]) && !is_library(&found[1]));
    }
}
