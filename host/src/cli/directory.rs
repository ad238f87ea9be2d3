//! Which data directory a command works in.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

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

/// The directory's configuration, which is apart from the directory and good for its destinations.
pub(super) fn config(home: &Home) -> Result<Config, Failure> {
    let path = home.config();
    let config = Config::load(&path)?;
    let inside = |error| ConfigError::Overlap { path: path.clone(), error };
    config.apart_from(home.dir()).map_err(inside)?;
    trusts(&path, &config)?;
    Ok(config)
}

/// Refuses a change while `config.lock` lies beside the configuration. Only who is on this machine, as a user who may, can take it away.
pub(super) fn unlocked(home: &Home) -> Result<(), Failure> {
    let lock = home.config_lock();
    match lock.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // Whatever lies there, and whatever keeps it from being looked at.
        Ok(_) | Err(_) => Err(Failure::no(
            "locked",
            format_args!(
                "{} lies there, so nothing is changed: remove it on this machine first",
                lock.display()
            ),
        )),
    }
}

/// Whether a host could trust a receiver at each of the configuration's destinations with TLS.
pub(super) fn trusts(path: &Path, config: &Config) -> Result<(), Failure> {
    let telemetry = crate::telemetry::check(config).map_err(Failure::from);
    let trusted = crate::forward::check(&config.forwards).map_err(Failure::from).and(telemetry);
    trusted.map_err(|failure| failure.about(path.display()))
}
