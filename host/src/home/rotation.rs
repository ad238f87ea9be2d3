//! Replacing a key of the host: the one that clients pin, or the one that signs the log.
//!
//! ```text
//! 1. keys/ROLE.next     the new secret                        before 2: removed again, nothing happened
//! 2. keys/ROLE.chain    the statement that both keys signed   the commit; from here on whoever locks the directory goes on
//! 3. audit/             the log signed anew (ROLE is log)
//! 4. keys/ROLE.key      the new secret; the old one is gone
//! 5. known_hosts (ROLE is host), keys/ROLE.pub
//! ```
//!
//! Whoever takes the directory's lock has [`LockedHome::settle_keys`] look whether that was cut off, so no host serves, and nothing is
//! signed, with half of a rotation. Who reads without the lock meanwhile sees the old key or the new one.
//!
//! *Owns:* `keys/*.chain`, `keys/*.next`. *Never:* makes a statement that the old secret has not signed.
//! *Crash:* see above; each file is the old one or the new one. *Spec:* `docs/formats/succession.md`.

use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use strongroom_job::note::KeyName;
use strongroom_job::succession::{
    KeyChain, KeyRole, MAX_LINKS, MAX_SUCCESSIONS_BYTES, Succession, SuccessionError,
};
use strongroom_job::{PublicKey, SecretKey, Timestamp};

use super::place::{failed, replace, sync_parent};
use super::{Home, HomeError, LockedHome, fresh_secret, secret_in};
use crate::audit::succession;

/// Both roles.
pub(crate) const ROLES: [KeyRole; 2] = [KeyRole::Host, KeyRole::Log];

impl Home {
    /// The statements by which this key was replaced, the oldest first; none when it never was. The newest may be of a rotation that was cut
    /// off, unless the directory is locked.
    ///
    /// # Errors
    /// When their file cannot be read, or is none.
    pub fn successions(&self, role: KeyRole) -> Result<Vec<Succession>, HomeError> {
        let path = self.chain_file(role);
        let file = match std::fs::File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.map_err(|error| failed(&path, &error))?,
        };
        let mut bytes = Vec::new();
        let read = file.take(MAX_SUCCESSIONS_BYTES as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| failed(&path, &error))?;
        Succession::parse_file(&bytes).map_err(|error| damaged(&path, &error))
    }

    /// This key, and those before it.
    ///
    /// # Errors
    /// When a file cannot be read, or the statements do not lead to the key.
    pub fn key_chain(&self, role: KeyRole) -> Result<KeyChain, HomeError> {
        let key = self.key(role.as_str())?.public();
        let chain = KeyChain::pinned(role, key).follow(&self.successions(role)?);
        chain.map_err(|error| damaged(&self.chain_file(role), &error))
    }

    /// Whether a rotation of this key was begun and not ended.
    ///
    /// # Errors
    /// When the statements cannot be read, or the key.
    pub(crate) fn is_rotating(&self, role: KeyRole) -> Result<bool, HomeError> {
        if self.next_file(role).exists() {
            return Ok(true);
        }
        match self.successions(role)?.last() {
            Some(last) => Ok(*last.new_key() != self.key(role.as_str())?.public()),
            None => Ok(false),
        }
    }

    fn chain_file(&self, role: KeyRole) -> PathBuf {
        self.keys().join(format!("{role}.chain"))
    }

    fn next_file(&self, role: KeyRole) -> PathBuf {
        self.keys().join(format!("{role}.next"))
    }
}

impl LockedHome {
    /// Replaces a key by a new one, for the host whose log is called `origin`. On return all files say so, durably, and the old secret is
    /// gone.
    ///
    /// # Errors
    /// When the log is not good for a new signature, or a file cannot be written. Before the statement is durable nothing has changed;
    /// after that, the next [`lock`](Home::lock) goes on.
    pub fn rotate_key(
        &self,
        role: KeyRole,
        origin: &KeyName,
        now: Timestamp,
    ) -> Result<Succession, HomeError> {
        let old = self.key(role.as_str())?;
        let mut statements = self.successions(role)?;
        self.is_called(origin)?;
        if role == KeyRole::Log {
            succession::check(&self.audit(), &old.public()).map_err(|error| self.bad_log(&error))?;
        }
        let next = self.next_file(role);
        let new = fresh_secret(&next)?;
        sync_parent(&next)?;
        let statement = Succession::sign(role, origin, &old, &new, now);
        let statement = statement.map_err(|error: SuccessionError| damaged(&next, &error))?;
        // Whoever pinned a key from before the last 32 gets the new one as they got the first.
        statements.drain(..(statements.len() + 1).saturating_sub(MAX_LINKS));
        statements.push(statement.clone());
        // Before anybody can see it: what we could not follow ourselves is not said.
        let line = KeyChain::pinned(role, old.public()).follow(&statements);
        line.map_err(|error| damaged(&self.chain_file(role), &error))?;
        replace(&self.chain_file(role), &Succession::to_file(&statements))?;
        self.settle(role)?;
        Ok(statement)
    }

    /// Whether the log here is the one that the statement will name, and is here if there ever was one: a statement that names another could
    /// not be followed, and a log that is elsewhere could never be signed anew.
    fn is_called(&self, origin: &KeyName) -> Result<(), HomeError> {
        let wrong = |problem, mend| Err(HomeError::Rotation { path: self.audit(), problem, mend });
        match succession::name(&self.audit()).map_err(|error| self.bad_log(&error))? {
            Some(name) if name != *origin => wrong(
                format!("the log here is called {name}, and the configuration calls it {origin}"),
                "Put log_origin back to the log's own name",
            ),
            None if self.state().join("db").exists() => wrong(
                "there is a state, and no log".to_owned(),
                "Put the audit directory back, or mount it, and rotate then",
            ),
            _ => Ok(()),
        }
    }

    /// Ends each rotation that was cut off: forwards, if its statement is there, else back.
    pub(super) fn settle_keys(&self) -> Result<(), HomeError> {
        ROLES.into_iter().try_for_each(|role| self.settle(role))
    }

    fn settle(&self, role: KeyRole) -> Result<(), HomeError> {
        let (next, statements) = (self.next_file(role), self.successions(role)?);
        // A key that was never replaced is not read here: a check of the directory goes on without it.
        let Some(last) = statements.last() else { return remove(&next) };
        let key = self.key(role.as_str())?.public();
        if *last.old_key() == key {
            self.swap(role, &statements, last.new_key())?;
        } else if *last.new_key() != key {
            return Err(self.does_not_fit(role, &key, last));
        }
        remove(&next)?;
        let public = self.key_file(role.as_str()).with_extension("pub");
        let text = format!("{}\n", last.new_key());
        if std::fs::read_to_string(&public).ok().as_deref() == Some(&text) {
            return Ok(());
        }
        if role == KeyRole::Host
            && let Err(error) = self.follow_own_pins(&statements)
        {
            // The clients' own file keeps no host from serving. They are told how to follow when they meet the new key.
            tracing::warn!(%error, "the clients of this directory still pin the host's earlier key");
        }
        // Last: as long as it is not so, the steps before it are gone through again.
        replace(&public, text.as_bytes())
    }

    /// Puts the new secret in the place of the old one, once the log is signed with it.
    fn swap(&self, role: KeyRole, statements: &[Succession], to: &PublicKey) -> Result<(), HomeError> {
        let (next, file) = (self.next_file(role), self.key_file(role.as_str()));
        let new: Option<SecretKey> = next.exists().then(|| secret_in(&next)).transpose()?;
        let Some(new) = new.filter(|new| new.public() == *to) else {
            let problem = format!(
                "the {role} key was to be replaced by {to}, as the last statement in {} says, and the secret of that one is not here",
                self.chain_file(role).display()
            );
            return Err(HomeError::Rotation { path: next, problem, mend: RESTORE });
        };
        if role == KeyRole::Log {
            succession::succeed(&self.audit(), statements, &new).map_err(|error| self.bad_log(&error))?;
        }
        std::fs::rename(&next, &file).map_err(|error| failed(&file, &error))?;
        sync_parent(&file)
    }

    fn does_not_fit(&self, role: KeyRole, key: &PublicKey, last: &Succession) -> HomeError {
        let path = self.key_file(role.as_str());
        let problem = format!(
            "it is the key {key}, and the last statement in {} names {} as the {role} key",
            self.chain_file(role).display(),
            last.new_key()
        );
        HomeError::Rotation { path, problem, mend: RESTORE }
    }

    fn bad_log(&self, error: &dyn std::fmt::Display) -> HomeError {
        let problem = format!("the log cannot be signed with another key: {error}");
        HomeError::Rotation {
            path: self.audit(),
            problem,
            mend: "Put the audit directory back from a copy; `strongroom audit verify` says more",
        }
    }
}

/// How to mend keys that do not fit together.
const RESTORE: &str = "Put the whole keys directory back from its newest copy";

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> HomeError {
    HomeError::Rotation { path: path.into(), problem: error.to_string(), mend: RESTORE }
}

/// Removes a file, if it is there, durably.
fn remove(path: &Path) -> Result<(), HomeError> {
    let removed: io::Result<()> = std::fs::remove_file(path);
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|error| failed(path, &error)).and_then(|()| sync_parent(path)),
    }
}
