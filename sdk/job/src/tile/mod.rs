//! Tiles: how a log's hashes and entries are cut into files that never change once they are full.
//!
//! A [`Tile`] is a coordinate, not its bytes. What is in the file of a coordinate is in [`hashes`] for
//! tiles and in [`bundle`] for entries; which files a log of some size has is in [`Tile::all`].
//!
//! *Owns:* coordinates, paths, the bytes of tiles and bundles, the tiles at the right edge.
//! *Never:* opens a file. *Spec:* C2SP tlog-tiles; `docs/formats/tiles.md`.

pub mod bundle;
mod edge;
pub mod hashes;
mod nodes;
mod path;

use crate::merkle::{LeafIndex, TreeSize};

pub use edge::TileEdge;
pub use nodes::{NodeError, TileNodes, TileReader};
pub use path::ParseTileError;

/// Hashes or entries in a full tile.
pub const TILE_WIDTH: u16 = 256;

/// Tree levels that one tile spans: 2^8 = 256.
pub(crate) const TILE_HEIGHT: u8 = 8;

/// The highest tile level that a tree of [`TreeSize::MAX`] entries needs.
pub const MAX_LEVEL: u8 = 7;

const _: () = assert!(1 << TILE_HEIGHT == TILE_WIDTH as u32);
const _: () = assert!(TreeSize::MAX.get() >> (MAX_LEVEL as u32 * TILE_HEIGHT as u32) > 0);
const _: () = assert!((MAX_LEVEL as u32 + 1) * TILE_HEIGHT as u32 > TreeSize::MAX.get().ilog2());

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Content {
    /// The log's entries themselves: `tile/entries/…`.
    Entries,
    /// Hashes of the subtrees of 256^level leaves: `tile/<level>/…`, 0 to [`MAX_LEVEL`].
    Hashes {
        /// The tile level; level 0 holds leaf hashes.
        level: u8,
    },
}

impl Content {
    /// The leaves under one item, as a power of two.
    const fn shift(self) -> u8 {
        match self {
            Self::Entries => 0,
            Self::Hashes { level } => level * TILE_HEIGHT,
        }
    }

    /// How many items of this content a log of `size` entries has.
    const fn items(self, size: TreeSize) -> u64 {
        size.get() >> self.shift()
    }
}

/// Names one file of the log: a tile of hashes or a bundle of entries, full or partial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    content: Content,
    index: u64,
    width: u16,
}

/// A coordinate that no log can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such tile: width 1 to 256, level 0 to 7, and at most 2^63 - 1 entries")]
pub struct TileError;

impl Tile {
    /// A tile from its coordinates. `width` is 1 to [`TILE_WIDTH`]; less than that is a partial tile.
    ///
    /// # Errors
    /// When no log of at most [`TreeSize::MAX`] entries has such a tile.
    pub fn new(content: Content, index: u64, width: u16) -> Result<Self, TileError> {
        let level_fits = !matches!(content, Content::Hashes { level } if level > MAX_LEVEL);
        if !level_fits || width == 0 || width > TILE_WIDTH {
            return Err(TileError);
        }
        let end = index.checked_mul(TILE_WIDTH.into()).and_then(|first| first.checked_add(width.into()));
        if end.is_none_or(|end| end > content.items(TreeSize::MAX)) {
            return Err(TileError);
        }
        Ok(Self { content, index, width })
    }

    /// What it holds.
    #[must_use]
    pub const fn content(self) -> Content {
        self.content
    }

    /// Its number within its level, from 0.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.index
    }

    /// How many hashes or entries it holds: 1 to [`TILE_WIDTH`].
    #[must_use]
    pub const fn width(self) -> u16 {
        self.width
    }

    /// Whether it can never grow.
    #[must_use]
    pub const fn is_full(self) -> bool {
        self.width == TILE_WIDTH
    }

    /// The number of its first item within the level: for entries and leaf hashes the place of the first entry.
    #[must_use]
    pub const fn first(self) -> u64 {
        self.index * TILE_WIDTH as u64
    }

    /// The number behind its last item.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.first() + self.width as u64
    }

    /// Whether all of it is part of the log of `size` entries: such bytes are settled for ever.
    #[must_use]
    pub const fn is_within(self, size: TreeSize) -> bool {
        self.end() <= self.content.items(size)
    }

    /// The same tile as it stands in a log of `size` entries: wider, narrower, or not there at all.
    #[must_use]
    pub fn at_size(self, size: TreeSize) -> Option<Self> {
        let items = self.content.items(size).checked_sub(self.first())?.min(TILE_WIDTH.into());
        // At most 256: see `min`.
        let width = u16::try_from(items).ok()?;
        (width > 0).then_some(Self { width, ..self })
    }

    /// The bundle that holds entry `index`, as it stands in a log of `size` entries.
    #[must_use]
    pub fn of_entry(index: LeafIndex, size: TreeSize) -> Option<Self> {
        let start = Self { content: Content::Entries, index: index.get() / u64::from(TILE_WIDTH), width: 1 };
        start.at_size(size).filter(|tile| index.get() < tile.end())
    }

    /// The level-0 tile beside this bundle: the hashes of the same entries.
    #[must_use]
    pub const fn leaf_hashes(self) -> Self {
        Self { content: Content::Hashes { level: 0 }, ..self }
    }

    /// All tiles and bundles of a log of `size` entries: bundles first, then level by level, left to right.
    pub fn all(size: TreeSize) -> impl Iterator<Item = Self> {
        contents().flat_map(move |content| {
            let width = u64::from(TILE_WIDTH);
            (0..content.items(size).div_ceil(width)).map(move |index| {
                let items = (content.items(size) - index * width).min(width);
                // At most 256: see `min`.
                Self { content, index, width: items.to_le_bytes()[0].into() }.or_full()
            })
        })
    }

    /// The partial tiles and bundle of a log of `size` entries: at most one of each level.
    pub fn partial(size: TreeSize) -> impl Iterator<Item = Self> {
        contents().filter_map(move |content| {
            let items = content.items(size);
            let width = u16::from(items.to_le_bytes()[0]);
            (width > 0).then_some(Self { content, index: items / u64::from(TILE_WIDTH), width })
        })
    }

    /// 256 items leave a low byte of zero.
    const fn or_full(self) -> Self {
        Self { width: if self.width == 0 { TILE_WIDTH } else { self.width }, ..self }
    }
}

/// Every content that a log can have, bundles first.
fn contents() -> impl Iterator<Item = Content> {
    std::iter::once(Content::Entries).chain((0..=MAX_LEVEL).map(|level| Content::Hashes { level }))
}
