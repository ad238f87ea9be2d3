//! How far each destination is, from files alone.

use std::path::Path;

use strongroom_job::PublicKey;

use super::Trouble;
use super::cursor::Cursor;
use super::gaps::Rejected;
use super::problem;
use crate::audit::read::{LogReader, ReadError};
use crate::config::Forward;

/// One destination, as its cursor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub to: String,
    /// The first record that it may not have; none before a host has begun to forward there.
    pub next: Option<u64>,
    /// Records that it may not have.
    pub behind: u64,
    /// Why it cannot go on as things stand, or did not when a host last tried.
    pub problem: Option<String>,
    /// Whether the problem is one of the files in `forward`, which somebody must mend.
    pub stuck: bool,
    /// Whether the problem is that one of them could not be read now.
    pub unread: bool,
    /// What it has refused for good, if anything.
    pub rejected: Option<Rejected>,
}

/// Every destination of `forwards`, for the host in the data directory `home`. Works beside a running host, whose cursors are some
/// seconds behind what it sent.
///
/// # Errors
/// When the log cannot be read, or is not signed by `key`.
pub fn statuses(
    home: &Path,
    key: Option<&PublicKey>,
    forwards: &[Forward],
) -> Result<Vec<Status>, ReadError> {
    // Before the log: one that is read later begins with the one that was forwarded.
    let cursors: Vec<_> =
        forwards.iter().map(|forward| Cursor::load(&Cursor::path(home, &forward.name))).collect();
    let log = LogReader::open(&home.join("audit"), key)?;
    let size = log.checkpoint().size().get();
    let status = |(forward, cursor): (&Forward, Result<Option<Cursor>, Trouble>)| {
        let (next, problem) = match cursor {
            Ok(Some(cursor)) => (Some(cursor.next), cursor.fits(&log).err()),
            Ok(None) => (None, None),
            Err(trouble) => (None, Some(trouble)),
        };
        let (rejected, uncounted) = match Rejected::load(&Rejected::path(home, &forward.name)) {
            Ok(rejected) => (rejected, None),
            Err(trouble) => (None, Some(trouble)),
        };
        let problem = problem.or(uncounted);
        let stuck = matches!(problem, Some(Trouble::Stuck(_)));
        let unread = matches!(problem, Some(Trouble::Later(_)));
        let problem = problem.map(|trouble| trouble.to_string());
        Status {
            name: forward.name.to_string(),
            to: forward.to.to_string(),
            next,
            behind: size.saturating_sub(next.unwrap_or(0)),
            problem: problem.or_else(|| problem::load(home, &forward.name)),
            stuck,
            unread,
            rejected,
        }
    };
    Ok(forwards.iter().zip(cursors).map(status).collect())
}
