//! What a disk may hold when the power goes, given what was done to its files until then.
//!
//! A sector has what it had at the last `fsync` of its file, or what any later write made of it. A length, and a name in a
//! directory, likewise. A rename is one step: both of its names, or none. `sync_file_range` counts as nothing, and so does an
//! `fsync` that reported an error, for ever: what it should have written may be there or not, whatever is synced later.
//! `docs/crash-safety.md` says what is not modelled.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::rc::Rc;

use crate::common::random::Random;
use crate::trace::{Change, Kind, Node, Place, ROOT};

/// What a disk writes whole.
const SECTOR: u64 = 512;
/// Sectors of a page: what the system writes whole, if the disk can.
const PAGE: u64 = 8;

/// None: zeros.
type Sector = Option<Rc<[u8; SECTOR as usize]>>;

/// A file's bytes, by sector; what is not there is zero.
#[derive(Clone, Debug, Default)]
struct Bytes {
    sectors: BTreeMap<u64, Rc<[u8; SECTOR as usize]>>,
    length: u64,
}

/// What one change left in the sectors that it touched.
#[derive(Clone, Debug)]
struct Touched {
    sectors: Vec<(u64, Sector)>,
    length: u64,
}

#[derive(Clone, Debug, Default)]
struct FileState {
    durable: Bytes,
    /// As its readers see it.
    live: Bytes,
    /// Since the last sync.
    pending: Vec<Touched>,
    /// From before a sync that failed: kept or lost, for ever.
    doomed: BTreeMap<u64, Vec<Sector>>,
}

/// A name that came, went or changed, as a part of the step of this number.
#[derive(Clone, Debug)]
struct Renamed {
    step: usize,
    name: String,
    to: Option<Node>,
    doomed: bool,
}

#[derive(Clone, Debug, Default)]
struct DirState {
    durable: BTreeMap<String, Node>,
    live: BTreeMap<String, Node>,
    pending: Vec<Renamed>,
}

/// The disk after a number of changes.
#[derive(Clone, Debug)]
pub struct Disk {
    files: BTreeMap<Node, FileState>,
    dirs: BTreeMap<Node, DirState>,
    steps: usize,
}

/// What becomes of everything that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All of it is lost.
    Lost,
    /// All of it is kept: as after a crash of the process.
    Kept,
    /// Each by chance, from this seed.
    Chance(u64),
}

impl Disk {
    pub fn new() -> Self {
        Self { files: BTreeMap::new(), dirs: BTreeMap::from([(ROOT, DirState::default())]), steps: 0 }
    }

    /// Takes one change.
    pub fn apply(&mut self, change: &Change) {
        self.steps += 1;
        match change {
            Change::Make { at, node, kind } => {
                match kind {
                    Kind::File => drop(self.files.insert(*node, FileState::default())),
                    Kind::Dir => drop(self.dirs.insert(*node, DirState::default())),
                }
                self.name(at, Some(*node));
            }
            Change::Link { at, node } => self.name(at, Some(*node)),
            Change::Remove { at } => self.name(at, None),
            Change::Rename { from, to } => {
                let node = self.dirs[&from.dir].live.get(&from.name).copied();
                self.name(from, None);
                self.name(to, node);
            }
            Change::Write { file, offset, bytes } => self.file(*file).write(*offset, bytes),
            Change::SetLength { file, length } => self.file(*file).set_length(*length),
            Change::Sync { node } => match self.dirs.get_mut(node) {
                Some(dir) => dir.sync(),
                None => self.file(*node).sync(),
            },
            Change::SyncFailed { node } => match self.dirs.get_mut(node) {
                Some(dir) => dir.pending.iter_mut().for_each(|change| change.doomed = true),
                None => self.file(*node).sync_failed(),
            },
            Change::SyncRange { .. } | Change::Told(_) => {}
        }
    }

    fn file(&mut self, node: Node) -> &mut FileState {
        self.files.get_mut(&node).expect("a file is made before it is written")
    }

    fn name(&mut self, at: &Place, to: Option<Node>) {
        let dir = self.dirs.get_mut(&at.dir).expect("a directory is made before its names");
        match to {
            Some(node) => drop(dir.live.insert(at.name.clone(), node)),
            None => drop(dir.live.remove(&at.name)),
        }
        let name = at.name.clone();
        dir.pending.push(Renamed { step: self.steps, name, to, doomed: false });
    }

    /// The bytes of the file that has this name now, as its readers see them.
    pub fn read(&self, at: &Place) -> Vec<u8> {
        let live = &self.files[&self.dirs[&at.dir].live[&at.name]].live;
        let mut bytes = vec![0; live.length as usize];
        for (number, content) in &live.sectors {
            let start = (number * SECTOR) as usize;
            let end = bytes.len().min(start + SECTOR as usize);
            bytes[start..end].copy_from_slice(&content[..end - start]);
        }
        bytes
    }

    /// Writes what the disk may hold into an empty directory.
    pub fn cut(&self, fate: Fate, into: &Path) {
        let mut choice = Choice::new(fate, self);
        self.write_dir(ROOT, &mut choice, into);
    }

    fn write_dir(&self, node: Node, choice: &mut Choice, into: &Path) {
        for (name, node) in choice.names(&self.dirs[&node]) {
            let path = into.join(name);
            if self.dirs.contains_key(&node) {
                fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
                self.write_dir(node, choice, &path);
            } else {
                choice.bytes(node, &self.files[&node]).write(&path);
            }
        }
    }
}

impl FileState {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        let mut sectors = Vec::new();
        for number in offset / SECTOR..end.div_ceil(SECTOR) {
            let start = number * SECTOR;
            let mut content = self.live.sectors.get(&number).map_or([0; SECTOR as usize], |old| **old);
            let (from, to) = (offset.max(start), end.min(start + SECTOR));
            content[(from - start) as usize..(to - start) as usize]
                .copy_from_slice(&bytes[(from - offset) as usize..(to - offset) as usize]);
            sectors.push((number, content.iter().any(|byte| *byte != 0).then(|| Rc::new(content))));
        }
        self.touch(Touched { sectors, length: self.live.length.max(end) });
    }

    fn set_length(&mut self, length: u64) {
        let mut sectors = Vec::new();
        for (number, old) in self.live.sectors.range(length / SECTOR..) {
            let start = number * SECTOR;
            let mut content = **old;
            content[(length.max(start) - start) as usize..].fill(0);
            sectors.push((*number, content.iter().any(|byte| *byte != 0).then(|| Rc::new(content))));
        }
        self.touch(Touched { sectors, length });
    }

    fn touch(&mut self, touched: Touched) {
        self.live.take(&touched);
        self.pending.push(touched);
    }

    fn sync(&mut self) {
        for touched in std::mem::take(&mut self.pending) {
            self.durable.take(&touched);
            for (number, _) in &touched.sectors {
                self.doomed.remove(number);
            }
        }
        self.durable.length = self.live.length;
    }

    fn sync_failed(&mut self) {
        for touched in std::mem::take(&mut self.pending) {
            for (number, sector) in touched.sectors {
                self.doomed.entry(number).or_default().push(sector);
            }
        }
    }
}

impl Bytes {
    fn take(&mut self, touched: &Touched) {
        for (number, sector) in &touched.sectors {
            self.set(*number, sector.clone());
        }
        self.length = touched.length;
    }

    fn set(&mut self, number: u64, sector: Sector) {
        match sector {
            Some(content) => drop(self.sectors.insert(number, content)),
            None => drop(self.sectors.remove(&number)),
        }
    }

    fn write(&self, path: &Path) {
        let file = File::options().write(true).create_new(true).mode(0o600).open(path).unwrap();
        for (number, content) in self.sectors.range(..self.length.div_ceil(SECTOR)) {
            file.write_all_at(&content[..], number * SECTOR).unwrap();
        }
        file.set_len(self.length).unwrap();
    }
}

impl DirState {
    fn sync(&mut self) {
        let synced: Vec<Renamed> = self.pending.extract_if(.., |change| !change.doomed).collect();
        for change in synced {
            // What is doomed is older, and does not come back over it.
            self.pending.retain(|doomed| doomed.name != change.name);
            match change.to {
                Some(node) => drop(self.durable.insert(change.name, node)),
                None => drop(self.durable.remove(&change.name)),
            }
        }
    }
}

/// How the unsynced writes of one file fare.
#[derive(Clone, Copy, Debug)]
enum Way {
    Lost,
    Kept,
    /// The first of them, up to one.
    First,
    /// Each of them, or not.
    Some,
    /// Each sector, or each page, has any of its versions.
    Torn {
        unit: u64,
    },
    /// All, but the last one only up to some sector.
    TornEnd,
}

/// What chance decides, the same for the same seed.
struct Choice {
    fate: Fate,
    random: Random,
    /// Steps that change names, and that are kept.
    steps: BTreeSet<usize>,
    /// A file with two names has one content.
    files: BTreeMap<Node, Bytes>,
}

impl Choice {
    fn new(fate: Fate, disk: &Disk) -> Self {
        let seed = if let Fate::Chance(seed) = fate { seed } else { 0 };
        let mut random = Random::new(seed);
        let all: BTreeSet<usize> =
            disk.dirs.values().flat_map(|dir| &dir.pending).map(|change| change.step).collect();
        let steps = match fate {
            Fate::Lost => BTreeSet::new(),
            Fate::Kept => all,
            // A journal keeps the order of steps; a plain file system need not.
            Fate::Chance(_) if random.one_in(2) => {
                let first = random.below(all.len() as u64 + 1) as usize;
                all.into_iter().take(first).collect()
            }
            Fate::Chance(_) => all.into_iter().filter(|_| random.one_in(2)).collect(),
        };
        Self { fate, random, steps, files: BTreeMap::new() }
    }

    fn names(&self, dir: &DirState) -> BTreeMap<String, Node> {
        let mut names = dir.durable.clone();
        for change in dir.pending.iter().filter(|change| self.steps.contains(&change.step)) {
            match change.to {
                Some(node) => drop(names.insert(change.name.clone(), node)),
                None => drop(names.remove(&change.name)),
            }
        }
        names
    }

    fn bytes(&mut self, node: Node, file: &FileState) -> Bytes {
        if let Some(known) = self.files.get(&node) {
            return known.clone();
        }
        let way = match self.fate {
            Fate::Lost => Way::Lost,
            Fate::Kept => Way::Kept,
            Fate::Chance(_) => self.way(),
        };
        let bytes = self.go(way, file);
        self.files.insert(node, bytes.clone());
        bytes
    }

    fn way(&mut self) -> Way {
        match self.random.below(8) {
            0 => Way::Lost,
            1 => Way::Kept,
            2 => Way::First,
            3 => Way::Some,
            4 => Way::Torn { unit: 1 },
            5 => Way::Torn { unit: PAGE },
            _ => Way::TornEnd,
        }
    }

    fn go(&mut self, way: Way, file: &FileState) -> Bytes {
        let mut bytes = file.durable.clone();
        for (number, versions) in &file.doomed {
            // Doomed or not: the disk has one of them, or what it had before.
            let version = match way {
                Way::Lost => None,
                Way::Kept => versions.last(),
                _ => versions.get(self.random.below(versions.len() as u64 + 1) as usize),
            };
            if let Some(version) = version {
                bytes.set(*number, version.clone());
            }
        }
        let pending = &file.pending;
        let Some(last) = pending.last() else { return bytes };
        match way {
            Way::Lost => {}
            Way::Kept => pending.iter().for_each(|touched| bytes.take(touched)),
            Way::First => {
                let first = self.random.below(pending.len() as u64 + 1) as usize;
                pending[..first].iter().for_each(|touched| bytes.take(touched));
            }
            Way::Some => {
                for touched in pending {
                    if self.random.one_in(2) {
                        bytes.take(touched);
                    }
                }
                bytes.length = self.length(file);
            }
            Way::Torn { unit } => {
                let mut versions: BTreeMap<u64, Vec<&[(u64, Sector)]>> = BTreeMap::new();
                for touched in pending {
                    for part in touched.sectors.chunk_by(|a, b| a.0 / unit == b.0 / unit) {
                        versions.entry(part[0].0 / unit).or_default().push(part);
                    }
                }
                for versions in versions.values() {
                    let first = self.random.below(versions.len() as u64 + 1) as usize;
                    for (number, sector) in versions[..first].iter().copied().flatten() {
                        bytes.set(*number, sector.clone());
                    }
                }
                bytes.length = self.length(file);
            }
            Way::TornEnd => {
                pending[..pending.len() - 1].iter().for_each(|touched| bytes.take(touched));
                let first = self.random.below(last.sectors.len() as u64 + 1) as usize;
                for (number, sector) in &last.sectors[..first] {
                    bytes.set(*number, sector.clone());
                }
                bytes.length = self.length(file);
            }
        }
        bytes
    }

    /// Any length that the file had since it was synced: a length is written by itself.
    fn length(&mut self, file: &FileState) -> u64 {
        match self.random.below(file.pending.len() as u64 + 1).checked_sub(1) {
            None => file.durable.length,
            Some(version) => file.pending[version as usize].length,
        }
    }
}
