//! The bytes of an entry bundle: each entry behind its length as two bytes, the high one first.

use super::{TILE_WIDTH, Tile};

/// The longest entry: what two length bytes can say.
pub const MAX_ENTRY_BYTES: usize = u16::MAX as usize;

/// The bytes of the largest bundle: 256 entries of the greatest length (about 16 MiB).
pub const MAX_BUNDLE_BYTES: usize = TILE_WIDTH as usize * (LENGTH_BYTES + MAX_ENTRY_BYTES);

const LENGTH_BYTES: usize = 2;

/// An entry that no log can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the entry has {found} bytes; an entry of the log has at most {MAX_ENTRY_BYTES}")]
pub struct EntryTooLong {
    /// The entry's length.
    pub found: usize,
}

/// Appends one entry to the bytes of a bundle.
///
/// # Errors
/// When the entry is longer than [`MAX_ENTRY_BYTES`]; the bundle is then as before.
pub fn push(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), EntryTooLong> {
    let length = u16::try_from(entry.len()).map_err(|_| EntryTooLong { found: entry.len() })?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// Bytes that are no bundle of the width that its name says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The bytes end within an entry or before the last one.
    #[error("the bundle ends within entry {number} of its {width}: it was cut")]
    Cut {
        /// The entry within the bundle, from 0.
        number: u16,
        /// The entries that the name promises.
        width: u16,
    },
    /// Bytes follow the last entry.
    #[error("{extra} bytes follow the bundle's last entry: it was extended, or a length was edited")]
    Trailing {
        /// How many bytes are left over.
        extra: usize,
    },
}

/// The entries in the bytes of the bundle `tile`, in order.
///
/// # Errors
/// When the bytes are not exactly as many entries as the bundle's width calls for.
pub fn decode(tile: Tile, bytes: &[u8]) -> Result<Vec<&[u8]>, BundleError> {
    let width = tile.width();
    let mut rest = bytes;
    let mut entries = Vec::with_capacity(width.into());
    for number in 0..width {
        let cut = BundleError::Cut { number, width };
        let Some((length, behind)) = rest.split_first_chunk::<LENGTH_BYTES>() else { return Err(cut) };
        let Some((entry, behind)) = behind.split_at_checked(u16::from_be_bytes(*length).into()) else {
            return Err(cut);
        };
        entries.push(entry);
        rest = behind;
    }
    if rest.is_empty() { Ok(entries) } else { Err(BundleError::Trailing { extra: rest.len() }) }
}

/// The bytes of the first `width` entries of a bundle: what its partial form of that width holds.
///
/// # Errors
/// When the bytes end before that many entries.
pub fn prefix(bytes: &[u8], width: u16) -> Result<&[u8], BundleError> {
    let mut end = 0usize;
    for number in 0..width {
        let cut = BundleError::Cut { number, width };
        let Some((length, _)) = bytes.get(end..).and_then(|rest| rest.split_first_chunk::<LENGTH_BYTES>())
        else {
            return Err(cut);
        };
        end += LENGTH_BYTES + usize::from(u16::from_be_bytes(*length));
        if end > bytes.len() {
            return Err(cut);
        }
    }
    Ok(bytes.get(..end).unwrap_or_default())
}
