//! The file names of tiles: `tile/<level>/<index>[.p/<width>]`, one name for one tile.

use std::fmt;
use std::str::FromStr;

use super::{Content, MAX_LEVEL, TILE_WIDTH, Tile};

/// The longest name of a tile: `tile/entries/` with seven path elements and a width.
const MAX_PATH_BYTES: usize = 64;

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.content {
            Content::Entries => f.write_str("tile/entries")?,
            Content::Hashes { level } => write!(f, "tile/{level}")?,
        }
        write_index(f, self.index / 1000)?;
        write!(f, "/{:03}", self.index % 1000)?;
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

/// The path elements above the last one: three digits each, behind an `x`, so that no file is named like a
/// directory.
fn write_index(f: &mut fmt::Formatter<'_>, high: u64) -> fmt::Result {
    if high == 0 {
        return Ok(());
    }
    write_index(f, high / 1000)?;
    write!(f, "/x{:03}", high % 1000)
}

/// A text that is no tile's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not the path of a tile: expected tile/<level or `entries`>/<index>[.p/<width>], as in tile/0/x001/067.p/8"
)]
pub struct ParseTileError;

impl FromStr for Tile {
    type Err = ParseTileError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let tile = parse(text).ok_or(ParseTileError)?;
        // One tile, one name: zeros in front, signs and empty elements all print differently.
        if tile.to_string() == text { Ok(tile) } else { Err(ParseTileError) }
    }
}

fn parse(text: &str) -> Option<Tile> {
    if text.len() > MAX_PATH_BYTES {
        return None;
    }
    let (content, place) = text.strip_prefix("tile/")?.split_once('/')?;
    let content = match content {
        "entries" => Content::Entries,
        level => Content::Hashes { level: level.parse().ok().filter(|level| *level <= MAX_LEVEL)? },
    };
    let (place, width) = match place.split_once(".p/") {
        Some((place, width)) => (place, width.parse().ok().filter(|width| *width < TILE_WIDTH)?),
        None => (place, TILE_WIDTH),
    };
    let mut index = 0u64;
    for element in place.split('/') {
        let digits: u64 = element.strip_prefix('x').unwrap_or(element).parse().ok()?;
        index = index.checked_mul(1000)?.checked_add(digits)?;
    }
    Tile::new(content, index, width).ok()
}
