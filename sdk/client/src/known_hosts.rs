//! Which key belongs to which address, as ssh's file of that name. Nothing is ever trusted on first use.
//!
//! *Spec:* lines of `HOST:PORT KEY`; empty lines and lines that begin with `#` are for people.
//! *Crash:* an added line is appended and synced before [`KnownHosts::add`] returns; a line that was cut off is an error of
//! the next load, naming its number.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use strongroom_job::PublicKey;

use crate::Error;

/// More than anybody lists by hand; a longer file is not read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The hosts that we trust, by address.
#[derive(Clone, Debug)]
pub struct KnownHosts {
    path: PathBuf,
    keys: BTreeMap<String, PublicKey>,
}

impl KnownHosts {
    /// Reads the file; one that does not exist lists nobody.
    ///
    /// # Errors
    /// [`Io`](Error::Io); [`BadFile`](Error::BadFile) with the line that is wrong, or that gives an address a second key.
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let mut known = Self { keys: BTreeMap::new(), path };
        for (index, line) in read(&known.path)?.lines().enumerate() {
            if let Err(problem) = known.take(line) {
                let problem = format!("line {}: {problem}", index + 1);
                return Err(Error::BadFile { path: known.path, problem });
            }
        }
        Ok(known)
    }

    /// The key of a host.
    ///
    /// # Errors
    /// [`UnknownHost`](Error::UnknownHost), whose text says what to do.
    pub fn key_of(&self, address: &str) -> Result<PublicKey, Error> {
        self.keys
            .get(address)
            .copied()
            .ok_or_else(|| Error::UnknownHost { address: address.into(), file: self.path.clone() })
    }

    /// Trusts `key` at `address` from now on, in the file too. Nothing happens when it is listed already.
    ///
    /// # Errors
    /// [`WrongHostKey`](Error::WrongHostKey) when the address has another key: that line has to be removed by hand.
    pub fn add(&mut self, address: &str, key: &PublicKey) -> Result<(), Error> {
        match self.keys.get(address) {
            Some(listed) if listed == key => return Ok(()),
            Some(listed) => {
                return Err(Error::WrongHostKey {
                    address: address.into(),
                    expected: Box::new(*listed),
                    found: Box::new(*key),
                });
            }
            None => {}
        }
        if address.is_empty() || address.starts_with('#') || address.contains(char::is_whitespace) {
            return Err(Error::NotReachable { address: address.into(), reason: "it is no HOST:PORT".into() });
        }
        let write = || {
            let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            file.write_all(format!("{address} {key}\n").as_bytes())?;
            file.sync_all()
        };
        write().map_err(Error::io(&self.path))?;
        self.keys.insert(address.into(), *key);
        Ok(())
    }

    fn take(&mut self, line: &str) -> Result<(), String> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (Some(address), Some(key), None) = (words.next(), words.next(), words.next()) else {
            return Err("expected `HOST:PORT KEY`".into());
        };
        let key: PublicKey = key.parse().map_err(|error| format!("{error}"))?;
        match self.keys.insert(address.into(), key) {
            Some(earlier) if earlier != key => {
                Err(format!("{address} has another key above; keep the line that is right"))
            }
            _ => Ok(()),
        }
    }
}

fn read(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    match std::fs::File::open(path) {
        Ok(file) => file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(Error::io(path))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(source) => return Err(Error::Io { path: path.into(), source }),
    };
    if text.len() as u64 > MAX_FILE_BYTES {
        let problem = format!("longer than {MAX_FILE_BYTES} bytes: this is no list of hosts");
        return Err(Error::BadFile { path: path.into(), problem });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::Identity;

    const ADDRESS: &str = "host.example:7433";

    #[test]
    fn an_added_host_is_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_hosts");
        let key = Identity::generate().unwrap().public();
        let mut known = KnownHosts::load(&path).unwrap();
        known.add(ADDRESS, &key).unwrap();
        known.add(ADDRESS, &key).unwrap();
        assert_eq!(KnownHosts::load(&path).unwrap().key_of(ADDRESS).unwrap(), key);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{ADDRESS} {key}\n"));
    }

    #[test]
    fn an_unknown_host_is_never_trusted_on_first_use() {
        let dir = tempfile::tempdir().unwrap();
        let known = KnownHosts::load(dir.path().join("known_hosts")).unwrap();
        let error = known.key_of(ADDRESS).unwrap_err().to_string();
        assert!(error.contains(ADDRESS) && error.contains("--host-key"), "{error}");
    }

    // Red without the arm for another listed key in `add`.
    #[test]
    fn a_second_key_for_an_address_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_hosts");
        let [first, second] = [(); 2].map(|()| Identity::generate().unwrap().public());
        let mut known = KnownHosts::load(&path).unwrap();
        known.add(ADDRESS, &first).unwrap();
        assert!(matches!(known.add(ADDRESS, &second), Err(Error::WrongHostKey { .. })));
        assert_eq!(known.key_of(ADDRESS).unwrap(), first);

        std::fs::write(&path, format!("# mine\n\n{ADDRESS} {first}\n{ADDRESS} {second}\n")).unwrap();
        let error = KnownHosts::load(&path).unwrap_err().to_string();
        assert!(error.contains("line 4: host.example:7433 has another key above"), "{error}");
    }

    #[test]
    fn a_wrong_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_hosts");
        for wrong in [ADDRESS, "a b c", "a ed25519:00"] {
            std::fs::write(&path, format!("# one\n{wrong}\n")).unwrap();
            let error = KnownHosts::load(&path).unwrap_err().to_string();
            assert!(error.contains("line 2: "), "{error}");
        }
    }
}
