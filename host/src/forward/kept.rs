//! The small files of a destination, `forward/NAME.*`: where they are, and how one is read.
//!
//! *Never:* knows what is in them (`cursor`, `gaps`, `problem`); they are written by `home::place::replace`, whole.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use strongroom_job::Name;

use super::{DIRECTORY, Trouble};

/// Most bytes that are read of one; none that is written is so long.
pub(super) const MAX_BYTES: u64 = 4096;

/// The file of a destination with this ending.
pub(super) fn path(home: &Path, name: &Name, ending: &str) -> PathBuf {
    home.join(DIRECTORY).join(format!("{name}.{ending}"))
}

/// Its text; none when there is no such file. What is no text is damage, and read as the empty text, which none of them is.
pub(super) fn read(path: &Path) -> Result<Option<String>, Trouble> {
    let mut text = String::new();
    match std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text)) {
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(String::new())),
        Err(error) => Err(Trouble::Later(format!("{}: {error}", path.display()))),
    }
}
