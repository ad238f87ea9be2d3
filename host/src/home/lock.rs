//! One host for one directory: the lock, and the file that says where its holder listens.
//!
//! *Crash:* the kernel frees the lock with the process, however it ends; `live.json` may stay behind, and is removed by
//! the next holder before it does anything else.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read as _};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use super::place::{failed, replace, sole_use, sync_name};
use super::{Home, HomeError, Live, MAX_LIVE_BYTES};

/// A data directory that this process holds: whoever opens its state asks for this type.
///
/// Dropping it removes `live.json` and frees the lock, in this order.
#[derive(Debug)]
pub struct LockedHome {
    home: Home,
    _lock: File,
}

impl Home {
    /// Takes the directory for this process, without waiting.
    ///
    /// # Errors
    /// [`HomeError::Held`], naming the holder as far as it is known.
    pub fn lock(&self) -> Result<LockedHome, HomeError> {
        let locked = self.lock_to_check()?;
        // Who made the directory may have been killed before its name was durable. The names in it are the store's to sync.
        sync_name(&self.dir)?;
        // A rotation that was cut off: whoever holds the directory next ends it, before anybody signs.
        locked.settle_keys()?;
        Ok(locked)
    }

    /// [`lock`](Self::lock) for who only looks: what was cut off stays so.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn lock_to_check(&self) -> Result<LockedHome, HomeError> {
        let path = self.dir.join("lock");
        let Some(lock) = sole_use(&path)? else {
            return Err(HomeError::Held { dir: self.dir.clone(), live: self.live()?.map(Box::new) });
        };
        let locked = LockedHome { home: self.clone(), _lock: lock };
        locked.forget()?;
        Ok(locked)
    }

    /// The host that says it serves this directory; none while nobody does, or not yet.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn live(&self) -> Result<Option<Live>, HomeError> {
        let path = self.live_file();
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| failed(&path, &error))?,
        };
        let mut text = Vec::new();
        file.take(MAX_LIVE_BYTES).read_to_end(&mut text).map_err(|error| failed(&path, &error))?;
        // What cannot be read is a leftover: its host does not hold the lock any more, or will write it anew.
        Ok(serde_json::from_slice(&text).ok())
    }

    /// Whether some process holds the directory `dir` now. Needs no right to write there, and takes nothing.
    #[must_use]
    pub fn is_held(dir: &Path) -> bool {
        let held = |lock: File| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock));
        File::open(dir.join("lock")).is_ok_and(held)
    }

    fn live_file(&self) -> PathBuf {
        self.dir.join("live.json")
    }
}

impl LockedHome {
    /// Tells other processes where this host listens. To be called once it does.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn announce(&self, live: &Live) -> Result<(), HomeError> {
        #[expect(clippy::expect_used, reason = "an address, a number and a key always serialize")]
        let text = serde_json::to_vec(live).expect("plain data serializes");
        replace(&self.home.live_file(), &text)
    }

    /// Tells other processes that this host takes no more requests.
    ///
    /// # Errors
    /// When the file is there and cannot be removed.
    pub fn forget(&self) -> Result<(), HomeError> {
        let path = self.home.live_file();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(&path, &error)),
            _ => Ok(()),
        }
    }
}

impl Deref for LockedHome {
    type Target = Home;

    fn deref(&self) -> &Home {
        &self.home
    }
}

impl Drop for LockedHome {
    fn drop(&mut self) {
        // Before the lock goes: afterwards the file could be the next host's. A leftover does no harm.
        let _ = self.forget();
    }
}
