//! What is known of the files and directories that the guest holds: wasmtime-wasi keeps neither their paths nor, for preview 1,
//! a way to them.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::{FsPerms, OpenMode};

/// Where something is, as the guest sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Absolute.
    pub(super) path: Arc<str>,
    /// The granted directory that it was reached through; absolute.
    pub(super) root: Arc<str>,
}

impl Place {
    /// A granted directory.
    pub(super) fn root(guest: &str) -> Self {
        let root: Arc<str> = joined("/", guest).into();
        Self { path: Arc::clone(&root), root }
    }

    /// What `path` leads to from here. `..` stays in it: only the kernel knows where it leads.
    pub(super) fn below(&self, path: &str) -> Self {
        Self { path: joined(&self.path, path).into(), root: Arc::clone(&self.root) }
    }
}

fn joined(from: &str, path: &str) -> String {
    let mut whole = from.trim_end_matches('/').to_owned();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        whole.push('/');
        whole.push_str(part);
    }
    if whole.is_empty() { "/".to_owned() } else { whole }
}

/// An open file or directory.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) handle: Arc<File>,
    pub(super) place: Place,
    pub(super) is_dir: bool,
    /// Reached through a directory that was granted for reading only.
    pub(super) read_only: bool,
    /// Opened for writing.
    pub(super) writable: bool,
    /// Writes go to the end (preview 1 only).
    pub(super) append: bool,
}

impl Node {
    /// None for what is neither a file nor a directory. The look before the open ought to have found that, but it is not the
    /// open; this is.
    pub(super) fn new(descriptor: &Descriptor, place: Place) -> Option<Self> {
        let (handle, perms, mode, is_dir) = match descriptor {
            Descriptor::File(file) => (&file.file, file.perms, file.open_mode, false),
            Descriptor::Dir(dir) => (&dir.dir, dir.perms, dir.open_mode, true),
        };
        if !is_dir && !handle.metadata().is_ok_and(|meta| meta.is_file()) {
            return None;
        }
        Some(Self {
            handle: Arc::clone(handle),
            place,
            is_dir,
            read_only: perms == FsPerms::ReadOnly,
            writable: mode.contains(OpenMode::WRITE),
            append: false,
        })
    }
}

/// By file descriptor in preview 1, by number in the table of resources in WASI 0.2.
#[derive(Debug, Default)]
pub(super) struct Nodes(BTreeMap<u32, Node>);

impl Nodes {
    pub(super) fn get(&self, key: u32) -> Option<&Node> {
        self.0.get(&key)
    }

    pub(super) fn get_mut(&mut self, key: u32) -> Option<&mut Node> {
        self.0.get_mut(&key)
    }

    pub(super) fn dir(&self, key: u32) -> Option<Node> {
        self.get(key).filter(|node| node.is_dir).cloned()
    }

    pub(super) fn insert(&mut self, key: u32, node: Node) {
        self.0.insert(key, node);
    }

    pub(super) fn remove(&mut self, key: u32) -> Option<Node> {
        self.0.remove(&key)
    }
}

/// The place in the table that the next resource gets; none when the table is full. Preview 1 keeps for itself where it put
/// what it opened, so this is asked before, and after it [`opened`] looks there.
pub(super) fn next_slot(table: &mut ResourceTable) -> Option<u32> {
    let trial = table.push(()).ok()?;
    let slot = trial.rep();
    table.delete(trial).ok()?;
    Some(slot)
}

/// What was opened into a slot that was free before.
pub(super) fn opened(table: &ResourceTable, slot: Option<u32>) -> Option<&Descriptor> {
    table.get(&Resource::<Descriptor>::new_borrow(slot?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_as_the_guest_sees_it() {
        for (root, path, told) in [
            ("/data", "a/b", "/data/a/b"),
            ("/data/", "./a//b/", "/data/a/b"),
            (".", "a", "/a"),
            ("data", "../a", "/data/../a"),
            ("/", ".", "/"),
            ("/", "/etc/passwd", "/etc/passwd"),
        ] {
            assert_eq!(&*Place::root(root).below(path).path, told);
        }
        assert_eq!(&*Place::root("/data").below("a").below("b").root, "/data");
    }

    #[test]
    fn the_next_slot_is_the_one_that_is_given() {
        let mut table = ResourceTable::new();
        table.push(1_u8).unwrap();
        let freed = table.push(2_u8).unwrap();
        let slot = next_slot(&mut table);
        assert_eq!(table.push(3_u8).ok().map(|new| new.rep()), slot);
        table.delete(freed).unwrap();
        let slot = next_slot(&mut table);
        assert_eq!(table.push(4_u8).ok().map(|new| new.rep()), slot);
        table.set_max_capacity(0);
        assert_eq!(next_slot(&mut table), None);
    }
}
