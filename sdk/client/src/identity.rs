//! Who we are: an ed25519 key in a file that only its owner can read.
//!
//! *Spec:* one line, `strongroom-secret-key:ed25519:` and the seed in 64 lowercase hex digits.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::Path;

use strongroom_job::{PublicKey, SecretKey};
use zeroize::Zeroizing;

use crate::{Error, random};

const PREFIX: &str = "strongroom-secret-key:ed25519:";
/// A key file is one short line; more is not read.
const MAX_FILE_BYTES: u64 = 256;

/// The secret key by which hosts know us. Its `Debug` shows the public half only.
#[derive(Clone, Debug)]
pub struct Identity(SecretKey);

impl Identity {
    /// A new key from the system's random source.
    ///
    /// # Errors
    /// When that source fails.
    pub fn generate() -> Result<Self, Error> {
        let mut seed = Zeroizing::new([0; 32]);
        random::fill(seed.as_mut_slice())?;
        Ok(Self(SecretKey::from_seed(&seed)))
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// [`Io`](Error::Io); [`BadFile`](Error::BadFile) when it is no key file, or others than its owner can read it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let file = std::fs::File::open(path).map_err(Error::io(path))?;
        refuse_if_shared(path, &file)?;
        // Sized once: a growing buffer would leave copies of the secret behind.
        let mut text = Zeroizing::new(String::with_capacity(MAX_FILE_BYTES as usize));
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(Error::io(path))?;
        let seed = text.trim_end().strip_prefix(PREFIX).and_then(parse_seed);
        let seed = seed.ok_or_else(|| Error::BadFile {
            path: path.into(),
            problem: format!("not a key file: expected one line, `{PREFIX}` and 64 lowercase hex digits"),
        })?;
        Ok(Self(SecretKey::from_seed(&seed)))
    }

    /// Writes a new key file that only its owner can read, and makes it durable.
    ///
    /// # Errors
    /// [`Io`](Error::Io), also when the file exists: a key is never overwritten.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(Error::io(path))?;
        let line = self.to_line();
        file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(Error::io(path))
    }

    /// The public half: what a host's operator adds as a principal.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.0.public()
    }

    /// The secret half.
    #[must_use]
    pub const fn secret(&self) -> &SecretKey {
        &self.0
    }

    fn to_line(&self) -> Zeroizing<String> {
        let seed = self.0.seed();
        let mut line = Zeroizing::new(String::with_capacity(MAX_FILE_BYTES as usize));
        line.push_str(PREFIX);
        for byte in seed.iter() {
            for digit in [byte >> 4, byte & 15] {
                line.push(char::from(DIGITS[usize::from(digit)]));
            }
        }
        line.push('\n');
        line
    }
}

impl From<SecretKey> for Identity {
    fn from(key: SecretKey) -> Self {
        Self(key)
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn parse_seed(digits: &str) -> Option<Zeroizing<[u8; 32]>> {
    let digits: &[u8; 64] = digits.as_bytes().try_into().ok()?;
    let mut seed = Zeroizing::new([0; 32]);
    for (byte, pair) in seed.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = DIGITS.iter().position(|known| known == digit)?;
            *byte = *byte << 4 | u8::try_from(value).ok()?;
        }
    }
    Some(seed)
}

#[cfg(unix)]
fn refuse_if_shared(path: &Path, file: &std::fs::File) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata().map_err(Error::io(path))?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(Error::BadFile {
        path: path.into(),
        problem: format!(
            "others can read this secret key (mode {:03o}). Run `chmod 600` on it; if others have used this machine, make a \
             new key",
            mode & 0o777
        ),
    })
}

#[cfg(not(unix))]
fn refuse_if_shared(_path: &Path, _file: &std::fs::File) -> Result<(), Error> {
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn a_saved_key_is_loaded_again_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("client.key");
        let identity = Identity::generate().unwrap();
        identity.save(&path).unwrap();
        assert_eq!(Identity::load(&path).unwrap().public(), identity.public());
        assert!(matches!(Identity::generate().unwrap().save(&path), Err(Error::Io { .. })));
        assert_eq!(Identity::load(&path).unwrap().public(), identity.public());
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.len(), PREFIX.len() + 65);
    }

    // Red without `refuse_if_shared` in `load`, and without the mode in `save`.
    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("client.key");
        Identity::generate().unwrap().save(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Identity::load(&path).unwrap_err().to_string();
        assert!(error.contains("mode 640") && error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn anything_else_is_no_key_and_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("client.key");
        for wrong in
            ["", "secret", &format!("{PREFIX}{}", "AB".repeat(32)), &format!("{PREFIX}{}", "a".repeat(63))]
        {
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, wrong).unwrap();
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            }
            let error = Identity::load(&path).unwrap_err().to_string();
            assert!(error.contains("not a key file") && !error.contains("abab"), "{error}");
        }
        let shown = format!("{:?}", Identity::generate().unwrap());
        assert!(shown.contains("SecretKey(of ed25519:"), "{shown}");
    }
}
