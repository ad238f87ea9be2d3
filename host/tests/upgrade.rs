//! A state that an earlier version wrote is brought to the layout of this one, and loses nothing on the way.
//!
//! `golden/state_2.txt` is a state of layout 2, written by the version that had it: a row to a line, the key in hex, the value as JSON
//! or in hex. Jobs 1 to 5 came alone, 11 to 13 in one envelope, as a batch; 1 and 3 run, 2 was cancelled, 4 ended well with three bytes of
//! output, 12 trapped.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{NOW, id};
use strongroom::clock::Clock;
use strongroom::lifecycle::Event;
use strongroom::store::{Active, Closing, JobRow, NoFault, OpenError, Store, Transition};
use strongroom_job::{Digest, JobState, Name, OutputStream};

const LAYOUT_2: &str = include_str!("golden/state_2.txt");
/// The same jobs in layout 3, which had no journal.
const LAYOUT_3: &str = include_str!("golden/state_3.txt");
/// And in layout 4, as far as sled has them. So this one has them, too: only what came since it was first opened has other rows.
const LAYOUT_4: &str = include_str!("golden/state_4.txt");

fn open(path: &Path) -> (Store, Closing) {
    Store::open(path).unwrap().start(Arc::new(Clock::default()), Box::new(NoFault)).unwrap()
}

fn close((store, closing): (Store, Closing)) {
    drop(store);
    closing.wait();
}

fn rows() -> Vec<(Vec<u8>, Vec<u8>)> {
    rows_of(LAYOUT_2)
}

fn rows_of(text: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let row = |line: &str| {
        let (key, value) = line.split_once(' ').unwrap();
        let value = if value.starts_with('{') { value.into() } else { hex::decode(value).unwrap() };
        (hex::decode(key).unwrap(), value)
    };
    text.lines().map(row).collect()
}

fn write(state: &Path, rows: &[(Vec<u8>, Vec<u8>)]) {
    let db = sled::Config::new().path(state).segment_size(8 << 20).open().unwrap();
    for (key, value) in rows {
        db.insert(key, value.as_slice()).unwrap();
    }
    db.flush().unwrap();
}

/// A state of these rows alone.
fn state_of(rows: &[(Vec<u8>, Vec<u8>)]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    write(&state, rows);
    (dir, state)
}

/// What layout 1 kept of the same jobs: a priority for each active one, and nothing of its place in its row.
fn as_layout_1(rows: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let row = |(key, mut value): (Vec<u8>, Vec<u8>)| {
        match &key[..2] {
            b"a/" => value = value[1..2].into(),
            b"j/" => {
                let mut json: serde_json::Value = serde_json::from_slice(&value).unwrap();
                json.as_object_mut().unwrap().remove("slot");
                value = serde_json::to_vec(&json).unwrap();
            }
            b"f/" | b"n/" => return None,
            b"m/" if key == b"m/layout" => value = vec![1],
            _ => {}
        }
        Some((key, value))
    };
    rows.into_iter().filter_map(row).collect()
}

/// The rows of layout 2 say in JSON what the store must say of them now.
fn json_of<T: serde::de::DeserializeOwned>(prefix: &[u8], job: u64) -> T {
    let key = [prefix, id(job).as_bytes()].concat();
    let (_, value) = rows().into_iter().find(|(found, _)| *found == key).unwrap();
    serde_json::from_slice(&value).unwrap()
}

fn check(store: &Store) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for job in [1, 2, 3, 4, 5, 11, 12, 13] {
        let row = runtime.block_on(store.row(&id(job))).unwrap().unwrap();
        assert_eq!(row, json_of::<JobRow>(b"j/", job));
        assert_eq!(store.spec(&id(job)).unwrap().unwrap(), json_of(b"s/", job));
        assert_eq!(store.envelope(&row.envelope).unwrap().unwrap(), b"envelope");
    }
    let active: Vec<Active> = store.active().collect::<Result<_, _>>().unwrap();
    let jobs: Vec<_> = active.iter().map(|one| (one.entry.job, one.running)).collect();
    assert_eq!(jobs, [1, 3, 5, 11, 13].map(|job| (id(job), job < 4)));
    assert_eq!(active[0].entry.priority, -3);
    assert_eq!(active[1].entry.key.as_deref(), Some("customer ü"));
    let tenant = Name::default_name();
    let past = store.past(&tenant, None, 9).unwrap();
    assert_eq!(past.iter().map(|past| past.job).collect::<Vec<_>>(), [2, 4, 12].map(id));
    assert_eq!(store.past_tenants(), [(tenant.clone(), 3, 3)]);
    assert_eq!((store.usage(&tenant, NOW).active, store.log_size()), (5, 15));
    assert_eq!(store.output(&id(4), OutputStream::Stdout).unwrap().unwrap(), b"out");
    let known: Vec<_> =
        store.tenant_jobs(&tenant, strongroom::store::Cursor::START).map(Result::unwrap).collect();
    assert_eq!(known, [13, 12, 11, 5, 4, 3, 2, 1].map(id));
}

/// Every row is as `docs/formats/state.md` says, and none of an earlier layout is left.
fn check_rows(state: &Path) {
    let db = sled::Config::new().path(state).segment_size(8 << 20).open().unwrap();
    let line = |(key, value): (sled::IVec, sled::IVec)| {
        let value = match std::str::from_utf8(&value) {
            Ok(text) if text.starts_with('{') => text.to_owned(),
            _ => hex::encode(&value),
        };
        format!("{} {value}\n", hex::encode(&key))
    };
    let text: String = db.iter().map(|row| line(row.unwrap())).collect();
    assert_eq!(db.get("m/layout").unwrap().unwrap().as_ref(), [5], "an earlier host must not open it");
    let layout = |version: u8| format!("{} {version:02x}\n", hex::encode("m/layout"));
    let expected = LAYOUT_4.replace(&layout(4), &layout(5));
    // Line by line, so that a difference can be read.
    for (now, then) in text.lines().zip(expected.lines()) {
        assert_eq!(now, then);
    }
    assert_eq!(text.len(), expected.len());
}

fn opens_with_every_job_where_it_was(state: &Path) {
    let (store, closing) = open(state);
    check(&store);
    close((store, closing));
    check_rows(state);
    // It is done once, and what follows goes on from it.
    let (store, closing) = open(state);
    check(&store);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.commit(Transition::Step { job: id(5), event: Event::Start })).unwrap();
    assert_eq!(runtime.block_on(store.row(&id(5))).unwrap().unwrap().life.state(NOW), JobState::Running);
    close((store, closing));
}

// Red without the arm for layout 3 in `lay_out`, and without the journal that it makes.
#[test]
fn a_state_of_layout_3_opens_with_every_job_where_it_was() {
    let (_dir, state) = state_of(&rows_of(LAYOUT_3));
    opens_with_every_job_where_it_was(&state);
}

// Red without the arm for layout 4 in `lay_out`.
#[test]
fn a_state_of_layout_4_opens_with_every_job_where_it_was() {
    let (_dir, state) = state_of(&rows_of(LAYOUT_4));
    std::fs::create_dir(state.join("journal")).unwrap();
    opens_with_every_job_where_it_was(&state);
}

// Red when `lay_out` makes a journal for it: what was acknowledged and is not in sled yet would be gone without a word.
#[test]
fn a_state_of_layout_4_without_its_journal_is_damaged() {
    let (_dir, state) = state_of(&rows_of(LAYOUT_4));
    let error = Store::open(&state).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

// Red without the arm for earlier layouts in `lay_out`, and without any of the rows that `Migration` writes.
#[test]
fn a_state_of_layout_2_opens_with_every_job_where_it_was() {
    let (_dir, state) = state_of(&rows());
    opens_with_every_job_where_it_was(&state);
}

// Red without `row.slot` and the place in `f/` in `Migration::bring`, and without `count_envelopes`.
#[test]
fn a_state_of_layout_1_opens_with_every_job_where_it_was() {
    // Layout 1 knew no unique keys either.
    let (_dir, state) = state_of(&as_layout_1(rows()));
    opens_with_every_job_where_it_was(&state);
}

// Red without `clean` in `lay_out`, and when a second try makes another job stand for its envelope.
#[test]
fn a_migration_that_was_cut_off_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    write(&whole, &rows());
    close(open(&whole));
    let db = sled::Config::new().path(&whole).segment_size(8 << 20).open().unwrap();
    let new: Vec<_> =
        db.iter().map(|row| row.unwrap()).filter(|(key, _)| b"irhwvkyz".contains(&key[0])).collect();
    drop(db);
    for cut in 0..=new.len() + 2 {
        let state = dir.path().join(format!("cut-{cut}"));
        let mut some = rows();
        some.extend(new.iter().take(cut).map(|(key, value)| (key.to_vec(), value.to_vec())));
        if cut >= new.len() {
            // All of it, and the version, but the old rows are still there. As layouts 3 and 4 had it, and as it is now.
            let layout = 3 + u8::try_from(cut - new.len()).unwrap();
            some.push((b"m/layout".to_vec(), vec![layout]));
            if layout > 3 {
                std::fs::create_dir_all(state.join("journal")).unwrap();
            }
        }
        write(&state, &some);
        let (store, closing) = open(&state);
        check(&store);
        close((store, closing));
        check_rows(&state);
    }
}

// A fixture that follows the code would prove nothing.
#[test]
fn the_fixture_is_the_one_that_was_written() {
    assert_eq!(
        Digest::of(LAYOUT_2.as_bytes()).to_string(),
        "sha256:718d12137a76a75a161dab5b4034c88c81b1c834ec155a00d8d6f61b26061d9d"
    );
}
