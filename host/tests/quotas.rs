//! Quotas: what a tenant has is counted in the store's writer, survives a restart, and is held against what it may have.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::guests::{counts_to, writes_bytes};
use common::live::{Live, SPINS, assert_succeeded, push_wat, run, start};
use common::{NOW, admitted, body, client_key, id};
use strongroom::admission::quota::TenantUse;
use strongroom::clock::Clock;
use strongroom::config::{Config, TenantRules};
use strongroom::host::Stop;
use strongroom::lifecycle::{Event, Finished};
use strongroom::store::{Closing, CommitError, Committed, NoFault, Outputs, Simulated, Store, Transition};
use strongroom_job::{
    Artifact, BlobKind, Digest, ModuleRef, Name, Outcome, OutputSummary, QueueMode, RefusalCode, Timestamp,
    Usage,
};
use strongroom_sdk::{Error, Job};

const DAY: Duration = Duration::from_secs(86_400);

fn open(path: &Path, clock: Timestamp) -> (Store, Closing) {
    let clock = Arc::new(Clock::not_before(clock));
    Store::open(path).unwrap().start(clock, Box::new(NoFault)).unwrap()
}

fn close((store, closing): (Store, Closing)) {
    drop(store);
    closing.wait();
}

fn tenant() -> Name {
    Name::default_name()
}

fn register(kind: BlobKind, bytes: &[u8], rules: &TenantRules) -> Transition {
    let blob = ModuleRef { digest: Digest::of(bytes), length: bytes.len() as u64 };
    Transition::Register { kind, tenant: tenant(), blob, event: None, rules: Box::new(rules.clone()) }
}

fn admit(number: u64, rules: &TenantRules) -> Transition {
    let (jobs, envelope) = (vec![admitted(&body(number))], Arc::from(b"envelope".as_slice()));
    Transition::Admit { jobs, envelope, alone: false, max_active: 100, rules: Box::new(rules.clone()) }
}

/// An attempt that used 7 ms and left 5 + 3 + 20 bytes.
fn finish(number: u64) -> Transition {
    let stdout = OutputSummary { length: 5, digest: Digest::of(b"12345") };
    let stderr = OutputSummary { length: 3, digest: Digest::of(b"123") };
    let file = Artifact { name: "file".into(), length: 20, digest: Digest::of(b"file") };
    let usage = Usage { cpu_us: 7_000, ..Usage::default() };
    let end = Finished::without_run(Outcome::Exited { code: 0 });
    let end = Box::new(Finished { usage, stdout, stderr, artifacts: vec![file], ..end });
    let outputs = Outputs { stdout: Some(b"12345".to_vec()), stderr: Some(b"123".to_vec()), result: None };
    Transition::Finish { job: id(number), event: Event::Finish { fence: 1, end }, outputs }
}

// Red without the loop over jobs that are over in `Counts::read`, and without the key `c/` in `Group::change`.
#[tokio::test]
async fn figures_are_the_same_after_a_restart_and_processor_time_is_a_days() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let free = TenantRules::default();
    let (store, closing) = open(&state, NOW);
    let mut transitions =
        vec![register(BlobKind::Module, &[1; 100], &free), register(BlobKind::Input, &[2; 50], &free)];
    // Given twice, counted once.
    transitions.push(register(BlobKind::Input, &[2; 50], &free));
    transitions.extend((1..=4).map(|number| admit(number, &free)));
    for number in 1..=2 {
        transitions.push(Transition::Step { job: id(number), event: Event::Start });
        transitions.push(finish(number));
    }
    for transition in transitions {
        store.commit(transition).await.unwrap();
    }
    let expected = TenantUse {
        active: 2,
        stored_bytes: 100 + 50 + 2 * 28,
        modules: 1,
        cpu_today: Duration::from_millis(14),
    };
    assert_eq!(store.usage(&tenant(), NOW), expected);
    assert_eq!(store.past_tenants(), [(tenant(), 2, 2 * 28)]);
    close((store, closing));

    let (store, closing) = open(&state, NOW);
    assert_eq!(store.usage(&tenant(), NOW), expected);
    assert_eq!(store.past_tenants(), [(tenant(), 2, 2 * 28)]);
    let tomorrow = NOW.saturating_add(DAY);
    assert_eq!(store.usage(&tenant(), tomorrow), TenantUse { cpu_today: Duration::ZERO, ..expected });
    close((store, closing));

    // What was used yesterday is not added to what is used today.
    let (store, closing) = open(&state, tomorrow);
    store.commit(Transition::Step { job: id(3), event: Event::Start }).await.unwrap();
    store.commit(finish(3)).await.unwrap();
    assert_eq!(store.usage(&tenant(), tomorrow).cpu_today, Duration::from_millis(7));
    close((store, closing));
}

// Red without `check_open` in `Group::admit`, and without `modes` of a group.
#[test]
fn nothing_comes_into_a_queue_once_its_operator_was_told_that_it_drains() {
    let drain = || Transition::SetQueue {
        queue: Name::default_name(),
        mode: QueueMode::Draining,
        by: client_key().public(),
    };
    let free = TenantRules::default();
    for together in [true, false] {
        let mut store = Simulated::default();
        let early = || admit(1, &free);
        let late = if together {
            store.commit(NOW, vec![early(), drain(), admit(2, &free)]).unwrap().0.remove(2)
        } else {
            store.commit(NOW, vec![early(), drain()]).unwrap();
            store.commit(NOW, vec![admit(2, &free)]).unwrap().0.remove(0)
        };
        let Err(CommitError::Denied(refusal)) = late else { panic!("{late:?}") };
        assert_eq!(refusal.code, RefusalCode::QueueClosed);
        // What is there already gets its first answer again.
        assert!(store.commit(NOW, vec![early()]).unwrap().0[0].is_ok());
        assert_eq!(store.active().unwrap().len(), 1);
    }
}

// Red without `check_quota` in `register`.
#[tokio::test]
async fn many_who_ask_at_once_do_not_find_the_same_room() {
    let dir = tempfile::tempdir().unwrap();
    let (store, closing) = open(&dir.path().join("state"), NOW);
    let rules = TenantRules { max_queued: Some(5), max_modules: Some(3), ..TenantRules::default() };
    let asked = (0..50).map(|number| store.commit(admit(number, &rules)));
    let answers = futures_util::future::join_all(asked).await;
    let (taken, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(taken.len(), 5);
    for answer in refused {
        let Err(CommitError::Denied(refusal)) = answer else { panic!("{answer:?}") };
        assert_eq!(refusal.code, RefusalCode::QueueFull);
    }
    let asked = (0..50u8).map(|number| store.commit(register(BlobKind::Module, &[number], &rules)));
    let answers = futures_util::future::join_all(asked).await;
    let (taken, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((taken.len(), store.usage(&tenant(), NOW).modules), (3, 3));
    for answer in refused {
        let Err(CommitError::Denied(refusal)) = answer else { panic!("{answer:?}") };
        assert_eq!(refusal.code, RefusalCode::QuotaReached);
    }
    // What was accepted is answered again, however full it is.
    let again = store.commit(admit(0, &rules)).await.unwrap();
    assert!(matches!(again, Committed::Admitted { jobs, .. } if jobs[0].job == id(0)));
    // An end makes room.
    store.commit(admit(60, &rules)).await.unwrap_err();
    let cancel = Event::Cancel { by: client_key().public() };
    store.commit(Transition::Step { job: id(0), event: cancel }).await.unwrap();
    store.commit(admit(60, &rules)).await.unwrap();
    close((store, closing));
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, code: RefusalCode, part: &str) {
    let Err(Error::Refused(refusal)) = answer else { panic!("{answer:?}") };
    assert_eq!(refusal.code, code, "{refusal}");
    assert!(refusal.message.contains(part), "{refusal}");
}

fn with_rules(rules: TenantRules) -> impl Fn(&mut Config) {
    move |config| {
        config.tenants.insert(tenant(), rules.clone());
    }
}

// Red when `rules` in the service gives every tenant the default, and without the first look in `upload`.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_told_which_bound_it_reached() {
    let rules = TenantRules {
        max_queued: Some(2),
        max_modules: Some(2),
        max_stored_bytes: Some(20_000),
        ..TenantRules::default()
    };
    let live = Live::with(with_rules(rules)).await;
    let client = live.client().await;
    let spins = push_wat(&client, SPINS).await;
    let writes = push_wat(&client, &writes_bytes(1, 19_000)).await;
    let third = wat::parse_str(counts_to(9)).unwrap();
    refused(client.push_module(third).await, RefusalCode::QuotaReached, "2 modules on this host");
    refused(client.push_input(vec![0; 20_000]).await, RefusalCode::QuotaReached, "this would add 20000");
    let kept = std::fs::read_dir(live.dir.path().join("blobs")).unwrap().count();
    assert_eq!(kept, 2, "what was refused leaves no file");

    let job = client.submit(&Job::new(spins)).await.unwrap();
    client.submit(&Job::new(spins)).await.unwrap();
    refused(client.submit(&Job::new(spins)).await, RefusalCode::QueueFull, "may have 2 jobs at once");
    client.cancel(job.job).await.unwrap();
    client.wait(job.job).await.unwrap();
    assert_succeeded(&run(&client, &Job::new(writes)).await);
    // Modules and output are more than is allowed now: no further job begins.
    refused(client.submit(&Job::new(writes)).await, RefusalCode::QuotaReached, "and may keep 20000");
    live.host.stop(Stop::Running(Duration::ZERO)).await;
}

// Red when `rules` in the service gives every tenant the default.
#[tokio::test(flavor = "multi_thread")]
async fn processor_time_of_a_day_is_not_forgotten_by_a_restart() {
    let rules =
        with_rules(TenantRules { cpu_per_day: Some(Duration::from_millis(5)), ..TenantRules::default() });
    let live = Live::with(&rules).await;
    let client = live.client().await;
    let counts = push_wat(&client, &counts_to(100_000_000)).await;
    let done = run(&client, &Job::new(counts)).await;
    assert_succeeded(&done);
    assert!(done.view.end.unwrap().usage.cpu_us > 5_000);
    refused(client.submit(&Job::new(counts)).await, RefusalCode::QuotaReached, "after midnight (UTC)");
    client.close().await;
    let Live { host, dir } = live;
    host.stop(Stop::Running(Duration::from_secs(60))).await;
    let live = Live { host: start(dir.path(), &rules).await, dir };
    let client = live.client().await;
    refused(client.submit(&Job::new(counts)).await, RefusalCode::QuotaReached, "after midnight (UTC)");
    client.close().await;
    live.stop().await;
}
