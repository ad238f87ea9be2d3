//! `strongroom audit`: verify, read, prove and copy the log. Works on files; needs no host, and does not trust one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde::Serialize;
use strongroom_job::cosignature::Quorum;
use strongroom_job::delegation::GrantId;
use strongroom_job::merkle::{LeafIndex, TreeSize};
use strongroom_job::{Base64Bytes, Event, GrantEnd, GrantRecord, JobId, PublicKey, Record};

use crate::audit::read::LogReader;
use crate::audit::verify::{Observer, Options, Verified, verify_dir};
use crate::home::Home;

use super::console::Console;
use super::cosigned::{Cosigned, QuorumArgs};
use super::escape::line;
use super::exit::{Exit, Failure};
use super::forwarded::forwarded;
use super::view::time;
use super::{Common, progress};

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Check every byte of the log against its signed checkpoint
    Verify(VerifyArgs),
    /// Print records
    Show(ShowArgs),
    /// Print the proof that a record is in the log, for anybody who has the log's key
    Prove(ProveArgs),
    /// Copy the log to a new directory, verified
    Export(ExportArgs),
    /// Tell how far the log has been forwarded to each destination of the configuration
    Forwarded(LogArgs),
}

#[derive(Args, Debug)]
pub(super) struct LogArgs {
    /// The key that must have signed the log [default: keys/log.pub in --dir, if there is one]
    #[arg(long, value_name = "KEY")]
    key: Option<PublicKey>,
}

#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    quorum: QuorumArgs,
    /// The log's own directory, such as a copy [default: audit in --dir]
    #[arg(value_name = "PATH", conflicts_with = "dir")]
    path: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    log: LogArgs,
    /// The log's own directory, such as a copy [default: audit in --dir]
    #[arg(value_name = "PATH", conflicts_with = "dir")]
    path: Option<PathBuf>,
    /// Only records about this job
    #[arg(long, value_name = "JOB")]
    job: Option<JobId>,
    /// First record
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    from: u64,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Args, Debug)]
pub(super) struct ProveArgs {
    #[command(flatten)]
    log: LogArgs,
    /// A job, whose last record is proven, or the index of a record
    #[arg(value_name = "JOB|INDEX", value_parser = subject)]
    subject: Subject,
}

#[derive(Args, Debug)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    log: LogArgs,
    /// Directory to make
    #[arg(value_name = "PATH")]
    to: PathBuf,
}

#[derive(Clone, Copy, Debug)]
enum Subject {
    Job(JobId),
    Index(u64),
}

fn subject(text: &str) -> Result<Subject, String> {
    if let Ok(job) = text.parse() {
        return Ok(Subject::Job(job));
    }
    text.parse()
        .map(Subject::Index)
        .map_err(|_| "expected a job id, 32 hex digits, or a record's index".into())
}

pub(super) fn audit(common: &Common, command: AuditCommand, console: &Console) -> Result<Exit, Failure> {
    match command {
        AuditCommand::Verify(args) => {
            let quorum = args.quorum.quorum()?;
            verify(&Place::of(common, args.path, &args.log)?, quorum.as_ref(), console)
        }
        AuditCommand::Show(args) => {
            let ShowArgs { log, path, job, from, limit } = args;
            show(&Place::of(common, path, &log)?, job, from, limit, console)
        }
        AuditCommand::Prove(args) => prove(&Place::of(common, None, &args.log)?, args.subject, console),
        AuditCommand::Export(args) => export(&Place::of(common, None, &args.log)?, &args.to, console),
        AuditCommand::Forwarded(log) => {
            let place = Place::of(common, None, &log)?;
            forwarded(&common.directory()?, place.key.as_ref(), console)
        }
    }
}

/// A log's directory, and what is known about it from elsewhere.
struct Place {
    dir: PathBuf,
    key: Option<PublicKey>,
    /// Whether a host writes it now.
    live: bool,
}

impl Place {
    /// Makes nothing: a mistyped directory must not become an empty log that verifies.
    fn of(common: &Common, path: Option<PathBuf>, log: &LogArgs) -> Result<Self, Failure> {
        if let Some(dir) = path {
            let parent = dir.canonicalize().ok().and_then(|dir| Some(dir.parent()?.to_owned()));
            let live = parent.is_some_and(|parent| Home::is_held(&parent));
            return Ok(Self { dir, key: log.key, live });
        }
        let home = common.directory()?;
        let dir = home.join("audit");
        if !dir.is_dir() {
            let text =
                format_args!("{}: no audit log is there. Name the data directory with --dir", dir.display());
            return Err(Failure::usage(text));
        }
        let key = match log.key {
            Some(key) => Some(key),
            None => pinned(&home.join("keys/log.pub"))?,
        };
        Ok(Self { dir, key, live: Home::is_held(&home) })
    }

    fn open(&self) -> Result<LogReader, Failure> {
        LogReader::open(&self.dir, self.key.as_ref()).map_err(|error| self.wrong(error))
    }

    fn not_cosigned(&self, error: impl std::fmt::Display) -> Failure {
        Failure::no("not-cosigned", format_args!("{}: {error}", self.dir.display()))
    }

    fn wrong(&self, error: impl std::fmt::Display) -> Failure {
        Failure::no("bad-log", format_args!("{}: {error}", self.dir.display()))
    }
}

fn pinned(path: &Path) -> Result<Option<PublicKey>, Failure> {
    let Ok(text) = std::fs::read_to_string(path) else { return Ok(None) };
    let key = text.trim_end().parse();
    key.map(Some).map_err(|error| Failure::usage(format_args!("{}: {error}", path.display())))
}

/// What was verified.
#[derive(Serialize)]
struct Checked {
    log: String,
    key: PublicKey,
    /// Where the key was replaced: those before it, the oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    earlier_keys: Vec<PublicKey>,
    size: u64,
    root: String,
    files: u64,
    unpublished_files: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cosigned: Option<Cosigned>,
}

impl Checked {
    fn of(verified: &Verified) -> Self {
        Self {
            log: verified.checkpoint.origin().to_string(),
            key: *verified.verifier.key(),
            earlier_keys: verified
                .keys
                .keys()
                .iter()
                .filter(|key| *key != verified.verifier.key())
                .copied()
                .collect(),
            size: verified.size().get(),
            root: verified.checkpoint.head().root.to_string(),
            files: verified.files,
            unpublished_files: verified.unpublished,
            cosigned: None,
        }
    }
}

fn verify(place: &Place, quorum: Option<&Quorum>, console: &Console) -> Result<Exit, Failure> {
    let options = Options { key: place.key, known: None, live: place.live };
    let mut watcher = Watcher { console, bar: None };
    let verified = verify_dir(&place.dir, &options, &mut watcher);
    drop(watcher);
    let verified = verified.map_err(|error| place.wrong(error))?;
    let mut checked = Checked::of(&verified);
    if let Some(quorum) = quorum {
        checked.cosigned = Some(Cosigned::of(&verified, quorum).map_err(|error| place.not_cosigned(error))?);
    }
    if console.json() {
        console.document(&checked)?;
        return Ok(Exit::Status(0));
    }
    let pinned = match place.key {
        Some(key) if key == checked.key => "pinned".to_owned(),
        Some(key) => format!("which came after the pinned {}, as the log's `keys` prove", key.short()),
        None => "from the log's own log.pub; pin it with --key".to_owned(),
    };
    let mut text = format!(
        "{}: the log is good\nlog      {}\nkey      {} ({pinned})\nrecords  {}\nroot     {}\nchecked  the signature, every \
         record, every hash of {} files",
        place.dir.display(),
        checked.log,
        checked.key,
        checked.size,
        checked.root,
        checked.files
    );
    if let Some(cosigned) = &checked.cosigned {
        let _ = write!(text, "\n{}", cosigned.words(checked.size));
    }
    if checked.unpublished_files > 0 {
        let _ =
            write!(text, "\nbeside   {} files that the host has not signed yet", checked.unpublished_files);
    }
    console.print(text)?;
    Ok(Exit::Status(0))
}

/// Counts entries for the eye, and reads each one: bytes that nobody can read are no record.
struct Watcher<'a> {
    console: &'a Console,
    bar: Option<ProgressBar>,
}

impl Observer for Watcher<'_> {
    fn started(&mut self, size: TreeSize) {
        self.bar = Some(progress::count(self.console, size.get()));
    }

    fn entry(&mut self, _: LeafIndex, entry: &[u8]) -> Result<(), String> {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
        Record::from_leaf(entry).map(drop).map_err(|error| format!("not a record: {error}"))
    }
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// One record, for programs.
#[derive(Serialize)]
struct Entry {
    index: u64,
    time: String,
    record: Record,
}

fn show(
    place: &Place,
    job: Option<JobId>,
    from: u64,
    limit: Option<usize>,
    console: &Console,
) -> Result<Exit, Failure> {
    let log = place.open()?;
    let entries = log.entries(LeafIndex::new(from), log.checkpoint().size().next_index());
    let mut left = limit.unwrap_or(usize::MAX);
    for entry in entries {
        if left == 0 {
            break;
        }
        let (index, entry) = entry.map_err(|error| place.wrong(error))?;
        let record = Record::from_leaf(&entry);
        let record =
            record.map_err(|error| place.wrong(format_args!("entry {index}: not a record: {error}")))?;
        if job.is_some_and(|job| !record.concerns(&job)) {
            continue;
        }
        left -= 1;
        let entry = Entry { index: index.get(), time: time(record.time), record };
        if console.json() { console.document(&entry)? } else { console.print(words(&entry))? }
    }
    Ok(Exit::Status(0))
}

fn words(entry: &Entry) -> String {
    let about = match &entry.record.event {
        Event::HostStarted { host, version, .. } => format!("host started: {host}, version {version}"),
        Event::HostStopped {} => "host stopped".into(),
        Event::ModuleRegistered { principal, module } => {
            format!("module registered: {} by {}", module.digest, principal.short())
        }
        Event::Refused { principal, job, code, suppressed, role } => {
            let job = job.map_or_else(String::new, |job| format!(" job {job}"));
            let more =
                if *suppressed > 0 { format!(", and {suppressed} more before") } else { String::new() };
            let role = role.map_or_else(String::new, |role| format!(" {role}"));
            format!("refused:{job} of {}, {code}{role}{more}", principal.short())
        }
        Event::Admitted { job, principal, tenant, module, grant, .. } => {
            let granted: String = rights(grant).iter().map(|right| format!("; {right}")).collect();
            format!("admitted: job {job} of {} for {tenant}, {}{granted}", principal.short(), module.digest)
        }
        Event::Started { job, attempt } => format!("started: job {job}, attempt {attempt}"),
        Event::CancelRequested { job, principal } => {
            format!("cancel requested: job {job} by {}", principal.short())
        }
        Event::Requeued { job, attempt } => format!("requeued: job {job}, attempt {attempt} was cut off"),
        Event::Released { job } => format!("released: job {job} waits for no other job any more"),
        Event::Retried { job, attempt, outcome, ready_at, .. } => {
            format!("retried: job {job}, attempt {attempt} {outcome}; again at {}", time(*ready_at))
        }
        Event::Merged { job, principal, into, .. } => {
            format!("merged: job {job} of {} into {into}, which has its unique key", principal.short())
        }
        Event::Fired { job, run, due } => {
            format!("fired: series {job} as job {run}, due at {}", time(*due))
        }
        Event::Missed { job, from, until } => {
            format!("missed: series {job}, from {} until before {}", time(*from), time(*until))
        }
        Event::QueueSet { queue, mode, principal } => {
            format!("queue {queue} is {mode}, by {}", principal.short())
        }
        Event::Forgotten { tenant, jobs, stripped } => {
            let (jobs, stripped) = (jobs.len(), stripped.len());
            format!("forgotten: {jobs} jobs of {tenant}, and what {stripped} others left")
        }
        Event::Erased { tenant, jobs, principal, .. } => {
            let (jobs, by) = (jobs.len(), principal.short());
            format!("erased: what was private of {jobs} jobs of {tenant}, by {by}")
        }
        Event::StateRebuilt { found, problem, records, jobs, forgotten, last } => {
            format!(
                "state rebuilt, since it was {}: {problem}; {jobs} jobs from {records} records until {}, {forgotten} forgotten before",
                found.as_str(),
                time(*last)
            )
        }
        Event::ClockStepped { from, to, steps } => {
            let more = if *steps > 1 { format!(", in {steps} steps") } else { String::new() };
            format!("clock stepped: from {} to {}{more}", time(*from), time(*to))
        }
        Event::ConfigurationChanged { configuration, principals, policy } => {
            let parts = [("configuration", configuration), ("principals", principals), ("policy", policy)];
            let changed = parts.iter().filter(|(_, change)| change.is_one());
            let told: Vec<_> = changed.map(|(name, change)| format!("{name} {}", change.new)).collect();
            format!("configuration changed: {}", told.join(", "))
        }
        Event::TrustChanged { version, digest, expires, threshold, operators, .. } => {
            let (expires, operators) = (time(*expires), operators.len());
            format!(
                "trust file: version {version} ({digest}) until {expires}, {threshold} of {operators} operators sign"
            )
        }
        Event::KeyRotated { key, old, new, .. } => {
            format!("{key} key rotated: from {old} to {new}")
        }
        Event::GrantAdded { grant, principal, delegator, delegate, tenant, .. } => {
            let (by, from, to) = (principal.short(), delegator.short(), delegate.short());
            format!("grant {grant}: from {from} to {to} in {tenant}, handed in by {by}")
        }
        Event::GrantsEnded { tenant, grants, why, principal } => {
            grants_ended(tenant, grants, *why, principal)
        }
        Event::PrincipalChanged { principal, revoked, restored, added, .. } => {
            let parts = [("revoked", revoked), ("restored", restored), ("added", added)];
            let told = parts.into_iter().filter_map(|(what, key)| Some(format!("{what} {}", key.as_ref()?)));
            let told: Vec<String> = told.collect();
            format!("principals: {}, by {}", told.join(", "), principal.short())
        }
        Event::Checked { records, files, problems, first, .. } => {
            let first = if first.is_empty() { String::new() } else { format!(", such as {first}") };
            format!("checked: {records} records, {files} files, {problems} problems{first}")
        }
        Event::Finished { job, outcome, denied, artifacts, dead, .. } => {
            let dead = dead.map_or_else(String::new, |why| format!("; dead: {why}"));
            let denied: String = denied.iter().map(|denial| format!("; {denial}")).collect();
            let artifacts = match artifacts.len() {
                0 => String::new(),
                1 => "; left 1 artifact".into(),
                many => format!("; left {many} artifacts"),
            };
            format!("finished: job {job} {outcome}{dead}{denied}{artifacts}")
        }
    };
    format!("{:>8}  {}  {}", entry.index, entry.time, line(&about))
}

fn grants_ended(tenant: &strongroom_job::Name, grants: &[GrantId], why: GrantEnd, by: &PublicKey) -> String {
    let how = match why {
        GrantEnd::Revoked => format!("revoked by {}", by.short()),
        GrantEnd::Expired => "their time was up".into(),
    };
    let ids: Vec<String> = grants.iter().map(ToString::to_string).collect();
    format!("grants ended, {how}, of {tenant}: {}", ids.join(", "))
}

/// Everything in a grant that is more than clocks and randomness.
fn rights(grant: &GrantRecord) -> Vec<String> {
    let mut rights: Vec<String> = grant.mounts.iter().map(ToString::to_string).collect();
    rights.extend(grant.scratch.then(|| "scratch directory".to_owned()));
    rights.extend(grant.connect.iter().map(|to| format!("connect {to}")));
    rights.extend(grant.listen.iter().map(|at| format!("listen {at}")));
    rights.extend(grant.http.iter().map(|rule| format!("http {rule}")));
    rights.extend(grant.secrets.iter().map(ToString::to_string));
    rights
}

/// A proof, for programs.
#[derive(Serialize)]
struct Proven {
    index: u64,
    /// The record's exact bytes.
    entry: Base64Bytes,
    record: Option<Record>,
    /// The proof file.
    proof: String,
}

fn prove(place: &Place, subject: Subject, console: &Console) -> Result<Exit, Failure> {
    let log = place.open()?;
    let index = match subject {
        Subject::Index(index) => LeafIndex::new(index),
        Subject::Job(job) => last_of(&log, place, job)?,
    };
    let (proof, entry) = log.prove(index).map_err(|error| place.wrong(error))?;
    if console.json() {
        let (index, record, proof) = (index.get(), Record::from_leaf(&entry).ok(), proof.to_string());
        console.document(&Proven { index, entry: Base64Bytes(entry), record, proof })?;
    } else {
        // The record travels with its proof, so that one file and the log's key are all that a reader needs.
        let proof = proof.with_extra(entry).map_err(|error| place.wrong(error))?;
        console.print(proof.to_string().trim_end())?;
    }
    Ok(Exit::Status(0))
}

/// The record that says most about a job: its end, or the newest before.
fn last_of(log: &LogReader, place: &Place, job: JobId) -> Result<LeafIndex, Failure> {
    let mut last = None;
    for entry in log.entries(LeafIndex::FIRST, log.checkpoint().size().next_index()) {
        let (index, entry) = entry.map_err(|error| place.wrong(error))?;
        if Record::from_leaf(&entry).is_ok_and(|record| record.job() == Some(&job)) {
            last = Some(index);
        }
    }
    last.ok_or_else(|| {
        Failure::no("no-such-record", format_args!("{}: no record is about job {job}", place.dir.display()))
    })
}

fn export(place: &Place, to: &Path, console: &Console) -> Result<Exit, Failure> {
    let verified = place.open()?.export(to).map_err(|error| place.wrong(error))?;
    let checked = Checked::of(&verified);
    if console.json() {
        console.document(&checked)?;
    } else {
        let (to, size, root) = (to.display(), checked.size, &checked.root);
        console.print(format_args!("{to}: {size} records, root {root}, verified"))?;
    }
    Ok(Exit::Status(0))
}
