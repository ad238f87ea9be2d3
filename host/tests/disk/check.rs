//! Whether a disk holds what was promised: opened with the real code, and held against what was told.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use strongroom::audit::read::LogReader;
use strongroom::audit::verify::{Options, verify_dir};
use strongroom::blobs::Blobs;
use strongroom::clock::Clock;
use strongroom::compile::Compiler;
use strongroom::config::Config;
use strongroom::home::Home;
use strongroom::host::Stop;
use strongroom::mend::mend;
use strongroom::store::{NoFault, Store};
use strongroom_job::checkpoint::SignedCheckpoint;
use strongroom_job::merkle::TreeHead;
use strongroom_job::{Digest, JobId, Record, StateFault, Timestamp};

use crate::child::{HOME, STATE, admit, keys};
use crate::common::id;
use crate::common::live::start_with;
use crate::common::records::{Told, records, retell};

/// More leaves than any scenario has.
const ALL: usize = 100_000;
/// The job that is admitted to see that a disk can be worked with.
const ANOTHER: u64 = 1_000_001;
/// A blob is not longer than this.
const MAX_BLOB: u64 = 1 << 20;

/// What is wrong with a disk.
pub type Verdict = Result<(), String>;

/// Gives the words of a failed assertion, too: they stand for the disk, not for the test.
fn judged(check: impl FnOnce() -> Verdict) -> Verdict {
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
    })
}

fn wrong(what: &str) -> impl Fn(&dyn std::fmt::Display) -> String {
    move |error| format!("{what}: {error}")
}

/// Keys that sled was said to hold, and does not.
pub fn lost_keys(data: &Path, told: &[&str]) -> Result<usize, String> {
    let db = sled::Config::new().path(data.join(STATE)).segment_size(8 << 20).flush_every_ms(None).open();
    let db = db.map_err(|error| wrong("sled does not open")(&error))?;
    let has = |line: &&&str| {
        let key: u64 = line.strip_prefix("key ").unwrap().parse().unwrap();
        db.get(key.to_be_bytes()).unwrap().is_some()
    };
    Ok(told.iter().filter(|line| !has(line)).count())
}

/// Every leaf of the store in `data`.
pub fn leaves(data: &Path) -> Vec<Vec<u8>> {
    Store::open(&data.join(STATE)).unwrap().leaves(0, ALL).unwrap()
}

/// Holds a store against what was told, and against the leaves that its process left.
pub fn store(data: &Path, told: &[&str], all: &[Vec<u8>]) -> Verdict {
    judged(|| {
        let opened =
            Store::open(&data.join(STATE)).map_err(|error| wrong("the store does not open")(&error))?;
        let found = opened.leaves(0, ALL).map_err(|error| wrong("the leaves")(&error))?;
        if found.len() as u64 != opened.log_size() {
            return Err(format!("{} leaves, counted as {}", found.len(), opened.log_size()));
        }
        if found.iter().zip(all).any(|(found, leaf)| found != leaf) {
            return Err("a record was changed".into());
        }
        let stories: Vec<Record> = found.iter().map(|leaf| Record::from_leaf(leaf).unwrap()).collect();
        let stories = retell(&stories);
        for line in told.iter().filter_map(|line| line.strip_prefix("job ")) {
            let (job, state) = line.split_once(' ').unwrap();
            keeps(&stories, &id(job.parse().unwrap()), state)?;
        }
        goes_on(opened, &stories)
    })
}

/// Rows say what the records say, and the next job is taken.
fn goes_on(opened: strongroom::store::Opened, stories: &BTreeMap<JobId, Told>) -> Verdict {
    let size = opened.log_size();
    let clock = Arc::new(Clock::not_before(opened.latest()));
    let (store, closing) = opened.start(clock, Box::new(NoFault)).map_err(|error| wrong("start")(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (job, told) in stories {
        let row = runtime.block_on(store.row(job)).unwrap();
        if row.as_ref().map(|row| row.life.state(Timestamp::default())) != Some(told.state) {
            return Err(format!("job {job} is {} in the log and otherwise in its row", told.state));
        }
        assert!(store.spec(job).unwrap().is_some(), "job {job} has lost what it is");
    }
    let active: Vec<JobId> = store.active().map(|active| active.unwrap().entry.job).collect();
    let unfinished = stories.values().filter(|told| !told.state.is_terminal()).count();
    assert_eq!(active.len(), unfinished, "jobs that are queued or running");
    runtime.block_on(store.commit(admit(ANOTHER))).map_err(|error| wrong("the next job")(&error))?;
    assert_eq!(store.log_size(), size + 1);
    drop(store);
    closing.wait();
    Ok(())
}

/// A data directory can be used, and has the keys that it was said to have.
pub fn init(data: &Path, told: &[&str]) -> Verdict {
    judged(|| {
        let now = keys(&data.join(HOME));
        match told {
            [] => Ok(()),
            [told] if *told == now => Ok(()),
            [told, ..] => Err(format!("{told}, and now {now}")),
        }
    })
}

/// A job is at least as far as somebody was told.
fn keeps(stories: &BTreeMap<JobId, Told>, job: &JobId, told: &str) -> Verdict {
    let Some(found) = stories.get(job) else { return Err(format!("job {job} was {told} and is gone")) };
    let rank = |state: &str| match state {
        "queued" => 0,
        "running" => 1,
        _ => 2,
    };
    let now = found.state.to_string();
    // Whoever was told an end was told the only one.
    if rank(&now) < rank(told) || (rank(told) == 2 && now != told) {
        return Err(format!("job {job} was {told} and is {now}"));
    }
    Ok(())
}

/// Starts the whole host on a disk, lets it finish, and holds it against what was told and what was published.
pub fn host(data: &Path, told: &[&str], published: &[Vec<u8>]) -> Verdict {
    let dir = data.join(HOME);
    judged(|| {
        rebuilds(&dir)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(async {
            let host = start_with(&dir, Compiler::InProcess, |_| {}).await;
            host.stop(Stop::Everything(Duration::from_secs(20))).await;
        });
        let stories = retell(&records(&dir));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for line in told {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["job", job, state, index] => {
                    let job: JobId = job.parse().unwrap();
                    keeps(&stories, &job, state)?;
                    assert_eq!(stories[&job].admitted.to_string(), index, "job {job} moved in the log");
                    assert!(stories[&job].state.is_terminal(), "job {job} never ends");
                }
                ["blob", digest] => {
                    let blobs = Blobs::open(&dir.join("blobs"), &dir.join("tmp")).unwrap();
                    let digest: Digest = digest.parse().unwrap();
                    runtime.block_on(blobs.load(&digest, MAX_BLOB)).map_err(|error| wrong(line)(&error))?;
                }
                _ => {}
            }
        }
        for known in published {
            let options = Options { known: Some(head(&dir, known)), ..Options::default() };
            verify_dir(&dir.join("audit"), &options, &mut ()).map_err(|error| wrong("the log")(&error))?;
        }
        Ok(())
    })
}

/// What the checkpoint covers can be made anew, without the state that is there: nothing that it names is missing.
fn rebuilds(dir: &Path) -> Verdict {
    let Ok(log) = LogReader::open(&dir.join("audit"), None) else { return Ok(()) };
    if log.checkpoint().size().get() == 0 {
        return Ok(());
    }
    let other = tempfile::tempdir().unwrap();
    for part in ["keys", "audit", "evidence", "blobs", "strongroom.toml"] {
        copy(&dir.join(part), &other.path().join(part));
    }
    let home = Home::open(other.path()).unwrap().lock().unwrap();
    let config = Config::load(&home.config()).unwrap();
    let mended = mend(&home, &config, StateFault::Lost, "the test took it");
    let rebuilt = mended.map_err(|error| wrong("no state can be made")(&error))?.rebuilt;
    let told = (rebuilt.forgotten, rebuilt.stripped, rebuilt.blobs_gone);
    if told == (0, 0, 0) {
        Ok(())
    } else {
        Err(format!("something is missing from evidence or blobs: {rebuilt:?}"))
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        std::fs::copy(from, to).unwrap();
        return;
    }
    let Ok(entries) = std::fs::read_dir(from) else { return };
    std::fs::DirBuilder::new().mode(0o700).create(to).unwrap();
    for entry in entries {
        let entry = entry.unwrap();
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

/// What a checkpoint says, once it is sure that this host signed it.
fn head(dir: &Path, checkpoint: &[u8]) -> TreeHead {
    let home = Home::open(dir).unwrap();
    let origin = Config::load(&home.config()).unwrap().log_origin.parse().unwrap();
    let signed = SignedCheckpoint::parse(checkpoint).expect("a checkpoint is never half written");
    *signed.verify(&origin, &home.log_key().unwrap().public()).unwrap().head()
}
