//! Who is wrong when entries and tiles differ: the signed root decides.
//!
//! When the entries lead to the signed root, every tile that differs from them was edited. When they do not, an
//! entry was, and a tile that still leads to the root shows which one.

use strongroom_job::merkle::{HASH_BYTES, LeafIndex, RightEdge};
use strongroom_job::tile::{Content, TILE_WIDTH, Tile, TileEdge, bundle, hashes};

use super::super::files::CHECKPOINT;
use super::{Check, Finding, Problem};

/// The most differences that are kept for blaming; more cannot be told in one report.
pub(super) const MAX_MISMATCHES: usize = 4096;

/// A tile or a partial bundle that differs from what the entries give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    /// The file.
    pub(super) tile: Tile,
    /// The first item that differs, counted within the level.
    pub(super) item: u64,
}

/// The first item in which two forms of one tile or bundle differ, counted within the level.
pub(super) fn first_difference(tile: Tile, found: &[u8], expected: &[u8]) -> Option<u64> {
    if found == expected {
        return None;
    }
    let within = match tile.content() {
        Content::Hashes { .. } => {
            let (found, expected) = (found.chunks(HASH_BYTES), expected.chunks(HASH_BYTES));
            found.zip(expected).take_while(|(a, b)| a == b).count()
        }
        Content::Entries => match (bundle::decode(tile, found), bundle::decode(tile, expected)) {
            (Ok(found), Ok(expected)) => found.iter().zip(&expected).take_while(|(a, b)| a == b).count(),
            _ => 0,
        },
    };
    Some(tile.first() + within as u64)
}

impl Check<'_> {
    /// Turns mismatches into findings.
    pub(super) fn blame(&mut self) {
        let mismatches = std::mem::take(&mut self.mismatches);
        if self.edge.head() == self.signed {
            for mismatch in &mismatches {
                self.findings.push(edited(mismatch));
            }
            return;
        }
        for mismatch in &mismatches {
            if let Some(finding) = self.blame_one(mismatch, &mismatches) {
                self.findings.push(finding);
            }
            if self.findings.is_full() {
                return self.findings.stop();
            }
        }
        if self.findings.is_empty() {
            self.findings.push(Finding::new(CHECKPOINT, Problem::Rewritten));
        }
    }

    /// The entries do not lead to the signed root: an entry, or everything under some hash, was edited.
    fn blame_one(&self, mismatch: &Mismatch, all: &[Mismatch]) -> Option<Finding> {
        let Mismatch { tile, item } = *mismatch;
        let settled = tile.at_size(self.signed.size) == Some(tile);
        match tile.content() {
            Content::Hashes { level: 0 } if settled => {
                let index = LeafIndex::new(item);
                let entries = Tile::new(Content::Entries, tile.index(), tile.width()).ok()?;
                if self.leads_to_root(tile) {
                    Some(Finding::at(&entries, index, Problem::Edited))
                } else {
                    Some(Finding::at(&entries, index, Problem::EditedOr { other: tile.to_string() }))
                }
            }
            Content::Hashes { level } if settled => {
                let under = Content::Hashes { level: level - 1 };
                // A difference further down explains this one.
                let explained = all.iter().any(|other| {
                    other.tile.content() == under && other.tile.index() == item && other.tile.is_full()
                });
                let under = Tile::new(under, item, TILE_WIDTH).ok()?.to_string();
                (!explained).then(|| Finding::new(&tile, Problem::HashAbove { item, under }))
            }
            // An earlier form of a tile or bundle: a difference in its current form explains it.
            _ => {
                let explained = all.iter().any(|other| {
                    other.item == item
                        && other.tile.is_within(self.signed.size)
                        && other.tile.width() > tile.width()
                });
                (!explained).then(|| edited(mismatch))
            }
        }
    }

    /// Whether a stored level-0 tile is confirmed: by the hash above it, or at the right edge by the signed root.
    fn leads_to_root(&self, tile: Tile) -> bool {
        let read = |tile: Tile| {
            let bytes = if self.options.live { self.files.tile_or_full(tile) } else { self.files.tile(tile) };
            bytes.ok().and_then(|bytes| hashes::decode(tile, &bytes).ok()).ok_or(())
        };
        if !tile.is_full() {
            return TileEdge::restore(self.signed.size, read).is_ok_and(|edge| edge.head() == self.signed);
        }
        let above = Tile::new(Content::Hashes { level: 1 }, tile.index() / u64::from(TILE_WIDTH), 1);
        let Some(above) = above.ok().and_then(|above| above.at_size(self.signed.size)) else { return false };
        let within = usize::from((tile.index() % u64::from(TILE_WIDTH)).to_le_bytes()[0]);
        let Ok(above) = read(above) else { return false };
        let mut own = RightEdge::new();
        let complete =
            read(tile).is_ok_and(|hashes| hashes.into_iter().all(|leaf| own.push(leaf, |_, _| ()).is_ok()));
        complete && above.get(within) == Some(&own.head().root)
    }
}

fn edited(mismatch: &Mismatch) -> Finding {
    match mismatch.tile.content() {
        Content::Entries | Content::Hashes { level: 0 } => {
            Finding::at(&mismatch.tile, LeafIndex::new(mismatch.item), Problem::Edited)
        }
        Content::Hashes { .. } => Finding::new(&mismatch.tile, Problem::Edited),
    }
}
