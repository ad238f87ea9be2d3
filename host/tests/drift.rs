//! What changes under a host without a job's doing is in its log: the clock, and what governs it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::live::compiler;
use common::patience::bounded;
use common::records::records;
use strongroom::clock::Hands;
use strongroom::config::{Config, Governs};
use strongroom::home::Home;
use strongroom::host::{Host, Stop};
use strongroom::store::NoFault;
use strongroom_job::{Change, Digest, Event, Record, Timestamp};

/// Hands that a test moves, milliseconds.
#[derive(Debug, Default)]
struct Moved {
    wall: AtomicU64,
    passed: AtomicU64,
}

impl Moved {
    fn at(wall: u64) -> Arc<Self> {
        Arc::new(Self { wall: wall.into(), passed: 0.into() })
    }

    /// So much time passes, and the clock shows this.
    fn go(&self, passed: u64, wall: u64) {
        self.passed.fetch_add(passed, Ordering::SeqCst);
        self.wall.store(wall, Ordering::SeqCst);
    }
}

impl Hands for Moved {
    fn wall_ms(&self) -> u64 {
        self.wall.load(Ordering::SeqCst)
    }

    fn passed(&self) -> Duration {
        Duration::from_millis(self.passed.load(Ordering::SeqCst))
    }
}

async fn start(dir: &Path, hands: Option<Arc<dyn Hands>>) -> Host {
    let home = Home::create(dir).unwrap().lock().unwrap();
    let mut config = Config::load(&home.config()).unwrap();
    config.listen = ([127, 0, 0, 1], 0).into();
    Box::pin(Host::start_at(home, config, compiler(), Box::new(NoFault), hands)).await.unwrap()
}

async fn stop(host: Host) {
    Box::pin(host.stop(Stop::Running(Duration::from_secs(60)))).await;
}

/// Serves once and says which records that made.
async fn serve(dir: &Path) -> Vec<Record> {
    let before = if dir.join("audit/checkpoint").exists() { records(dir).len() } else { 0 };
    stop(start(dir, None).await).await;
    records(dir).split_off(before)
}

/// The steps in the log, once there are so many.
async fn steps(dir: &Path, count: usize) -> Vec<(u64, u64, u64)> {
    bounded(async {
        loop {
            let told = records(dir).into_iter().filter_map(|record| match record.event {
                Event::ClockStepped { from, to, steps } => Some((from.as_millis(), to.as_millis(), steps)),
                _ => None,
            });
            let told: Vec<_> = told.collect();
            if told.len() >= count {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

// Red without the task that looks, and without `Steps::since`.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_is_in_the_log() {
    const THEN: u64 = 1_800_000_000_000;
    const HOUR: u64 = 3_600_000;
    let dir = tempfile::tempdir().unwrap();
    let hands = Moved::at(THEN);
    let host = start(dir.path(), Some(hands.clone())).await;
    hands.go(5000, THEN + 5000 + HOUR);
    let forward = (THEN + 5000, THEN + 5000 + HOUR, 1);
    assert_eq!(steps(dir.path(), 1).await, [forward]);
    hands.go(60_000, THEN + 65_000);
    let back = (THEN + 65_000 + HOUR, THEN + 65_000, 1);
    assert_eq!(steps(dir.path(), 2).await, [forward, back]);
    stop(host).await;
    // The host's own clock did not go back, and so the next one starts an hour behind it.
    let host = start(dir.path(), Some(Moved::at(THEN + 66_000))).await;
    let behind = (THEN + 5000 + HOUR, THEN + 66_000, 1);
    assert_eq!(steps(dir.path(), 3).await, [forward, back, behind]);
    stop(host).await;
    let last = records(dir.path()).pop().unwrap();
    assert_eq!(last.time, Timestamp::from_millis(THEN + 5000 + HOUR));
}

fn changed(records: &[Record]) -> Option<[Change; 3]> {
    records.iter().find_map(|record| match &record.event {
        Event::ConfigurationChanged { configuration, principals, policy } => {
            Some([*configuration, *principals, *policy])
        }
        _ => None,
    })
}

/// The digest of the lines of these settings, as `docs/formats/record.md` says it.
fn digest(file: &Path, part: impl Fn(&str) -> bool) -> Digest {
    let settings = Config::settings(&fs::read(file).unwrap()).unwrap();
    let lines = settings.into_iter().filter(|setting| part(&setting.key));
    let lines = lines.filter_map(|setting| Some(format!("{} = {}\n", setting.key, setting.value?)));
    Digest::of(lines.collect::<String>().as_bytes())
}

// Red when `changed` in `host` compares nothing, and without `said::row`.
#[tokio::test(flavor = "multi_thread")]
async fn what_governs_a_host_is_in_the_log_when_it_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("strongroom.toml");
    let first = serve(dir.path()).await;
    assert!(matches!(first[0].event, Event::HostStarted { .. }), "{first:?}");
    let [configuration, principals, policy] = changed(&first[1..2]).expect("before anything else");
    assert!([configuration, principals, policy].iter().all(|change| change.old.is_none()));
    let is_policy = |key: &str| {
        let words =
            ["queues", "queue_rules", "tenants", "labels", "max_limits", "retention", "volumes", "http"];
        words.iter().any(|word| key == *word || key.starts_with(&format!("{word}.")))
    };
    assert_eq!(principals.new, digest(&file, |key| key.starts_with("principals[")));
    assert_eq!(policy.new, digest(&file, is_policy));
    let rest = |key: &str| !key.starts_with("principals[") && !is_policy(key);
    assert_eq!(configuration.new, digest(&file, rest));

    assert_eq!(changed(&serve(dir.path()).await), None, "it is told once");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("log_origin", "# A remark.\nlog_origin ", 1)).unwrap();
    assert_eq!(changed(&serve(dir.path()).await), None, "a remark governs nothing");

    fs::write(&file, text.replace("operator = true", "operator = false")).unwrap();
    let [same, other, same_too] = changed(&serve(dir.path()).await).expect("a principal may do less");
    assert_eq!((same.old, same_too.old), (Some(configuration.new), Some(policy.new)));
    assert!(!same.is_one() && !same_too.is_one());
    assert!(other.is_one() && other.old == Some(principals.new), "{other:?}");

    // A state that is made anew knows it from the log.
    fs::remove_dir_all(dir.path().join("state")).unwrap();
    let rebuilt = serve(dir.path()).await;
    assert!(rebuilt.iter().any(|record| matches!(record.event, Event::StateRebuilt { .. })), "{rebuilt:?}");
    assert_eq!(changed(&rebuilt), None);
}

// Red with any of the three left out of the comparison, since each value is in one of them.
#[test]
fn every_value_in_force_is_in_one_of_the_digests() {
    let text = |more: &str| format!("log_origin = \"example.com/log\"\n{more}");
    let of = |more: &str| Config::parse(text(more).as_bytes()).unwrap().governs;
    let parts = |governs: Governs| [governs.configuration, governs.principals, governs.policy];
    let key = "ed25519:3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29";
    let changes = [
        ("listen = \"127.0.0.1:1\"".to_owned(), [true, false, false]),
        ("bounds.max_running = 3".into(), [true, false, false]),
        ("[[forward]]\nname = \"a\"\nto = \"file:///tmp/a\"".into(), [true, false, false]),
        (format!("[[principals]]\nname = \"a\"\nkey = \"{key}\""), [false, true, false]),
        ("queues = [\"a\"]".into(), [false, false, true]),
        ("queue_rules.a.max_running = 3".into(), [false, false, true]),
        ("labels.principals = \"x\"".into(), [false, false, true]),
        ("max_limits.fuel = 3".into(), [false, false, true]),
        ("retention.keep_ms = 60000".into(), [false, false, true]),
        ("bounds.max_running = 64".into(), [false, false, false]),
    ];
    for (more, expected) in changes {
        let (before, after) = (parts(of("")), parts(of(&more)));
        let found: Vec<_> = before.iter().zip(after).map(|(before, after)| *before != after).collect();
        assert_eq!(found, expected, "{more}");
    }
}
