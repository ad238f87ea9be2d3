//! Which key belongs to which address, as ssh's file of that name. Nothing is ever trusted on first use.
//!
//! *Spec:* lines of `HOST:PORT KEY`; empty lines and lines that begin with `#` are for people.
//! *Never:* replaces a key but by a statement that this key, or one after it, signed.
//! *Crash:* an added line is appended and synced before [`KnownHosts::add`] returns; a line that was cut off is an error of
//! the next load, naming its number.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use strongroom_job::PublicKey;
use strongroom_job::succession::{ChainError, KeyChain, KeyRole, Succession};

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

    /// Follows statements by which a host's key was replaced: every pinned key that they lead away from gives way to the last one, in the
    /// file too. A key that is the last one already stays; statements about a log's key are passed over.
    ///
    /// # Errors
    /// [`NotFollowed`](Error::NotFollowed), with the first statement that is wrong, or when no pinned key is among theirs;
    /// [`Io`](Error::Io). The file is as it was then.
    pub fn follow(&mut self, statements: &[Succession]) -> Result<Vec<Followed>, Error> {
        let refused = |problem: String| Error::NotFollowed { file: self.path.clone(), problem };
        if !statements.iter().any(|one| one.role() == KeyRole::Host) {
            return Err(refused("none of the statements is about the key of a host".into()));
        }
        let (mut followed, mut unknown, mut is_last) = (Vec::new(), None, false);
        for (address, key) in &self.keys {
            match KeyChain::pinned(KeyRole::Host, *key).follow_own(statements) {
                Ok(chain) if chain.current() == key => is_last = true,
                Ok(chain) => {
                    followed.push(Followed { address: address.clone(), old: *key, new: *chain.current() });
                }
                Err(error @ ChainError::Unknown(_)) => unknown = Some(error),
                Err(error) => return Err(refused(error.to_string())),
            }
        }
        if followed.is_empty() {
            return match (is_last, unknown) {
                (true, _) => Ok(followed),
                (false, Some(_)) => Err(refused(
                    "the statements begin with a key that is not pinned here, nor lead through one that is"
                        .into(),
                )),
                (false, None) => Err(refused("no key is pinned here".into())),
            };
        }
        let mut changed = self.keys.clone();
        for Followed { address, new, .. } in &followed {
            changed.insert(address.clone(), *new);
        }
        let text = rewritten(&read(&self.path)?, &changed);
        replace(&self.path, &text).map_err(Error::io(&self.path))?;
        self.keys = changed;
        Ok(followed)
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

/// A pinned key that gave way to a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Where the host is.
    pub address: String,
    /// The key that was pinned.
    pub old: PublicKey,
    /// The one that is pinned now.
    pub new: PublicKey,
}

/// The file with these keys, and with everything else in it as it was.
fn rewritten(text: &str, keys: &BTreeMap<String, PublicKey>) -> String {
    let line = |line: &str| {
        let address = line.split_whitespace().next().filter(|word| !word.starts_with('#'));
        let key = address.and_then(|address| keys.get(address));
        match (address, key) {
            (Some(address), Some(key)) => format!("{address} {key}\n"),
            _ => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

/// *Crash:* the old file or the new one, whole; one of its name with `.new` behind it means nothing.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = std::fs::File::create(&new)?;
    file.set_permissions(std::fs::metadata(path)?.permissions())?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all())?;
    std::fs::rename(&new, path)?;
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    std::fs::File::open(above)?.sync_all()
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

    fn statement(old: &Identity, new: &Identity, role: KeyRole) -> Succession {
        let origin = "example.com/audit".parse().unwrap();
        Succession::sign(role, &origin, old.secret(), new.secret(), strongroom_job::Timestamp::default())
            .unwrap()
    }

    // Red without `follow`'s look at each key: with the last key for every address, the stranger's was replaced, too.
    #[test]
    fn a_pin_follows_statements_that_its_key_signed_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_hosts");
        let [first, second, third, other] = [(); 4].map(|()| Identity::generate().unwrap());
        let text = format!("# mine\n{ADDRESS} {}\n\nother:1 {}\n", first.public(), other.public());
        std::fs::write(&path, &text).unwrap();
        let mut known = KnownHosts::load(&path).unwrap();
        let host = KeyRole::Host;
        let line = [statement(&first, &second, host), statement(&second, &third, host)];

        let refused = |known: &mut KnownHosts, statements: &[Succession], words: &str| {
            let error = known.follow(statements).unwrap_err().to_string();
            assert!(error.contains("no pinned key was replaced") && error.contains(words), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "the file is as it was");
        };
        refused(&mut known, &[], "none of the statements is about the key of a host");
        refused(&mut known, &[statement(&first, &second, KeyRole::Log)], "none of the statements");
        refused(&mut known, &line[1..], "not pinned here");
        refused(&mut known, &[line[1].clone(), line[0].clone()], "one is missing between them");
        refused(&mut known, &[line[0].clone(), statement(&first, &other, host)], "forks the line");

        let followed = known.follow(&line).unwrap();
        let (old, new) = (first.public(), third.public());
        assert_eq!(followed, [Followed { address: ADDRESS.into(), old, new }]);
        assert_eq!(known.key_of(ADDRESS).unwrap(), new);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text.replace(&old.to_string(), &new.to_string()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(known.follow(&line).unwrap(), [], "once more is no error");
        // Who pinned a later key knows what came before it, too; it is not led back.
        assert_eq!(known.follow(&line[1..]).unwrap(), []);
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
