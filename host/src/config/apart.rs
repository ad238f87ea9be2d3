//! A host's own directory is nobody's volume, and no place for a copy of its log.
//!
//! A job that reads there reads the host's keys; one that writes there rewrites the log. Directories are told apart by
//! device and inode, so that neither a link nor a mount of the same directory elsewhere hides one.
//!
//! *Never:* judges `any_directory`, whose holder may read whatever the host's own user may. *Spec:* `docs/reference/config.md`.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use strongroom_job::Name;

use super::{Config, ForwardTo};

/// A path of the configuration that would open the host's data directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverlapError {
    /// A volume.
    #[error(
        "[volumes.{name}]: {path:?} is, holds or lies in the host's own data directory {home:?}: jobs could read its keys or \
         change its log. Name a directory apart from it"
    )]
    Volume {
        /// Which.
        name: Name,
        /// Its directory.
        path: PathBuf,
        /// The data directory.
        home: PathBuf,
    },
    /// A file of forwarded records.
    #[error(
        "[[forward]] {name}: {path:?} lies in the host's own data directory {home:?}, where it could replace a file of the \
         host's. Name a file outside"
    )]
    File {
        /// Which destination.
        name: Name,
        /// Its file.
        path: PathBuf,
        /// The data directory.
        home: PathBuf,
    },
}

impl Config {
    /// Whether the volumes and the files that the log goes to are apart from the data directory `home`, as directories lie now.
    ///
    /// # Errors
    /// The first that is not.
    pub fn apart_from(&self, home: &Path) -> Result<(), OverlapError> {
        let ours = trail(home);
        let is_inside = |trail: &[Id]| ours.first().is_some_and(|home| trail.contains(home));
        for (name, volume) in &self.volumes {
            let trail = trail(&volume.path);
            if is_inside(&trail) || trail.first().is_some_and(|volume| ours.contains(volume)) {
                let (name, path, home) = (name.clone(), volume.path.clone(), home.to_owned());
                return Err(OverlapError::Volume { name, path, home });
            }
        }
        for forward in &self.forwards {
            if let ForwardTo::File(rules) = &forward.to
                && is_inside(&trail(&rules.path))
            {
                let (name, path, home) = (forward.name.clone(), rules.path.clone(), home.to_owned());
                return Err(OverlapError::File { name, path, home });
            }
        }
        Ok(())
    }
}

/// Device and inode.
type Id = (u64, u64);

/// The directories from `path` up to the root; from its nearest parent that exists if it does not.
fn trail(path: &Path) -> Vec<Id> {
    let real = path.ancestors().find_map(|path| path.canonicalize().ok());
    let id = |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino()));
    real.iter().flat_map(|path| path.ancestors()).filter_map(id).collect()
}
