//! The stream of events: what the log says, in its order, live, to whoever may hear it; nothing twice, nothing skipped without a word.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::live::{Live, SPINS, finish, push_wat, says, start};
use common::patience::soon;
use common::raw::{Peer, answer, open_with};
use common::records::records;
use common::secret;
use strongroom::clock::Clock;
use strongroom::config::Config;
use strongroom::home::Home;
use strongroom::retention::Fate;
use strongroom::store::{NoFault, Store, Transition};
use strongroom_job::frame::encode_header;
use strongroom_job::{
    Event, EventLine, EventQuery, HostEvent, JobId, Name, QueueMode, Record, RefusalCode, Request, Response,
    SecretKey,
};
use strongroom_sdk::{Client, ConnectOptions, Error, Events, Identity, Job};

fn from(index: u64) -> EventQuery {
    EventQuery { from: Some(index), ..EventQuery::default() }
}

fn followed(index: u64) -> EventQuery {
    EventQuery { follow: true, ..from(index) }
}

/// The next event; panics where some were left out.
async fn event(events: &mut Events) -> HostEvent {
    match soon(events.next()).await.unwrap().expect("an event") {
        EventLine::Event(event) => *event,
        other => panic!("{other:?}"),
    }
}

/// Everything up to the end.
async fn all(mut events: Events) -> Vec<EventLine> {
    let mut lines = Vec::new();
    while let Some(line) = soon(events.next()).await.unwrap() {
        lines.push(line);
    }
    lines
}

fn indices(lines: &[EventLine]) -> Vec<u64> {
    let index = |line: &EventLine| match line {
        EventLine::Event(event) => Some(event.index),
        _ => None,
    };
    lines.iter().filter_map(index).collect()
}

/// Whom the tests connect as.
struct Keys {
    own: SecretKey,
    other: SecretKey,
    operator: SecretKey,
}

impl Keys {
    fn put(dir: &Path) -> Self {
        let keys = Self { own: secret(21), other: secret(22), operator: secret(23) };
        let home = Home::create(dir).unwrap();
        let mut text = std::fs::read_to_string(home.config()).unwrap();
        text += "\n[queue_rules.slow]\n";
        for (name, key, roles) in [
            ("own", &keys.own, r#""view", "submit""#),
            ("other", &keys.other, r#""view", "submit""#),
            ("operator", &keys.operator, r#""operate""#),
        ] {
            let key = key.public();
            write!(
                text,
                "[[principals]]\nname = \"{name}\"\nkey = \"{key}\"\ntenant = \"{name}\"\nroles = [{roles}]\n"
            )
            .unwrap();
        }
        std::fs::write(home.config(), text).unwrap();
        keys
    }
}

async fn client(live: &Live, key: &SecretKey) -> Client {
    let options = ConnectOptions::new(live.host.local_addr(), *live.host.public_key(), key.clone());
    Client::connect(options).await.unwrap()
}

async fn shared() -> (Live, Keys) {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::put(dir.path());
    (Live { host: start(dir.path(), |_| {}).await, dir }, keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_hears_of_each_step_while_it_is_new_in_the_order_of_the_log() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, &says("hi", 0)).await;
    let spins = push_wat(&client, SPINS).await;
    let mut events = client.events(EventQuery { follow: true, ..EventQuery::default() }).await.unwrap();
    let mut told = Vec::new();

    let job = client.submit(&Job::new(module)).await.unwrap();
    for kind in ["admitted", "started", "finished"] {
        let event = event(&mut events).await;
        assert_eq!((event.record.event.kind(), event.record.job()), (kind, Some(&job.job)));
        assert_eq!(event.tenant, Some(Name::default_name()));
        told.push(event);
    }
    assert_eq!(told[0].index, job.log_index);

    let job = client.submit(&Job::new(spins)).await.unwrap().job;
    for kind in ["admitted", "started"] {
        let event = event(&mut events).await;
        assert_eq!(event.record.event.kind(), kind);
        told.push(event);
    }
    client.cancel(job).await.unwrap();
    for kind in ["cancel-requested", "finished"] {
        let event = event(&mut events).await;
        assert_eq!((event.record.event.kind(), event.record.job()), (kind, Some(&job)));
        told.push(event);
    }
    assert_eq!(events.position(), told.last().unwrap().index + 1);
    drop((events, client));
    let logged = records(live.stop().await.path());
    for HostEvent { index, record, .. } in &told {
        assert_eq!(record, &logged[usize::try_from(*index).unwrap()], "{index}");
    }
}

// Red with `of_tenant` and `known` of host/src/host/events/whose.rs showing everything to everybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_hears_of_its_own_jobs_alone_and_an_operator_of_all() {
    let (live, keys) = shared().await;
    let (own, other) = (client(&live, &keys.own).await, client(&live, &keys.other).await);
    let operator = client(&live, &keys.operator).await;
    let mut jobs = Vec::new();
    for client in [&own, &other] {
        let module = push_wat(client, &says("hi", 0)).await;
        let job = client.submit(&Job::new(module)).await.unwrap().job;
        finish(client, job).await;
        let slow = client.submit(&Job::new(module).queue("slow")).await.unwrap().job;
        finish(client, slow).await;
        jobs.push((job, slow));
    }
    // What a principal is refused is its own tenant's to hear, whosever job it named.
    own.all_events(from(0)).await.unwrap_err();
    operator.show(jobs[0].0).await.unwrap_err();
    let refused = own.show(jobs[1].0).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(refusal) if refusal.code == RefusalCode::UnknownJob));

    for (client, tenant, (job, slow), (foreign, _)) in
        [(&own, "own", jobs[0], jobs[1]), (&other, "other", jobs[1], jobs[0])]
    {
        let lines = all(client.events(from(0)).await.unwrap()).await;
        let mut seen = BTreeSet::new();
        for line in &lines {
            let EventLine::Event(event) = line else { panic!("{line:?}") };
            assert_eq!(event.tenant.as_ref().map(Name::as_str), Some(tenant), "{event:?}");
            seen.extend(event.record.job().copied());
        }
        assert_eq!(seen, BTreeSet::from([job, slow]));
        let of_job = all(client.events(EventQuery { job: Some(job), ..from(0) }).await.unwrap()).await;
        assert_eq!(of_job.len(), 3, "{of_job:?}");
        let query = EventQuery { queue: Some("slow".parse().unwrap()), ..from(0) };
        let of_queue = all(client.events(query).await.unwrap()).await;
        assert_eq!(of_queue.len(), 3, "{of_queue:?}");
        let is_slow =
            |line: &EventLine| matches!(line, EventLine::Event(event) if event.record.job() == Some(&slow));
        assert!(of_queue.iter().all(is_slow));
        let query = EventQuery { kind: Some("finished".into()), ..from(0) };
        assert_eq!(all(client.events(query).await.unwrap()).await.len(), 2);
        for follow in [false, true] {
            let query = EventQuery { job: Some(foreign), follow, ..from(0) };
            let Err(Error::Refused(refusal)) = client.events(query).await else { panic!("not refused") };
            assert_eq!(refusal.code, RefusalCode::UnknownJob);
            let Err(Error::Refused(refusal)) = client.all_events(from(0)).await else {
                panic!("not refused")
            };
            assert_eq!((refusal.code, refusal.missing), (RefusalCode::MissingRole, vec!["operate".into()]));
        }
    }
    let Err(Error::Refused(refusal)) = operator.events(from(0)).await else { panic!("not refused") };
    assert_eq!(refusal.missing, ["view"]);
    operator.set_queue(&"slow".parse().unwrap(), QueueMode::Paused).await.unwrap();
    let everything = all(operator.all_events(from(0)).await.unwrap()).await;
    let size = everything.last().unwrap().next();
    assert_eq!(indices(&everything), (0..size).collect::<Vec<_>>());
    let query = EventQuery { queue: Some("slow".parse().unwrap()), ..from(0) };
    let of_queue = all(operator.all_events(query).await.unwrap()).await;
    assert_eq!(of_queue.len(), 2 * 3 + 1, "{of_queue:?}");
    drop((own, other, operator));
    let logged = records(live.stop().await.path());
    for line in &everything {
        let EventLine::Event(event) = line else { panic!("{line:?}") };
        assert_eq!(event.record, logged[usize::try_from(event.index).unwrap()]);
    }
}

/// Some hundred records, of which the store has given up the first.
async fn busy(live: &Live, jobs: usize) {
    let client = live.client().await;
    let module = push_wat(&client, &says("hi", 0)).await;
    let mut left = Vec::new();
    for _ in 0..jobs {
        left.push(client.submit(&Job::new(module)).await.unwrap().job);
    }
    for job in left {
        client.wait(job).await.unwrap();
    }
}

// Red without the second half of `Reading::leaves`: the first records are in the log's files only.
#[tokio::test(flavor = "multi_thread")]
async fn wherever_it_is_cut_it_goes_on_without_a_gap_or_a_repeat() {
    let live = Live::new().await;
    busy(&live, 250).await;
    // After a start the store holds no leaf of a bundle that is full.
    let live = live.restart().await;
    let client = live.client().await;
    let whole = all(client.events(from(0)).await.unwrap()).await;
    let whole_indices = indices(&whole);
    assert!(whole_indices.len() >= 750 && whole.len() == whole_indices.len(), "{}", whole.len());

    // The reader goes, and another one goes on.
    let (mut pieces, mut position) = (Vec::new(), 0);
    for some in [1, 2, 7, 130, 1, 300].into_iter().cycle() {
        let mut events = client.events(from(position)).await.unwrap();
        let mut came = 0;
        while came < some
            && let Some(line) = soon(events.next()).await.unwrap()
        {
            pieces.push(line);
            came += 1;
        }
        position = events.position();
        if came < some {
            break;
        }
    }
    assert_eq!(pieces, whole);

    // The connection goes, in the middle of whatever is on its way; the reader stays.
    let mut events = client.events(followed(0)).await.unwrap();
    let mut told = Vec::new();
    while told.len() < whole.len() {
        told.push(soon(events.next()).await.unwrap().unwrap());
        if told.len() % 40 == 1 {
            client.close().await;
        }
    }
    assert_eq!(told, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_goes_on_with_the_host_that_is_started_again() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, &says("hi", 0)).await;
    let mut events = client.events(followed(0)).await.unwrap();
    let mut told: Vec<HostEvent> = Vec::new();
    let mut jobs = vec![client.submit(&Job::new(module)).await.unwrap().job];
    let over = |told: &[HostEvent], job: JobId| {
        told.iter().any(|event| matches!(&event.record.event, Event::Finished { job: of, .. } if *of == job))
    };
    while !over(&told, jobs[0]) {
        told.push(event(&mut events).await);
    }
    let address = live.host.local_addr();
    let dir = live.stop().await;
    let live = Live { host: start(dir.path(), |config| config.listen = address).await, dir };
    jobs.push(client.submit(&Job::new(module)).await.unwrap().job);
    while !over(&told, jobs[1]) {
        told.push(event(&mut events).await);
    }
    let of_jobs = told.iter().filter(|event| event.record.job().is_some());
    let kinds: Vec<_> = of_jobs.map(|event| event.record.event.kind()).collect();
    assert_eq!(kinds, ["admitted", "started", "finished", "admitted", "started", "finished"]);
    drop((events, client));
    live.stop().await;
}

// Red without the comparison of `from` with the log's size in `open_events`.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_is_refused_and_says_why() {
    let live = Live::new().await;
    let client = live.client().await;
    let size = all(client.all_events(from(0)).await.unwrap()).await.last().unwrap().next();
    // The next one is no future: it is where everybody goes on who has heard all.
    assert_eq!(all(client.events(from(size)).await.unwrap()).await, []);
    for index in [size + 1, u64::MAX] {
        for follow in [false, true] {
            let query = EventQuery { follow, ..from(index) };
            let Err(Error::Refused(refusal)) = client.events(query).await else { panic!("not refused") };
            assert_eq!(refusal.code, RefusalCode::BadRequest);
            assert!(refusal.message.starts_with(&format!("the log has {size} records")), "{refusal:?}");
        }
    }
    let query = EventQuery { kind: Some("finnished\u{1b}[2J".into()), ..from(0) };
    let Err(Error::Refused(refusal)) = client.events(query).await else { panic!("not refused") };
    assert_eq!(refusal.code, RefusalCode::BadRequest);
    assert!(refusal.message.contains("finished") && !refusal.message.contains('\u{1b}'), "{refusal:?}");
}

// Red without `event_streams` in host/src/intake/stream.rs: the 17th is let in.
#[tokio::test(flavor = "multi_thread")]
async fn readers_that_never_read_cost_a_bounded_share_and_hold_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let live = Live {
        host: start(dir.path(), |config: &mut Config| {
            config.bounds.request_timeout = Duration::from_millis(300);
        })
        .await,
        dir,
    };
    busy(&live, 100).await;
    let key: Identity = Home::open(live.dir.path()).unwrap().client_key().unwrap().into();
    let mut silent = Vec::new();
    for _ in 0..16 {
        let connection = Peer::known(&key).connect(live.host.local_addr()).await;
        let (mut send, recv) = open_with(&connection, &encode_header(&Request::AllEvents(followed(0)))).await;
        send.finish().unwrap();
        silent.push((connection, send, recv));
    }
    // The answers have begun: each has its place.
    for (_, _, recv) in &mut silent {
        let Ok(Response::Events { from: 0 }) = soon(answer(recv)).await else { panic!("no answer") };
    }
    let client = live.client_with(|options| options.retry = strongroom_sdk::Retry::none()).await;
    let Err(Error::Refused(refusal)) = client.events(followed(0)).await else { panic!("not refused") };
    assert_eq!(refusal.code, RefusalCode::Busy, "{refusal:?}");
    // Work goes on as if they were not there.
    busy(&live, 30).await;
    // One of them starts to read: all of it is still there.
    let (connection, send, mut recv) = silent.pop().unwrap();
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let mut whole = 0;
    while whole < 130 * 3 {
        let read = soon(recv.read(&mut buffer)).await.unwrap().expect("more");
        bytes.extend_from_slice(&buffer[..read]);
        whole = bytes.iter().filter(|byte| **byte == b'\n').count();
    }
    let lines = bytes.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty()).take(whole);
    for (expected, line) in (0..).zip(lines) {
        let EventLine::Event(event) = EventLine::parse(line).unwrap() else { panic!("{line:?}") };
        assert_eq!(event.index, expected);
    }
    drop((connection, send, recv, client));
    live.stop().await;
}

// Red without `left_out` in `tell`: nothing says that two records are missing.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_out_because_its_job_is_forgotten_is_told_as_left_out() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, &says("hi", 0)).await;
    let job = client.submit(&Job::new(module)).await.unwrap();
    client.wait(job.job).await.unwrap();
    drop(client);
    let dir = live.stop().await;
    let opened = Store::open(&dir.path().join("state")).unwrap();
    let (store, closing) = opened.start(Arc::new(Clock::default()), Box::new(NoFault)).unwrap();
    let past = store.past(&Name::default_name(), None, 10).unwrap();
    let jobs = past.into_iter().map(|past| (past, Fate::Forgotten)).collect();
    store.commit(Transition::Forget { tenant: Name::default_name(), jobs }).await.unwrap();
    drop(store);
    closing.wait();

    let live = Live { host: start(dir.path(), |_| {}).await, dir };
    let client = live.client().await;
    // Whoever heads for the whole story hears whose it is from its beginning.
    let whole = all(client.events(from(0)).await.unwrap()).await;
    let kinds: Vec<_> = whole
        .iter()
        .map(|line| match line {
            EventLine::Event(event) => event.record.event.kind(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["module-registered", "admitted", "started", "finished", "forgotten"]);
    // Whoever comes later hears that there was something.
    let rest = all(client.events(from(job.log_index + 1)).await.unwrap()).await;
    let [EventLine::LeftOut { records: 2, next }, EventLine::Event(forgotten)] = &rest[..] else {
        panic!("{rest:?}")
    };
    assert_eq!(forgotten.record.event.kind(), "forgotten");
    assert!(*next > job.log_index + 2 && *next <= forgotten.index, "{next}");
    drop(client);
    live.stop().await;
}

// Cannot be red but by a record that holds one: what is told is the record, byte for byte.
#[tokio::test(flavor = "multi_thread")]
async fn no_argument_variable_input_or_output_is_told() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, &says("wr1tten-output", 0)).await;
    let job = Job::new(module).arg("s3cret-argument").env("NAME", "s3cret-variable");
    let job = job.input(client.push_input(b"s3cret-input".to_vec()).await.unwrap());
    let job = client.submit(&job).await.unwrap().job;
    client.wait(job).await.unwrap();
    let key: Identity = Home::open(live.dir.path()).unwrap().client_key().unwrap().into();
    let connection = Peer::known(&key).connect(live.host.local_addr()).await;
    let (mut send, mut recv) = open_with(&connection, &encode_header(&Request::AllEvents(from(0)))).await;
    send.finish().unwrap();
    let Ok(Response::Events { from: 0 }) = soon(answer(&mut recv)).await else { panic!("no answer") };
    let bytes = soon(recv.read_to_end(1 << 20)).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("\"finished\"") && text.contains(&job.to_string()), "{text}");
    for private in ["s3cret", "wr1tten", "NAME"] {
        assert!(!text.contains(private), "{private}: {text}");
    }
    for line in text.split('\n').filter(|line| line.contains("\"line\":\"event\"")) {
        let EventLine::Event(event) = EventLine::parse(line.as_bytes()).unwrap() else { panic!("{line}") };
        let leaf = event.record.to_leaf();
        assert_eq!(Record::from_leaf(&leaf), Ok(event.record));
        assert!(line.contains(str::from_utf8(&leaf).unwrap()), "not as it is in the log: {line}");
    }
}
