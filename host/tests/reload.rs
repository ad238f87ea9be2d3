//! A configuration that is read again while the host runs: all of it or nothing, and a key that is taken out is out at once.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::live::{Live, SPINS, assert_succeeded, push_wat, run, says, start};
use common::patience::soon;
use common::principals::put;
use common::raw::Peer;
use common::records::records;
use common::secret;
use quinn::ConnectionError;
use strongroom::config::{Config, Diff, LockOut};
use strongroom::home::Home;
use strongroom::host::{ReloadError, Reloaded};
use strongroom_job::{CloseCode, Event, JobState, Outcome, PublicKey, QueueMode, RefusalCode, SecretKey};
use strongroom_sdk::{Client, ConnectOptions, Error, Identity, Job, Repeats};

fn change(dir: &Path, change: impl FnOnce(String) -> String) {
    let path = Home::open(dir).unwrap().config();
    let text = std::fs::read_to_string(&path).unwrap();
    let changed = change(text.clone());
    assert_ne!(changed, text, "that changes nothing");
    std::fs::write(path, changed).unwrap();
}

async fn site(principals: &[(&str, &SecretKey, &str)]) -> Live {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), principals);
    Live { host: start(dir.path(), |_| {}).await, dir }
}

async fn reload(live: &Live) -> Result<Reloaded, ReloadError> {
    let config = Config::load(&Home::open(live.dir.path()).unwrap().config()).unwrap();
    soon(live.host.reload(config)).await
}

async fn connect(live: &Live, key: &SecretKey) -> Result<Client, Error> {
    Client::connect(ConnectOptions::new(live.host.local_addr(), *live.host.public_key(), key.clone())).await
}

fn names(diff: &Diff) -> [Vec<&str>; 3] {
    [&diff.added, &diff.removed, &diff.changed].map(|names| names.iter().map(|name| name.as_str()).collect())
}

/// What the log says that governs the host, how often: whether configuration, principals, policy changed.
fn governed(dir: &Path) -> Vec<[bool; 3]> {
    let changed = records(dir).into_iter().filter_map(|record| match record.event {
        Event::ConfigurationChanged { configuration, principals, policy } => {
            Some([configuration, principals, policy].map(|change| change.is_one()))
        }
        _ => None,
    });
    changed.collect()
}

/// The number with which the host closed a connection, and what it said.
async fn closed(connection: &quinn::Connection) -> (Option<CloseCode>, String) {
    match soon(connection.closed()).await {
        ConnectionError::ApplicationClosed(closed) => (
            CloseCode::from_number(closed.error_code.into_inner()),
            String::from_utf8_lossy(&closed.reason).into_owned(),
        ),
        other => panic!("{other}"),
    }
}

// Hostile test 11. Red without `close_unknown`, without `stop_jobs_of_the_gone`, and when that looks at running jobs alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_revoked_loses_its_connections_and_its_jobs() {
    let (ann, bob) = (secret(31), secret(32));
    let live = site(&[("ann", &ann, "tenant = \"ann\""), ("bob", &bob, "tenant = \"bob\"")]).await;
    let owner = live.client().await;
    owner.set_queue(&"held".parse().unwrap(), QueueMode::Paused).await.unwrap();
    let client = connect(&live, &ann).await.unwrap();
    let module = push_wat(&client, SPINS).await;
    let hour = Duration::from_secs(3600);
    let running = client.submit(&Job::new(module).timeout(hour)).await.unwrap().job;
    let waiting = client.submit(&Job::new(module).queue("held")).await.unwrap().job;
    let series = Job::new(module).queue("held").repeat(Repeats::new(
        "0 0 1 1 *",
        "UTC",
        Duration::from_secs(86_400 * 300),
    ));
    let series = client.submit(&series).await.unwrap().job;
    while client.show(running).await.unwrap().state != JobState::Running {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let theirs = connect(&live, &bob).await.unwrap();
    let other = push_wat(&theirs, SPINS).await;
    let other = theirs.submit(&Job::new(other).timeout(hour)).await.unwrap().job;
    // One that only listens: nothing that it sends tells it.
    let quiet = Peer::known(&Identity::from(ann.clone())).connect(live.host.local_addr()).await;
    let waits = tokio::spawn({
        let client = client.clone();
        async move { client.wait(running).await.map(drop) }
    });

    put(live.dir.path(), &[("bob", &bob, "tenant = \"bob\"")]);
    let reloaded = reload(&live).await.unwrap();
    assert_eq!(names(&reloaded.diff), [vec![], vec!["ann"], vec![]]);
    assert_eq!((reloaded.closed, reloaded.stopped), (2, 3));
    assert_eq!(closed(&quiet).await, (Some(CloseCode::KeyRevoked), "this key is no longer known".into()));
    assert!(matches!(soon(waits).await.unwrap(), Err(Error::Closed { code: CloseCode::KeyRevoked, .. })));
    assert!(soon(connect(&live, &ann)).await.is_err(), "nor does it come in again");

    // Nobody else hears of it.
    assert_eq!(theirs.show(other).await.unwrap().state, JobState::Running);
    theirs.cancel(other).await.unwrap();
    let host: PublicKey = *live.host.public_key();
    let dir = live.stop().await;
    let records = records(dir.path());
    let ends: Vec<_> = records
        .iter()
        .filter_map(|record| match &record.event {
            Event::Finished { job, outcome, .. } if *job != other => Some((*job, outcome.clone())),
            _ => None,
        })
        .collect();
    for job in [running, waiting, series] {
        assert!(ends.contains(&(job, Outcome::Cancelled)), "{job}: {ends:?}");
    }
    let asked: Vec<_> = records
        .iter()
        .filter_map(|record| match &record.event {
            Event::CancelRequested { job, principal } if *job != other => Some((*job, *principal)),
            _ => None,
        })
        .collect();
    assert_eq!(asked, [(running, host)], "by the host itself");
    assert_eq!(governed(dir.path()), [[true; 3], [false, true, false]], "the start, and the reload");
}

// Red without `close_narrowed`.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_taken_away_ends_what_began_with_it() {
    let ann = secret(31);
    let live = site(&[("ann", &ann, "")]).await;
    let client = connect(&live, &ann).await.unwrap();
    let module = push_wat(&client, &says("hello", 0)).await;
    assert_succeeded(&run(&client, &Job::new(module)).await);
    let quiet = Peer::known(&Identity::from(ann.clone())).connect(live.host.local_addr()).await;
    change(live.dir.path(), |text| format!("{text}roles = [\"view\"]\n"));
    let reloaded = reload(&live).await.unwrap();
    assert_eq!(names(&reloaded.diff), [vec![], vec![], vec!["ann"]]);
    assert_eq!((reloaded.closed, reloaded.stopped), (2, 0), "its jobs go on");
    assert_eq!(closed(&quiet).await.0, Some(CloseCode::Done));
    let Err(Error::Refused(refusal)) = soon(client.submit(&Job::new(module))).await else { panic!() };
    assert_eq!((refusal.code, refusal.missing), (RefusalCode::MissingRole, vec!["submit".to_owned()]));
    assert!(!client.list(Default::default()).await.unwrap().jobs.is_empty(), "it may look");

    // What is given needs no new connection.
    let quiet = Peer::known(&Identity::from(ann.clone())).connect(live.host.local_addr()).await;
    change(live.dir.path(), |text| text.replace("[\"view\"]", "[\"view\", \"submit\"]"));
    assert_eq!(reload(&live).await.unwrap().closed, 0);
    assert!(quiet.close_reason().is_none());
    assert_succeeded(&run(&client, &Job::new(module)).await);
    live.stop().await;
}

// Red without `fixed`, and without `lets_in`.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_is_all_or_nothing() {
    let (ann, bob) = (secret(31), secret(32));
    let live = site(&[("ann", &ann, "")]).await;
    let client = connect(&live, &ann).await.unwrap();
    let path = Home::open(live.dir.path()).unwrap().config();
    let good = std::fs::read_to_string(&path).unwrap();

    // One thing that may change and several that may not.
    put(live.dir.path(), &[("bob", &bob, "")]);
    change(live.dir.path(), |text| {
        text.replace("[bounds]\n", "[bounds]\nmax_running = 3\n")
            .replace("[retention]\n", "[retention]\nkeep_ms = 70000\n")
            .replace("[max_limits]\n", "[max_limits]\nfiles = 7\n")
            + "[queue_rules.more]\n[tenants.default]\nweight = 2\n"
    });
    let error = reload(&live).await.unwrap_err();
    let ReloadError::Fixed(parts) = &error else { panic!("{error}") };
    assert_eq!(parts, &["queues", "[queue_rules]", "[tenants]", "[bounds]", "[max_limits]", "[retention]"]);
    assert!(
        error.to_string().contains("[bounds], [max_limits]") && error.to_string().contains("restart"),
        "{error}"
    );
    assert!(soon(connect(&live, &bob)).await.is_err(), "nothing of it");

    let nobody = good.split("[[principals]]\nname").next().unwrap();
    std::fs::write(&path, format!("{nobody}[queue_rules.held]\n")).unwrap();
    assert!(matches!(reload(&live).await, Err(ReloadError::LockedOut(LockOut::Everybody))));
    std::fs::write(&path, good.replace("operator = true", "roles = [\"view\", \"submit\"]")).unwrap();
    let error = reload(&live).await.unwrap_err();
    assert!(matches!(error, ReloadError::LockedOut(LockOut::Operators)), "{error}");
    assert!(error.to_string().contains("the role operate"), "{error}");
    client.queues().await.unwrap();

    // A comment changes nothing, and makes no record.
    std::fs::write(&path, format!("# A comment.\n{good}")).unwrap();
    assert_eq!(reload(&live).await.unwrap(), Reloaded::default());
    // Somebody else may become the operator.
    std::fs::write(&path, good.replace("operator = true", "roles = [\"view\"]") + "roles = [\"admin\"]\n")
        .unwrap();
    assert_eq!(names(&reload(&live).await.unwrap().diff), [vec![], vec![], vec!["owner", "ann"]]);
    client.set_queue(&"held".parse().unwrap(), QueueMode::Paused).await.unwrap();
    // A label may change; the rules of a tenant go with its last principal.
    change(live.dir.path(), |text| format!("{text}[labels]\nzone = \"eu\"\n"));
    reload(&live).await.unwrap();
    let before = live.stop().await;
    let told = governed(before.path());
    assert_eq!(told, [[true; 3], [false, true, false], [false, false, true]]);
    let live = Live { host: start(before.path(), |_| {}).await, dir: before };
    let dir = live.stop().await;
    assert_eq!(governed(dir.path()).len(), told.len(), "the next start has nothing new to say");
}
