//! What a crash leaves behind: files beyond the checkpoint, and partial tiles that nobody needs any more.
//!
//! Files beyond the checkpoint hold entries that were never published. The next publication need not bring the same
//! ones, so such a file must go before it can be mistaken for a part of the log.
//!
//! *Never:* lists the whole log: one publication is bounded, so what it left is near the right edge.

use std::io;
use std::path::PathBuf;

use strongroom_job::merkle::TreeSize;
use strongroom_job::tile::{Content, MAX_LEVEL, TILE_WIDTH, Tile};

use super::durable::{DurableDir, names};
use super::files::{COSIGNED_PENDING, Files, PENDING};
use super::writer::MAX_ENTRIES_PER_CHECKPOINT;

/// Removes what a crash left around the right edge of the log of `size` entries.
pub(super) fn remove(files: &Files, dir: &mut DurableDir, size: TreeSize) -> io::Result<()> {
    for pending in [PENDING, COSIGNED_PENDING].map(|name| files.path(name)) {
        if pending.is_file() {
            dir.remove(&pending)?;
        }
    }
    let mut tiles_per_checkpoint = MAX_ENTRIES_PER_CHECKPOINT;
    for level in 0..=MAX_LEVEL {
        tiles_per_checkpoint /= u64::from(TILE_WIDTH);
        let content = Content::Hashes { level };
        around_edge(files, dir, content, size, tiles_per_checkpoint + 1)?;
        if level == 0 {
            around_edge(files, dir, Content::Entries, size, tiles_per_checkpoint + 1)?;
        }
    }
    Ok(())
}

fn around_edge(
    files: &Files,
    dir: &mut DurableDir,
    content: Content,
    size: TreeSize,
    reach: u64,
) -> io::Result<()> {
    let edge = items(content, size) / u64::from(TILE_WIDTH);
    for index in edge.saturating_sub(reach)..=edge.saturating_add(reach) {
        // Behind the last tile that any log can have there is nothing.
        let Ok(full) = Tile::new(content, index, TILE_WIDTH) else { break };
        let (whole, partials) = (files.path(&full.to_string()), partial_dir(files, full));
        if full.is_within(size) {
            if partials.is_dir() && whole.is_file() {
                dir.remove_dir(&partials)?;
            }
            continue;
        }
        if whole.is_file() {
            dir.remove(&whole)?;
        }
        let settled = full.at_size(size).map_or(0, Tile::width);
        for name in names(&partials)? {
            let width = name.to_str().and_then(|name| name.parse::<u16>().ok());
            if width.is_some_and(|width| width > settled) {
                dir.remove(&partials.join(name))?;
            }
        }
        if settled == 0 && partials.is_dir() {
            dir.remove_dir(&partials)?;
        }
    }
    Ok(())
}

/// The directory that holds the partial forms of a full tile.
pub(super) fn partial_dir(files: &Files, full: Tile) -> PathBuf {
    files.path(&format!("{full}.p"))
}

const fn items(content: Content, size: TreeSize) -> u64 {
    match content {
        Content::Entries => size.get(),
        Content::Hashes { level } => size.get() >> (8 * level),
    }
}
