//! From tiles to the hashes of subtrees: what the provers of [`crate::merkle`] ask for.

use super::edge::subtree;
use super::hashes::{self, TileLengthError};
use super::{Content, TILE_HEIGHT, TILE_WIDTH, Tile, TileError};
use crate::merkle::{Hash, Node, TreeSize};

/// Gives the bytes of tiles of hashes.
pub trait TileReader {
    /// Why a tile could not be read.
    type Error;

    /// The bytes of `tile`, exactly as many as its width calls for.
    ///
    /// # Errors
    /// When they cannot be read.
    fn read(&mut self, tile: Tile) -> Result<Vec<u8>, Self::Error>;
}

impl<E, F: FnMut(Tile) -> Result<Vec<u8>, E>> TileReader for F {
    type Error = E;

    fn read(&mut self, tile: Tile) -> Result<Vec<u8>, E> {
        self(tile)
    }
}

/// Why the hash of a subtree is not to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError<E> {
    /// The tree has no such complete subtree.
    #[error("the log has no such subtree")]
    NoSuchNode,
    /// The tile has the wrong length.
    #[error("{tile}: {source}")]
    Length {
        /// The tile that was read.
        tile: Tile,
        /// What is wrong with it.
        source: TileLengthError,
    },
    /// The tile could not be read.
    #[error(transparent)]
    Read(E),
}

impl<E> From<TileError> for NodeError<E> {
    fn from(_: TileError) -> Self {
        Self::NoSuchNode
    }
}

/// Hashes of complete subtrees of a log of one size, from its tiles.
///
/// Reads each tile once. It keeps what it read, for one proof: at most two tiles of each level, 128 KiB.
/// The tiles are believed: whoever hands out a proof made from them checks it against the root first.
#[derive(Debug)]
pub struct TileNodes<R> {
    size: TreeSize,
    reader: R,
    read: Vec<(Tile, Vec<Hash>)>,
}

/// The path to a leaf and the right edge of the tree.
const MAX_KEPT: usize = 2 * (super::MAX_LEVEL as usize + 1);

impl<R: TileReader> TileNodes<R> {
    /// The subtrees of the log of `size` entries whose tiles `reader` gives.
    pub const fn new(size: TreeSize, reader: R) -> Self {
        Self { size, reader, read: Vec::new() }
    }

    /// The hash of a complete subtree.
    ///
    /// # Errors
    /// When the log has no such subtree, or its tile cannot be read or has the wrong length.
    pub fn hash(&mut self, node: Node) -> Result<Hash, NodeError<R::Error>> {
        let level = node.level / TILE_HEIGHT;
        let within = node.level % TILE_HEIGHT;
        let index = node.index >> (TILE_HEIGHT - within);
        let start = Tile::new(Content::Hashes { level }, index, 1)?;
        let tile = start.at_size(self.size).ok_or(NodeError::NoSuchNode)?;
        let mask = u64::from(TILE_WIDTH >> within) - 1;
        // Less than 256: the mask keeps the place within the tile.
        let first = usize::from((node.index & mask).to_le_bytes()[0]) << within;
        let hashes = self.tile(tile)?;
        hashes.get(first..first + (1 << within)).map(subtree).ok_or(NodeError::NoSuchNode)
    }

    fn tile(&mut self, tile: Tile) -> Result<&[Hash], NodeError<R::Error>> {
        let place = match self.read.iter().position(|(known, _)| *known == tile) {
            Some(place) => place,
            None => {
                let bytes = self.reader.read(tile).map_err(NodeError::Read)?;
                let hashes =
                    hashes::decode(tile, &bytes).map_err(|source| NodeError::Length { tile, source })?;
                if self.read.len() == MAX_KEPT {
                    self.read.remove(0);
                }
                self.read.push((tile, hashes));
                self.read.len() - 1
            }
        };
        Ok(&self.read[place].1)
    }
}
