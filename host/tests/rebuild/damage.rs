//! What disks, people and crashes do to a state.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};

use strongroom_job::StateFault;

use crate::common::random::Random;
use crate::common::trees::copy;

/// One kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    Nothing,
    Removed,
    Emptied,
    /// Every file has its length and no content.
    Zeroed,
    /// Only the file of settings is gone.
    NoSettings,
    /// No file has any length.
    NoLength,
    /// Half of what was written is gone.
    HalfLength,
    /// An earlier copy was put back.
    RolledBack,
    /// A snapshot that is not whole, under the name of one that is.
    StraySnapshot,
    /// One that says that it is not whole.
    UnfinishedSnapshot,
    /// Another sled database, without any of the state's rows.
    Foreign,
    /// A state without anything in it, such as a first start makes.
    Fresh,
    /// One counter has other bytes.
    Counter,
    /// An entry of the list of active jobs has other bytes.
    ActiveRow,
    /// What says which records were published is of no tree.
    BadHead,
}

impl Damage {
    pub(crate) const ALL: [Self; 15] = [
        Self::Nothing,
        Self::Removed,
        Self::Emptied,
        Self::Zeroed,
        Self::NoSettings,
        Self::NoLength,
        Self::HalfLength,
        Self::RolledBack,
        Self::StraySnapshot,
        Self::UnfinishedSnapshot,
        Self::Foreign,
        Self::Fresh,
        Self::Counter,
        Self::ActiveRow,
        Self::BadHead,
    ];

    /// What the log must say of it.
    pub(crate) fn found(self) -> Vec<StateFault> {
        match self {
            // sled opens its log also without its settings, and without a snapshot.
            Self::Nothing | Self::NoSettings | Self::UnfinishedSnapshot => Vec::new(),
            Self::Removed | Self::Emptied | Self::Fresh => vec![StateFault::Lost],
            Self::RolledBack => vec![StateFault::RolledBack],
            _ => vec![StateFault::Damaged],
        }
    }

    pub(crate) fn leaves_something(self) -> bool {
        !matches!(self, Self::Removed | Self::Emptied)
    }

    pub(crate) fn to(self, state: &Path, earlier: &Path) {
        match self {
            Self::Nothing => {}
            Self::Removed => fs::remove_dir_all(state).unwrap(),
            Self::Emptied => empty(state),
            Self::Zeroed => {
                for file in files(state) {
                    let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
                    fs::write(file, vec![0; length]).unwrap();
                }
            }
            Self::NoSettings => fs::remove_file(state.join("conf")).unwrap(),
            Self::NoLength => files(state).iter().for_each(|file| fs::write(file, "").unwrap()),
            Self::HalfLength => {
                let db = fs::File::options().write(true).open(state.join("db")).unwrap();
                let end = fs::read(state.join("db")).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
                db.set_len(end as u64 / 2).unwrap();
                files(state)
                    .iter()
                    .filter(|file| is_snapshot(file))
                    .for_each(|file| fs::remove_file(file).unwrap());
            }
            Self::RolledBack => {
                fs::remove_dir_all(state).unwrap();
                copy(earlier, state);
            }
            Self::StraySnapshot => fs::write(state.join("snap.00000000FFFFFFFF"), "half of one").unwrap(),
            Self::UnfinishedSnapshot => {
                fs::write(state.join("snap.00000000FFFFFFFF.generating"), "half of one").unwrap();
            }
            Self::Foreign => {
                empty(state);
                change(state, |db| drop(db.insert("somebody", "else").unwrap()));
            }
            Self::Fresh => {
                empty(state);
                drop(strongroom::store::Store::open(state).unwrap());
            }
            Self::Counter => change(state, |db| drop(db.insert("m/log-size", "?").unwrap())),
            Self::BadHead => change(state, |db| drop(db.insert("m/published", "?").unwrap())),
            Self::ActiveRow => change(state, |db| {
                let (key, _) = db.scan_prefix("r/").next().unwrap().unwrap();
                db.insert(key, "?").unwrap();
            }),
        }
    }
}

fn empty(state: &Path) {
    fs::remove_dir_all(state).unwrap();
    fs::DirBuilder::new().mode(0o700).create(state).unwrap();
}

fn change(state: &Path, change: impl FnOnce(&sled::Db)) {
    let db = sled::Config::new().path(state).segment_size(8 << 20).open().unwrap();
    change(&db);
    db.flush().unwrap();
}

fn is_snapshot(file: &Path) -> bool {
    file.file_name().unwrap().to_str().unwrap().starts_with("snap.")
}

/// Flips one bit somewhere in a state, where there is something; says where.
pub(crate) fn flip(state: &Path, random: &mut Random) -> String {
    let files = files(state);
    loop {
        let path = &files[usize::try_from(random.below(files.len() as u64)).unwrap()];
        let bytes = fs::read(path).unwrap();
        let Some(end) = bytes.iter().rposition(|byte| *byte != 0) else { continue };
        let at = random.below(end as u64 + 1);
        let bit = 1 << random.below(8);
        let file = fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(&[bytes[usize::try_from(at).unwrap()] ^ bit], at).unwrap();
        return format!("bit {bit} at {at} of {}", path.file_name().unwrap().to_string_lossy());
    }
}

/// Every file below, in order.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
