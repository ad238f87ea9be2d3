//! A state held against the log: the records are replayed beside it, and what comes out must be what it has.
//!
//! *Never:* changes the state. What it has forgotten, as retention says, is no difference.

use std::io;
use std::path::Path;

use strongroom_job::{Digest, JobId, Name, OutputStream};

use super::super::evidence::Source;
use super::super::past::PastJob;
use super::super::rows::Rows;
use super::super::{Opened, PublishedHead, ReadError, Store, keys, read, settings};
use super::{History, RebuildError, Rebuilt, Terms, replay};

/// Ranges of rows of jobs that are not over, and of what no job owns: nothing in them is ever forgotten.
const WHOLE: [&[u8]; 14] = [
    keys::ACTIVE,
    keys::SOURCES,
    keys::FOLLOWERS,
    keys::COMPUTED,
    keys::QUEUE_MODES,
    keys::GOVERNS,
    keys::CHECKED,
    keys::TRUST,
    keys::HOST_KEY,
    keys::LOG_KEY,
    keys::ERASED,
    keys::GRANTS,
    keys::GRANTS_ENDED,
    keys::COMMANDS,
];

/// What was held against what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Jobs that the state has.
    pub jobs: u64,
    /// Jobs that it has forgotten, as records say.
    pub forgotten: u64,
    /// Jobs that are over and that it does not have, though no record says that they were forgotten: earlier versions made none.
    pub unrecorded: u64,
    /// Envelopes and outputs of published records that are in the state and not in evidence.
    pub without_evidence: u64,
    /// Records that are not published yet.
    pub unpublished: u64,
}

/// Evidence, and behind it the state itself: what is missing in the one is counted.
struct Both<'a> {
    evidence: &'a mut dyn Source,
    rows: &'a dyn Rows,
    published: u64,
    missing: u64,
}

impl Both<'_> {
    fn own(&mut self, at: u64, bytes: Result<Vec<u8>, ReadError>) -> io::Result<Option<Vec<u8>>> {
        let bytes = Some(bytes.map_err(io::Error::other)?).filter(|bytes| !bytes.is_empty());
        self.missing += u64::from(bytes.is_some() && at < self.published);
        Ok(bytes)
    }
}

impl Source for Both<'_> {
    fn envelope(&mut self, at: u64, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        match self.evidence.envelope(at, digest)? {
            Some(bytes) => Ok(Some(bytes)),
            None => self.own(at, read::envelope(self.rows, digest)),
        }
    }

    fn output(&mut self, at: u64, job: &JobId, stream: OutputStream) -> io::Result<Option<Vec<u8>>> {
        if let Some(bytes) = self.evidence.output(at, job, stream)? {
            return Ok(Some(bytes));
        }
        let value = read::output(self.rows, job, stream);
        self.own(at, value.map(|value| value.map(|bytes| bytes.to_vec()).unwrap_or_default()))
    }

    fn opening(&mut self, at: u64, job: &JobId) -> io::Result<Option<Vec<u8>>> {
        if let Some(bytes) = self.evidence.opening(at, job)? {
            return Ok(Some(bytes));
        }
        self.own(at, read::opening(self.rows, job))
    }

    fn tenants(&mut self, at: u64) -> io::Result<Vec<Name>> {
        self.evidence.tenants(at)
    }
}

impl Opened {
    /// Holds this state against the log. `scratch` is a directory that is not there yet; it takes as much as the state does.
    /// Each difference is told to `found`.
    ///
    /// # Errors
    /// When the records do not follow from each other, or something cannot be read.
    pub fn compare(
        &self,
        scratch: &Path,
        history: History<'_>,
        evidence: &mut dyn Source,
        terms: &Terms<'_>,
        found: &mut dyn FnMut(String),
    ) -> Result<Compared, RebuildError> {
        let History { head, leaves, ended } = history;
        let published = head.size;
        let size = self.log_size().max(published);
        let tail = (published..size).map(move |index| {
            let leaf = read::leaves(&self.current, index, size, 1).map_err(io::Error::other)?.pop();
            leaf.ok_or_else(|| io::Error::other("it is missing from the state"))
        });
        let head = PublishedHead { size, ..head };
        let history = History { head, leaves: Box::new(leaves.chain(tail)), ended };
        let mut db = settings::of(scratch).open().map_err(ReadError::from)?;
        let mut source = Both { evidence, rows: &self.current, published, missing: 0 };
        let (Rebuilt { forgotten, .. }, _, _) = replay(&mut db, history, &mut source, terms)?;
        let (without_evidence, unpublished) = (source.missing, size - published);
        let mut compared = Compared { forgotten, without_evidence, unpublished, ..Compared::default() };
        jobs(&self.current, &db, &mut compared, found)?;
        whole(&self.current, &db, found)?;
        past(&self.current, &db, found)?;
        Ok(compared)
    }

    /// Every file that the state names, with what it is to whom. One is named more than once where several have it.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn named_files(&self, each: &mut dyn FnMut(Digest, String)) -> Result<(), ReadError> {
        named_files(&self.current, &mut |digest, what| {
            each(digest, what);
            true
        })
    }
}

impl Store {
    /// As [`Opened::named_files`], while the store is in use: rows that are written meanwhile may be among them. Ends when `each` says
    /// false.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn named_files(&self, each: &mut dyn FnMut(Digest, String) -> bool) -> Result<(), ReadError> {
        named_files(&self.current, each)
    }
}

fn named_files(rows: &dyn Rows, each: &mut dyn FnMut(Digest, String) -> bool) -> Result<(), ReadError> {
    for (prefix, what) in [(keys::MODULES, "module"), (keys::INPUTS, "input")] {
        for row in rows.under(prefix) {
            let (tenant, digest) = read::registered(&row?.0[prefix.len()..])?;
            if !each(digest, format!("{what} of tenant {tenant}")) {
                return Ok(());
            }
        }
    }
    let mut goes_on = true;
    for row in rows.under(keys::PAST) {
        let (key, value) = row?;
        let past = PastJob::parse(&key[keys::PAST.len()..], &value)?.1;
        let end = read::row(rows, &past.job)?.and_then(|row| row.life.end().cloned());
        let Some(end) = end.filter(|_| past.bytes > 0) else { continue };
        for (stream, summary) in [(OutputStream::Stdout, end.stdout), (OutputStream::Stderr, end.stderr)] {
            if summary.length > 0 && read::output(rows, &past.job, stream)?.is_none() {
                goes_on = goes_on && each(summary.digest, format!("output of job {}", past.job));
            }
        }
        for artifact in &end.artifacts {
            goes_on = goes_on && each(artifact.digest, format!("artifact of job {}", past.job));
        }
        if !goes_on {
            return Ok(());
        }
    }
    Ok(())
}

fn jobs(
    state: &dyn Rows,
    replayed: &dyn Rows,
    compared: &mut Compared,
    found: &mut dyn FnMut(String),
) -> Result<(), ReadError> {
    for job in read::jobs(replayed) {
        let job = job?;
        let told = read::row(replayed, &job)?;
        match (read::row(state, &job), told) {
            (Ok(None), Some(told)) if told.life.end().is_some() => compared.unrecorded += 1,
            (Ok(None), _) => {
                found(format!("job {job} is not over, by the log, and the state does not have it"))
            }
            (Ok(row), told) if row != told => {
                found(format!("job {job} is otherwise in the state than by the log"))
            }
            (Ok(_), _) => match read::spec(state, &job) {
                Ok(spec) if spec == read::spec(replayed, &job)? => {}
                Ok(_) => found(format!("what job {job} is, is otherwise in the state than in its envelope")),
                Err(error) => found(format!("job {job}: {error}")),
            },
            (Err(error), _) => found(format!("job {job}: {error}")),
        }
    }
    for job in read::jobs(state) {
        let job = job?;
        compared.jobs += 1;
        if read::row(replayed, &job)?.is_none() {
            found(format!("job {job} is in the state, and the log does not know it"));
        }
    }
    Ok(())
}

fn whole(state: &dyn Rows, replayed: &dyn Rows, found: &mut dyn FnMut(String)) -> Result<(), ReadError> {
    for prefix in WHOLE {
        let name = String::from_utf8_lossy(prefix);
        for (one, other, has) in [(state, replayed, "the state has"), (replayed, state, "the log has")] {
            for row in one.under(prefix) {
                let (key, value) = row?;
                if other.value(&key)?.as_ref() != Some(&value) {
                    found(format!("{has} a row under {name} which the other does not have so"));
                }
            }
        }
    }
    Ok(())
}

/// Jobs that are over are in their index, with all that they left, byte for byte as far as it is in rows, or nothing.
fn past(state: &dyn Rows, replayed: &dyn Rows, found: &mut dyn FnMut(String)) -> Result<(), ReadError> {
    for row in state.under(keys::PAST) {
        let (key, value) = row?;
        let (_, past) = PastJob::parse(&key[keys::PAST.len()..], &value)?;
        let told = replayed.value(&key)?;
        let told = told.map(|told| PastJob::parse(&key[keys::PAST.len()..], &told)).transpose()?;
        if told.is_none_or(|(_, told)| told != past && PastJob { bytes: 0, ..told } != past) {
            found(format!("the place of job {} among those that are over is not that of the log", past.job));
        }
        for (stream, name) in [
            (OutputStream::Stdout, "stdout"),
            (OutputStream::Stderr, "stderr"),
            (OutputStream::Result, "result"),
        ] {
            let left = read::output(state, &past.job, stream)?;
            if past.bytes > 0 && left != read::output(replayed, &past.job, stream)? {
                found(format!("the {name} of job {} is not what its record says", past.job));
            }
        }
    }
    for row in replayed.under(keys::PAST) {
        let (key, value) = row?;
        let (_, past) = PastJob::parse(&key[keys::PAST.len()..], &value)?;
        // One that is there at all is in the index, or it would never be forgotten.
        if state.value(&key)?.is_none() && state.value(&keys::place(&past.job))?.is_some() {
            found(format!("job {} is not among those that are over", past.job));
        }
    }
    Ok(())
}
