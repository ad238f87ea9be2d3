//! The cache of compiled code: its directory, and the key that says that code in it is the host's own.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::place::{check_private, failed, write_new};
use super::{Home, HomeError};

/// Permission bits of a key file.
const PRIVATE_FILE: u32 = 0o600;
/// The key's file: 64 hex digits and the end of the line.
const LINE_BYTES: usize = 65;
/// More of it is not read.
const MAX_FILE_BYTES: u64 = 256;

impl Home {
    /// The directory of compiled modules.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.dir.join("cache")
    }

    /// The key of the cache's MACs, made at the first call. Whoever has it can make the host run any machine code; whoever loses it
    /// loses compiled code, which is made again.
    ///
    /// # Errors
    /// When its file cannot be made or read, is damaged, or can be read by others.
    pub fn cache_key(&self) -> Result<Zeroizing<[u8; 32]>, HomeError> {
        let path = self.key_file("cache");
        if !path.exists() {
            let mut fresh = Zeroizing::new([0; 32]);
            getrandom::fill(fresh.as_mut_slice()).map_err(|error| failed(&path, &io::Error::other(error)))?;
            let mut line = Zeroizing::new([b'\n'; LINE_BYTES]);
            // The line has the room: two digits for each byte.
            let _ = hex::encode_to_slice(fresh.as_slice(), &mut line[..LINE_BYTES - 1]);
            // Somebody else's, if it was first.
            write_new(&path, line.as_slice())?;
        }
        check_private(&path, PRIVATE_FILE)?;
        read(&path)
    }

    /// As [`cache_key`](Self::cache_key), but makes none: there is none before the first start.
    ///
    /// # Errors
    /// When its file is there and cannot be read, is damaged, or can be read by others.
    pub fn cache_key_if_made(&self) -> Result<Option<Zeroizing<[u8; 32]>>, HomeError> {
        self.key_file("cache").exists().then(|| self.cache_key()).transpose()
    }
}

fn read(path: &Path) -> Result<Zeroizing<[u8; 32]>, HomeError> {
    let damaged = || HomeError::Path {
        path: path.into(),
        problem: "this is not a key of 64 hex digits".into(),
        mend: "Remove the file: a new key is made, and modules are compiled again",
    };
    // Sized once: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_FILE_BYTES as usize));
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text));
    read.map_err(|error| match error.kind() {
        ErrorKind::InvalidData => damaged(),
        _ => failed(path, &error),
    })?;
    let mut key = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim_end(), key.as_mut_slice()).map_err(|_| damaged())?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    // Red without `check_private`.
    #[test]
    fn the_key_is_made_once_and_is_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::create(dir.path()).unwrap();
        let key = home.cache_key().unwrap();
        assert_eq!(home.cache_key().unwrap(), key);
        let path = home.key_file("cache");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(matches!(home.cache_key(), Err(HomeError::TooOpen { .. })));
        std::fs::remove_file(&path).unwrap();
        assert_ne!(home.cache_key().unwrap(), key);
        std::fs::write(&path, "0123").unwrap();
        assert!(home.cache_key().unwrap_err().to_string().contains("64 hex digits"));
    }
}
