//! The data directory: where it is, what lies in it, who may read it, and who holds it.
//!
//! ```text
//! DIR/strongroom.toml          configuration, written once by `init`, then the user's
//! DIR/keys/{host,log,client}.key   secret keys, 0600; the public halves beside them in *.pub
//! DIR/keys/{host,log}.chain    statements by which that key was replaced; *.next while it is (`rotation`)
//! DIR/known_hosts              host keys that this user's clients trust
//! DIR/trust                    who may operate the host, as its operators signed it (`trust`)
//! DIR/lock                     held by the one host of the directory
//! DIR/live.json                where that host listens, while it does
//! DIR/admin.sock               where it is asked about itself, while `strongroom serve` runs (`admin`)
//! DIR/keys/secrets.key, DIR/secrets/    secrets for jobs, encrypted (`secrets`)
//! DIR/forward/NAME.cursor      how far each destination of the audit log is (`forward`)
//! DIR/state/ audit/ blobs/ tmp/ scratch/    the host's
//! DIR/state/ audit/ evidence/ blobs/ tmp/ scratch/    the host's
//! DIR/contradictions/          what witnesses said of another history of this log (`cosigning`)
//! DIR/quarantine/             states that were wrong and were made anew, as they were found
//! DIR/cache/                   compiled modules, under keys/cache.key; both made anew when they are not there
//! ```
//!
//! *Owns:* the layout, its permissions, the lock, `live.json`.
//! *Never:* what is inside `state`, `audit` and `blobs`.
//! *But:* when the log's key is replaced, `rotation` has the log signed anew, under the lock. *Crash:* every file appears whole under its name or not at all, so `create` can simply be run again. The lock is the
//! kernel's and ends with the process; a `live.json` that outlived its host is removed by the next holder of the lock
//! and believed by nobody before, because a client pins the host's key.

mod cache;
mod guard;
mod lock;
pub(crate) mod place;
pub(crate) mod rotation;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strongroom_job::succession::Succession;
use strongroom_job::{PublicKey, SecretKey};
use strongroom_sdk::{Identity, KnownHosts};

use crate::config::Config;

pub use lock::LockedHome;
use place::{PRIVATE_DIRECTORY, check_private, directory, failed, link_new, private_directory, write_new};

/// Longest `live.json` that is read, in bytes.
const MAX_LIVE_BYTES: u64 = 4096;

/// A data directory with all its keys and its configuration in place.
#[derive(Clone, Debug)]
pub struct Home {
    dir: PathBuf,
}

/// The host that serves a directory now, as `live.json` says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process.
    pub pid: u32,
    /// Its transport key. For people: clients pin the key in the directory instead.
    pub host: PublicKey,
}

/// Why a data directory cannot be used, and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Neither `--dir` nor a home directory.
    #[error("no data directory: neither XDG_DATA_HOME nor HOME is an absolute path. Name one with --dir")]
    NoDefault,
    /// The system said no to a path.
    #[error("{}: {problem}. {mend}", .path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// What happened.
        problem: String,
        /// What would help.
        mend: &'static str,
    },
    /// Others can read, or replace, what must be the owner's alone.
    #[error(
        "{}: mode {mode:04o} lets other users in; it must be the owner's alone. Run: chmod {wanted:o} {}",
        .path.display(),
        .path.display()
    )]
    TooOpen {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they must be.
        wanted: u32,
    },
    /// Its own user cannot read it.
    #[error(
        "{}: mode {mode:04o} does not let its own user read it. Run: chmod {wanted:o} {}",
        .path.display(),
        .path.display()
    )]
    TooClosed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they must be.
        wanted: u32,
    },
    /// It is another user's than the host's.
    #[error(
        "{}: it belongs to user {owner}, who could read or change what is the host's, and the host runs as user {user}. Run: chown {user} {}",
        .path.display(),
        .path.display()
    )]
    NotOurs {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it must be.
        user: u32,
    },
    /// Another host holds the directory.
    #[error("{} is served by another host already{}. Submit to that host, stop it, or choose another --dir",
        .dir.display(), holder(.live.as_deref()))]
    Held {
        /// The directory.
        dir: PathBuf,
        /// Who, when it has said so.
        live: Option<Box<Live>>,
    },
    /// A key is being replaced, or was, and its files do not fit together.
    #[error("{}: {problem}. {mend}", .path.display())]
    Rotation {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What would help.
        mend: &'static str,
    },
    /// A key file or `known_hosts` is damaged, or the system gives no random bytes.
    #[error(transparent)]
    Keys(#[from] strongroom_sdk::Error),
}

fn holder(live: Option<&Live>) -> String {
    match live {
        Some(live) => format!(" (process {}, listening on {})", live.pid, live.address),
        None => String::new(),
    }
}

impl Home {
    /// `$XDG_DATA_HOME/strongroom`, or `~/.local/share/strongroom`.
    ///
    /// # Errors
    /// When neither variable holds an absolute path.
    pub fn default_dir() -> Result<PathBuf, HomeError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "where a user's data lies is the user's environment; what may be done is not"
        )]
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute("XDG_DATA_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
            .map(|data| data.join("strongroom"))
            .ok_or(HomeError::NoDefault)
    }

    /// Opens the directory, making whatever is not there yet: itself, its keys, its configuration.
    ///
    /// Several processes may do this at once; all end up with the same keys.
    ///
    /// # Errors
    /// Names the path that cannot be made or read, or that others can read, and what to do about it.
    pub fn create(dir: &Path) -> Result<Self, HomeError> {
        let home = Self { dir: directory(dir)? };
        Self::check_place(&home.dir)?;
        private_directory(&home.keys())?;
        for private in [home.state(), home.blobs(), home.tmp(), home.audit(), home.cache()] {
            private_directory(&private)?;
        }
        for name in ["host", "log", "client"] {
            home.make_key(name)?;
        }
        home.make_config()?;
        Ok(home)
    }

    /// Opens a directory that [`create`](Self::create) made before.
    ///
    /// # Errors
    /// When it is not there, is not a data directory, or lets others in.
    pub fn open(dir: &Path) -> Result<Self, HomeError> {
        let home = Self { dir: dir.canonicalize().map_err(|error| failed(dir, &error))? };
        check_private(&home.keys(), PRIVATE_DIRECTORY)?;
        std::fs::metadata(home.config()).map_err(|error| failed(&home.config(), &error))?;
        Ok(home)
    }

    /// Opens a directory that [`create`](Self::create) made before, to say what is wrong with it: also one that lets others in.
    ///
    /// # Errors
    /// When it is not there, or is not a data directory.
    pub fn open_to_check(dir: &Path) -> Result<Self, HomeError> {
        let home = Self { dir: dir.canonicalize().map_err(|error| failed(dir, &error))? };
        for part in [home.keys(), home.config()] {
            std::fs::metadata(&part).map_err(|error| failed(&part, &error))?;
        }
        Ok(home)
    }

    /// Reads `known_hosts`; one that is not there lists nobody.
    ///
    /// # Errors
    /// With the line that is wrong.
    pub fn check_known_hosts(&self) -> Result<(), HomeError> {
        Ok(KnownHosts::load(self.known_hosts()).map(drop)?)
    }

    /// The directory itself, absolute.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.join("strongroom.toml")
    }

    /// While it lies there, nothing that runs takes another configuration.
    #[must_use]
    pub fn config_lock(&self) -> PathBuf {
        self.dir.join("config.lock")
    }

    /// Host keys that the clients of this directory trust.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        self.dir.join("known_hosts")
    }

    /// The file that says who may operate the host.
    #[must_use]
    pub fn trust(&self) -> PathBuf {
        self.dir.join("trust")
    }

    /// The store's directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The audit log's directory.
    #[must_use]
    pub fn audit(&self) -> PathBuf {
        self.dir.join("audit")
    }

    /// The directory of what the log's records refer to.
    #[must_use]
    pub fn evidence(&self) -> PathBuf {
        self.dir.join("evidence")
    }

    /// The directory of states that were wrong.
    #[must_use]
    pub fn quarantine(&self) -> PathBuf {
        self.dir.join("quarantine")
    }

    /// The directory of modules, inputs and outputs.
    #[must_use]
    pub fn blobs(&self) -> PathBuf {
        self.dir.join("blobs")
    }

    /// The directory of files that are not finished; on the same file system as `blobs`.
    #[must_use]
    pub fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// The directory of what running jobs have for themselves.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.dir.join("scratch")
    }

    /// The file of the client's secret key.
    #[must_use]
    pub fn client_key_file(&self) -> PathBuf {
        self.key_file("client")
    }

    /// The key by which clients know this host.
    ///
    /// # Errors
    /// When its file cannot be read, is damaged, or can be read by others.
    pub fn host_key(&self) -> Result<SecretKey, HomeError> {
        self.key("host")
    }

    /// The key that signs the audit log's checkpoints.
    ///
    /// # Errors
    /// When its file cannot be read, is damaged, or can be read by others.
    pub fn log_key(&self) -> Result<SecretKey, HomeError> {
        self.key("log")
    }

    /// The key that this user signs jobs with.
    ///
    /// # Errors
    /// When its file cannot be read, is damaged, or can be read by others.
    pub fn client_key(&self) -> Result<SecretKey, HomeError> {
        self.key("client")
    }
}

fn secret_in(file: &Path) -> Result<SecretKey, HomeError> {
    Ok(Identity::load(file)?.secret().clone())
}

/// Writes a new secret to a file that must not exist yet. Its name is not durable yet.
fn fresh_secret(file: &Path) -> Result<SecretKey, HomeError> {
    let fresh = Identity::generate()?;
    fresh.save(file)?;
    Ok(fresh.secret().clone())
}

impl Home {
    pub(crate) fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    pub(crate) fn key_file(&self, name: &str) -> PathBuf {
        self.keys().join(format!("{name}.key"))
    }

    pub(crate) fn key(&self, name: &str) -> Result<SecretKey, HomeError> {
        secret_in(&self.key_file(name))
    }

    /// The secret appears under its name only when it is whole, because another process may be looking for it. A crash
    /// before its public half is written is mended by the next call: the half follows from the secret.
    fn make_key(&self, name: &str) -> Result<(), HomeError> {
        let file = self.key_file(name);
        if !file.exists() {
            let fresh = tempfile::tempdir_in(self.keys()).map_err(|error| failed(&file, &error))?;
            let fresh = fresh.path().join("key");
            fresh_secret(&fresh)?;
            link_new(&fresh, &file)?;
        }
        let public = self.key(name)?.public();
        write_new(&file.with_extension("pub"), format!("{public}\n").as_bytes())?;
        Ok(())
    }

    /// Pins the host's last key where this directory's own clients pin an earlier one.
    fn follow_own_pins(&self, statements: &[Succession]) -> Result<(), HomeError> {
        let mut known = KnownHosts::load(self.known_hosts())?;
        match known.follow(statements) {
            // Nobody pinned it here.
            Ok(_) | Err(strongroom_sdk::Error::NotFollowed { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn make_config(&self) -> Result<(), HomeError> {
        if self.config().exists() {
            return Ok(());
        }
        let log_key = hex::encode(&self.log_key()?.public().as_bytes()[..8]);
        // Unique without asking anybody; an owner with a domain may choose a better name before the first start.
        let text = Config::example(&self.client_key()?.public(), &format!("strongroom.invalid/{log_key}"));
        write_new(&self.config(), text.as_bytes())?;
        Ok(())
    }
}
