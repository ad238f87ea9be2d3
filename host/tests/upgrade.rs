//! A state that an earlier version wrote is brought to the layout of this one, and loses nothing on the way.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{NOW, admitted, body, id};
use strongroom::clock::Clock;
use strongroom::lifecycle::Event;
use strongroom::store::{Active, Closing, JobRow, NoFault, Store, Transition};
use strongroom_job::{JobState, Name};

fn open(path: &Path) -> (Store, Closing) {
    Store::open(path).unwrap().start(Arc::new(Clock::default()), Box::new(NoFault)).unwrap()
}

fn close((store, closing): (Store, Closing)) {
    drop(store);
    closing.wait();
}

/// What layout 1 kept: a priority for each active job, and nothing of its place in its row.
fn write_layout_1(state: &Path) {
    let db = sled::Config::new().path(state).segment_size(8 << 20).open().unwrap();
    for row in db.scan_prefix(b"a/") {
        let (key, value) = row.unwrap();
        db.insert(key, &value[1..2]).unwrap();
    }
    for row in db.scan_prefix(b"j/") {
        let (key, value) = row.unwrap();
        let mut json: serde_json::Value = serde_json::from_slice(&value).unwrap();
        json.as_object_mut().unwrap().remove("slot");
        db.insert(key, serde_json::to_vec(&json).unwrap()).unwrap();
    }
    for row in db.scan_prefix(b"f/").chain(db.scan_prefix(b"n/")) {
        db.remove(row.unwrap().0).unwrap();
    }
    db.insert(b"m/layout", &[1]).unwrap();
    db.flush().unwrap();
}

// Red without the arm for layout 1 in `Start::read`, without `row.slot` in `from_1`, and without `index_past`.
#[test]
fn a_state_of_layout_1_opens_with_every_job_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let active = |store: &Store| store.active().collect::<Result<Vec<Active>, _>>().unwrap();
    let row =
        |store: &Store, number| -> JobRow { runtime.block_on(store.row(&id(number))).unwrap().unwrap() };

    let (store, closing) = open(&state);
    for number in 1..=3 {
        let mut body = body(number);
        body.task.priority = -3;
        let (jobs, envelope) = (vec![admitted(&body)], Arc::from(b"envelope".as_slice()));
        runtime
            .block_on(store.commit(Transition::Admit {
                jobs,
                envelope,
                max_active: 10,
                rules: Box::default(),
            }))
            .unwrap();
    }
    let step = |job, event| Transition::Step { job: id(job), event };
    runtime.block_on(store.commit(step(1, Event::Start))).unwrap();
    let cancel = Event::Cancel { by: common::client_key().public() };
    runtime.block_on(store.commit(step(2, cancel))).unwrap();
    let before = (active(&store), [1, 2, 3].map(|number| row(&store, number)));
    let tenant = Name::default_name();
    let past = (store.past(&tenant, None, 9).unwrap(), store.past_tenants());
    assert_eq!(past.0.iter().map(|past| past.job).collect::<Vec<_>>(), [id(2)]);
    close((store, closing));

    write_layout_1(&state);
    let (store, closing) = open(&state);
    assert_eq!((store.past(&tenant, None, 9).unwrap(), store.past_tenants()), past);
    let after = (active(&store), [1, 2, 3].map(|number| row(&store, number)));
    assert_eq!(after, before);
    assert_eq!(after.0.iter().map(|one| one.running).collect::<Vec<_>>(), [true, false]);
    runtime.block_on(store.commit(step(3, Event::Start))).unwrap();
    assert_eq!(row(&store, 3).life.state(NOW), JobState::Running);
    close((store, closing));
    // It is done once.
    let (store, closing) = open(&state);
    assert_eq!(active(&store).len(), 2);
    close((store, closing));
}
