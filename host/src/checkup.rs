//! The check of a running host: from time to time it verifies its own log and reads the files that its state names, and has the log say
//! what came of it.
//!
//! It works in small pieces on a thread of its own, at a low priority, and reads no more in a second than it may: no job waits for it.
//! What needs a host that stands still, the state against the log above all, is for `fsck`.
//!
//! *Owns:* when it is checked. *Never:* mends anything; stops the host: what is damaged and needed is noticed by who needs it.
//! *Bound:* a bundle of the log, [`MAX_SEEN`] digests, [`MAX_SUSPECTS`] files that may be wrong.
//! *Crash:* a check that was cut off has left nothing; the next start begins it again.
//! *Spec:* `docs/formats/record.md`, `checked`.

mod pace;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use strongroom_job::merkle::{Hash, LeafIndex, TreeHead, TreeSize};
use strongroom_job::{Digest, Digester, Event, PublicKey, Record, Timestamp};
use tokio::runtime::Handle;

use crate::audit::verify::{Observer, Options, verify_dir};
use crate::blobs;
use crate::clock::Clock;
use crate::config::Check;
use crate::store::{PublishedHead, ReadError, Store, Transition};

use pace::{Leash, Pace};

/// A start has other things to do first; and it is looked so often whether a check is due, since a clock may be set.
const CALM: Duration = Duration::from_secs(60);
/// Shortest time between two checks, whatever is configured: each is a record.
const SHORTEST: Duration = Duration::from_secs(1);
/// Files that several jobs name are read once, as far as so many can be remembered.
const MAX_SEEN: usize = 65_536;
/// Files that are looked at a second time, because retention may have removed them meanwhile. What is beyond is counted as wrong.
const MAX_SUSPECTS: usize = 1000;
/// Problems of one check that are traced one by one.
const MAX_TRACED: u64 = 50;
/// What a check stands behind everything else of the host, guests too.
const NICENESS: i32 = 10;
const PIECE_BYTES: usize = 64 << 10;

/// What a check works with.
pub(crate) struct Parts {
    pub(crate) audit: PathBuf,
    pub(crate) key: PublicKey,
    pub(crate) blobs: PathBuf,
    pub(crate) store: Store,
    pub(crate) clock: Arc<Clock>,
    pub(crate) rules: Check,
}

/// The thread that checks. Dropped, it ends at its next step.
#[derive(Debug)]
pub(crate) struct Checkup {
    leash: pace::Held,
    thread: JoinHandle<()>,
}

impl Checkup {
    /// Begins to look whether a check is due. To be called within the runtime that the store's answers come to. None when the
    /// configuration wants no checks.
    pub(crate) fn start(parts: Parts) -> io::Result<Option<Self>> {
        let Some(every) = parts.rules.every else { return Ok(None) };
        let (held, leash) = channel();
        let runtime = Handle::current();
        let work = move || {
            if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                tracing::debug!(%error, "checks keep the priority of the host");
            }
            run(&parts, every.max(SHORTEST), &Leash(leash), &runtime);
        };
        let thread = std::thread::Builder::new().name("checkup".into()).spawn(work)?;
        Ok(Some(Self { leash: held, thread }))
    }

    /// Ends the thread, which leaves a check where it is. Blocks, for as long as one step takes.
    pub(crate) fn stop(self) {
        drop(self.leash);
        // A panic of it is in the host's own log.
        let _ = self.thread.join();
    }
}

/// Checks when it is due, until somebody lets go of the leash.
fn run(parts: &Parts, every: Duration, leash: &Leash, runtime: &Handle) {
    let mut wait = every.min(CALM);
    while leash.holds_for(wait) {
        let due = match due(&parts.store, every) {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, "it cannot be read when the host was checked last");
                parts.clock.now()
            }
        };
        let now = parts.clock.now();
        if now < due {
            wait = due.since(now).clamp(Duration::from_millis(1), CALM);
            continue;
        }
        let Some(done) = check(parts, leash) else { return };
        if let Err(error) = runtime.block_on(parts.store.commit(Transition::Log(done))) {
            tracing::error!(%error, "what the check came to cannot be recorded");
            return;
        }
        wait = every.min(CALM);
    }
}

/// When the next check is due: so long after the latest one, or after it was first said what governs the host.
fn due(store: &Store, every: Duration) -> Result<Timestamp, ReadError> {
    let last = match store.checked_at()? {
        Some(at) => at,
        None => store.governed()?.map(|governed| governed.at).unwrap_or_default(),
    };
    Ok(last.saturating_add(every))
}

/// What one check has seen.
struct Round<'a> {
    parts: &'a Parts,
    pace: Pace<'a>,
    records: u64,
    files: u64,
    bytes: u64,
    problems: u64,
    first: String,
}

/// Checks everything once; none when it was told to stop before its end.
fn check(parts: &Parts, leash: &Leash) -> Option<Event> {
    let begun = parts.clock.reading().passed;
    let pace = Pace::new(leash, parts.rules.bytes_per_second);
    let mut round = Round { parts, pace, records: 0, files: 0, bytes: 0, problems: 0, first: String::new() };
    round.log();
    round.files();
    if !round.pace.goes_on() {
        return None;
    }
    let Round { records, files, bytes, problems, first, .. } = round;
    let took = parts.clock.reading().passed.saturating_sub(begun);
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(took_ms, records, files, bytes, problems, "checked the log and the files");
    Some(Event::Checked { took_ms, records, files, bytes, problems, first })
}

/// Takes its time over the log, and reads each entry: bytes that nobody can read are no record.
struct Reading<'a, 'b>(&'a mut Pace<'b>);

impl Observer for Reading<'_, '_> {
    fn entry(&mut self, _: LeafIndex, entry: &[u8]) -> Result<(), String> {
        // So many of these end the verification, and it is not told of.
        if !self.0.read(entry.len()) {
            return Err("the check was stopped".into());
        }
        Record::from_leaf(entry).map(drop).map_err(|error| format!("not a record: {error}"))
    }
}

impl Round<'_> {
    fn find(&mut self, part: &str, problem: &dyn std::fmt::Display) {
        self.problems += 1;
        if self.problems <= MAX_TRACED {
            tracing::error!(%part, %problem, "the check found something wrong; `strongroom fsck` says more");
        }
        if self.first.is_empty() {
            self.first = format!("{part}: {problem}");
        }
    }

    fn log(&mut self) {
        let known = match self.parts.store.published() {
            Ok(known) => known,
            Err(error) => return self.find("state", &error),
        };
        let known = known.and_then(|PublishedHead { size, root }| {
            Some(TreeHead { size: TreeSize::new(size).ok()?, root: Hash::from_bytes(root) })
        });
        // The publisher goes on meanwhile.
        let options = Options { key: Some(self.parts.key), known, live: true };
        let verified = verify_dir(&self.parts.audit, &options, &mut Reading(&mut self.pace));
        if !self.pace.goes_on() {
            return;
        }
        match verified {
            Ok(verified) => self.records = verified.size().get(),
            Err(error) => error.findings().iter().for_each(|finding| self.find("log", finding)),
        }
    }

    fn files(&mut self) {
        let (mut seen, mut suspects) = (HashSet::new(), HashMap::new());
        let store = self.parts.store.clone();
        let named = store.named_files(&mut |digest, what| {
            let is_new = match seen.len() < MAX_SEEN {
                true => seen.insert(digest),
                false => !seen.contains(&digest),
            };
            if is_new && let Err(problem) = self.file(&digest) {
                if suspects.len() < MAX_SUSPECTS {
                    suspects.insert(digest, what);
                } else {
                    self.find("blobs", &format_args!("{digest}, {what}: {problem}"));
                }
            }
            self.pace.goes_on()
        });
        let still_named = named.and_then(|()| {
            let mut unnamed: HashSet<Digest> = suspects.keys().copied().collect();
            if !unnamed.is_empty() && self.pace.goes_on() {
                store.drop_named(&mut unnamed)?;
            }
            suspects.retain(|digest, _| !unnamed.contains(digest));
            Ok(suspects)
        });
        match still_named {
            Ok(suspects) => {
                for (digest, what) in suspects {
                    if let Err(problem) = self.file(&digest)
                        && self.pace.goes_on()
                    {
                        self.find("blobs", &format_args!("{digest}, {what}: {problem}"));
                    }
                }
            }
            Err(error) => self.find("state", &error),
        }
    }

    /// Reads a file; says what is wrong with it. One that it was stopped in is good.
    fn file(&mut self, digest: &Digest) -> Result<(), String> {
        let place = blobs::place(&self.parts.blobs, digest);
        let mut file = File::open(place).map_err(|error| match error.kind() {
            ErrorKind::NotFound => "it is not there".to_owned(),
            _ => error.to_string(),
        })?;
        let (mut digester, mut length) = (Digester::new(), 0);
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = file.read(&mut piece).map_err(|error| error.to_string())?;
            if read == 0 {
                break;
            }
            digester.update(&piece[..read]);
            length += read as u64;
            if !self.pace.read(read) {
                return Ok(());
            }
        }
        self.files += 1;
        self.bytes += length;
        let found = digester.finish();
        if found == *digest { Ok(()) } else { Err(format!("its bytes are those of {found}")) }
    }
}
