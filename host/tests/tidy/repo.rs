//! The repository as the rules see it: paths and bytes, so that a violation can be planted without touching a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Directories that git ignores, wherever they are.
const IGNORED: [&str; 8] =
    [".git", "target", "corpus", "artifacts", "coverage", "node_modules", "__pycache__", "built"];

/// Every file that is, or could be, committed.
#[derive(Clone)]
pub(crate) struct Repo {
    files: BTreeMap<String, Arc<[u8]>>,
}

/// Where the workspace is on this machine.
pub(crate) fn root() -> PathBuf {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    host.parent().expect("host/ lies in the workspace").to_owned()
}

impl Repo {
    /// Reads the repository.
    pub(crate) fn load() -> Self {
        let mut files = BTreeMap::new();
        read(&root(), "", &mut files);
        assert!(files.contains_key("Cargo.toml") && files.len() > 100, "this is not the repository");
        Self { files }
    }

    /// The same repository with one more file, or another text in one.
    pub(crate) fn with(&self, path: &str, text: &str) -> Self {
        let mut changed = self.clone();
        changed.files.insert(path.to_owned(), text.as_bytes().into());
        changed
    }

    /// The same repository with something behind the last line of a file.
    pub(crate) fn appended(&self, path: &str, more: &str) -> Self {
        let text = self.text(path).unwrap_or_else(|| panic!("{path} is not there"));
        self.with(path, &format!("{text}\n{more}\n"))
    }

    /// A file that is text.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).and_then(|bytes| str::from_utf8(bytes).ok())
    }

    /// All files.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_ref()))
    }

    /// All files that are text.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter_map(|(path, bytes)| Some((path, str::from_utf8(bytes).ok()?)))
    }

    /// Text files with this ending.
    pub(crate) fn ending(&self, ending: &str) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(move |(path, _)| path.ends_with(ending))
    }

    /// Whether there is a file, or a directory with files in it, at `path`.
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let directory = format!("{path}/");
        self.files.contains_key(path) || self.files.keys().any(|file| file.starts_with(&directory))
    }

    /// Whether `name` is a directory or a file at the top.
    pub(crate) fn has_at_top(&self, name: &str) -> bool {
        self.files.keys().any(|file| file.split('/').next() == Some(name))
    }
}

fn read(directory: &Path, prefix: &str, files: &mut BTreeMap<String, Arc<[u8]>>) {
    let entries =
        std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().expect("names in the repository are UTF-8");
        if IGNORED.contains(&name.as_str()) {
            continue;
        }
        let path = format!("{prefix}{name}");
        if entry.file_type().unwrap().is_dir() {
            read(&entry.path(), &format!("{path}/"), files);
        } else if let Ok(bytes) = std::fs::read(entry.path()) {
            files.insert(path, bytes.into());
        }
    }
}
