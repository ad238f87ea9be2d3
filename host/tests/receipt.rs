//! Through a whole host: what it signs when it takes a job, and what it signs when the job is over.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::time::Duration;

use common::live::{Live, SPINS, finish, push_wat, says};
use strongroom_job::receipt::{Receipt, ReceiptError};
use strongroom_job::{Event, OutputSummary, Record, SignedAcceptance};
use strongroom_sdk::{
    Batch, BatchJob, Client, ConnectOptions, Digest, Error, Identity, Job, Outcome, RefusalCode, Taken,
};

fn summary(bytes: &[u8]) -> OutputSummary {
    OutputSummary { length: bytes.len() as u64, digest: Digest::of(bytes) }
}

// Red with the host's clock in place of the row's time in `answered_before`.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_envelope_gets_the_same_signed_answer() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, &says("hello", 0)).await;
    let jobs = (0..3).map(|number| BatchJob::new().args([number.to_string()]));
    let one = client.sign(&Job::new(module)).await.unwrap();
    let many = client.sign_batch(&Batch::new(Job::new(module)).jobs(jobs)).await.unwrap();
    let key = |taken| Job::new(module).unique("key", Duration::from_secs(3600), taken);
    client.submit(&key(Taken::Refuse)).await.unwrap();
    let merged = client.sign(&key(Taken::Existing)).await.unwrap();
    let mut first = Vec::new();
    for signed in [&one, &many, &merged] {
        let accepted = client.submit_for_acceptance(signed).await.unwrap();
        let said = accepted.acceptance.acceptance();
        assert_eq!((said.host, said.envelope), (*live.host.public_key(), *signed.envelope.digest()));
        assert_eq!(said.jobs, accepted.jobs);
        assert!(said.time.as_millis() > 1_700_000_000_000, "{said:?}");
        first.push(accepted);
    }
    assert!(first[2].jobs[0].existing.is_some());
    finish(&client, first[0].jobs[0].job).await;
    let live = live.restart().await;
    let client = live.client().await;
    for (signed, first) in [&one, &many, &merged].into_iter().zip(&first) {
        assert_eq!(client.submit_for_acceptance(signed).await.unwrap(), *first);
    }
    // Evidence without the host.
    let file = first[1].acceptance.to_dsse();
    let read = SignedAcceptance::from_dsse(&file, live.host.public_key()).unwrap();
    assert_eq!(read.acceptance().jobs.len(), 3);
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_brings_the_receipt_of_what_it_tells() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, &says("hello", 7)).await;
    let accepted = client.submit(&Job::new(module).stdin_bytes("a secret word")).await.unwrap();
    let finished = client.wait(accepted.job).await.unwrap();
    let receipt = finished.receipt.unwrap().to_bytes();
    let host = *live.host.public_key();
    let dir = live.stop().await;
    // From here on there is no host.
    let receipt = Receipt::parse(&receipt).unwrap();
    let proven = receipt.verify(&host, None).unwrap();
    assert_eq!((proven.admitted.job, proven.admitted.module), (accepted.job, module));
    assert_eq!(proven.finished.outcome, Outcome::Exited { code: 7 });
    assert_eq!(proven.finished.outputs()[0], ("stdout".into(), summary(b"hello")));
    assert!(proven.started_at.is_some() && proven.body.is_none());
    assert!(!String::from_utf8(receipt.to_bytes()).unwrap().contains("secret"));
    // The records are those of the log.
    let reader = strongroom::audit::read::LogReader::open(&dir.path().join("audit"), None).unwrap();
    let (_, leaf) = reader.prove(strongroom_job::merkle::LeafIndex::new(proven.finished_at.0)).unwrap();
    let record = Record::from_leaf(&leaf).unwrap();
    assert!(matches!(record.event, Event::Finished { job, .. } if job == accepted.job));
    assert_eq!(record.time, proven.finished_at.1);
    assert_eq!(reader.verifier(), &proven.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_envelope_comes_only_when_it_is_asked_for() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, &says("hello", 0)).await;
    let input = client.push_input(b"input of its own".to_vec()).await.unwrap();
    let one = client.submit(&Job::new(module).arg("private").input(input)).await.unwrap().job;
    let batch = Batch::new(Job::new(module)).jobs([BatchJob::new(), BatchJob::new().args(["second"])]);
    let many = client.submit_batch(&batch).await.unwrap()[1].job;
    for (job, args) in [(one, ["private"]), (many, ["second"])] {
        client.wait(job).await.unwrap();
        let (plain, proven) = client.receipt(job, false).await.unwrap();
        assert!(!plain.has_envelope() && proven.body.is_none());
        let (full, proven) = client.receipt(job, true).await.unwrap();
        let body = proven.body.unwrap();
        assert_eq!((body.id, body.task.args), (job, args.map(String::from).to_vec()));
        let stripped = full.without_envelope().verify(live.host.public_key(), None).unwrap();
        assert_eq!(stripped.finished, proven.finished);
    }
    let (_, proven) = client.receipt(one, false).await.unwrap();
    assert_eq!(proven.input, Some(summary(b"input of its own")));
    live.stop().await;
}

fn code(result: Result<(Receipt, strongroom_job::receipt::Verified), Error>) -> RefusalCode {
    match result {
        Err(Error::Refused(refusal)) => refusal.code,
        other => panic!("{other:?}"),
    }
}

// Red without `own_row` in `HostService::receipt`.
#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_for_the_jobs_own_tenant_once_it_is_over() {
    let other = Identity::generate().unwrap();
    let key = other.public();
    let live = Live::with(|config| {
        let mut who = config.principals[0].clone();
        (who.key, who.name, who.tenant) = (key, "other".parse().unwrap(), "elsewhere".parse().unwrap());
        config.principals.push(who);
    })
    .await;
    let client = live.client().await;
    let options = ConnectOptions::new(live.host.local_addr(), *live.host.public_key(), other);
    let stranger = Client::connect(options).await.unwrap();
    let module = push_wat(&client, SPINS).await;
    let job = client.submit(&Job::new(module)).await.unwrap().job;
    assert_eq!(code(client.receipt(job, false).await), RefusalCode::WrongState);
    assert_eq!(code(stranger.receipt(job, false).await), RefusalCode::UnknownJob);
    client.cancel(job).await.unwrap();
    let finished = client.wait(job).await.unwrap();
    let proven = finished.receipt.unwrap().verify(live.host.public_key(), None).unwrap();
    assert_eq!(proven.finished.outcome, Outcome::Cancelled);
    assert_eq!(code(stranger.receipt(job, false).await), RefusalCode::UnknownJob);
    live.stop().await;
}

/// Many who wait at once, and receipts of long ago: each is good under the checkpoint of its moment.
#[tokio::test(flavor = "multi_thread")]
async fn every_job_has_a_receipt_at_any_time() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, &says("hello", 0)).await;
    let batch = Batch::new(Job::new(module)).jobs((0..300).map(|_| BatchJob::new()));
    let jobs = client.submit_batch(&batch).await.unwrap();
    let waits = jobs.iter().map(|accepted| client.wait(accepted.job));
    for finished in futures_util::future::join_all(waits).await {
        finished.unwrap().receipt.unwrap();
    }
    let host = *live.host.public_key();
    let live = live.restart().await;
    let client = live.client().await;
    let mut sizes = Vec::new();
    for accepted in [&jobs[0], &jobs[150], &jobs[299]] {
        let (receipt, proven) = client.receipt(accepted.job, false).await.unwrap();
        assert_eq!(proven.admitted_at.0, accepted.log_index);
        sizes.push(proven.checkpoint.size().get());
        let other = receipt.verify(&client.public_key(), None);
        assert!(matches!(other, Err(ReceiptError::OtherHost { .. })));
    }
    assert!(sizes[0] > 900 && sizes.is_sorted(), "{sizes:?}");
    assert_eq!(host, *live.host.public_key());
    live.stop().await;
}
