//! Recovery: a host whose log was lost, put back or edited, or is of another history than its state, does not start, says which of
//! the two is wrong, and leaves both as they are: put back what is missing, and it starts. Where it is the state that is wrong, it is
//! made anew: `host/tests/rebuild.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::live::{Live, assert_succeeded, compiler, push_wat, run, says, start};
use common::records::{records, retell};
use common::trees::{copy, files};
use strongroom::clock::Clock;
use strongroom::config::Config;
use strongroom::home::{Home, HomeError};
use strongroom::host::{Ended, Host, StartError, Stop};
use strongroom::store::{NoFault, Store, Transition};
use strongroom_job::{Event, RefusalCode, Timestamp};
use strongroom_sdk::{Error, Job};

/// Records in a bundle of the log.
const BUNDLE: usize = 256;
/// Jobs that are enough for a full bundle and part of the next: three records each.
const MANY_JOBS: usize = 100;

/// A data directory with a past, kept as it was at an earlier time as well.
struct Past {
    dir: tempfile::TempDir,
    /// `state` and `audit`, some jobs ago.
    earlier: tempfile::TempDir,
}

impl Past {
    async fn new() -> Self {
        let live = Live::new().await;
        work(&live, 3).await;
        let dir = live.stop().await;
        let earlier = tempfile::tempdir().unwrap();
        for part in ["state", "audit"] {
            copy(&dir.path().join(part), &earlier.path().join(part));
        }
        let live = Live { host: start(dir.path(), |_| {}).await, dir };
        work(&live, MANY_JOBS).await;
        Self { dir: live.stop().await, earlier }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Replaces a part of the directory by what it was earlier; returns what it was before, to put it back.
    fn roll_back(&self, part: &str) -> Aside {
        let aside = self.set_aside(part);
        fs::remove_dir(self.path(part)).unwrap();
        copy(&self.earlier.path().join(part), &self.path(part));
        aside
    }

    /// Empties a part of the directory.
    fn set_aside(&self, part: &str) -> Aside {
        let kept = tempfile::tempdir().unwrap();
        let (from, to) = (self.path(part), kept.path().join(part));
        copy(&from, &to);
        for entry in fs::read_dir(&from).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
        Aside { kept, part: from }
    }

    /// The host must not start; gives its words, once it is sure that nothing of the log was changed.
    async fn refuses(&self) -> String {
        let before = files(&self.path("audit"));
        let error = match try_start(self.dir.path()).await {
            Ok(_) => panic!("the host started"),
            Err(error) => error,
        };
        assert!(matches!(error, StartError::Log(_)), "{error:?}");
        assert!(files(&self.path("audit")) == before, "the log was touched");
        assert!(
            Home::open(self.dir.path()).unwrap().live().unwrap().is_none(),
            "it never said that it serves"
        );
        error.to_string()
    }

    /// With everything in place again, nothing was lost by the refusals.
    async fn starts_again(self) {
        let live = Live { host: start(self.dir.path(), |_| {}).await, dir: self.dir };
        work(&live, 1).await;
        let dir = live.stop().await;
        let told = retell(&records(dir.path()));
        assert_eq!(told.len(), 3 + MANY_JOBS + 1);
    }
}

/// A part of a data directory that was taken away.
struct Aside {
    kept: tempfile::TempDir,
    part: PathBuf,
}

impl Aside {
    fn put_back(self) {
        fs::remove_dir_all(&self.part).unwrap();
        copy(&self.kept.path().join(self.part.file_name().unwrap()), &self.part);
    }
}

async fn work(live: &Live, jobs: usize) {
    let client = live.client().await;
    let module = push_wat(&client, &says("x", 0)).await;
    for _ in 0..jobs {
        assert_succeeded(&run(&client, &Job::new(module)).await);
    }
    client.close().await;
}

async fn try_start(dir: &Path) -> Result<Host, StartError> {
    let home = Home::open(dir)?.lock()?;
    let mut config = Config::load(&home.config()).unwrap();
    config.listen = ([127, 0, 0, 1], 0).into();
    Host::start(home, config, compiler()).await
}

// Red without `LogMissing`, and without `log.extends` in `publisher::join`.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_lost_or_rolled_back_is_not_begun_anew() {
    let past = Past::new().await;
    let aside = past.set_aside("audit");
    let text = past.refuses().await;
    assert!(text.starts_with("the state holds ") && text.contains("restore the audit directory"), "{text}");
    aside.put_back();

    let aside = past.roll_back("audit");
    let text = past.refuses().await;
    assert!(text.contains("were published: it was cut off or rolled back"), "{text}");
    aside.put_back();
    past.starts_again().await;
}

// Red without the look at the end of the log in `Log::open`.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_edited_is_not_continued() {
    let past = Past::new().await;
    assert!(past.path("audit/tile/entries/000").exists(), "more than {BUNDLE} records");
    // Narrower ones beside it are of earlier checkpoints.
    let widest = |dir: &str| {
        let width = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().parse::<u16>().unwrap();
        fs::read_dir(past.path(dir)).unwrap().map(|entry| entry.unwrap().path()).max_by_key(width).unwrap()
    };
    let edited = [
        past.path("audit/checkpoint"),
        widest("audit/tile/entries/001.p"),
        widest("audit/tile/0/001.p"),
        widest("audit/tile/1/000.p"),
    ];
    for file in edited {
        let good = fs::read(&file).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(&file, bad).unwrap();
        let text = past.refuses().await;
        assert!(text.contains("checkpoint") || text.contains("altered; run `audit verify`"), "{text}");
        fs::write(&file, good).unwrap();
    }
    past.starts_again().await;
}

// Red without `verify_overlap` in `publisher::join`: the state remembers no head that the other history lacks.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_another_history_is_not_joined_to_the_log() {
    let past = Past::new().await;
    let aside = past.roll_back("state");
    // It went on from there without the log, and has more records by now.
    let now = Clock::default().now();
    in_store(&past.path("state"), now, 2 * BUNDLE).await;
    let text = past.refuses().await;
    assert!(
        text.contains("is published with other bytes") && text.contains("rolled back or altered"),
        "{text}"
    );
    aside.put_back();
    past.starts_again().await;
}

// Red without `try_lock` in `Home::lock` (hostile 41).
#[tokio::test(flavor = "multi_thread")]
async fn a_second_host_in_the_same_directory_is_refused() {
    let live = Live::new().await;
    match try_start(live.dir.path()).await {
        Err(StartError::Home(error @ HomeError::Held { .. })) => {
            let text = error.to_string();
            assert!(text.contains("is served by another host already"), "{text}");
            assert!(text.contains(&live.host.local_addr().to_string()), "{text}");
        }
        Ok(_) => panic!("two hosts in one directory"),
        Err(error) => panic!("{error:?}"),
    }
    work(&live, 1).await;
    live.stop().await;
}

// Red with a tokio runtime dropped in the middle of `Host::start`, which panics; and with a publisher that goes on when nobody has its bell.
#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_an_error_and_harms_nothing() {
    let live = Live::new().await;
    let dir = tempfile::tempdir().unwrap();
    let home = Home::create(dir.path()).unwrap().lock().unwrap();
    let mut config = Config::load(&home.config()).unwrap();
    config.listen = live.host.local_addr();
    let Err(error) = Host::start(home, config, compiler()).await else { panic!("two hosts on one port") };
    assert!(matches!(error, StartError::Bind(_)), "{error:?}");
    assert!(error.to_string().contains(&live.host.local_addr().to_string()), "{error}");
    let other = Live { host: start(dir.path(), |_| {}).await, dir };
    work(&other, 1).await;
    other.stop().await;
    work(&live, 1).await;
    live.stop().await;
}

// Red with `Clock::default()` in place of `Clock::not_before` in `Host::start`: the job is then young again, and the
// records go back in time (hostile 7).
// Red when `Host::stop` takes no notice of `Publisher::stop`.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_last_records_cannot_be_published_says_so_and_loses_none() {
    let live = Live::new().await;
    // Who waits for a job has its receipt, so all there is so far is published. The next publication is that of the stop.
    work(&live, 1).await;
    let Live { host, dir } = live;
    let (audit, away) = (dir.path().join("audit"), dir.path().join("away"));
    fs::rename(&audit, &away).unwrap();
    fs::write(&audit, "no directory").unwrap();
    let ended = Box::pin(host.stop(Stop::Everything(Duration::from_secs(60)))).await;
    let Ended::Failed(reason) = ended else { panic!("{ended:?}") };
    assert!(reason.starts_with("the audit log cannot be published: "), "{reason}");
    fs::remove_file(&audit).unwrap();
    fs::rename(&away, &audit).unwrap();
    let host = start(dir.path(), |_| {}).await;
    let dir = Live { host, dir }.stop().await;
    let stops =
        records(dir.path()).iter().filter(|record| matches!(record.event, Event::HostStopped {})).count();
    assert_eq!(stops, 2, "the first stop is told, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_back_makes_no_old_job_young_again() {
    let live = Live::new().await;
    work(&live, 1).await;
    let client = live.client().await;
    let module = push_wat(&client, &says("x", 0)).await;
    let signed = client.sign(&Job::new(module).lifetime(Duration::from_secs(60))).await.unwrap();
    client.close().await;
    let dir = live.stop().await;

    // The host ran on until the day after tomorrow; then somebody set its clock back to now.
    let day_after = Clock::default().now().saturating_add(Duration::from_secs(2 * 24 * 3600));
    let last = in_store(&dir.path().join("state"), day_after, 1).await;
    let live = Live { host: start(dir.path(), |_| {}).await, dir };
    let client = live.client().await;
    match client.submit_signed(&signed).await {
        Err(Error::Refused(refusal)) => assert_eq!(refusal.code, RefusalCode::Expired, "{refusal}"),
        other => panic!("{other:?}"),
    }
    client.close().await;
    let dir = live.stop().await;
    // `retell` panics at a record that is older than the one before it.
    let records = records(dir.path());
    retell(&records);
    assert!(records.len() > last && records.last().unwrap().time >= day_after);
}

/// Adds records of the time `at` to a store; returns the place of the first.
async fn in_store(state: &Path, at: Timestamp, count: usize) -> usize {
    let opened = Store::open(state).unwrap();
    let place = usize::try_from(opened.log_size()).unwrap();
    let (store, closing) = opened.start(Arc::new(Clock::not_before(at)), Box::new(NoFault)).unwrap();
    for _ in 0..count {
        store.commit(Transition::Log(Event::HostStopped {})).await.unwrap();
    }
    drop(store);
    closing.wait();
    place
}
