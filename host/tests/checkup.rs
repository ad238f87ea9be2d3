//! A running host checks its own log and files: damage is in its log, one that stops does not wait for a check, and a check is no
//! reason to stop.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::live::{Live, assert_succeeded, push_wat, run, says};
use common::patience::bounded;
use common::records::{leaves, records};
use common::trees::files;
use strongroom::clock::Clock;
use strongroom::config::{Check, Config};
use strongroom::store::{NoFault, Store};
use strongroom_job::{Event, ModuleRef, Record};
use strongroom_sdk::Job;

/// What a `checked` record says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    records: u64,
    files: u64,
    bytes: u64,
    problems: u64,
    first: String,
}

fn told(dir: &Path) -> Vec<Told> {
    // Among them is one that is damaged.
    let records = leaves(dir).into_iter().filter_map(|leaf| Record::from_leaf(&leaf).ok());
    let told = records.filter_map(|record| match record.event {
        Event::Checked { records, files, bytes, problems, first, .. } => {
            Some(Told { records, files, bytes, problems, first })
        }
        _ => None,
    });
    told.collect()
}

fn every(time: Duration) -> impl FnOnce(&mut Config) {
    move |config| config.check = Check { every: Some(time), ..config.check }
}

/// The first check from now on that says so.
async fn until(dir: &Path, is_it: impl Fn(&Told) -> bool) -> Told {
    bounded(async {
        // One that is under way may have seen what was before.
        let after = told(dir).len() + 1;
        loop {
            let all = told(dir);
            if let Some(told) = all.iter().skip(after).find(|told| is_it(told)) {
                return told.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
}

/// Puts `bytes` into a file, until the test says otherwise.
struct Damaged(PathBuf, Vec<u8>);

impl Damaged {
    fn flip(file: PathBuf) -> Self {
        let whole = fs::read(&file).unwrap();
        let mut bytes = whole.clone();
        bytes[whole.len() / 2] ^= 1;
        fs::write(&file, bytes).unwrap();
        Self(file, whole)
    }

    fn remove(file: PathBuf) -> Self {
        let whole = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        Self(file, whole)
    }

    fn mend(self) {
        fs::write(self.0, self.1).unwrap();
    }
}

fn blob(dir: &Path, module: &ModuleRef) -> PathBuf {
    let hex = module.digest.to_hex();
    files(&dir.join("blobs")).into_keys().find(|path| path.ends_with(&hex)).unwrap()
}

// Red when `Round::file` does not compare, when `Round::log` gives no findings, and, at its end, without the row of `checked`.
#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_while_the_host_serves_and_is_in_its_log() {
    let live = Live::with(every(Duration::from_secs(1))).await;
    let dir = live.dir.path().to_owned();
    let client = live.client().await;
    let module = push_wat(&client, &says("x", 0)).await;
    assert_succeeded(&run(&client, &Job::new(module)).await);
    let good = until(&dir, |told| told.files == 1).await;
    assert_eq!((good.problems, good.first.as_str(), good.bytes), (0, "", module.length));
    assert!(good.records >= 5, "{good:?}");

    let file = blob(&dir, &module);
    for damage in [Damaged::flip, Damaged::remove] {
        let damaged = damage(file.clone());
        let bad = until(&dir, |told| told.problems > 0).await;
        let named = format!("blobs: {}, module of tenant default: it", module.digest);
        assert!(bad.problems == 1 && bad.first.starts_with(&named), "{bad:?}");
        damaged.mend();
        until(&dir, |told| told.problems == 0).await;
    }
    // A full bundle, since those that are not give way to longer ones.
    let bundle = dir.join("audit/tile/entries/000");
    while !bundle.exists() {
        assert_succeeded(&run(&client, &Job::new(module)).await);
    }
    let damaged = Damaged::flip(bundle);
    let bad = until(&dir, |told| told.problems > 0).await;
    assert!(bad.records == 0 && bad.first.starts_with("log: "), "{bad:?}");
    assert_eq!(bad.files, 1, "the rest is looked at all the same");
    damaged.mend();
    until(&dir, |told| told.problems == 0 && told.records > 0).await;
    assert_succeeded(&run(&client, &Job::new(module)).await);
    client.close().await;

    let dir = live.stop().await;
    let mut checks =
        records(dir.path()).into_iter().filter(|record| matches!(record.event, Event::Checked { .. }));
    let last = checks.next_back().unwrap().time;
    let opened = Store::open(&dir.path().join("state")).unwrap();
    let (store, closing) = opened.start(Arc::new(Clock::default()), Box::new(NoFault)).unwrap();
    assert_eq!(store.checked_at().unwrap(), Some(last), "by which the next start knows when one is due");
    drop(store);
    closing.wait();
}

// Red where `Leash::holds` does not say that nobody holds it.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_stops_does_not_wait_for_a_check() {
    let live = Live::with(|config| {
        config.check = Check { every: Some(Duration::from_secs(1)), bytes_per_second: 1 };
    })
    .await;
    let client = live.client().await;
    let module = push_wat(&client, &says("x", 0)).await;
    assert_succeeded(&run(&client, &Job::new(module)).await);
    client.close().await;
    // Due by now, and not over before long.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let dir = bounded(live.stop()).await;
    assert_eq!(told(dir.path()), [], "what was not checked is not said to be");
    assert!(matches!(records(dir.path()).pop().unwrap().event, Event::HostStopped {}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_to_check_does_not() {
    let live = Live::with(|config| config.check.every = None).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let dir = live.stop().await;
    assert_eq!(told(dir.path()), []);
}
