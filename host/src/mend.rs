//! Opening state and log together; and when it is the state that is wrong, making it anew from the log.
//!
//! State and log are each other's sentinel. A state that is lost, damaged or behind the log is moved aside, whole, and rebuilt from the
//! log, which must verify under the host's own key, and from evidence. A log that is lost, damaged, rolled back or of another history
//! stops the host: a new log would be a second history, and so would a state that pretends there never was one.
//!
//! *Owns:* which of the two is wrong. *Never:* removes anything; writes a log.
//! *Crash:* see `store::rebuild`: at any moment the next start begins again.
//! *Spec:* `docs/formats/evidence.md`, `docs/formats/state.md`.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use strongroom_job::merkle::LeafIndex;
use strongroom_job::note::KeyName;
use strongroom_job::{Event, JobId, JobState, Record, StateFault};

use crate::audit::read::{LogReader, ReadError as LogError};
use crate::audit::verify::{Options, Verified, VerifyError, verify_dir};
use crate::audit::writer::Log;
use crate::blobs;
use crate::clock::Clock;
use crate::config::{Bounds, Config};
use crate::evidence::Reader;
use crate::home::{Home, HomeError, LockedHome};
use crate::lifecycle;
use crate::publisher::{self, JoinError};
use crate::store::rebuild::{History, RebuildError, Rebuilt, Terms, rebuild};
use crate::store::{OpenError, Opened, PublishedHead, Store};

/// Why a state was not rebuilt. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    /// The keys.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The log itself does not verify.
    #[error("the log does not verify, so no state can be made from it: {0}")]
    Log(#[from] VerifyError),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] LogError),
    /// Evidence cannot be read.
    #[error("the evidence cannot be read: {0}")]
    Evidence(io::Error),
    /// The records, or the disk.
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
}

/// Why state and log cannot be opened.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The state is wrong, and the log is not known to be.
    State(StateFault, String),
    /// The state cannot be opened, and that says nothing about what is in it.
    Open(OpenError),
    /// The two do not fit, and it may be the log that is wrong.
    Log(JoinError),
    /// Whether there is a state cannot be seen.
    Io(io::Error),
}

/// A state that was made anew.
#[derive(Clone, Debug)]
pub struct Mended {
    /// What came of it.
    pub rebuilt: Rebuilt,
    /// Where the state is now that was in its place, if there was one.
    pub aside: Option<PathBuf>,
}

/// Opens state and log. A state that is wrong is rebuilt first, once.
pub(crate) fn open(
    home: &LockedHome,
    config: &Config,
    name: &KeyName,
) -> Result<(Opened, Log), crate::host::StartError> {
    let kept = |(opened, log): (Opened, Log)| (opened.reserve(config.bounds.disk_reserve_bytes), log);
    let trouble = match try_open(home, name)? {
        Ok(parts) => return Ok(kept(parts)),
        Err(trouble) => trouble,
    };
    let Trouble::State(found, problem) = trouble else { return Err(trouble.into()) };
    tracing::warn!(found = found.as_str(), %problem, "the state is wrong; it is rebuilt from the audit log");
    let failed =
        |error| crate::host::StartError::Rebuild { problem: problem.clone(), error: Box::new(error) };
    let Mended { rebuilt, aside } = mend(home, config, found, &problem).map_err(failed)?;
    let Rebuilt { records, jobs, forgotten, stripped, blobs_gone, last } = rebuilt;
    tracing::warn!(
        records,
        jobs,
        forgotten,
        stripped,
        blobs_gone,
        until = last.as_millis(),
        aside = ?aside,
        "the state was rebuilt; what was acknowledged after its last record may be missing"
    );
    try_open(home, name)?.map(kept).map_err(Into::into)
}

/// Opens state and log, and changes nothing that is there but what every opening does.
pub(crate) fn try_open(home: &Home, name: &KeyName) -> Result<Result<(Opened, Log), Trouble>, HomeError> {
    let key = home.log_key()?;
    let log = LogReader::open(&home.audit(), Some(&key.public()));
    let has_log = log.is_ok_and(|log| log.checkpoint().size().get() > 0);
    Ok(open_parts(home, name, key, has_log))
}

fn open_parts(
    home: &Home,
    name: &KeyName,
    key: strongroom_job::SecretKey,
    has_log: bool,
) -> Result<(Opened, Log), Trouble> {
    if has_log && Store::is_missing(&home.state()).map_err(Trouble::Io)? {
        return Err(Trouble::State(StateFault::Lost, "there is no state, and the log has records".into()));
    }
    let opened = match open_state(&home.state(), Store::open) {
        Err(unopened) if has_log && unopened.is_damage() => {
            return Err(Trouble::State(StateFault::Damaged, unopened.to_string()));
        }
        Err(Unopened::Error(error)) => return Err(Trouble::Open(error)),
        Err(Unopened::Panic(problem)) => {
            return Err(Trouble::Open(OpenError::Damaged { path: home.state(), problem }));
        }
        Ok(opened) => opened,
    };
    match publisher::join(&home.audit(), name.clone(), key, &opened) {
        Ok(log) => Ok((opened, log)),
        Err(error) => Err(match error {
            JoinError::StateBehind { state: 0, .. } => Trouble::State(StateFault::Lost, error.to_string()),
            JoinError::StateBehind { .. } => Trouble::State(StateFault::RolledBack, error.to_string()),
            JoinError::Read(_) | JoinError::BadHead | JoinError::LeavesMissing(_) => {
                Trouble::State(StateFault::Damaged, error.to_string())
            }
            error => Trouble::Log(error),
        }),
    }
}

/// Why a state cannot be opened.
pub(crate) enum Unopened {
    Error(OpenError),
    Panic(String),
}

impl Unopened {
    /// Whether it is about what is in the state. What the operating system refuses is not: a full disk damages nothing.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Panic(_) | Self::Error(OpenError::Damaged { .. }) => true,
            Self::Error(OpenError::Sled { error, .. }) => Store::is_damage(error),
            Self::Error(OpenError::Version { .. } | OpenError::Io { .. }) => false,
        }
    }
}

impl std::fmt::Display for Unopened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Error(error) => error.fmt(f),
            Self::Panic(problem) => f.write_str(problem),
        }
    }
}

/// sled asserts where it finds what it cannot have written: such a panic is about the file, and ends no host.
pub(crate) fn open_state(
    path: &Path,
    open: fn(&Path) -> Result<Opened, OpenError>,
) -> Result<Opened, Unopened> {
    match catch_unwind(AssertUnwindSafe(|| open(path))) {
        Ok(opened) => opened.map_err(Unopened::Error),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(Unopened::Panic(format!("the state cannot be read: {}", text.unwrap_or_default())))
        }
    }
}

/// Makes the state anew from the log, and puts it in the place of what is there, which goes to `quarantine`.
///
/// # Errors
/// When log, evidence or disk do not allow it. Nothing is changed then.
pub fn mend(
    home: &LockedHome,
    config: &Config,
    found: StateFault,
    problem: &str,
) -> Result<Mended, MendError> {
    mend_within(home, &config.bounds, found, problem)
}

/// [`mend`] for who has no whole configuration.
pub(crate) fn mend_within(
    home: &LockedHome,
    bounds: &Bounds,
    found: StateFault,
    problem: &str,
) -> Result<Mended, MendError> {
    let key = home.log_key()?.public();
    // A crash may have left files that were never signed: they are no part of the log.
    let options = Options { key: Some(key), live: true, ..Options::default() };
    let verified = verify_dir(&home.audit(), &options, &mut ())?;
    let mut source = Reader::open(&home.evidence()).map_err(MendError::Evidence)?;
    let log = LogReader::open(&home.audit(), Some(&key))?;
    let blobs = home.blobs();
    let has_blob = |digest: &_| blobs::is_there(&blobs, digest);
    let now = Clock::default().now();
    let terms =
        Terms { now, submittable: submittable(bounds), has_blob: &has_blob, found, problem: problem.into() };
    let made = rebuild(&home.state(), history(&log, &verified), &mut source, &terms);
    for file in source.damaged() {
        tracing::warn!(?file, "a file of evidence is damaged; what stood behind the damage is not known");
    }
    let made = made?;
    let place = aside(home, now.as_millis());
    let unseen = |error| RebuildError::Io { path: home.state(), error };
    let had = !Store::is_missing(&home.state()).map_err(unseen)?;
    let rebuilt = made.put(&place)?;
    Ok(Mended { rebuilt, aside: had.then_some(place) })
}

/// How long after its admission a job may be submitted, at most: its signature is not older than the clocks' skew then.
pub(crate) fn submittable(bounds: &Bounds) -> std::time::Duration {
    bounds.max_lifetime.saturating_add(bounds.clock_skew.saturating_mul(2))
}

/// The log as a rebuild reads it.
pub(crate) fn history<'a>(log: &'a LogReader, verified: &Verified) -> History<'a> {
    let head = verified.checkpoint.head();
    let end = LeafIndex::new(head.size.get());
    let leaves = log.entries(LeafIndex::new(0), end);
    let leaves = leaves.map(|entry| entry.map(|(_, leaf)| leaf).map_err(io::Error::other));
    let ended = |job: &JobId, before: u64| ended(log, job, before);
    History {
        head: PublishedHead { size: head.size.get(), root: *head.root.as_bytes() },
        leaves: Box::new(leaves),
        ended: Box::new(ended),
    }
}

fn ended(log: &LogReader, job: &JobId, before: u64) -> io::Result<Option<JobState>> {
    let mut state = None;
    for entry in log.entries(LeafIndex::new(0), LeafIndex::new(before)) {
        let (_, leaf) = entry.map_err(io::Error::other)?;
        if let Ok(Record { event: Event::Finished { job: over, outcome, dead, .. }, .. }) =
            Record::from_leaf(&leaf)
            && over == *job
        {
            // The last one counts: the id may have been forgotten, and used again.
            state = Some(lifecycle::terminal(&outcome, dead));
        }
    }
    Ok(state)
}

/// A name in the quarantine that is not taken.
fn aside(home: &Home, now: u64) -> PathBuf {
    let places = (0..u64::MAX).map(|next| home.quarantine().join(format!("state-{}", now + next)));
    { places }.find(|place| !place.exists()).unwrap_or_else(|| home.quarantine())
}

impl From<Trouble> for crate::host::StartError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Open(error) => Self::State(error),
            Trouble::Log(error) => Self::Log(error),
            Trouble::Io(error) => Self::State(OpenError::Io { path: PathBuf::from("state"), error }),
            Trouble::State(_, problem) => Self::StillWrong(problem),
        }
    }
}
