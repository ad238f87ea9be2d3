//! Pages: no row lies in a file that the writer does not sync.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::sync::Arc;

use common::{admitted, body, id};
use strongroom::clock::Clock;
use strongroom::lifecycle::{Event, Finished};
use strongroom::store::{NoFault, Outputs, Store, Transition};
use strongroom_job::Outcome;

// Red without `segment_size` in `Store::open`: sled then puts long pages into files of their own.
#[test]
fn every_row_is_in_the_file_that_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let state = dir.path().join("state");
    let (store, closing) =
        Store::open(&state).unwrap().start(Arc::new(Clock::default()), Box::new(NoFault)).unwrap();
    for number in 0..200 {
        let end = Box::new(Finished::without_run(Outcome::Exited { code: 0 }));
        let outputs = Outputs {
            stdout: Some(vec![7; 16 << 10]),
            stderr: Some(vec![8; 16 << 10]),
            result: Some(vec![9; 64 << 10]),
        };
        let admit = Transition::Admit {
            jobs: vec![admitted(&body(number))],
            envelope: Arc::from([1; 60_000]),
            alone: false,
            max_active: 9,
            rules: Box::default(),
        };
        let start = Transition::Step { job: id(number), event: Event::Start };
        let finish = Transition::Finish { job: id(number), event: Event::Finish { fence: 1, end }, outputs };
        for transition in [admit, start, finish] {
            runtime.block_on(store.commit(transition)).unwrap();
        }
    }
    drop(store);
    closing.wait();
    assert_eq!(std::fs::read_dir(state.join("blobs")).unwrap().count(), 0);
}
