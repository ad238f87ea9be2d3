//! The trust file of a data directory: who its operators are, as they themselves signed it.
//!
//! *Owns:* `DIR/trust`. A host reads it once, at its start; it is replaced while nobody holds the directory.
//! *Never:* falls back to the configuration once there was a version: a file that is gone, or an older one, stops the start.
//! *Crash:* the file is the old one or the new one, whole. A version whose record is not durable yet is recorded by the next start.
//! *Spec:* `docs/formats/trust.md`.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use strongroom_job::note::KeyName;
use strongroom_job::trust::{MAX_TRUST_FILE_BYTES, TrustFile, TrustFileError};
use strongroom_job::{Event, Timestamp, TrustVersion};

use crate::home::{Home, HomeError, LockedHome, place};
use crate::mend;
use crate::store::Store;

/// What is wrong with a directory's trust file, and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum TrustFault {
    /// The file cannot be read.
    #[error("{}: {error}. The trust file must be readable by the host's own user", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// There is none, and there was one.
    #[error(
        "{} is gone, and version {} of the trust file ({}) was in force. Nobody here may do without it: put it back from a copy, which every \
         operator who signed it has",
        .path.display(), .kept.version, .kept.digest
    )]
    Gone {
        /// Where it should be.
        path: PathBuf,
        /// What was in force.
        kept: TrustVersion,
    },
    /// It is not what operators signed, not for this host, or not what goes on from the version that was in force.
    #[error("{}: {error}. Whoever put it there must put back a file that is whole and goes on from what was in force: ask an operator for it", .path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        error: Box<TrustFileError>,
    },
}

/// Why a trust file was not installed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The new file is no trust file for this host, or does not go on from what is in force.
    #[error(transparent)]
    File(#[from] TrustFileError),
    /// Its last version is over.
    #[error("version {version} of the trust file expired at {}: its operators could do nothing. Ask them for a newer version", .expires.to_rfc3339())]
    Expired {
        /// The last version.
        version: u64,
        /// When.
        expires: Timestamp,
    },
    /// The file that is there is wrong itself.
    #[error(transparent)]
    There(#[from] TrustFault),
    /// What was in force cannot be known.
    #[error(
        "the host's state cannot be opened, so what was in force is not known: {0}. Run `strongroom fsck`, or start the host, first"
    )]
    State(String),
    /// The directory.
    #[error(transparent)]
    Home(#[from] HomeError),
}

/// Reads the directory's trust file and checks all of it: every signature, that it is for the host whose log is `log`, and that it goes on from
/// the version that was in force (`recorded`: by the state, or by the latest `trust-changed` record). None when there is none, and never was one.
///
/// Says nothing of expiry.
///
/// # Errors
/// Says who is at fault and how to mend it.
pub fn check(
    home: &Home,
    log: &KeyName,
    recorded: Option<&TrustVersion>,
) -> Result<Option<TrustFile>, TrustFault> {
    let path = home.trust();
    let Some(bytes) = read(&path)? else {
        return match recorded {
            Some(kept) => Err(TrustFault::Gone { path, kept: *kept }),
            None => Ok(None),
        };
    };
    let checked = TrustFile::parse(&bytes, Some(log)).and_then(|file| {
        recorded.map_or(Ok(()), |kept| file.goes_on_from(kept))?;
        Ok(file)
    });
    checked.map(Some).map_err(|error| TrustFault::Wrong { path, error: Box::new(error) })
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, TrustFault> {
    let unreadable = |error| TrustFault::Unreadable { path: path.into(), error };
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(unreadable)?,
    };
    let mut bytes = Vec::new();
    // One more than any file has, so that a longer one is told from it.
    file.take(MAX_TRUST_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(Some(bytes))
}

/// What the log is to be told of versions that came since the last one that it told of, oldest first.
pub(crate) fn news(file: &TrustFile, recorded: Option<&TrustVersion>) -> Vec<Event> {
    let known = recorded.map_or(0, |kept| kept.version);
    let new = file.versions().iter().map(|signed| signed.body()).filter(|body| body.version() > known);
    let told = new.map(|body| Event::TrustChanged {
        version: body.version(),
        digest: body.digest(),
        expires: body.expires(),
        threshold: body.threshold(),
        operators: body.operators().to_vec(),
        old: file.version(body.version() - 1).map(strongroom_job::trust::TrustBody::id),
    });
    told.collect()
}

/// Puts a file in the place of the one that is there, if it is one for this host and goes on from what is in force, by the file that is there and by
/// the host's state. Gives it back, and the version that was in force before.
///
/// # Errors
/// When it is not, or the disk fails. Nothing was changed then.
pub fn install(
    home: &LockedHome,
    log: &KeyName,
    bytes: &[u8],
    now: Timestamp,
) -> Result<(TrustFile, Option<TrustVersion>), InstallError> {
    let file = TrustFile::parse(bytes, Some(log))?;
    let recorded = recorded(home)?;
    let there = match check(home, log, recorded.as_ref()) {
        Ok(there) => there.map(|there| there.in_force().id()),
        // What is there is gone or wrong, but it is known what it should be: a good file mends it.
        Err(TrustFault::Gone { .. } | TrustFault::Wrong { .. }) if recorded.is_some() => None,
        Err(fault) => return Err(fault.into()),
    };
    for kept in [&recorded, &there].into_iter().flatten() {
        file.goes_on_from(kept)?;
    }
    let last = file.in_force();
    if last.has_expired(now) {
        return Err(InstallError::Expired { version: last.version(), expires: last.expires() });
    }
    place::replace(&home.trust(), &file.to_bytes())?;
    let before = [there, recorded].into_iter().flatten().max_by_key(|one| one.version);
    Ok((file, before))
}

/// What the state says was in force. A state that is lost is made anew at the start, which then asks again.
fn recorded(home: &LockedHome) -> Result<Option<TrustVersion>, InstallError> {
    let failed = |error: &dyn std::fmt::Display| InstallError::State(error.to_string());
    if Store::is_missing(&home.state()).map_err(|error| failed(&error))? {
        // A log without its state: the state is made anew first, and says it then.
        return match home.audit().join("checkpoint").exists() {
            true => Err(failed(&"it is lost, and the log is there")),
            false => Ok(None),
        };
    }
    let opened = mend::open_state(&home.state(), Store::open_as_it_is).map_err(|error| failed(&error))?;
    opened.trusted().map_err(|error| failed(&error))
}
