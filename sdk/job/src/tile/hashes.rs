//! The bytes of a tile of hashes: 32 bytes each, nothing between them, nothing around them.

use super::{TILE_WIDTH, Tile};
use crate::merkle::{HASH_BYTES, Hash};

/// The bytes of a full tile of hashes.
pub const MAX_TILE_BYTES: usize = TILE_WIDTH as usize * HASH_BYTES;

/// The bytes of a tile that holds `hashes`.
#[must_use]
pub fn encode(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// The bytes of one file are not those of the tile that its name says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tile has {found} bytes where {expected} are expected: it was cut or extended")]
pub struct TileLengthError {
    /// 32 times the tile's width.
    pub expected: usize,
    /// What is there.
    pub found: usize,
}

/// The hashes in the bytes of `tile`.
///
/// # Errors
/// When there are not exactly as many bytes as the tile's width calls for.
pub fn decode(tile: Tile, bytes: &[u8]) -> Result<Vec<Hash>, TileLengthError> {
    let expected = usize::from(tile.width()) * HASH_BYTES;
    if bytes.len() != expected {
        return Err(TileLengthError { expected, found: bytes.len() });
    }
    let (hashes, _) = bytes.as_chunks::<HASH_BYTES>();
    Ok(hashes.iter().copied().map(Hash::from_bytes).collect())
}
