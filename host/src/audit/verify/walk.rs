//! Looking for files that do not belong: whatever the entries did not call for.

use std::fs::{self, FileType, ReadDir};
use std::io;

use strongroom_job::merkle::TreeSize;
use strongroom_job::tile::Tile;

use super::super::files::{
    CHECKPOINT, COSIGNED, COSIGNED_PENDING, FileError, Files, KEYS, LOG_PUB, PENDING, TILE,
};
use super::finding::Findings;
use super::{Finding, Problem};

/// What a name in the audit directory is.
enum Kind {
    /// A part of the log; its bytes were compared when the entries were read.
    Part,
    /// Part of a log of this layout, but not of this size.
    Beyond,
    /// A directory on the way to tiles.
    Directory,
    Extra,
}

/// Walks the whole directory; returns how many files lie beyond the checkpoint, which only a live log may have.
pub(super) fn walk(files: &Files, size: TreeSize, live: bool, findings: &mut Findings) -> u64 {
    let mut beyond = 0;
    // One open listing for each level of directories, never a list of files: the log may have millions.
    let mut open: Vec<(String, ReadDir)> = Vec::new();
    enter(files, String::new(), &mut open, live, findings);
    while let Some((dir, listing)) = open.last_mut() {
        let Some(entry) = listing.next() else {
            open.pop();
            continue;
        };
        let dir = dir.clone();
        let entry = match entry.and_then(|entry| Ok((entry.file_name(), entry.file_type()?))) {
            Ok(entry) => entry,
            Err(error) if live && error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                findings.push(FileError::io(&dir, error).into());
                continue;
            }
        };
        let (name, kind) = entry;
        let separator = if dir.is_empty() { "" } else { "/" };
        let path = format!("{dir}{separator}{}", name.to_string_lossy());
        let valid = if name.to_str().is_some() { classify(&path, kind, size) } else { Kind::Extra };
        match valid {
            Kind::Part => {}
            Kind::Beyond if live => beyond += 1,
            Kind::Beyond => findings.push(Finding::new(&path, Problem::Beyond)),
            Kind::Directory => enter(files, path, &mut open, live, findings),
            Kind::Extra => findings.push(Finding::new(&path, Problem::Extra)),
        }
        if findings.is_full() {
            break;
        }
    }
    beyond
}

fn enter(files: &Files, dir: String, open: &mut Vec<(String, ReadDir)>, live: bool, findings: &mut Findings) {
    match fs::read_dir(files.path(&dir)) {
        Ok(listing) => open.push((dir, listing)),
        Err(error) if live && error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => findings.push(FileError::io(&dir, error).into()),
    }
}

fn classify(path: &str, kind: FileType, size: TreeSize) -> Kind {
    if kind.is_dir() {
        return if leads_to_tiles(path) { Kind::Directory } else { Kind::Extra };
    }
    match path {
        CHECKPOINT | COSIGNED | KEYS | LOG_PUB => Kind::Part,
        PENDING | COSIGNED_PENDING => Kind::Beyond,
        // A link or a device in the place of a tile was met when the tile was read.
        _ => match path.parse::<Tile>() {
            Ok(tile) if tile.is_within(size) => Kind::Part,
            Ok(_) => Kind::Beyond,
            Err(_) => Kind::Extra,
        },
    }
}

/// Whether a directory may hold tiles: some tile's name begins with it.
fn leads_to_tiles(path: &str) -> bool {
    let first = match path.strip_suffix(".p") {
        Some(_) => format!("{path}/1"),
        None if path == TILE => return true,
        None => format!("{path}/000.p/1"),
    };
    first.parse::<Tile>().is_ok()
}
