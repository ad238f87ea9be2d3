//! Retention: jobs that are over go as the rules say, with all that they left; nothing that is needed goes, and no id before its time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::live::{Live, assert_succeeded, finish, push_wat, run, says};
use common::{NOW, admitted, admitted_batch, body, client_key, id, principal};
use strongroom::audit::verify::{Options, verify_dir};
use strongroom::clock::Clock;
use strongroom::config::Config;
use strongroom::lifecycle::{Event, Finished};
use strongroom::retention::Fate;
use strongroom::store::{Closing, CommitError, NoFault, Outputs, PastJob, Store, Transition};
use strongroom_job::{
    After, BlobKind, Digest, Input, JobId, JobState, ModuleRef, Name, Outcome, OutputStream, OutputSummary,
    Plan, Record, RefusalCode, Taken, Timestamp, Unique, Variation,
};
use strongroom_sdk::{Batch, BatchJob, Client, Error, Flow, FlowJob, Job, ListFilter};
use tokio::time::Instant;

fn open(path: &Path) -> (Store, Closing) {
    open_at(path, NOW)
}

fn open_at(path: &Path, now: Timestamp) -> (Store, Closing) {
    let clock = Arc::new(Clock::not_before(now));
    Store::open(path).unwrap().start(clock, Box::new(NoFault)).unwrap()
}

fn close((store, closing): (Store, Closing)) {
    drop(store);
    closing.wait();
}

fn tenant() -> Name {
    Name::default_name()
}

async fn admit(store: &Store, body: &strongroom_job::JobBody, envelope: &[u8]) {
    let (jobs, envelope) = (vec![admitted(body)], Arc::from(envelope));
    let admit = Transition::Admit { jobs, envelope, alone: false, max_active: 100, rules: Box::default() };
    store.commit(admit).await.unwrap();
}

/// Runs a job that leaves five bytes.
async fn run_to_end(store: &Store, number: u64) {
    store.commit(Transition::Step { job: id(number), event: Event::Start }).await.unwrap();
    let stdout = OutputSummary { length: 5, digest: Digest::of(b"12345") };
    let end = Finished::without_run(Outcome::Exited { code: 0 });
    let event = Event::Finish { fence: 1, end: Box::new(Finished { stdout, ..end }) };
    let outputs = Outputs { stdout: Some(b"12345".to_vec()), ..Outputs::default() };
    store.commit(Transition::Finish { job: id(number), event, outputs }).await.unwrap();
}

async fn forget(store: &Store, jobs: Vec<(PastJob, Fate)>) {
    store.commit(Transition::Forget { tenant: tenant(), jobs }).await.unwrap();
}

fn past(store: &Store) -> Vec<PastJob> {
    store.past(&tenant(), None, 100).unwrap()
}

/// Keys of a closed state in which these bytes occur.
fn keys_with(state: &Path, part: &[u8]) -> Vec<String> {
    let db = sled::Config::new().path(state).segment_size(8 << 20).open().unwrap();
    let keys = db.iter().keys().map(|key| key.unwrap().to_vec());
    let found = keys.filter(|key| key.windows(part.len()).any(|window| window == part));
    found.map(|key| String::from_utf8_lossy(&key[..2]).into_owned()).collect()
}

/// First letters of a closed state's rows that are under this place of a job or an envelope.
fn rows_at(state: &Path, place: u64) -> String {
    let db = sled::Config::new().path(state).segment_size(8 << 20).open().unwrap();
    let keys = db.iter().keys().map(|key| key.unwrap().to_vec());
    let of_jobs =
        keys.filter(|key| b"rhwvkz".contains(&key[0]) && key[2..].starts_with(&place.to_be_bytes()));
    of_jobs.map(|key| char::from(key[0])).collect()
}

// Red when any of the keys is left out of `forget_past`, `strip` or `release_envelope`; without the test `known`, job 3 would go;
// without `log` in `let_past_go`.
#[tokio::test]
async fn of_a_forgotten_job_nothing_is_left_and_of_a_stripped_one_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (store, closing) = open(&state);
    for number in 1..=3 {
        admit(&store, &body(number), &[7; 100_000]).await;
    }
    for number in 1..=2 {
        run_to_end(&store, number).await;
    }
    let [one, two] = past(&store)[..] else { panic!("two jobs are over") };
    assert_eq!((one.job, one.bytes, one.not_after), (id(1), 5, common::context().not_after));
    let active = PastJob { job: id(3), ..one };
    forget(&store, vec![(one, Fate::Forgotten), (two, Fate::Stripped), (active, Fate::Forgotten)]).await;

    assert!(store.row(&id(1)).await.unwrap().is_none() && store.spec(&id(1)).unwrap().is_none());
    assert_eq!(store.envelope(admitted(&body(1)).envelope()).unwrap(), None);
    assert_eq!(store.envelope(admitted(&body(2)).envelope()).unwrap().unwrap(), [7; 100_000]);
    let row = store.row(&id(2)).await.unwrap().unwrap();
    assert_eq!(row.life.state(NOW), JobState::Succeeded);
    assert_eq!(store.output(&id(2), OutputStream::Stdout).unwrap(), None);
    assert!(!store.is_kept(&tenant(), &row).unwrap());
    assert_eq!(store.row(&id(3)).await.unwrap().unwrap().life.state(NOW), JobState::Queued);
    assert_eq!(store.past_tenants(), [(tenant(), 1, 0)]);
    assert_eq!(store.usage(&tenant(), NOW).stored_bytes, 0);
    // What the rules were told before it changed is not done to it afterwards, nor told.
    let size = store.log_size();
    forget(&store, vec![(two, Fate::Forgotten), (one, Fate::Forgotten)]).await;
    assert_eq!(past(&store), [PastJob { bytes: 0, ..two }]);
    assert_eq!(store.log_size(), size);
    let said = Record::from_leaf(&store.leaves(size - 1, 1).unwrap()[0]).unwrap();
    let (jobs, stripped) = (vec![id(1)], vec![id(2)]);
    assert_eq!(said.event, strongroom_job::Event::Forgotten { tenant: tenant(), jobs, stripped });
    close((store, closing));
    assert_eq!(keys_with(&state, id(1).as_bytes()), [""; 0]);
    assert_eq!(
        keys_with(&state, id(2).as_bytes()),
        ["f/", "i/"],
        "its place in the index, and where the rest is"
    );
    assert_eq!((rows_at(&state, 0).as_str(), rows_at(&state, 1).as_str()), ("", "hkkkw"));
    let (store, closing) = open(&state);
    assert_eq!((store.past_tenants(), past(&store).len()), (vec![(tenant(), 1, 0)], 1));
    close((store, closing));
}

// Red without the test of `forgotten` in `Group::judge`: the job would run a second time. For one that was not run, without
// `forget_until` in `let_merged_go`.
#[tokio::test]
async fn an_envelope_that_was_under_way_when_its_job_was_forgotten_is_not_taken_again() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let signed_until = |number, not_after, taken| {
        let mut body = body(number);
        body.context.not_after = NOW.saturating_add(not_after);
        body.task.plan.unique = Some(Unique { key: "k".into(), window_ms: 0, taken });
        body
    };
    let second = Duration::from_secs(1);
    let run = signed_until(1, second, Taken::Refuse);
    let merged = signed_until(2, 2 * second, Taken::Existing);
    let (store, closing) = open(&state);
    admit(&store, &run, b"run").await;
    admit(&store, &merged, b"merged").await;
    run_to_end(&store, 1).await;
    let again = |body: &strongroom_job::JobBody| {
        let (jobs, envelope) = (vec![admitted(body)], Arc::from(b"again".as_slice()));
        Transition::Admit { jobs, envelope, alone: false, max_active: 9, rules: Box::default() }
    };
    let first = past(&store)[0];
    forget(&store, vec![(first, Fate::Forgotten)]).await;
    let refused = store.commit(again(&run)).await;
    assert!(
        matches!(&refused, Err(CommitError::Denied(it)) if it.code == RefusalCode::Expired),
        "{refused:?}"
    );
    let jobs = store.merged_before(NOW.saturating_add(3 * second), 9).unwrap();
    store.commit(Transition::ForgetMerged { jobs }).await.unwrap();
    let refused = store.commit(again(&merged)).await;
    assert!(
        matches!(&refused, Err(CommitError::Denied(it)) if it.code == RefusalCode::Expired),
        "{refused:?}"
    );
    // What is signed for longer is taken as ever.
    admit(&store, &signed_until(3, 3 * second, Taken::Refuse), b"later").await;
    close((store, closing));
}

// Red when `release_envelope` removes the envelope at the first job.
#[tokio::test]
async fn an_envelope_stays_until_the_last_of_its_jobs_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (store, closing) = open(&dir.path().join("state"));
    let envelope = *admitted(&body(1)).envelope();
    // As a batch has them: two jobs, one envelope.
    let mut second = serde_json::to_value(admitted(&body(2))).unwrap();
    second["envelope"] = serde_json::to_value(envelope).unwrap();
    let jobs = vec![admitted(&body(1)), serde_json::from_value(second).unwrap()];
    let bytes: Arc<[u8]> = Arc::from(b"both".as_slice());
    let admit =
        Transition::Admit { jobs, envelope: bytes, alone: false, max_active: 9, rules: Box::default() };
    store.commit(admit).await.unwrap();
    run_to_end(&store, 1).await;
    run_to_end(&store, 2).await;
    let both = past(&store);
    forget(&store, vec![(both[0], Fate::Forgotten)]).await;
    assert_eq!(store.envelope(&envelope).unwrap().unwrap(), b"both");
    forget(&store, vec![(both[1], Fate::Forgotten)]).await;
    assert_eq!(store.envelope(&envelope).unwrap(), None);
    close((store, closing));
}

// Red without `UnknownJob` in `tell_followers`: the end would be refused after it was half done.
#[tokio::test]
async fn a_job_ends_whose_follower_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (store, closing) = open(&dir.path().join("state"));
    let waits = |number| Variation {
        plan: Some(Box::new(Plan { after: vec![After::success_of(0)], ..Plan::default() })),
        ..Variation::of(id(number))
    };
    let jobs = admitted_batch(vec![Variation::of(id(1)), waits(2), waits(3)]);
    let envelope = Arc::from(b"three".as_slice());
    let admit = Transition::Admit { jobs, envelope, alone: false, max_active: 9, rules: Box::default() };
    store.commit(admit).await.unwrap();
    let cancel = Event::Cancel { by: client_key().public() };
    store.commit(Transition::Step { job: id(2), event: cancel }).await.unwrap();
    let [cancelled] = past(&store)[..] else { panic!("one job is over") };
    forget(&store, vec![(cancelled, Fate::Forgotten)]).await;
    assert!(store.row(&id(2)).await.unwrap().is_none());

    run_to_end(&store, 1).await;
    let state = async |number| store.row(&id(number)).await.unwrap().unwrap().life.state(NOW);
    assert_eq!(state(1).await, JobState::Succeeded);
    assert_eq!(store.output(&id(1), OutputStream::Stdout).unwrap().unwrap(), b"12345");
    assert_eq!(state(3).await, JobState::Queued, "whoever still waits hears of it");
    close((store, closing));
}

// Red without `merged_until` in `merge`, and without `drop_key` in `forget_past`.
#[tokio::test]
async fn keys_and_jobs_that_were_not_run_go_when_their_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let (store, closing) = open(&state);
    let with_key = |number, window_ms| {
        let mut body = body(number);
        body.task.plan.unique = Some(Unique { key: "k".into(), window_ms, taken: Taken::Existing });
        body
    };
    admit(&store, &with_key(1, 60_000), b"first").await;
    admit(&store, &with_key(2, 0), b"second").await;
    run_to_end(&store, 1).await;
    let over = past(&store)[0];
    assert_eq!(over.key_until, Some(NOW.saturating_add(Duration::from_secs(60))));
    let not_after = common::context().not_after;
    assert_eq!(store.merged_before(not_after, 9).unwrap(), []);
    let later = not_after.saturating_add(Duration::from_millis(1));
    let jobs = store.merged_before(later, 9).unwrap();
    assert_eq!(jobs, [(not_after, id(2))]);
    store.commit(Transition::ForgetMerged { jobs }).await.unwrap();
    assert!(store.merged(&id(2)).await.unwrap().is_none());
    close((store, closing));
    assert_eq!(keys_with(&state, id(2).as_bytes()), [""; 0]);
    assert_eq!(keys_with(&state, b"default\0k").len(), 1);
    // When the key's time is over, it goes with its job.
    let (store, closing) = open_at(&state, NOW.saturating_add(Duration::from_secs(61)));
    forget(&store, vec![(over, Fate::Forgotten)]).await;
    close((store, closing));
    assert_eq!(keys_with(&state, b"default\0k"), [""; 0]);
}

// Red without the set `used` in `unused_inputs`, `name_input`, `check_input`, or the comparison in `let_inputs_go`.
#[tokio::test]
async fn an_input_goes_when_no_job_has_named_it_for_long_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let (store, closing) = open(&dir.path().join("state"));
    let given = |bytes: &[u8]| ModuleRef { digest: Digest::of(bytes), length: bytes.len() as u64 };
    for bytes in [b"used", b"free"] {
        let (blob, tenant) = (given(bytes), tenant());
        let kind = BlobKind::Input;
        let rules = Box::default();
        store.commit(Transition::Register { kind, tenant, blob, event: None, rules }).await.unwrap();
    }
    let reads = |number, bytes| {
        let ModuleRef { digest, length } = given(bytes);
        let mut body = body(number);
        body.task.input = Input::Blob { digest, length };
        body
    };
    admit(&store, &reads(1, b"used"), b"envelope").await;
    assert_eq!(store.unused_inputs(NOW).unwrap(), [], "given just now");
    let later = NOW.saturating_add(Duration::from_millis(1));
    let unused = store.unused_inputs(later).unwrap();
    assert_eq!(unused.iter().map(|input| input.digest).collect::<Vec<_>>(), [given(b"free").digest]);
    store.commit(Transition::ForgetInputs { inputs: unused.clone() }).await.unwrap();
    assert!(!store.has_blob(BlobKind::Input, &tenant(), &given(b"free").digest).unwrap());
    assert_eq!(store.usage(&tenant(), NOW).stored_bytes, 4);
    // A job that was admitted a moment before is told so, in place of failing later.
    let (jobs, envelope) = (vec![admitted(&reads(2, b"free"))], Arc::from(b"late".as_slice()));
    let late = Transition::Admit { jobs, envelope, alone: false, max_active: 9, rules: Box::default() };
    let error = store.commit(late).await.unwrap_err().to_string();
    assert!(error.contains("has not given this host the input"), "{error}");
    // Seen unused an hour ago, named since.
    let mut stale = unused[0].clone();
    let ModuleRef { digest, length } = given(b"used");
    (stale.digest, stale.length) = (digest, length);
    stale.named_at = Timestamp::from_millis(NOW.as_millis() - 3_600_000);
    store.commit(Transition::ForgetInputs { inputs: vec![stale] }).await.unwrap();
    assert!(store.has_blob(BlobKind::Input, &tenant(), &digest).unwrap());
    // Over, and not named for long.
    run_to_end(&store, 1).await;
    assert_eq!(store.unused_inputs(later).unwrap().len(), 1);
    close((store, closing));
    // Named once more, it counts as given then.
    let (store, closing) = open_at(&dir.path().join("state"), NOW.saturating_add(Duration::from_secs(10)));
    admit(&store, &reads(3, b"used"), b"envelope").await;
    run_to_end(&store, 3).await;
    assert_eq!(store.unused_inputs(later).unwrap(), []);
    close((store, closing));
}

/// Jobs are kept for this long, and clocks are trusted.
fn short(config: &mut Config) {
    config.retention.keep = Duration::from_millis(300);
    config.bounds.clock_skew = Duration::ZERO;
}

async fn until(what: &str, done: impl AsyncFn() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !done().await {
        assert!(Instant::now() < end, "it never came: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn code<T: std::fmt::Debug>(answer: Result<T, Error>) -> RefusalCode {
    let Err(Error::Refused(refusal)) = answer else { panic!("{answer:?}") };
    refusal.code
}

async fn is_unknown(client: &Client, job: JobId) -> bool {
    matches!(client.show(job).await, Err(Error::Refused(refusal)) if refusal.code == RefusalCode::UnknownJob)
}

// Red without `must_be_known` in `retention`: the first job would be unknown, and its envelope run once more; without `check_kept`, which
// makes it the host's fault.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_and_its_id_stays_until_nobody_can_submit_it_again() {
    let live = Live::with(short).await;
    let client = live.client().await;
    let module = push_wat(&client, &says("hello", 0)).await;
    let signed = client.sign(&Job::new(module)).await.unwrap();
    let accepted = client.submit_signed(&signed).await.unwrap()[0];
    assert_succeeded(&finish(&client, accepted.job).await);
    until("the output goes", async || {
        client.fetch_output(accepted.job, OutputStream::Stdout, &mut Vec::new()).await.is_err()
    })
    .await;
    let gone = client.fetch_output(accepted.job, OutputStream::Stdout, &mut Vec::new()).await;
    assert_eq!(code(gone), RefusalCode::WrongState);
    assert_eq!(client.show(accepted.job).await.unwrap().state, JobState::Succeeded);
    assert_eq!(client.submit_signed(&signed).await.unwrap(), [accepted], "the first answer again");

    // The host takes no envelope whose time is over; so this id may go.
    let brief = Job::new(module).lifetime(Duration::from_secs(3));
    let signed = client.sign(&brief).await.unwrap();
    let job = client.submit_signed(&signed).await.unwrap()[0].job;
    client.wait(job).await.unwrap();
    until("the job is forgotten", async || is_unknown(&client, job).await).await;
    assert_eq!(code(client.submit_signed(&signed).await), RefusalCode::Expired);
    let listed = client.list(ListFilter::default()).await.unwrap().jobs;
    assert_eq!(listed.iter().map(|view| view.job).collect::<Vec<_>>(), [accepted.job]);
    client.close().await;
    live.stop().await;
}

// Red without `needed` in the keeper and in `let_past_go`; without `drop_sources`, since the first job would stay for good.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_waiting_job_takes_as_its_input_stays() {
    let live = Live::with(short).await;
    let client = live.client().await;
    let cat = push_wat(&client, &pads(0)).await;
    let brief = || Job::new(cat).lifetime(Duration::from_secs(3));
    let mut flow = Flow::new();
    let first = flow.add(brief().stdin_bytes("hello"));
    let late = flow.add(brief().delay(Duration::from_secs(8)));
    flow.add(FlowJob::from(brief()).after_all([first, late]).stdin_from_outputs());
    let accepted = client.submit_flow(&flow).await.unwrap();
    let [first, late, last] = accepted[..] else { panic!("three jobs") };
    client.wait(first.job).await.unwrap();
    let other = run(&client, &brief()).await;
    until("another is forgotten", async || is_unknown(&client, other.view.job).await).await;
    assert_eq!(finish(&client, first.job).await.stdout, b"hello");
    assert_eq!(client.show(late.job).await.unwrap().state, JobState::Scheduled, "the machine is too slow");
    let view = client.wait(last.job).await.unwrap().view;
    assert_eq!(view.state, JobState::Succeeded, "{view:?}");
    assert_eq!(view.end.unwrap().stdout, OutputSummary { length: 5, digest: Digest::of(b"hello") });
    for job in [first, late, last] {
        until("then all go", async || is_unknown(&client, job.job).await).await;
    }
    client.close().await;
    live.stop().await;
}

/// A guest that writes what it reads, and so many zeros.
fn pads(zeros: u32) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 2)
            (func (export "_start")
                (i32.store (i32.const 0) (i32.const 1024))
                (i32.store (i32.const 4) (i32.const 1000))
                (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
                (i32.store (i32.const 4) (i32.add (i32.load (i32.const 16)) (i32.const {zeros})))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))"#
    )
}

/// Files below, and their bytes.
fn disk(path: &Path) -> (usize, u64) {
    let mut sum = (0, 0);
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        // A file may go while it is looked at.
        let Ok(metadata) = entry.metadata() else { continue };
        let (files, bytes) = if metadata.is_dir() { disk(&entry.path()) } else { (1, metadata.len()) };
        sum = (sum.0 + files, sum.1 + bytes);
    }
    sum
}

const JOBS: usize = 3000;
const BATCH: usize = 100;

// Red without `files` in the keeper (3,000 files stay), and without `drop_named` (the module goes, and jobs fail). 3,000 outputs of
// 20,000 bytes are 60 MB.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_load_every_job_ends_and_the_disk_is_given_back() {
    let live = Live::with(|config| {
        short(config);
        config.bounds.max_running = 8;
    })
    .await;
    assert_eq!(principal(&common::config()).tenant, tenant());
    let client = live.client().await;
    let module = push_wat(&client, &pads(20_000)).await;
    let mut ended = HashSet::new();
    let mut sums = Vec::new();
    for first in (0..JOBS).step_by(BATCH) {
        let inputs = (first..first + BATCH).map(|n| BatchJob::new().stdin_bytes(n.to_string()));
        let template = Job::new(module).lifetime(Duration::from_secs(40));
        let accepted = client.submit_batch(&Batch::new(template).jobs(inputs)).await.unwrap();
        let waits = accepted.iter().map(|job| client.wait(job.job));
        for answer in futures_util::future::join_all(waits).await {
            let view = answer.unwrap().view;
            assert_eq!(view.state, JobState::Succeeded, "{view:?}");
            assert!(ended.insert(view.job));
        }
        sums.push(disk(&live.dir.path().join("blobs")));
    }
    assert_eq!(ended.len(), JOBS);
    let blobs = live.dir.path().join("blobs");
    until("all but the module is removed", async || disk(&blobs).0 == 1).await;
    until("all are forgotten", async || client.list(ListFilter::default()).await.unwrap().jobs.is_empty())
        .await;
    // The one that is left still runs.
    let last = Job::new(module).stdin_bytes("last");
    assert_succeeded(&run(&client, &last).await);
    client.close().await;
    let most = sums.iter().map(|(files, _)| *files).max().unwrap();
    println!("most files seen: {most} of {JOBS}");
    let dir = live.stop().await;
    verify_dir(&dir.path().join("audit"), &Options { key: None, known: None, live: false }, &mut ())
        .unwrap_or_else(|error| panic!("the log does not verify: {error}"));
    let state = disk(&dir.path().join("state")).1;
    assert!(state < 256 << 20, "{state} bytes of state");
    println!("state: {state} bytes");
}
