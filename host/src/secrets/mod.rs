//! Secrets that jobs may ask for by name: passwords, tokens, keys. Kept encrypted, apart from the key that opens them.
//!
//! ```text
//! DIR/keys/secrets.key         32 bytes in hex, 0600, made with the first secret
//! DIR/secrets/NAME.sealed      "SRS1", 24 bytes of nonce, ciphertext and tag of XChaCha20-Poly1305
//! ```
//!
//! The name is authenticated with the value (associated data): a file under another name does not open. Whoever copies the
//! directory `secrets`, as a backup does, has nothing without the key; whoever is the host's user has both.
//!
//! *Owns:* `DIR/secrets`, `DIR/keys/secrets.key`. *Never:* a value in an error, a log, `Debug` or the audit log. *Bound:*
//! [`MAX_SECRET_BYTES`] each. *Crash:* the old value or the new one, whole. A host need not be told: it reads at the start of
//! each attempt.
//! *Spec:* RFC 8439; the extended nonce of draft-irtf-cfrg-xchacha-03, so that random nonces do not repeat.

mod give;

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use strongroom_job::Name;
use zeroize::Zeroizing;

use crate::home::place::{
    PRIVATE_DIRECTORY, PRIVATE_FILE, check_private, failed, private_directory, replace, sync_parent,
    write_new,
};
use crate::home::{Home, HomeError};

pub use give::in_shared_memory;
pub(crate) use give::{Given, Memory};

/// Longest secret, in bytes.
pub const MAX_SECRET_BYTES: usize = 64 << 10;

const MAGIC: &[u8; 4] = b"SRS1";
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
const ENDING: &str = ".sealed";
/// In front of the name in the associated data, so that the key can never open what was sealed for another purpose.
const DOMAIN: &str = "strongroom secret 1: ";

/// The secrets of one data directory.
#[derive(Clone, Debug)]
pub struct Vault {
    directory: PathBuf,
    key: PathBuf,
}

/// Why a secret cannot be kept or had. Names it, and never its value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Nobody stored it.
    #[error("the secret {0} is not there: store it with `strongroom secret set {0}`")]
    Absent(Name),
    /// More than [`MAX_SECRET_BYTES`].
    #[error("the secret {0} is longer than {MAX_SECRET_BYTES} bytes")]
    TooLong(Name),
    /// The file was changed or exchanged, or the key is another one.
    #[error(
        "the secret {0} cannot be decrypted: its file or keys/secrets.key was changed. Store it again with \
         `strongroom secret set {0}`"
    )]
    Damaged(Name),
    /// It was to be a variable.
    #[error("the secret {0} cannot be a variable: it is not UTF-8 text, or holds a NUL. Give it as a file")]
    NotText(Name),
    /// The key that opens all secrets.
    #[error("{} is damaged: expected 64 hex digits. Restore it, or remove it and store every secret again", .0.display())]
    Key(PathBuf),
    /// The directory or a file.
    #[error(transparent)]
    Place(#[from] HomeError),
    /// No random bytes, or no room for the file that a guest is to see.
    #[error("the secret {name}: {problem}")]
    System {
        /// Which secret.
        name: Name,
        /// What the system said.
        problem: String,
    },
}

impl Vault {
    /// The vault of a data directory. Nothing is made before a secret is stored.
    #[must_use]
    pub fn of(home: &Home) -> Self {
        Self { directory: home.dir().join("secrets"), key: home.keys().join("secrets.key") }
    }

    /// Stores a secret, in place of the one that may be there.
    ///
    /// # Errors
    /// When it is too long, or the directory cannot be written.
    pub fn set(&self, name: &Name, value: &[u8]) -> Result<(), SecretError> {
        if value.len() > MAX_SECRET_BYTES {
            return Err(SecretError::TooLong(name.clone()));
        }
        private_directory(&self.directory)?;
        let cipher = self.cipher(true, name)?;
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|error| system(name, &error))?;
        let payload = Payload { msg: value, aad: &associated(name) };
        let sealed =
            cipher.encrypt(&nonce.into(), payload).map_err(|_| SecretError::TooLong(name.clone()))?;
        let bytes = [MAGIC.as_slice(), &nonce, &sealed].concat();
        Ok(replace(&self.file(name), &bytes)?)
    }

    /// The value of a secret.
    ///
    /// # Errors
    /// When there is none, or it cannot be decrypted.
    pub fn get(&self, name: &Name) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let path = self.file(name);
        let bytes = match read(&path, MAGIC.len() + NONCE_BYTES + MAX_SECRET_BYTES + TAG_BYTES) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(SecretError::Absent(name.clone()));
            }
            other => other.map_err(|error| failed(&path, &error))?,
        };
        let damaged = || SecretError::Damaged(name.clone());
        let rest = bytes.strip_prefix(MAGIC.as_slice()).ok_or_else(damaged)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or_else(damaged)?;
        let payload = Payload { msg: sealed, aad: &associated(name) };
        let value = self.cipher(false, name)?.decrypt(&(*nonce).into(), payload).map_err(|_| damaged())?;
        Ok(Zeroizing::new(value))
    }

    /// The names of all secrets, sorted.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Name>, SecretError> {
        let entries = match std::fs::read_dir(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| failed(&self.directory, &error))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed(&self.directory, &error))?.file_name();
            names.extend(entry.to_str().and_then(|file| file.strip_suffix(ENDING)?.parse().ok()));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Opens every secret, says which do not open, and drops the values; how many do. Changes nothing.
    ///
    /// # Errors
    /// When none can be opened: the key, or the directory.
    pub fn check(&self, found: &mut dyn FnMut(SecretError)) -> Result<usize, SecretError> {
        let names = self.list()?;
        // Neither is there before the first secret, and either may be after a crash in the first.
        if !names.is_empty() || (self.key.exists() && self.directory.exists()) {
            self.open_key()?;
        }
        let mut good = 0;
        for name in names {
            match self.get(&name) {
                Ok(_) => good += 1,
                Err(error) => found(error),
            }
        }
        Ok(good)
    }

    /// Forgets a secret. The disk may still hold its ciphertext.
    ///
    /// # Errors
    /// When there is none, or it cannot be removed.
    pub fn remove(&self, name: &Name) -> Result<(), SecretError> {
        let path = self.file(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(SecretError::Absent(name.clone())),
            Err(error) => Err(failed(&path, &error).into()),
            Ok(()) => Ok(sync_parent(&path)?),
        }
    }

    fn file(&self, name: &Name) -> PathBuf {
        self.directory.join(format!("{name}{ENDING}"))
    }

    /// Made when it is not there and `make` is said: by whichever process comes first, whole.
    fn cipher(&self, make: bool, name: &Name) -> Result<XChaCha20Poly1305, SecretError> {
        if make && !self.key.exists() {
            let mut key = Zeroizing::new([0; KEY_BYTES]);
            getrandom::fill(key.as_mut_slice()).map_err(|error| system(name, &error))?;
            let mut text = Zeroizing::new(hex::encode(key.as_slice()));
            text.push('\n');
            write_new(&self.key, text.as_bytes())?;
        }
        Ok(XChaCha20Poly1305::new((&*self.open_key()?).into()))
    }

    fn open_key(&self) -> Result<Zeroizing<[u8; KEY_BYTES]>, SecretError> {
        check_private(&self.directory, PRIVATE_DIRECTORY)?;
        check_private(&self.key, PRIVATE_FILE)?;
        let text = read(&self.key, 2 * KEY_BYTES + 1).map_err(|error| failed(&self.key, &error))?;
        let text = Zeroizing::new(text);
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        hex::decode_to_slice(text.trim_ascii_end(), key.as_mut_slice())
            .map_err(|_| SecretError::Key(self.key.clone()))?;
        Ok(key)
    }
}

fn associated(name: &Name) -> Vec<u8> {
    format!("{DOMAIN}{name}").into_bytes()
}

fn system(name: &Name, problem: &dyn std::fmt::Display) -> SecretError {
    SecretError::System { name: name.clone(), problem: problem.to_string() }
}

/// A whole file, if it has at most `max` bytes.
fn read(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(max + 1);
    File::open(path)?.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("more than {max} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn vault() -> (tempfile::TempDir, Vault) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::create(dir.path()).unwrap();
        let vault = Vault::of(&home);
        (dir, vault)
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_stored_is_had_again_until_it_is_removed() {
        let (dir, vault) = vault();
        assert!(vault.list().unwrap().is_empty() && !dir.path().join("keys/secrets.key").exists());
        for value in [b"first".to_vec(), vec![0xff; MAX_SECRET_BYTES], Vec::new()] {
            vault.set(&name("a"), &value).unwrap();
            assert_eq!(*vault.get(&name("a")).unwrap(), value);
        }
        vault.set(&name("b.c"), b"x").unwrap();
        assert_eq!(vault.list().unwrap(), [name("a"), name("b.c")]);
        vault.remove(&name("a")).unwrap();
        assert!(matches!(vault.get(&name("a")), Err(SecretError::Absent(_))));
        assert!(matches!(vault.remove(&name("a")), Err(SecretError::Absent(_))));
        assert!(matches!(
            vault.set(&name("a"), &vec![0; MAX_SECRET_BYTES + 1]),
            Err(SecretError::TooLong(_))
        ));
        let mode = |path: &str| dir.path().join(path).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode("secrets"), mode("keys/secrets.key"), mode("secrets/b.c.sealed")),
            (0o700, 0o600, 0o600)
        );
    }

    // Red with an empty `aad` (exchanged files open under each other's names).
    #[test]
    fn a_changed_or_exchanged_file_does_not_open() {
        let (dir, vault) = vault();
        let file = |name: &str| dir.path().join(format!("secrets/{name}.sealed"));
        vault.set(&name("a"), b"value of a").unwrap();
        vault.set(&name("b"), b"value of b").unwrap();
        let good = std::fs::read(file("a")).unwrap();
        assert!(!good.windows(5).any(|window| window == b"value"), "encrypted");
        std::fs::copy(file("a"), file("b")).unwrap();
        let error = vault.get(&name("b")).unwrap_err();
        assert!(matches!(error, SecretError::Damaged(_)), "{error}");
        for at in [0, 3, 4, 27, 28, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(file("a"), bad).unwrap();
            assert!(matches!(vault.get(&name("a")), Err(SecretError::Damaged(_))), "byte {at}");
        }
        std::fs::write(file("a"), &good[..20]).unwrap();
        assert!(matches!(vault.get(&name("a")), Err(SecretError::Damaged(_))));
        // The same value twice is two ciphertexts: a reader of the directory cannot tell that they are equal.
        vault.set(&name("a"), b"value of a").unwrap();
        assert_ne!(std::fs::read(file("a")).unwrap(), good);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let (dir, vault) = vault();
        vault.set(&name("a"), b"x").unwrap();
        for (path, loose, tight) in [("keys/secrets.key", 0o640, 0o600), ("secrets", 0o750, 0o700)] {
            let path = dir.path().join(path);
            std::fs::set_permissions(&path, PermissionsExt::from_mode(loose)).unwrap();
            let text = vault.get(&name("a")).unwrap_err().to_string();
            assert!(text.contains(&format!("Run: chmod {tight:o} ")), "{text}");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(tight)).unwrap();
        }
        std::fs::write(dir.path().join("keys/secrets.key"), "zz").unwrap();
        assert!(matches!(vault.get(&name("a")), Err(SecretError::Key(_))));
        assert!(!format!("{vault:?}").contains("zz"));
    }
}
