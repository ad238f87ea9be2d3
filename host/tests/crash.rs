//! Crash: whatever was acknowledged is there after the crash, and a job's state and its records are never apart.
//!
//! The store is cut off at every step of every commit of a small history, once with what the operating system had by then
//! and once with what was durable before; each copy is opened and held against the records in it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use common::trees::copy;
use common::{admitted, body, client_key, envelope, id};
use strongroom::clock::Clock;
use strongroom::lifecycle::{Event, Finished};
use strongroom::store::{
    Closing, CommitError, Committed, NoFault, OpenError, Outputs, Step, Store, Transition,
};
use strongroom_job::{Event as Said, JobId, JobState, Outcome, Record};

const STEPS: [Step; 3] = [Step::BeforeApply, Step::Flushed, Step::Synced];

/// The history: two jobs live, one is cancelled in the queue, one is left running.
fn history() -> Vec<(&'static str, Transition)> {
    let admit = |number| Transition::Admit {
        jobs: vec![admitted(&body(number))],
        envelope: envelope(&body(number)),
        alone: true,
        max_active: 10,
        rules: Box::default(),
    };
    let step = |number, event| Transition::Step { job: id(number), event };
    let finish = |number| Transition::Finish {
        job: id(number),
        event: Event::Finish { fence: 1, end: Box::new(Finished::without_run(Outcome::Exited { code: 0 })) },
        outputs: Outputs { stdout: Some(b"out".to_vec()), ..Outputs::default() },
    };
    vec![
        ("admit 1", admit(1)),
        ("start 1", step(1, Event::Start)),
        ("admit 2", admit(2)),
        ("admit 3", admit(3)),
        ("finish 1", finish(1)),
        ("cancel 3", step(3, Event::Cancel { by: client_key().public() })),
        ("start 2", step(2, Event::Start)),
    ]
}

fn open(path: &Path) -> (Store, Closing) {
    Store::open(path).unwrap().start(Arc::new(Clock::default()), Box::new(NoFault)).unwrap()
}

fn close((store, closing): (Store, Closing)) {
    drop(store);
    closing.wait();
}

/// What the records alone say of each job; fails when they cannot have come from the lifecycle.
fn retell(records: &[Record]) -> BTreeMap<JobId, JobState> {
    let mut states = BTreeMap::new();
    for record in records {
        let (job, from, to) = match &record.event {
            Said::Admitted { job, .. } => (job, None, JobState::Queued),
            Said::Started { job, .. } => (job, Some(JobState::Queued), JobState::Running),
            Said::Requeued { job, .. } => (job, Some(JobState::Running), JobState::Queued),
            Said::Finished { job, attempt: 0, outcome, .. } => (job, Some(JobState::Queued), outcome.state()),
            Said::Finished { job, outcome, .. } => (job, Some(JobState::Running), outcome.state()),
            _ => continue,
        };
        assert_eq!(states.insert(*job, to), from, "{job}: {:?}", record.event);
    }
    states
}

/// Opens a copy and checks that rows and records say the same. Returns what they say.
fn inspect(path: &Path) -> BTreeMap<JobId, JobState> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (store, closing) = open(path);
    let leaves = store.leaves(0, 1000).unwrap();
    assert_eq!(leaves.len() as u64, store.log_size(), "every leaf that the size counts is there");
    let records: Vec<Record> = leaves.iter().map(|leaf| Record::from_leaf(leaf).unwrap()).collect();
    let told = retell(&records);
    for (job, state) in &told {
        let row = runtime.block_on(store.row(job)).unwrap().expect("a record has a row");
        assert_eq!(row.life.state(common::NOW), *state, "{job}");
        assert!(store.spec(job).unwrap().is_some());
    }
    let active: Vec<JobId> = store.active().map(|active| active.unwrap().entry.job).collect();
    let unfinished: Vec<JobId> =
        told.iter().filter(|(_, state)| !state.is_terminal()).map(|(job, _)| *job).collect();
    assert_eq!(active, unfinished);
    close((store, closing));
    told
}

/// Runs the history, takes a copy at step `step` of commit `cut`, and fails there. Returns the copy, and what had been
/// acknowledged by then.
fn run_until(dir: &Path, cut: usize, step: Step) -> (PathBuf, usize) {
    let (state, snapshot) = (dir.join("state"), dir.join("copy"));
    let commits = Arc::new(Mutex::new(0));
    let fault = {
        let (state, snapshot) = (state.clone(), snapshot.clone());
        move |at: Step| -> io::Result<()> {
            let mut commits = commits.lock().unwrap();
            if *commits == cut && at == step {
                copy(&state, &snapshot);
                return Err(io::Error::other("the disk is gone"));
            }
            *commits += usize::from(at == Step::Synced);
            Ok(())
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (store, closing) =
        Store::open(&state).unwrap().start(Arc::new(Clock::default()), Box::new(fault)).unwrap();
    let mut acknowledged = 0;
    for (name, transition) in history() {
        match runtime.block_on(store.commit(transition)) {
            Ok(_) => acknowledged += 1,
            Err(CommitError::Failed(reason)) => {
                assert!(reason.contains("the disk is gone") || acknowledged < cut + 1, "{name}: {reason}");
                break;
            }
            Err(other) => panic!("{name}: {other}"),
        }
    }
    assert_eq!(acknowledged, cut, "nothing is acknowledged at or after the cut");
    assert_eq!(store.failure().as_deref(), Some("the disk is gone"), "the store says that it failed");
    close((store, closing));
    (snapshot, acknowledged)
}

/// The states after the first `count` transitions of the history.
fn after(count: usize) -> BTreeMap<JobId, JobState> {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (store, closing) = open(dir.path());
    for (name, transition) in history().into_iter().take(count) {
        runtime.block_on(store.commit(transition)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    close((store, closing));
    inspect(dir.path())
}

// Red with the answers of `Writer::commit` sent before `make_durable`: the acknowledged count is then above the cut.
#[test]
fn at_every_step_of_every_commit_the_acknowledged_is_there() {
    for cut in 0..history().len() {
        let (before, with) = (after(cut), after(cut + 1));
        for step in STEPS {
            let dir = tempfile::tempdir().unwrap();
            let (snapshot, _) = run_until(dir.path(), cut, step);
            let found = inspect(&snapshot);
            match step {
                Step::BeforeApply => assert_eq!(found, before, "commit {cut}: nothing of it was written"),
                Step::Flushed | Step::Synced => assert_eq!(found, with, "commit {cut} at {step:?}"),
            }
        }
    }
}

/// The journal's file of a state, and where its last entry begins and ends (`docs/formats/state.md`, "The journal").
fn journal(state: &Path) -> (PathBuf, Vec<u8>, std::ops::Range<usize>) {
    let path = state.join("journal").join("0".repeat(16));
    let bytes = fs::read(&path).unwrap();
    let length = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let (mut last, mut end) = (1024, 1024);
    while length(end) > 0 {
        (last, end) = (end, end + 16 + length(end));
    }
    (path, bytes, last..end)
}

// Red when `read` takes an entry whose checksum is wrong.
#[test]
fn an_entry_that_the_power_cut_in_two_never_happened() {
    let dir = tempfile::tempdir().unwrap();
    let cut = history().len() - 1;
    let (snapshot, _) = run_until(dir.path(), cut, Step::Synced);
    let (before, with) = (after(cut), after(cut + 1));
    assert_eq!(inspect_copy(&snapshot), with);
    let (file, bytes, last) = journal(&snapshot);
    for at in (last.start..last.end).step_by(89) {
        let mut torn = bytes.clone();
        torn[at..last.end].fill(0);
        fs::write(&file, torn).unwrap();
        assert_eq!(inspect_copy(&snapshot), before, "cut at {at}");
    }
}

// Red without `has_later` in `read`, and when a layout that has a journal does without.
#[test]
fn what_is_damaged_elsewhere_in_the_journal_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (snapshot, _) = run_until(dir.path(), history().len() - 1, Step::Synced);
    let (file, bytes, last) = journal(&snapshot);
    let is_found = |what: &str| {
        let opened = Store::open(&snapshot).map(drop);
        assert!(matches!(opened, Err(OpenError::Damaged { .. })), "{what}: {opened:?}");
    };
    for at in (1024..last.start).step_by(997) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        fs::write(&file, flipped).unwrap();
        is_found(&format!("byte {at}"));
    }
    fs::write(&file, "").unwrap();
    is_found("cut short");
    fs::remove_dir_all(snapshot.join("journal")).unwrap();
    is_found("no journal");
}

/// [`inspect`], and the state is as before.
fn inspect_copy(state: &Path) -> BTreeMap<JobId, JobState> {
    let dir = tempfile::tempdir().unwrap();
    copy(state, &dir.path().join("state"));
    inspect(&dir.path().join("state"))
}

#[test]
fn after_a_crash_the_history_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (snapshot, _) = run_until(dir.path(), 6, Step::Synced);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (store, closing) = open(&snapshot);
    // Not signed as idempotent: interrupted, and never again anything else.
    let recovered =
        runtime.block_on(store.commit(Transition::Step { job: id(2), event: Event::Recover })).unwrap();
    assert!(
        matches!(recovered, Committed::Stepped(row) if row.life.state(common::NOW) == JobState::Interrupted)
    );
    let again = runtime.block_on(store.commit(Transition::Step { job: id(2), event: Event::Start }));
    assert!(matches!(again, Err(CommitError::Illegal(_))));
    close((store, closing));
    let states: Vec<JobState> = inspect(&snapshot).into_values().collect();
    assert_eq!(states, [JobState::Succeeded, JobState::Interrupted, JobState::Cancelled]);
}

// Red without `came_in` in `Group::admit`.
#[test]
fn the_same_envelope_gets_the_first_answer_and_another_one_a_conflict() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (store, closing) = open(dir.path());
    let admit = |body: &strongroom_job::JobBody| Transition::Admit {
        jobs: vec![admitted(body)],
        envelope: Arc::from([1]),
        alone: false,
        max_active: 10,
        rules: Box::default(),
    };
    let answer = |transition| match runtime.block_on(store.commit(transition)) {
        Ok(Committed::Admitted { jobs, .. }) => Ok(jobs),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    };
    let first = answer(admit(&body(1))).unwrap();
    assert_eq!(store.active().count(), 1);
    assert_eq!(answer(admit(&body(1))).unwrap(), first);
    assert_eq!(store.active().count(), 1);
    let mut other = body(1);
    other.task.args.push("x".into());
    assert!(matches!(answer(admit(&other)), Err(CommitError::Conflict(job)) if job == id(1)));
    assert_eq!(store.log_size(), 1);
    close((store, closing));
}

// Red with `take` before `make_durable` in `Writer::commit`.
#[test]
fn nobody_is_told_of_a_state_that_is_not_durable_yet() {
    let dir = tempfile::tempdir().unwrap();
    let (reached, at_flushed) = std::sync::mpsc::channel();
    let (go_on, released) = std::sync::mpsc::channel::<()>();
    let fault = move |at: Step| -> io::Result<()> {
        if at == Step::Flushed {
            reached.send(()).unwrap();
            released.recv().unwrap();
        }
        Ok(())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let opened = Store::open(dir.path()).unwrap();
    let (store, closing) = opened.start(Arc::new(Clock::default()), Box::new(fault)).unwrap();
    let (_, transition) = history().swap_remove(0);
    runtime.block_on(async {
        let commit = tokio::spawn({
            let store = store.clone();
            async move { store.commit(transition).await }
        });
        tokio::task::spawn_blocking(move || at_flushed.recv().unwrap()).await.unwrap();
        let job = id(1);
        // Written, and not durable.
        let early = tokio::time::timeout(std::time::Duration::from_millis(200), store.row(&job)).await;
        assert!(!matches!(early, Ok(Ok(Some(_)))), "{early:?}");
        assert!(store.spec(&job).unwrap().is_none() && store.active().next().is_none());
        go_on.send(()).unwrap();
        commit.await.unwrap().unwrap();
        assert!(store.row(&job).await.unwrap().is_some());
    });
    close((store, closing));
}

// What came and went is in no layer any more, but it is in the journal, which a start reads as a whole. Red without `since_roll` in
// `Writer::lower`: some five times as long.
#[test]
fn the_journal_is_no_longer_than_a_start_may_take() {
    const FILE: u64 = 16 << 10;
    /// Two layers of two files, each for so many times its rows; four spare files; and the entries on their way.
    const MOST: u64 = 2 * 4 * 2 * FILE + 4 * FILE + 2 * FILE;
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let opened = Store::open(dir.path()).unwrap().journal_files(FILE);
    let (store, closing) = opened.start(Arc::new(Clock::default()), Box::new(NoFault)).unwrap();
    let host = client_key().public();
    let mut longest = 0;
    for size in 1..=600 {
        let version = "x".repeat(2000);
        let said = Said::HostStarted { host, version, config: strongroom_job::Digest::of(b"config") };
        runtime.block_on(store.commit(Transition::Log(said))).unwrap();
        let head = strongroom::store::PublishedHead { size, root: [0; 32] };
        runtime.block_on(store.commit(Transition::Published { head, forget_below: size })).unwrap();
        let files = fs::read_dir(dir.path().join("journal")).unwrap().flatten();
        // One that goes while it is looked at has no length.
        longest = longest.max(files.filter_map(|file| Some(file.metadata().ok()?.len())).sum());
    }
    assert!(longest <= MOST, "{longest} bytes; {MOST} are allowed");
    close((store, closing));
}
