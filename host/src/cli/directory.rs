//! Which data directory a command works in.

use std::path::PathBuf;

use crate::config::{Config, ConfigError};
use crate::home::Home;

use super::Common;
use super::exit::Failure;

impl Common {
    /// `--dir`, or the user's data directory.
    pub(super) fn directory(&self) -> Result<PathBuf, Failure> {
        match &self.dir {
            Some(dir) => Ok(dir.clone()),
            None => Ok(Home::default_dir()?),
        }
    }

    /// The directory with everything in it, made now as far as it is missing.
    pub(super) fn home(&self) -> Result<Home, Failure> {
        Ok(Home::create(&self.directory()?)?)
    }
}

/// The directory's configuration, which is apart from the directory.
pub(super) fn config(home: &Home) -> Result<Config, Failure> {
    let path = home.config();
    let config = Config::load(&path)?;
    config.apart_from(home.dir()).map_err(|error| ConfigError::Overlap { path, error })?;
    Ok(config)
}
