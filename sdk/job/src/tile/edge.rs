//! The right edge of a log in tiles: what appending and checking need, at most 255 hashes for each level.

use super::{Content, MAX_LEVEL, TILE_HEIGHT, TILE_WIDTH, Tile};
use crate::merkle::{Hash, LeafIndex, Node, RightEdge, TreeHead, TreeSize, TreeSizeError};

const LEVELS: usize = MAX_LEVEL as usize + 1;

/// A growing tree that remembers the hashes of its partial tiles and hands out each tile as it fills up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TileEdge {
    tree: RightEdge,
    partial: [Vec<Hash>; LEVELS],
}

impl TileEdge {
    /// The edge of the empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The edge of a log of `size` entries from its partial tiles; `read` is called once for each of them.
    ///
    /// The caller compares [`TileEdge::head`] with a signed checkpoint: the tiles alone prove nothing.
    ///
    /// # Errors
    /// When `read` fails. It must give exactly as many hashes as the tile is wide.
    pub fn restore<E>(size: TreeSize, mut read: impl FnMut(Tile) -> Result<Vec<Hash>, E>) -> Result<Self, E> {
        let mut partial: [Vec<Hash>; LEVELS] = Default::default();
        for tile in Tile::partial(size) {
            if let Content::Hashes { level } = tile.content() {
                partial[usize::from(level)] = read(tile)?;
            }
        }
        let tree = RightEdge::restore(size, |node: Node| Ok(subtree_in(&partial, size, node)))?;
        Ok(Self { tree, partial })
    }

    /// Appends the hash of the next entry; `full` gets every tile that it fills, the lowest level first.
    ///
    /// # Errors
    /// When the log has [`TreeSize::MAX`] entries.
    pub fn push(
        &mut self,
        leaf: Hash,
        mut full: impl FnMut(Tile, &[Hash]),
    ) -> Result<LeafIndex, TreeSizeError> {
        let partial = &mut self.partial;
        self.tree.push(leaf, |node, hash| {
            if !node.level.is_multiple_of(TILE_HEIGHT) {
                return;
            }
            let level = node.level / TILE_HEIGHT;
            let hashes = &mut partial[usize::from(level)];
            hashes.push(hash);
            if hashes.len() == usize::from(TILE_WIDTH) {
                let index = node.index / u64::from(TILE_WIDTH);
                full(Tile { content: Content::Hashes { level }, index, width: TILE_WIDTH }, hashes);
                hashes.clear();
            }
        })
    }

    /// The partial tiles of the log as it is now, the lowest level first.
    pub fn partial(&self) -> impl Iterator<Item = (Tile, &[Hash])> {
        Tile::partial(self.size()).filter_map(|tile| match tile.content() {
            Content::Entries => None,
            Content::Hashes { level } => Some((tile, self.partial[usize::from(level)].as_slice())),
        })
    }

    /// How many entries were appended.
    #[must_use]
    pub const fn size(&self) -> TreeSize {
        self.tree.size()
    }

    /// Size and root of the log as it is now.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        self.tree.head()
    }
}

/// The hash of a peak of the tree of `size`, from the partial tiles: every peak lies in one of them.
fn subtree_in(partial: &[Vec<Hash>; LEVELS], size: TreeSize, node: Node) -> Hash {
    let level = node.level / TILE_HEIGHT;
    let within = node.level % TILE_HEIGHT;
    let items = Content::Hashes { level }.items(size);
    let tile_first = items - items % u64::from(TILE_WIDTH);
    let first = (node.index << within) - tile_first;
    // Less than 256: a peak lies within the partial tile.
    let first = usize::from(first.to_le_bytes()[0]);
    let hashes = partial[usize::from(level)].get(first..first + (1 << within)).unwrap_or_default();
    subtree(hashes)
}

/// The hash over 2^k neighbouring hashes.
pub(super) fn subtree(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => Hash::empty_root(),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(more.len() / 2);
            Hash::of_node(&subtree(left), &subtree(right))
        }
    }
}
