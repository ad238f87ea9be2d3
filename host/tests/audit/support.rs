//! A log of known entries, with its heads at every size.

use std::fs;
use std::path::{Path, PathBuf};

use strongroom::audit::verify::{Options, Verified, VerifyError, verify_dir};
use strongroom::audit::writer::Log;
use strongroom_job::SecretKey;
use strongroom_job::merkle::{Hash, LeafIndex, RightEdge, TreeHead, TreeSize};
use strongroom_job::note::{KeyName, VerifierKey};
use zeroize::Zeroizing;

/// A directory for one test: in memory where there is such a place, since thousands of real syncs take minutes. What a
/// sync is for is tested by undoing what was not synced.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

pub(crate) fn key() -> SecretKey {
    SecretKey::from_seed(&Zeroizing::new([7; 32]))
}

pub(crate) fn other_key() -> SecretKey {
    SecretKey::from_seed(&Zeroizing::new([8; 32]))
}

pub(crate) fn name() -> KeyName {
    "strongroom.example/test".parse().unwrap()
}

pub(crate) fn verifier() -> VerifierKey {
    VerifierKey::new(name(), key().public())
}

pub(crate) fn entry(index: u64) -> Vec<u8> {
    index.to_string().into_bytes()
}

pub(crate) fn entries(range: std::ops::Range<u64>) -> impl Iterator<Item = Vec<u8>> {
    range.map(entry)
}

pub(crate) fn index(number: u64) -> LeafIndex {
    LeafIndex::new(number)
}

pub(crate) fn size(number: u64) -> TreeSize {
    TreeSize::new(number).unwrap()
}

/// The head of the log of the first `size` entries.
pub(crate) fn head(size: u64) -> TreeHead {
    let mut edge = RightEdge::new();
    for entry in entries(0..size) {
        edge.push(Hash::of_leaf(&entry), |_, _| ()).unwrap();
    }
    edge.head()
}

/// A log directory that publishes at each of `sizes`.
pub(crate) fn published(dir: &Path, sizes: &[u64]) -> Log {
    let mut log = Log::create(dir, name(), key()).unwrap();
    for end in sizes {
        let from = log.size().get();
        log.publish(index(from), entries(from..*end)).unwrap();
    }
    log
}

pub(crate) fn verify(dir: &Path) -> Result<Verified, VerifyError> {
    verify_dir(dir, &known_key(), &mut ())
}

pub(crate) fn known_key() -> Options {
    Options { key: Some(key().public()), ..Options::default() }
}

/// The names of all files, relative and sorted.
pub(crate) fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(dir.join(&at)).unwrap() {
            let entry = entry.unwrap();
            let path = at.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                open.push(path);
            } else {
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The findings as lines, for comparing.
pub(crate) fn lines(error: &VerifyError) -> Vec<String> {
    error.findings().iter().map(ToString::to_string).collect()
}
