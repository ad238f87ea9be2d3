//! Files of the journal that wait to be used again hold what they held: none of them is begun between an erasure and its end.

use std::sync::Arc;
use std::time::Duration;

use strongroom::clock::Clock;
use strongroom::lifecycle;
use strongroom::store::{Doomed, DoomedJob, NoFault, Store, Transition};
use strongroom_job::{Name, QueueMode};

use super::{WORDS, holding};
use crate::common::{admitted, body, client_key, id};

/// A layer is two of them.
const FILE: u64 = 8 << 10;
/// Commits behind an erasure: they leave most of a file as it was.
const BEHIND: usize = 8;

fn admit(number: u64, envelope: Vec<u8>) -> Transition {
    let jobs = vec![admitted(&body(number))];
    Transition::Admit { jobs, envelope: envelope.into(), max_active: 100, rules: Box::default() }
}

fn erase(number: u64) -> Transition {
    let job = admitted(&body(number));
    let doomed = Doomed {
        asked: job.id(),
        envelope: *job.envelope(),
        tenant: Name::default_name(),
        jobs: vec![DoomedJob { job: job.id(), unique: None }],
        inputs: Vec::new(),
        in_clear: 0,
    };
    Transition::Erase { doomed: Box::new(doomed), by: client_key().public() }
}

// Red without `drop_spare` in `Writer::lower`.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_to_be_used_again_is_not_once_what_it_held_is_erased() {
    // One of these makes the words the last of a layer.
    for length in (2000..6000).step_by(500) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let opened = Store::open(&path).unwrap().journal_files(FILE);
        let (store, closing) = opened.start(Arc::new(Clock::default()), Box::new(NoFault)).unwrap();
        // Far behind in their file: it is the one that is begun next, and what comes then ends before the words.
        for number in [2, 3] {
            store.commit(admit(number, vec![7; length])).await.unwrap();
        }
        store.commit(admit(1, [&[7; 3000], WORDS.as_bytes()].concat())).await.unwrap();
        let cancel = lifecycle::Event::Cancel { by: client_key().public() };
        store.commit(Transition::Step { job: id(1), event: cancel }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let state = path.join("journal");
        assert_ne!(holding(&state, WORDS.as_bytes()), [""; 0], "the words are where this looks for them");
        store.commit(erase(1)).await.unwrap();
        for mode in [QueueMode::Paused, QueueMode::Open].into_iter().cycle().take(BEHIND) {
            let (queue, by) = (Name::default_name(), client_key().public());
            store.commit(Transition::SetQueue { queue, mode, by }).await.unwrap();
        }
        drop(store);
        assert_eq!(closing.wait(), None);
        assert_eq!(holding(&state, WORDS.as_bytes()), [""; 0]);
    }
}
