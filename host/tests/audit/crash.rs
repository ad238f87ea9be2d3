//! Hostile 35: a crash at any durable step, whether it was persisted or not, and a power cut that undoes whatever was
//! not synced. The log opens again, goes on, and every checkpoint that anybody could have seen is a part of it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use strongroom::audit::writer::{Log, OpenError, PublishError};
use strongroom::audit::{Hook, Step, When};
use strongroom_job::checkpoint::SignedCheckpoint;
use strongroom_job::merkle::TreeHead;

use crate::support::{entries, files, head, index, key, name, scratch, verify};

/// Small, growing within a tile, filling one and beginning the next, filling two at once and exactly.
const SIZES: [u64; 4] = [3, 5, 258, 768];

/// What a power cut may undo, newest last.
#[derive(Clone, Debug)]
enum Undo {
    /// A name: the file that it led to before, if any.
    Name(PathBuf, Option<Vec<u8>>),
    MakeDir(PathBuf),
}

impl Undo {
    fn path(&self) -> &Path {
        match self {
            Self::Name(path, _) | Self::MakeDir(path) => path,
        }
    }
}

/// The disk as a power cut would see it.
#[derive(Default)]
struct Disk {
    steps: Vec<(When, Step)>,
    fail_at: Option<usize>,
    before: Option<Vec<u8>>,
    unsynced: Vec<Undo>,
}

impl Disk {
    fn hook(shared: &Arc<Mutex<Self>>) -> Hook {
        let shared = Arc::clone(shared);
        Box::new(move |when, step| shared.lock().unwrap().step(when, step))
    }

    fn step(&mut self, when: When, step: &Step) -> io::Result<()> {
        match (when, step) {
            (When::Before, Step::Rename(path) | Step::Remove(path)) => self.before = fs::read(path).ok(),
            (When::After, Step::Rename(path) | Step::Remove(path)) => {
                self.unsynced.push(Undo::Name(path.clone(), self.before.take()));
            }
            (When::After, Step::MakeDir(path)) => self.unsynced.push(Undo::MakeDir(path.clone())),
            (When::After, Step::SyncDir(dir)) => {
                self.unsynced.retain(|undo| undo.path().parent() != Some(dir))
            }
            _ => {}
        }
        self.steps.push((when, step.clone()));
        if self.fail_at == Some(self.steps.len() - 1) {
            return Err(io::Error::other("crashed here"));
        }
        Ok(())
    }

    /// Undoes those unsynced changes that `lost` chooses, newest first.
    fn cut_power(&self, lost: impl Fn(usize) -> bool) {
        for (number, undo) in self.unsynced.iter().enumerate().rev() {
            if !lost(number) {
                continue;
            }
            match undo {
                Undo::MakeDir(path) => drop(fs::remove_dir_all(path)),
                Undo::Name(path, None) => drop(fs::remove_file(path)),
                Undo::Name(path, Some(bytes)) => {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    // A removed directory comes back empty; its files have undo records of their own.
                    if !path.is_dir() {
                        fs::write(path, bytes).unwrap();
                    }
                }
            }
        }
    }
}

/// Creates or opens the log and publishes up to each size, from wherever it stands.
fn publish_all(dir: &Path, hook: Option<Hook>) -> Result<(), String> {
    let mut log = match Log::create_with(dir, name(), key(), hook) {
        Err(OpenError::HasEntries { .. }) => {
            Log::open(dir, name(), key()).map_err(|error| error.to_string())?
        }
        other => other.map_err(|error| error.to_string())?,
    };
    for end in SIZES {
        // Whatever is not known to be published is handed in again, and a little more.
        let from = log.size().get().saturating_sub(2);
        if end <= from {
            continue;
        }
        if let Err(error) = log.publish(index(from), entries(from..end)) {
            let size = log.size().get();
            let next = log.publish(index(size), entries(size..size));
            assert!(matches!(next, Err(PublishError::Broken)), "{next:?}");
            return Err(error.to_string());
        }
    }
    Ok(())
}

/// The head in the checkpoint file, which is absent or whole at any moment.
fn seen(dir: &Path) -> Option<TreeHead> {
    let bytes = fs::read(dir.join("checkpoint")).ok()?;
    let signed = SignedCheckpoint::parse(&bytes).expect("a checkpoint is never half written");
    Some(*signed.verify(&name(), &key().public()).expect("and always signed").head())
}

fn step_count() -> usize {
    let dir = scratch();
    let disk = Arc::new(Mutex::new(Disk::default()));
    publish_all(&dir.path().join("audit"), Some(Disk::hook(&disk))).unwrap();
    let disk = disk.lock().unwrap();
    disk.steps.len()
}

/// The log goes on after the crash, and ends where one without a crash ends.
fn goes_on(dir: &Path, seen_before: Option<TreeHead>, reference: &HashMap<u64, TreeHead>, what: &str) {
    if let Some(seen) = seen_before {
        assert_eq!(Some(&seen), reference.get(&seen.size.get()), "{what}: a checkpoint of another history");
    }
    publish_all(dir, None).unwrap_or_else(|error| panic!("{what}: {error}"));
    let log = Log::open(dir, name(), key()).unwrap();
    for seen in seen_before.iter().chain(reference.values()) {
        log.extends(seen).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    verify(dir).unwrap_or_else(|error| panic!("{what}:\n{error}"));
    assert_eq!(*log.checkpoint().head(), reference[SIZES.last().unwrap()], "{what}");
    let found = files(dir);
    for file in &found {
        let outgrown =
            file.split_once(".p/").is_some_and(|(full, _)| found.iter().any(|other| other == full));
        assert!(!outgrown, "{what}: {file} lies beside its full form");
    }
}

fn reference() -> HashMap<u64, TreeHead> {
    [0].into_iter().chain(SIZES).map(|size| (size, head(size))).collect()
}

// Red without `sync_names` before or behind the checkpoint in `commit`.
#[test]
fn the_checkpoint_comes_after_everything_it_covers() {
    let dir = scratch();
    let disk = Arc::new(Mutex::new(Disk::default()));
    publish_all(dir.path(), Some(Disk::hook(&disk))).unwrap();
    let disk = disk.lock().unwrap();
    let done: Vec<_> =
        disk.steps.iter().filter(|(when, _)| *when == When::After).map(|(_, step)| step).collect();
    let mut renamed: Vec<PathBuf> = Vec::new();
    let mut checkpoints = 0;
    for step in done {
        match step {
            Step::Write(path) if path.ends_with("checkpoint") => {
                // `log.pub` stands beside the first checkpoint: nobody believes one without the other.
                let unsynced: Vec<_> = renamed.iter().filter(|path| !path.ends_with("log.pub")).collect();
                assert!(unsynced.is_empty(), "signed before these were durable: {unsynced:?}");
                checkpoints += 1;
            }
            Step::Rename(path) => renamed.push(path.clone()),
            Step::SyncDir(dir) => renamed.retain(|path| path.parent() != Some(dir)),
            Step::Remove(path) => {
                assert_eq!(
                    renamed,
                    [] as [PathBuf; 0],
                    "removed {} before the checkpoint stood",
                    path.display()
                );
            }
            _ => {}
        }
    }
    assert_eq!(checkpoints, SIZES.len() + 1);
}

// Red without `write_partial` in `commit` (the checkpoint would cover tiles that are not there), and without the removal
// of outgrown partial tiles in `leftovers`.
#[test]
fn every_step_may_be_the_last_one() {
    let reference = reference();
    for crash in 0..step_count() {
        let dir = scratch();
        let dir = dir.path().join("audit");
        let disk = Arc::new(Mutex::new(Disk { fail_at: Some(crash), ..Disk::default() }));
        publish_all(&dir, Some(Disk::hook(&disk))).expect_err("the hook fails one step");
        let (when, step) = disk.lock().unwrap().steps[crash].clone();
        goes_on(&dir, seen(&dir), &reference, &format!("{when:?} {step:?}"));
    }
}

// Red without `sync_names` at any of its places: behind `log.pub`, before the checkpoint, before partial tiles are removed.
#[test]
fn a_power_cut_may_undo_whatever_was_not_synced() {
    let reference = reference();
    for crash in 0..step_count() {
        for lost in 0..4usize {
            let dir = scratch();
            let dir = dir.path().join("audit");
            let disk = Arc::new(Mutex::new(Disk { fail_at: Some(crash), ..Disk::default() }));
            publish_all(&dir, Some(Disk::hook(&disk))).expect_err("the hook fails one step");
            let seen = seen(&dir);
            let disk = disk.lock().unwrap();
            let count = disk.unsynced.len();
            // With one change to undo, all choices are the first one.
            if count == 0 || (count == 1 && lost > 0) {
                break;
            }
            match lost {
                0 => disk.cut_power(|_| true),
                1 => disk.cut_power(|number| number + 1 == count),
                2 => disk.cut_power(|number| number % 2 == 0),
                _ => disk.cut_power(|number| number + 1 < count),
            }
            let (when, step) = &disk.steps[crash];
            goes_on(&dir, seen, &reference, &format!("{when:?} {step:?}, power cut {lost}"));
        }
    }
}

// Red without the call of `leftovers::remove` in `open_with`.
#[test]
fn entries_that_were_never_published_leave_no_trace() {
    for crash in 0..step_count() {
        let dir = scratch();
        let dir = dir.path().join("audit");
        let disk = Arc::new(Mutex::new(Disk { fail_at: Some(crash), ..Disk::default() }));
        publish_all(&dir, Some(Disk::hook(&disk))).expect_err("the hook fails one step");
        let (when, step) = disk.lock().unwrap().steps[crash].clone();
        let what = format!("{when:?} {step:?}");
        if seen(&dir).is_none_or(|seen| seen.size.get() == 0) {
            continue;
        }
        let mut log = Log::open(&dir, name(), key()).unwrap();
        verify(&dir).unwrap_or_else(|error| panic!("{what}:\n{error}"));
        // Fewer entries than the crashed publication had, and other ones.
        let size = log.size().get();
        log.publish(index(size), [b"others".to_vec()]).unwrap();
        verify(&dir).unwrap_or_else(|error| panic!("{what}:\n{error}"));
        log.publish(index(size + 1), (0..600).map(|number| format!("other {number}").into_bytes())).unwrap();
        verify(&dir).unwrap_or_else(|error| panic!("{what}:\n{error}"));
        assert!(!files(&dir).contains(&".pending".to_owned()));
    }
}
