//! Whose all of it is: no other user can read what is the owner's alone, or change or exchange anything.
//!
//! Looked at, for each name below the data directory: that it is a file or a directory and no link, that it belongs to whom the directory
//! belongs to, and its permissions. *Bound:* [`MAX_DEPTH`].

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::Report;
use crate::home::Home;
use crate::home::place::{PRIVATE_DIRECTORY, PRIVATE_FILE, check_private};

/// Permission bits by which somebody else could change a file, or what is in a directory.
const OTHERS_WRITE: u32 = 0o022;
/// Nothing of ours lies so deep.
const MAX_DEPTH: usize = 16;
/// Root, who may own a configuration that a link leads to.
const ROOT: u32 = 0;

/// What a name of the data directory is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A file that nobody else may change.
    File,
    /// A directory that nobody else may enter. No start goes on where one of these is open to others.
    Private,
    /// A directory that nobody else may enter. A start makes or removes it.
    Own,
    /// The same, but what is in it is not this host's work: it is as guests left it, or as it was when it was moved there.
    Unsearched,
}

/// Every name that belongs there. A new part of a data directory has its line here.
const NAMES: [(&str, Kind); 23] = [
    ("strongroom.toml", Kind::File),
    ("config.lock", Kind::File),
    ("known_hosts", Kind::File),
    ("trust", Kind::File),
    ("lock", Kind::File),
    ("live.json", Kind::File),
    ("admin.sock", Kind::File),
    ("admin.sock.new", Kind::File),
    ("keys", Kind::Private),
    ("state", Kind::Private),
    ("audit", Kind::Private),
    ("blobs", Kind::Private),
    ("tmp", Kind::Private),
    ("cache", Kind::Private),
    ("secrets", Kind::Own),
    ("evidence", Kind::Own),
    ("forward", Kind::Own),
    ("contradictions", Kind::Own),
    ("state.making", Kind::Own),
    ("state.stale", Kind::Own),
    ("scratch", Kind::Unsearched),
    ("quarantine", Kind::Unsearched),
    ("checking", Kind::Unsearched),
];

pub(super) fn look(home: &Home, report: &mut Report) {
    let owner = match fs::metadata(home.dir()) {
        Ok(found) => found.uid(),
        Err(error) => return report.unchecked.push(format!("permissions: {error}")),
    };
    let before = report.findings.len() + report.more;
    let count = look_as(home, owner, report);
    report.checked.push(format!(
        "{count} files and directories: no links, nobody else's, and no other user may change one; keys and what is private is closed to others. Not within scratch and quarantine"
    ));
    if report.findings.len() + report.more > before {
        report.mend.push("permissions: as each line says; and ask who has read or changed what meanwhile. A secret key that others could read is none any more".into());
    }
}

/// The same, for a directory that must be `owner`'s; how many names were looked at.
fn look_as(home: &Home, owner: u32, report: &mut Report) -> u64 {
    let mut count = 1;
    let mut search = Search { owner, report, directories: Vec::new() };
    if let Ok(found) = fs::metadata(home.dir()) {
        search.owned(home.dir(), &found);
        search.unwritable(home.dir(), &found);
    }
    let mut strangers = Vec::new();
    for (path, name) in search.names(home.dir()) {
        let known = NAMES.iter().find(|(known, _)| name.as_deref() == Some(*known));
        match known {
            Some((_, kind)) => {
                count += 1;
                search.top(&path, *kind);
            }
            None => strangers.push(format!("{}: nothing of this host", path.display())),
        }
    }
    while let Some((directory, depth)) = search.directories.pop() {
        for (path, _) in search.names(&directory) {
            count += 1;
            search.below(&path, depth);
        }
    }
    search.report.note_all(strangers);
    count
}

struct Search<'a> {
    owner: u32,
    report: &'a mut Report,
    /// Directories to look into, and how deep each lies.
    directories: Vec<(PathBuf, usize)>,
}

impl Search<'_> {
    fn names(&mut self, directory: &Path) -> Vec<(PathBuf, Option<String>)> {
        let listed = fs::read_dir(directory).and_then(|names| {
            names
                .map(|entry| entry.map(|entry| (entry.path(), entry.file_name().into_string().ok())))
                .collect()
        });
        listed.unwrap_or_else(|error: std::io::Error| {
            self.report.unchecked.push(format!("permissions in {}: {error}", directory.display()));
            Vec::new()
        })
    }

    /// A name of the data directory itself. A directory may be a link, to another disk, and so may the configuration: then it is what they
    /// lead to that counts.
    fn top(&mut self, path: &Path, kind: Kind) {
        let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
        let found = match fs::metadata(path) {
            Ok(found) => found,
            Err(error) => return self.find(format!("{}: {error}", path.display())),
        };
        let may_lead_away = kind != Kind::File || path.ends_with("strongroom.toml");
        if is_link && !may_lead_away {
            return self.find(format!("{}: a link where a file must be", path.display()));
        }
        if is_link {
            self.report.notes.push(format!("{}: a link; what it leads to was looked at", path.display()));
        }
        if found.is_dir() == (kind == Kind::File) {
            let what = if kind == Kind::File { "no file" } else { "no directory" };
            return self.find(format!("{}: {what}", path.display()));
        }
        if !(is_link && kind == Kind::File && found.uid() == ROOT) {
            self.owned(path, &found);
        }
        self.unwritable(path, &found);
        if kind == Kind::File {
            return;
        }
        if let Err(error) = check_private(path, PRIVATE_DIRECTORY) {
            let problem = error.to_string();
            match kind {
                Kind::Private => self.report.find_stop("permissions", problem),
                _ => self.find(problem),
            }
        }
        if kind != Kind::Unsearched {
            self.directories.push((path.into(), 1));
        }
    }

    fn below(&mut self, path: &Path, depth: usize) {
        let found = match fs::symlink_metadata(path) {
            Ok(found) => found,
            Err(error) => return self.find(format!("{}: {error}", path.display())),
        };
        if found.is_symlink() {
            return self.find(format!("{}: a link where a file must be", path.display()));
        }
        // Of a host that was killed before its socket had its own name. The next start removes it.
        if path.ends_with("admin.sock.new") {
            return;
        }
        if !found.is_dir() && !found.is_file() {
            return self.find(format!("{}: neither a file nor a directory", path.display()));
        }
        self.owned(path, &found);
        self.unwritable(path, &found);
        // What is wrong with the keys that have halves, `keys` tells.
        if path.extension().is_some_and(|ending| ending == "key" || ending == "sealed")
            && let Err(error) = check_private(path, PRIVATE_FILE)
        {
            self.find(error.to_string());
        }
        if !found.is_dir() {
            return;
        }
        if depth >= MAX_DEPTH {
            return self.find(format!("{}: nothing of this host lies so deep", path.display()));
        }
        self.directories.push((path.into(), depth + 1));
    }

    fn owned(&mut self, path: &Path, found: &Metadata) {
        if found.uid() != self.owner {
            let (theirs, owner) = (found.uid(), self.owner);
            self.find(format!(
                "{0}: it belongs to user {theirs}, the directory to user {owner}. Run: chown {owner} {0}",
                path.display()
            ));
        }
    }

    fn unwritable(&mut self, path: &Path, found: &Metadata) {
        let mode = found.permissions().mode() & 0o7777;
        if mode & OTHERS_WRITE != 0 {
            self.find(format!(
                "{0}: mode {mode:04o} lets other users change it. Run: chmod go-w {0}",
                path.display()
            ));
        }
    }

    fn find(&mut self, problem: String) {
        self.report.find("permissions", problem);
    }
}
