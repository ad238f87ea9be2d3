//! What a process did to the files below one directory, in order.

/// A file or a directory, from its making to the end of the trace; never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(pub usize);

/// The directory that is recorded. It is there, and durable, before the trace begins.
pub const ROOT: Node = Node(0);

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub dir: Node,
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Dir,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new, empty file or directory has this name.
    Make {
        at: Place,
        node: Node,
        kind: Kind,
    },
    /// A file has one more name.
    Link {
        at: Place,
        node: Node,
    },
    /// A name is gone.
    Remove {
        at: Place,
    },
    /// A name moved, in place of what had it before.
    Rename {
        from: Place,
        to: Place,
    },
    Write {
        file: Node,
        offset: u64,
        bytes: Vec<u8>,
    },
    SetLength {
        file: Node,
        length: u64,
    },
    /// `fsync` or `fdatasync`, which has returned. Of a directory: of the names in it.
    Sync {
        node: Node,
    },
    /// The same, and it reported an error: nobody knows what is on the disk, and the next `fsync` does not repair it.
    SyncFailed {
        node: Node,
    },
    /// `sync_file_range`: promises nothing.
    SyncRange {
        file: Node,
    },
    /// The process said so to whoever waits. A line without its end.
    Told(String),
}

/// Everything that happened, in the order in which it happened.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    pub changes: Vec<Change>,
}

impl Trace {
    /// What was told before the cut, which is a number of changes.
    pub fn told(&self, cut: usize) -> impl Iterator<Item = &str> {
        self.changes[..cut].iter().filter_map(|change| match change {
            Change::Told(line) => Some(line.as_str()),
            _ => None,
        })
    }

    /// How many changes are told, written, synced, ranged and other, for a line of output.
    pub fn summary(&self) -> String {
        let count = |is: fn(&Change) -> bool| self.changes.iter().filter(|change| is(change)).count();
        format!(
            "{} changes: {} writes, {} syncs, {} of ranges, {} told",
            self.changes.len(),
            count(|change| matches!(change, Change::Write { .. })),
            count(|change| matches!(change, Change::Sync { .. })),
            count(|change| matches!(change, Change::SyncRange { .. })),
            count(|change| matches!(change, Change::Told(_))),
        )
    }
}
