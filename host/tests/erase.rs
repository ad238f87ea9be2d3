//! What is private of a job goes for good when an operator says so, and every proof over its records still verifies.
//!
//! A real host in a real directory; every file of it is searched for the values and the salts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;
#[path = "erase/evidence.rs"]
mod evidence;
#[path = "erase/group.rs"]
mod group;
#[path = "erase/reused.rs"]
mod reused;
#[path = "erase/together.rs"]
mod together;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::guests::CAT;
use common::live::{Live, SPINS, finish, push_wat, start};
use common::trees::copy;
use strongroom::audit::read::LogReader;
use strongroom::audit::verify::{Options, verify_dir};
use strongroom::config::{Config, Roles};
use strongroom::fsck::check;
use strongroom::home::Home;
use strongroom_job::merkle::LeafIndex;
use strongroom_job::receipt::Receipt;
use strongroom_job::{Base64Bytes, Digest, Event, MAX_FORGOTTEN, OutputSalt, Record, SecretKey};
use strongroom_sdk::{
    Batch, BatchJob, Client, Error, Job, JobId, JobState, OutputStream, RefusalCode, Taken,
};

/// Jobs of a batch that takes two records.
const MANY: usize = MAX_FORGOTTEN + 4;
const WORDS: &str = "a word that nobody must ever find again";

fn holds(file: &[u8], bytes: &[u8]) -> bool {
    let mut rest = file;
    while let Some(place) = rest.iter().position(|byte| *byte == bytes[0]) {
        rest = &rest[place..];
        if rest.starts_with(bytes) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// Files below `dir` that hold these bytes, by their path in it.
fn holding(dir: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_path_buf()];
    while let Some(next) = left.pop() {
        // A state whose file is written anew comes and goes while the host works.
        let Ok(entries) = fs::read_dir(next) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if fs::read(&path).is_ok_and(|file| holds(&file, bytes)) {
                found.push(path.strip_prefix(dir).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

/// Everything that must be gone: as bytes, and as the state, evidence and receipts write it.
struct Private {
    plain: Vec<(&'static str, Vec<u8>)>,
}

impl Private {
    fn of(receipt: &Receipt, envelope: &[u8], values: &[(&'static str, &[u8])]) -> Self {
        let statement = String::from_utf8(receipt.to_bytes()).unwrap();
        assert!(!statement.contains(WORDS));
        let salt = salt(receipt);
        let mut plain: Vec<_> = values.iter().map(|(name, value)| (*name, value.to_vec())).collect();
        plain.push(("the salt, in hex", hex(salt.as_bytes()).into_bytes()));
        plain.push(("the salt", salt.as_bytes().to_vec()));
        plain.push(("the envelope", envelope[envelope.len() / 2..][..60].to_vec()));
        Self { plain }
    }

    fn places(&self, dir: &Path) -> Vec<(&'static str, Vec<String>)> {
        let found = self.plain.iter().map(|(name, value)| (*name, holding(dir, value)));
        found.filter(|(_, places)| !places.is_empty()).collect()
    }
}

/// A value as the signed body in this envelope has it, in base64, but for what shares a character with its neighbours.
fn in_base64(envelope: &[u8], value: &str) -> Vec<u8> {
    let pieces = (0..3).map(|skip| {
        let value = &value.as_bytes()[skip..];
        let whole = Base64Bytes(value[..value.len() / 3 * 3].to_vec());
        serde_json::to_value(whole).unwrap().as_str().unwrap().as_bytes().to_vec()
    });
    pieces.into_iter().find(|piece| holds(envelope, piece)).expect("it is in the envelope")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The salt in a receipt's statement.
fn salt(receipt: &Receipt) -> OutputSalt {
    let dsse: serde_json::Value = serde_json::from_slice(&receipt.attestation()).unwrap();
    let Base64Bytes(statement) = serde_json::from_value(dsse["payload"].clone()).unwrap();
    let statement: serde_json::Value = serde_json::from_slice(&statement).unwrap();
    let end = &statement["predicate"]["runDetails"]["byproducts"][1]["annotations"];
    serde_json::from_value(end["salt"].clone()).expect("a salt")
}

fn refusal(error: Error) -> (RefusalCode, String) {
    match error {
        Error::Refused(refusal) => (refusal.code, refusal.message),
        other => panic!("{other}"),
    }
}

/// The log verifies, and each of its records is proven.
fn log_is_whole(dir: &Path) -> Vec<Record> {
    let key = Home::open(dir).unwrap().log_key().unwrap().public();
    let options = Options { key: Some(key), ..Options::default() };
    let verified = verify_dir(&dir.join("audit"), &options, &mut ()).unwrap();
    let log = LogReader::open(&dir.join("audit"), Some(&key)).unwrap();
    let size = verified.checkpoint.size().get();
    let proven = (0..size).map(|index| log.prove(LeafIndex::new(index)).unwrap().1);
    proven.map(|leaf| Record::from_leaf(&leaf).unwrap()).collect()
}

struct Erased {
    live: Live,
    job: JobId,
    private: Private,
    receipt: Box<Receipt>,
}

/// A host with a job that had a secret argument and a long secret input, which it copied to its output, beside a job that stays.
async fn erased() -> (Erased, JobId) {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, CAT).await;
    let stays = client.submit(&Job::new(module).stdin_bytes("this one stays")).await.unwrap().job;
    let long: Vec<u8> = (0..30_000u32).flat_map(|number| format!("{number} {WORDS};").into_bytes()).collect();
    let input = client.push_input(long.clone()).await.unwrap();
    let job = Job::new(module).args(["--for", WORDS]).input(input).env("ABOUT", "someone private").unique(
        "key of somebody",
        Duration::from_secs(3600),
        Taken::Refuse,
    );
    let signed = client.sign(&job).await.unwrap();
    let job = client.submit_signed(&signed).await.unwrap()[0].job;
    let receipt = client.wait(job).await.unwrap().receipt.unwrap();
    finish(&client, stays).await;
    let digest = Digest::of(&long);
    assert_eq!(client.show(job).await.unwrap().end.unwrap().stdout.digest, digest);
    let envelope = signed.envelope.as_bytes();
    let values: &[(&str, &[u8])] = &[
        ("the words", WORDS.as_bytes()),
        ("the words, as signed", &in_base64(envelope, WORDS)),
        ("the variable, as signed", &in_base64(envelope, "someone private")),
        ("the unique key", b"key of somebody"),
        ("the digest of the output", digest.as_bytes()),
    ];
    let private = Private::of(&receipt, envelope, values);
    // A stop in order gives sled everything, and leaves the files of the journal to be used again.
    client.close().await;
    let live = live.restart().await;
    let client = live.client().await;
    // Wherever a host keeps one of them it is found, or nothing that is not found later means anything.
    let places = private.places(live.dir.path());
    for (value, kept) in [
        ("the words", &["blobs/"][..]),
        ("the words, as signed", &["state/db", "state/journal/", "evidence/"]),
        ("the variable, as signed", &["state/db", "state/journal/", "evidence/"]),
        ("the unique key", &["state/db", "state/journal/"]),
        ("the digest of the output", &["state/db", "state/journal/"]),
        ("the salt, in hex", &["evidence/"]),
        ("the salt", &["state/db", "state/journal/"]),
        ("the envelope", &["state/db", "state/journal/", "evidence/"]),
    ] {
        let found = places.iter().find(|(name, _)| *name == value).map(|(_, places)| places.clone());
        let found = found.unwrap_or_default();
        for place in kept {
            assert!(found.iter().any(|found| found.starts_with(place)), "{value} in {place}: {found:?}");
        }
    }
    assert_eq!(places.len(), private.plain.len(), "each of them");
    let told = client.erase(job, false).await.unwrap();
    assert!(told.jobs == 1 && told.published, "{told:?}");
    assert_eq!((told.in_clear, told.damaged, told.merged.len()), (0, 0, 0));
    // Who did not hear the answer asks again, and hears where the log says it.
    let again = client.erase(job, false).await.unwrap();
    assert_eq!((again.jobs, again.log_index, again.published), (0, told.log_index, true));
    (Erased { live, job, private, receipt }, stays)
}

// Red without `compact::anew` (state/db), without `Evidence::erase` (evidence), without the removal in `take_input` (blobs), without
// `take_key` (the unique key), without `drop_envelope`, and without the salt that an attempt draws.
#[tokio::test(flavor = "multi_thread")]
async fn an_erased_value_is_in_no_file_and_every_proof_still_verifies() {
    let (Erased { live, job, private, receipt }, stays) = Box::pin(erased()).await;
    let host = *live.host.public_key();
    // At once: nothing but sled's file, the one that is being removed because this one took its place, and what was kept a short time ago.
    let places: Vec<String> =
        private.places(live.dir.path()).into_iter().flat_map(|(_, places)| places).collect();
    let may_still = ["state/", "state.stale/", "blobs/"];
    assert!(places.iter().all(|place| may_still.iter().any(|still| place.starts_with(still))), "{places:?}");
    let client = live.client().await;
    gone(&client, job).await;
    let live = live.restart().await;
    // The keeper's first round takes the files: the input, which is the output, too.
    let blobs = |dir: &Path| {
        let below = |dir: std::path::PathBuf| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        below(dir.join("blobs")).flat_map(below).count()
    };
    for _ in 0..200 {
        if blobs(live.dir.path()) == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(blobs(live.dir.path()), 1, "the module");
    assert_eq!(private.places(live.dir.path()), []);
    let client = live.client().await;
    gone(&client, job).await;
    assert_eq!(finish(&client, stays).await.stdout, b"this one stays");
    assert!(client.wait(stays).await.unwrap().receipt.is_some());
    let dir = live.stop().await;
    let records = log_is_whole(dir.path());
    let erased = records.iter().filter(|record| matches!(record.event, Event::Erased { .. }));
    assert!(erased.clone().count() == 1 && erased.clone().all(|record| record.concerns(&job)));
    let home = Home::open(dir.path()).unwrap().lock().unwrap();
    let report = check(&home, Ok(&Config::load(&home.config()).unwrap())).unwrap();
    assert!(report.is_clean(), "{report:?}");
    drop(home);
    // What was fetched before is proof as it was.
    let proven = receipt.verify(&host, None).unwrap();
    assert_eq!(proven.admitted.job, job);
    assert_eq!(private.places(dir.path()), []);
}

/// Whoever asks for the job is told that it was erased, and nothing else.
async fn gone(client: &Client, job: JobId) {
    let receipt = client.receipt(job, true).await.map(drop).unwrap_err();
    let mut bytes = Vec::new();
    let output = client.fetch_output(job, OutputStream::Stdout, &mut bytes).await.map(drop).unwrap_err();
    for error in [receipt, output, client.show(job).await.map(drop).unwrap_err()] {
        let (code, text) = refusal(error);
        assert_eq!(code, RefusalCode::WrongState, "{text}");
        assert!(text.contains("was erased, as record"), "{text}");
    }
    assert!(bytes.is_empty());
}

// Red without `tell_erased` in the replay.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_state_knows_that_a_job_was_erased() {
    let (Erased { live, job, private, .. }, stays) = Box::pin(erased()).await;
    let dir = live.stop().await;
    fs::remove_dir_all(dir.path().join("state")).unwrap();
    let live = Live { host: start(dir.path(), |_| {}).await, dir };
    let client = live.client().await;
    gone(&client, job).await;
    assert_eq!(finish(&client, stays).await.stdout, b"this one stays");
    let dir = live.stop().await;
    let records = log_is_whole(dir.path());
    assert!(records.iter().any(|record| matches!(record.event, Event::StateRebuilt { jobs: 1, .. })));
    let found = private.places(dir.path());
    assert!(
        found.iter().all(|(_, places)| places.iter().all(|place| place.starts_with("blobs/"))),
        "{found:?}"
    );
}

// Red without the first part of `Replay::erased`; with `forget` in the place of `erase_one`, which leaves the key; without `take_unread`;
// and without the look at the next record, since an envelope that is gone with the first of two says nothing of the last jobs.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_copy_of_evidence_brings_back_goes_again() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, CAT).await;
    let input = client.push_input(format!("{WORDS};").repeat(2000).into_bytes()).await.unwrap();
    let keyed = |job: Job| job.unique("key of somebody", Duration::from_secs(3600), Taken::Refuse);
    let job = keyed(Job::new(module).input(input.clone()));
    let job = client.submit(&job).await.unwrap().job;
    finish(&client, job).await;
    // More than one record has room for.
    let jobs = (0..MANY).map(|number| BatchJob::new().args([format!("{number} {WORDS}")]));
    let batch = client.submit_batch(&Batch::new(Job::new(module)).jobs(jobs)).await.unwrap();
    for one in &batch {
        client.wait(one.job).await.unwrap();
    }
    let copied = tempfile::tempdir().unwrap();
    copy(&live.dir.path().join("evidence"), &copied.path().join("evidence"));
    client.erase(job, false).await.unwrap();
    assert_eq!(client.erase(batch[3].job, true).await.unwrap().jobs as usize, MANY);
    let dir = live.stop().await;
    let records = log_is_whole(dir.path()).into_iter();
    let told = records.filter_map(|record| match record.event {
        Event::Erased { jobs, .. } => Some(jobs.len()),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [1, MAX_FORGOTTEN, MANY - MAX_FORGOTTEN]);
    for lost in ["state", "evidence"] {
        fs::remove_dir_all(dir.path().join(lost)).unwrap();
    }
    copy(&copied.path().join("evidence"), &dir.path().join("evidence"));
    let live = Live { host: start(dir.path(), |_| {}).await, dir };
    gone(&live.client().await, job).await;
    let live = live.restart().await;
    let client = live.client().await;
    for erased in [job, batch[0].job, batch[MANY - 1].job] {
        gone(&client, erased).await;
    }
    for private in [WORDS, "key of somebody"] {
        assert_eq!(holding(&live.dir.path().join("state"), private.as_bytes()), Vec::<String>::new());
    }
    let (code, _) = refusal(client.submit(&Job::new(module).input(input)).await.unwrap_err());
    assert_eq!(code, RefusalCode::UnknownInput);
    client.submit(&keyed(Job::new(module))).await.unwrap();
    let dir = live.stop().await;
    log_is_whole(dir.path());
}

// Red without `remember_merged` in `erase_one`: it would run again.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_envelope_gets_the_first_answer_after_its_job_was_erased() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, CAT).await;
    let signed = client.sign(&Job::new(module).stdin_bytes(WORDS)).await.unwrap();
    let first = client.submit_for_acceptance(&signed).await.unwrap();
    finish(&client, first.jobs[0].job).await;
    client.erase(first.jobs[0].job, false).await.unwrap();
    let again = client.submit_for_acceptance(&signed).await.unwrap();
    assert_eq!(again, first);
    let records = {
        let dir = live.stop().await;
        log_is_whole(dir.path())
    };
    assert_eq!(records.iter().filter(|record| matches!(record.event, Event::Admitted { .. })).count(), 1);
}

// Red without the question for an operator, and without the one for other jobs of the envelope.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_erased_is_refused_and_says_why() {
    let live = Live::with(|config| {
        let mut other = config.principals[0].clone();
        other.name = "other".parse().unwrap();
        other.key = SecretKey::from_seed(&[9; 32].into()).public();
        other.roles = Roles::USUAL;
        config.principals.push(other);
    })
    .await;
    let client = live.client().await;
    let (spins, copies) = (push_wat(&client, SPINS).await, push_wat(&client, CAT).await);
    let running = client.submit(&Job::new(spins)).await.unwrap().job;
    let (code, text) = refusal(client.erase(running, false).await.unwrap_err());
    assert_eq!(code, RefusalCode::WrongState);
    assert!(text.contains("only what is over can be erased"), "{text}");
    client.cancel(running).await.unwrap();
    client.wait(running).await.unwrap();

    let jobs = (0..3).map(|number| BatchJob::new().args([format!("{number}{WORDS}")]));
    let batch = client.submit_batch(&Batch::new(Job::new(copies)).jobs(jobs)).await.unwrap();
    for job in &batch {
        client.wait(job.job).await.unwrap();
    }
    let (code, text) = refusal(client.erase(batch[1].job, false).await.unwrap_err());
    assert_eq!(code, RefusalCode::WrongState);
    assert!(text.contains("with 2 others") && text.contains("--batch"), "{text}");
    assert_eq!(client.show(batch[1].job).await.unwrap().state, JobState::Succeeded);
    assert_eq!(client.erase(batch[1].job, true).await.unwrap().jobs, 3);
    for job in &batch {
        gone(&client, job.job).await;
    }

    let nobody = JobId::from_bytes([7; 16]);
    let (code, text) = refusal(client.erase(nobody, false).await.unwrap_err());
    assert_eq!(code, RefusalCode::UnknownJob);
    assert!(text.contains("check the id"), "{text}");
    let other =
        live.client_with(|options| options.identity = SecretKey::from_seed(&[9; 32].into()).into()).await;
    let (code, text) = refusal(other.erase(running, false).await.unwrap_err());
    assert_eq!(code, RefusalCode::MissingRole);
    assert!(text.contains("the role operate"), "{text}");
    let dir = live.stop().await;
    assert_eq!(holding(&dir.path().join("evidence"), WORDS.as_bytes()), Vec::<String>::new());
    log_is_whole(dir.path());
}
