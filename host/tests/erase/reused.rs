//! Files of the journal that wait to be used again hold what they held: none of them is begun between an erasure and its end.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use strongroom::clock::Clock;
use strongroom::lifecycle;
use strongroom::store::{Closing, NoFault, Store, Transition};
use strongroom_job::{Name, QueueMode};

use super::group::erase;
use super::{WORDS, holding};
use crate::common::{admitted, body, client_key, id};

/// A layer is two of them.
const FILE: u64 = 8 << 10;
/// Of the envelopes that come first, bytes.
const LENGTHS: [usize; 8] = [2000, 2500, 3000, 3500, 4000, 4500, 5000, 5500];
/// Commits behind an erasure: they leave most of a file as it was.
const BEHIND: usize = 8;

fn admit(number: u64, envelope: Vec<u8>) -> Transition {
    let jobs = vec![admitted(&body(number))];
    Transition::Admit {
        jobs,
        envelope: envelope.into(),
        alone: false,
        max_active: 100,
        rules: Box::default(),
    }
}

/// A store whose journal has short files.
fn open(path: &Path) -> (Store, Closing) {
    let opened = Store::open(path).unwrap().journal_files(FILE);
    opened.start(Arc::new(Clock::default()), Box::new(NoFault)).unwrap()
}

/// Takes and cancels a job with the words, and gives sled what came so far. The words are the last of their file, if that has the right length.
async fn fill(store: &Store, length: usize) {
    for number in [2, 3] {
        store.commit(admit(number, vec![7; length])).await.unwrap();
    }
    store.commit(admit(1, [&[7; 3000], WORDS.as_bytes()].concat())).await.unwrap();
    let cancel = lifecycle::Event::Cancel { by: client_key().public() };
    store.commit(Transition::Step { job: id(1), event: cancel }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// Commits a little, which leaves most of a file as it was.
async fn go_on(store: &Store) {
    for mode in [QueueMode::Paused, QueueMode::Open].into_iter().cycle().take(BEHIND) {
        let (queue, by) = (Name::default_name(), client_key().public());
        store.commit(Transition::SetQueue { queue, mode, by }).await.unwrap();
    }
}

// Red without `drop_spare` in `Writer::lower`.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_to_be_used_again_is_not_once_what_it_held_is_erased() {
    // One of these makes the words the last of a layer: their file is the one that is begun next.
    for length in LENGTHS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let (store, closing) = open(&path);
        fill(&store, length).await;
        let journal = path.join("journal");
        assert_ne!(holding(&journal, WORDS.as_bytes()), [""; 0], "the words are where this looks for them");
        store.commit(erase()).await.unwrap();
        go_on(&store).await;
        drop(store);
        assert_eq!(closing.wait(), None);
        assert_eq!(holding(&journal, WORDS.as_bytes()), [""; 0]);
    }
}

// Red without `drop_spare` in `Store::open_with`.
#[tokio::test(flavor = "multi_thread")]
async fn nor_after_a_start_that_could_not_write_the_state_anew() {
    for length in LENGTHS {
        let dir = tempfile::tempdir().unwrap();
        let (real, path) = (dir.path().join("real"), dir.path().join("state"));
        drop(Store::open(&real).unwrap());
        // Behind a link nothing is written anew.
        std::os::unix::fs::symlink(&real, &path).unwrap();
        let (store, closing) = open(&path);
        fill(&store, length).await;
        let journal = real.join("journal");
        let held: Vec<_> =
            holding(&journal, WORDS.as_bytes()).into_iter().map(|name| journal.join(name)).collect();
        let held: Vec<_> = held.into_iter().map(|file| (fs::read(&file).unwrap(), file)).collect();
        assert!(!held.is_empty(), "the words are where this looks for them");
        store.commit(erase()).await.unwrap();
        drop(store);
        assert_eq!(closing.wait(), None);
        // The power went before the directory said that they are gone.
        for (bytes, file) in held {
            fs::write(file, bytes).unwrap();
        }
        let (store, closing) = open(&path);
        go_on(&store).await;
        drop(store);
        assert_eq!(closing.wait(), None);
        assert_eq!(holding(&journal, WORDS.as_bytes()), [""; 0]);
    }
}
