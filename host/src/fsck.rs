//! Checking a data directory: log, state, evidence and files, each by itself and against the others; then whatever else lies there.
//!
//! Log, state, evidence and files are in this file, since each is held against the others. What stands by itself has a file of its own
//! below `fsck`, and a line in `rest`: compiled modules, keys, secrets, what governs the host and who operates it (`trust`), what is sent and cosigned
//! (`abroad`), and whose all of it is (`owner`).
//!
//! *Owns:* `DIR/checking`, room for a copy of the state and for what the log's records make of it. *Never:* changes anything else, nor
//! says that something is good which it did not look at.
//! *Crash:* `checking` is left behind, and removed by the next check. *Spec:* `docs/reference/cli.md`, `strongroom fsck`.

mod abroad;
mod cache;
mod governs;
mod keys;
mod owner;
mod secrets;
mod trust;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use strongroom_job::merkle::{Hash, LeafIndex, TreeHead, TreeSize};
use strongroom_job::{Digest, Event, PublicKey, Record, StateFault, TrustVersion};

use crate::audit::read::LogReader;
use crate::audit::verify::{Observer, Options, Verified, verify_dir};
use crate::blobs;
use crate::clock::Clock;
use crate::config::Config;
use crate::evidence::Reader;
use crate::home::LockedHome;
use crate::home::place::PRIVATE_DIRECTORY;
use crate::mend::{self, Unopened};
use crate::store::rebuild::Terms;
use crate::store::{Governed, Opened, Store};

/// Findings that are told one by one; a directory with more of them is wrong altogether.
pub const MAX_FINDINGS: usize = 50;
/// Notes of one kind that are told one by one.
const MAX_NOTES: usize = 10;

/// What a check came to.
#[derive(Debug, Default)]
pub struct Report {
    /// What was looked at, and is good as far as there is no finding about it.
    pub checked: Vec<String>,
    /// What is wrong: the part, and what is wrong with it. At most [`MAX_FINDINGS`].
    pub findings: Vec<(&'static str, String)>,
    /// Findings that are not among them.
    pub more: usize,
    /// What could not be looked at, and why.
    pub unchecked: Vec<String>,
    /// What is no fault, and worth knowing.
    pub notes: Vec<String>,
    /// What a start would do.
    pub start: String,
    /// How to mend what is wrong.
    pub mend: Vec<String>,
    /// What a start would find in place of the state, if that is wrong.
    pub fault: Option<(StateFault, String)>,
    /// Why a start would end at once, whatever the state is.
    stops: Option<String>,
}

impl Report {
    /// Whether nothing is wrong and nothing was left out.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.unchecked.is_empty()
    }

    fn find(&mut self, part: &'static str, problem: String) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push((part, problem));
        } else {
            self.more += 1;
        }
    }

    /// Something that is wrong, and without whose mending no host starts.
    fn find_stop(&mut self, part: &'static str, problem: String) {
        self.stops.get_or_insert_with(|| problem.clone());
        self.find(part, problem);
    }

    /// Notes of one kind, the first of them one by one.
    fn note_all(&mut self, notes: Vec<String>) {
        let more = notes.len().saturating_sub(MAX_NOTES);
        self.notes.extend(notes.into_iter().take(MAX_NOTES));
        if more > 0 {
            self.notes.push(format!("and {more} more of these"));
        }
    }
}

/// Nothing could be checked: there is no room for it.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {error}. A check needs room for the state, twice")]
pub struct CheckError {
    /// Where.
    pub path: PathBuf,
    /// The reason.
    pub error: io::Error,
}

/// Checks everything in a data directory. What no host would start with, a configuration or a key, is a finding like others: the rest
/// is checked as far as it goes without.
///
/// `config` is the directory's configuration, or what is wrong with it.
///
/// # Errors
/// When nothing can be said: there is no room for the check.
pub fn check(home: &LockedHome, config: Result<&Config, &str>) -> Result<Report, CheckError> {
    let room = home.dir().join("checking");
    let failed = |error| CheckError { path: room.clone(), error };
    remove(&room).map_err(failed)?;
    let mut report = Report::default();
    let done = check_in(home, config, &room, &mut report);
    remove(&room).map_err(failed)?;
    done.map(|()| report)
}

fn check_in(
    home: &LockedHome,
    config: Result<&Config, &str>,
    room: &Path,
    report: &mut Report,
) -> Result<(), CheckError> {
    let failed = |error| CheckError { path: room.into(), error };
    let key = keys::of_log(home);
    let copy = room.join("state");
    DirBuilder::new().mode(PRIVATE_DIRECTORY).create(room).map_err(failed)?;
    // A crash may have left it beside its place.
    let state = match Store::standing(&home.state()).map_err(failed)? {
        None => None,
        Some(standing) => {
            copy_dir(&standing, &copy).map_err(failed)?;
            // Nobody needs a copy that will be removed to be written anew.
            Some(mend::open_state(&copy, Store::open_as_it_is))
        }
    };
    let opened = state.as_ref().and_then(|state| state.as_ref().ok());
    let has_log = home.audit().join("checkpoint").exists();
    let mut records = Records::default();
    let log = match &key {
        Some(key) if has_log => log(home, key, opened, &mut records, report),
        _ => None,
    };
    if has_log && key.is_none() {
        let problem = "the log, and whether the state fits it: neither keys/log.key nor keys/log.pub says whose the signature must be";
        report.unchecked.push(problem.into());
    } else {
        fault(state.as_ref().map(Result::as_ref), has_log, log.as_ref(), report);
    }
    let mut evidence = Reader::open(&home.evidence()).map_err(failed)?;
    let read = evidence.read_all();
    let damaged: Vec<_> = evidence.damaged().to_vec();
    for file in &damaged {
        report.find("evidence", format!("{}: what stands behind its damage cannot be read", file.display()));
    }
    if !damaged.is_empty() {
        report.mend.push("evidence is written anew from a good state: move the evidence directory away, and start the host".into());
    }
    match read {
        Ok(()) => report.checked.push("every entry of the evidence, against its checksum".into()),
        // One that a disk no longer gives is no reason to look at nothing else.
        Err(error) => {
            report.find("evidence", format!("a file cannot be read: {error}"));
            report.unchecked.push("the evidence behind the file that cannot be read".into());
        }
    }
    match (opened, &log, config) {
        (Some(opened), Some(verified), Ok(config)) if report.fault.is_none() => {
            agree(home, config, room, opened, verified, &mut evidence, report);
            files(&home.blobs(), opened, report);
        }
        (Some(opened), _, config) => {
            let why = if config.is_err() { "a replay needs a configuration" } else { "see above" };
            report.unchecked.push(format!("whether state and log say the same: {why}"));
            files(&home.blobs(), opened, report);
        }
        (None, ..) => report.unchecked.push("rows and files: there is no state that can be opened".into()),
    }
    rest(home, config, opened, log.as_ref(), &records, report);
    if let Some(problem) = report.stops.take() {
        report.start = format!("not start: {problem}");
    }
    Ok(())
}

/// What stands by itself.
fn rest(
    home: &LockedHome,
    config: Result<&Config, &str>,
    opened: Option<&Opened>,
    log: Option<&Verified>,
    records: &Records,
    report: &mut Report,
) {
    governs::look(home, config, log.and(records.governed.as_ref()), opened, report);
    trust::look(home, config.ok(), (log.is_some(), log.and(records.trusted)), opened, report);
    keys::look(home, report);
    secrets::look(home, report);
    cache::look(home, report);
    abroad::look(home, config.ok(), log, report);
    owner::look(home, report);
    beside(home, report);
}

/// Reads each entry: bytes that nobody can read are no record. Keeps the last word of what governs the host, and who operates it.
#[derive(Default)]
struct Records {
    governed: Option<(LeafIndex, Governed)>,
    trusted: Option<(LeafIndex, TrustVersion)>,
}

impl Observer for Records {
    fn entry(&mut self, index: LeafIndex, entry: &[u8]) -> Result<(), String> {
        let record = Record::from_leaf(entry).map_err(|error| format!("not a record: {error}"))?;
        if let Some(governed) = Governed::of(&record) {
            self.governed = Some((index, governed));
        }
        if let Event::TrustChanged { version, digest, .. } = record.event {
            self.trusted = Some((index, TrustVersion { version, digest }));
        }
        Ok(())
    }
}

fn log(
    home: &LockedHome,
    key: &PublicKey,
    opened: Option<&Opened>,
    records: &mut Records,
    report: &mut Report,
) -> Option<Verified> {
    let known = opened.and_then(Opened::published).and_then(|head| {
        Some(TreeHead { size: TreeSize::new(head.size).ok()?, root: Hash::from_bytes(head.root) })
    });
    // Files beyond the checkpoint are left by a crash, and removed by the next start.
    let options = Options { key: Some(*key), known, live: true };
    match verify_dir(&home.audit(), &options, records) {
        Ok(verified) => {
            let (size, root) = (verified.size().get(), verified.checkpoint.head().root);
            report.checked.push(format!("the log: the signature, {size} records, every hash; root {root}"));
            if verified.unpublished > 0 {
                report.notes.push(format!("{} files of the log are not signed yet", verified.unpublished));
            }
            Some(verified)
        }
        Err(error) => {
            report.find("log", error.to_string());
            report
                .mend
                .push("the log: put the audit directory back from a copy; nothing else can make it".into());
            report.unchecked.push("whether the state agrees with the log, which does not verify".into());
            None
        }
    }
}

/// What a start would say of the state, and do.
fn fault(
    state: Option<Result<&Opened, &Unopened>>,
    has_log: bool,
    log: Option<&Verified>,
    report: &mut Report,
) {
    let published = log.map_or(0, |log| log.size().get());
    let found = match state {
        None if published > 0 => {
            Some((StateFault::Lost, "there is none, and the log has records".to_owned()))
        }
        None => None,
        Some(Err(unopened)) => Some((StateFault::Damaged, unopened.to_string())),
        Some(Ok(opened)) if has_log && opened.log_size() < published => {
            let found = if opened.log_size() == 0 { StateFault::Lost } else { StateFault::RolledBack };
            let size = opened.log_size();
            Some((found, format!("it has {size} records, and the log {published}")))
        }
        Some(Ok(opened)) => {
            let leaf = |index| opened.leaves(index, 1).map(|leaves| leaves.len()).unwrap_or(0);
            let lost = (published..opened.log_size()).find(|index| leaf(*index) == 0);
            lost.filter(|_| has_log)
                .map(|index| (StateFault::Damaged, format!("record {index} is missing from it")))
        }
    };
    let log_is_wrong = has_log && log.is_none();
    let records_without_log = matches!(state, Some(Ok(opened)) if opened.log_size() > 0) && !has_log;
    // It may be whole: of another version, or not to be read now.
    let is_refused = matches!(state, Some(Err(unopened)) if !unopened.is_damage());
    report.start = match &found {
        Some((_, problem)) if is_refused => format!("not start: {problem}"),
        _ if log_is_wrong => "not start: the log is wrong".into(),
        _ if records_without_log => {
            report.find("log", "there is none, and the state has records".into());
            report
                .mend
                .push("the log: put the audit directory back; a new log would be a second history".into());
            "not start: a new log would be a second history".into()
        }
        Some((_, _)) if published == 0 => {
            "not start: the state is wrong, and there is no log to make it from".into()
        }
        Some((_, _)) => "move the state to quarantine, make it anew from the log, and serve".into(),
        None => "serve".into(),
    };
    if let Some((found, problem)) = &found {
        report.find("state", format!("{}: {problem}", found.as_str()));
        if published > 0 && !log_is_wrong && !is_refused {
            report.mend.push("the state: start the host, or run `strongroom fsck --rebuild`".into());
        }
    } else if state.is_some() {
        report.checked.push("the state: opens, and its counters fit the log".into());
    }
    report.fault = found;
}

/// The strongest check: every record is replayed, and what comes out must be what the state has.
fn agree(
    home: &LockedHome,
    config: &Config,
    room: &Path,
    opened: &Opened,
    verified: &Verified,
    evidence: &mut Reader,
    report: &mut Report,
) {
    let log = match LogReader::open(&home.audit(), Some(verified.verifier.key())) {
        Ok(log) => log,
        Err(error) => return report.find("log", error.to_string()),
    };
    let terms = Terms {
        now: Clock::default().now(),
        submittable: mend::submittable(&config.bounds),
        has_blob: &|_| true,
        found: StateFault::GivenUp,
        problem: String::new(),
    };
    let history = mend::history(&log, verified);
    let mut differences = Vec::new();
    let mut more = 0;
    let mut found = |problem| match differences.len() < MAX_FINDINGS {
        true => differences.push(problem),
        false => more += 1,
    };
    let compared = opened.compare(&room.join("replayed"), history, evidence, &terms, &mut found);
    let differs = !differences.is_empty();
    differences.into_iter().for_each(|problem| report.find("state", problem));
    report.more += more;
    match compared {
        Ok(compared) => {
            report.checked.push(format!(
                "state against log: {} jobs, each row of them, from {} records replayed",
                compared.jobs,
                verified.size().get() + compared.unpublished
            ));
            if compared.without_evidence > 0 {
                let problem =
                    format!("{} envelopes or outputs are in the state only", compared.without_evidence);
                report.find("evidence", problem);
                report.mend.push(
                    "evidence is written anew from a good state: move the evidence directory away, and start the host".into(),
                );
            }
            if compared.forgotten > 0 {
                report.notes.push(format!(
                    "{} jobs of the log were forgotten, as retention says",
                    compared.forgotten
                ));
            }
            if compared.unrecorded > 0 {
                report.notes.push(format!(
                    "{} jobs of the log are over and not in the state, and no record says that they were forgotten; versions before layout 3 made none",
                    compared.unrecorded
                ));
            }
            if compared.unpublished > 0 {
                report
                    .notes
                    .push(format!("{} records are not published yet; a start does it", compared.unpublished));
            }
        }
        Err(error) => report.find("state", format!("it cannot be held against the log: {error}")),
    }
    if differs {
        report.mend.push(
            "rows that are not what the log says: `strongroom fsck --rebuild` makes the state anew".into(),
        );
    }
}

/// Every file that the state names is there, and has the bytes of its name.
fn files(blobs: &Path, opened: &Opened, report: &mut Report) {
    let mut named: BTreeMap<Digest, String> = BTreeMap::new();
    let read = opened.named_files(&mut |digest, what| {
        named.entry(digest).or_insert(what);
    });
    if let Err(error) = read {
        report.find("state", error.to_string());
        report.unchecked.push("files that the unreadable rows name".into());
    }
    let (count, before) = (named.len(), report.findings.len());
    for (digest, what) in named {
        match blobs::measure(&blobs::place(blobs, &digest)).map(|measured| measured.digest) {
            Ok(found) if found == digest => {}
            Ok(found) => report.find("blobs", format!("{digest}, {what}: its bytes are those of {found}")),
            Err(error) => report.find("blobs", format!("{digest}, {what}: {error}")),
        }
    }
    if report.findings.len() > before {
        report.mend.push("files: put them back from a copy; a module or an input can be pushed again once its file is moved away".into());
    }
    report.checked.push(format!("{count} files that the state names, every byte"));
}

fn beside(home: &LockedHome, report: &mut Report) {
    if home.dir().join("state.stale").exists() {
        report.notes.push(
            "state.stale: a state that was about to be replaced; the next start removes it, or puts it back"
                .into(),
        );
    }
    if home.dir().join("state.making").exists() {
        report.notes.push("state.making: a state that was not finished; the next start removes it".into());
    }
    let names = |dir: &Path| fs::read_dir(dir).map_or(0, Iterator::count);
    let (quarantined, unfinished) = (names(&home.quarantine()), names(&home.tmp()));
    if quarantined > 0 {
        report.notes.push(format!("{quarantined} states are in quarantine; nobody but you removes them"));
    }
    if unfinished > 0 {
        report.notes.push(format!("{unfinished} unfinished uploads in tmp; the next start removes them"));
    }
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
