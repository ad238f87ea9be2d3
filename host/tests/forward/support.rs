//! Hosts that forward, work for them, and what the log has.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strongroom::audit::read::LogReader;
use strongroom::config::{Begin, Forward, ForwardTo};
use strongroom_job::merkle::LeafIndex;
use strongroom_runtime::TlsRoots;
use strongroom_sdk::{Client, Job};

use crate::common::live::{Live, push_wat, run, says};
use crate::rfc5424::{self, Message};

/// A destination called `a`.
pub(crate) fn to(text: &str) -> Forward {
    Forward {
        name: "a".parse().unwrap(),
        to: text.parse::<ForwardTo>().unwrap(),
        from: Begin::Start,
        roots: TlsRoots::default(),
        ca_file: None,
    }
}

/// A host with one destination.
pub(crate) async fn host(forward: Forward) -> Live {
    Box::pin(Live::with(|config| config.forwards = vec![forward])).await
}

/// Runs so many small jobs: three records each.
pub(crate) async fn work(client: &Client, jobs: usize) {
    let module = push_wat(client, &says("hello", 0)).await;
    for _ in 0..jobs {
        let done = run(client, &Job::new(module)).await;
        assert_eq!(done.stdout, b"hello");
    }
}

/// The entries of the log in the data directory `dir`.
pub(crate) fn log(dir: &Path) -> Vec<Vec<u8>> {
    let log = LogReader::open(&dir.join("audit"), None).unwrap();
    let end = log.checkpoint().size().next_index();
    log.entries(LeafIndex::new(0), end).map(|entry| entry.unwrap().1).collect()
}

/// Waits until all records of so many jobs, and of the host's start and a module, are published.
pub(crate) async fn published(dir: &Path, jobs: usize) {
    while log(dir).len() < 2 + 3 * jobs {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Messages in the order in which they came.
#[derive(Clone, Default)]
pub(crate) struct Got(Arc<Mutex<Vec<Vec<u8>>>>);

impl Got {
    pub(crate) fn push(&self, message: Vec<u8>) {
        self.0.lock().unwrap().push(message);
    }

    pub(crate) fn all(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Waits for so many; the caller bounds the time.
    pub(crate) async fn at_least(&self, count: usize) {
        while self.len() < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until each record of the log in `dir` has come; the caller bounds the time.
    pub(crate) async fn whole(&self, dir: &Path) {
        loop {
            let size = log(dir).len();
            let indexes: std::collections::BTreeSet<u64> =
                self.all().iter().map(|message| index(message)).collect();
            if indexes.len() >= size {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The index that a syslog message carries.
fn index(message: &[u8]) -> u64 {
    read(message).param("index").unwrap().parse().unwrap()
}

pub(crate) fn read(message: &[u8]) -> Message {
    rfc5424::parse(message).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(message)))
}

/// Asserts that the messages are the log's records, each at least once and never one before an earlier one's first time.
pub(crate) fn assert_whole(messages: &[Vec<u8>], log: &[Vec<u8>]) {
    let mut first: BTreeMap<u64, usize> = BTreeMap::new();
    for (at, bytes) in messages.iter().enumerate() {
        assert!(!bytes.iter().any(u8::is_ascii_control), "{}", String::from_utf8_lossy(bytes));
        let message = read(bytes);
        assert_eq!((message.facility, message.app_name.as_deref()), (13, Some("strongroom")));
        let index: u64 = message.param("index").unwrap().parse().unwrap();
        assert!(index <= first.len() as u64, "record {index} came when only {} had come", first.len());
        first.entry(index).or_insert(at);
        let leaf = &log[usize::try_from(index).unwrap()];
        assert_eq!(message.text, *leaf, "record {index}");
        let record = strongroom_job::Record::from_leaf(leaf).unwrap();
        assert_eq!(message.param("job").map(ToOwned::to_owned), record.job().map(ToString::to_string));
        let kind: serde_json::Value = serde_json::from_slice(leaf).unwrap();
        assert_eq!(message.msgid.as_deref(), kind["type"].as_str());
    }
    assert_eq!(first.len(), log.len(), "records that never came");
}
