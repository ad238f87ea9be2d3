//! Flow: a job goes from the SDK over QUIC through the sandbox into the log, and everything that was said of it is true.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::time::Duration;

use common::guests::CAT;
use common::live::{Live, SPINS, assert_succeeded, finish, push_wat, run, says, start};
use strongroom::audit::read::LogReader;
use strongroom::host::Stop;
use strongroom_job::merkle::LeafIndex;
use strongroom_job::{Event, Input, JobState, Outcome, OutputStream, Record, RefusalCode};
use strongroom_sdk::{Batch, BatchJob, Error, Job, ListFilter};

fn records(dir: &std::path::Path) -> Vec<Record> {
    let reader = LogReader::open(&dir.join("audit"), None).unwrap();
    let end = reader.checkpoint().size().next_index();
    reader
        .entries(LeafIndex::new(0), end)
        .map(|entry| Record::from_leaf(&entry.unwrap().1).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_and_the_log_tells_its_whole_story() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, &says("hello", 7)).await;
    let done = run(&client, &Job::new(module)).await;
    assert_eq!((done.view.state, done.stdout.as_slice()), (JobState::Failed, b"hello".as_slice()));
    let end = done.view.end.clone().unwrap();
    assert_eq!(end.outcome, Outcome::Exited { code: 7 });
    let (job, admitted) = (done.view.job, done.view.log_index);
    client.close().await;
    let dir = live.stop().await;

    let records = records(dir.path());
    let story: Vec<&Event> = records.iter().filter(|r| r.job() == Some(&job)).map(|r| &r.event).collect();
    assert!(matches!(story[0], Event::Admitted { module: m, .. } if *m == module), "{story:?}");
    assert!(matches!(story[1], Event::Started { attempt: 1, .. }), "{story:?}");
    assert!(
        matches!(story[2], Event::Finished { outcome: Outcome::Exited { code: 7 }, stdout, .. } if stdout.length() == end.stdout.length)
    );
    assert_eq!(story.len(), 3);
    assert_eq!(
        records[admitted as usize].event, *story[0],
        "the index that the client was told is the record's place"
    );
    assert_eq!(records[end.log_index as usize].event, *story[2]);
    assert!(matches!(records[0].event, Event::HostStarted { .. }));
    assert!(matches!(records.last().unwrap().event, Event::HostStopped {}));
    assert!(
        records.iter().any(|r| matches!(&r.event, Event::ModuleRegistered { module: m, .. } if *m == module))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_signed_once_and_each_job_gets_its_own() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, &says("x", 0)).await;
    let batch = Batch::new(Job::new(module)).jobs((0..50).map(|n| BatchJob::new().args([n.to_string()])));
    let accepted = client.submit_batch(&batch).await.unwrap();
    assert_eq!(accepted.len(), 50);
    for job in &accepted {
        assert_eq!(client.wait(job.job).await.unwrap().view.state, JobState::Succeeded);
    }
    let list = client.list(ListFilter::default()).await.unwrap();
    let newest_first: Vec<_> = accepted.iter().rev().map(|job| job.job).collect();
    assert_eq!(list.jobs.iter().map(|view| view.job).collect::<Vec<_>>(), newest_first);
    live.stop().await;
}

// Red without `came_in` in the store and `answered_before` in the host (hostile 5).
#[tokio::test(flavor = "multi_thread")]
async fn the_same_envelope_a_hundred_times_is_one_run_and_one_answer() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, &says("once", 0)).await;
    let signed = client.sign(&Job::new(module)).await.unwrap();
    let mut submits = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (client, signed) = (client.clone(), signed.clone());
        submits.spawn(async move { client.submit_signed(&signed).await.unwrap() });
    }
    let answers = submits.join_all().await;
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let job = signed.jobs[0];
    client.wait(job).await.unwrap();
    client.close().await;
    let live = live.restart().await;
    let client = live.client().await;
    assert_eq!(client.submit_signed(&signed).await.unwrap(), answers[0], "the same answer after a restart");
    client.close().await;
    let dir = live.stop().await;
    let runs = records(dir.path())
        .iter()
        .filter(|r| matches!(&r.event, Event::Started { job: j, .. } if *j == job))
        .count();
    assert_eq!(runs, 1);
}

// Red when a conflict is answered like a repetition (hostile 6).
#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_with_another_body_is_a_conflict_and_logged() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, &says("x", 0)).await;
    let signed = client.sign(&Job::new(module)).await.unwrap();
    client.submit_signed(&signed).await.unwrap();
    let key = strongroom::home::Home::open(live.dir.path()).unwrap().client_key().unwrap();
    let body =
        strongroom_job::Envelope::parse(signed.envelope.as_bytes()).unwrap().verify(&key.public()).unwrap();
    let mut other = body[0].body().clone();
    other.task.args.push("other".into());
    let forged = strongroom_job::sign_job(&other, &key).unwrap();
    match client.submit_envelope(&forged).await {
        Err(Error::Refused(refusal)) => assert_eq!(refusal.code, RefusalCode::Conflict),
        other => panic!("{other:?}"),
    }
    client.wait(signed.jobs[0]).await.unwrap();
    client.close().await;
    let dir = live.stop().await;
    let logged = |r: &Record| matches!(&r.event, Event::Refused { job: Some(job), code: RefusalCode::Conflict, .. } if *job == signed.jobs[0]);
    assert!(records(dir.path()).iter().any(logged));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_runs_and_one_that_waits_can_be_cancelled() {
    let live = Live::with(|config| config.bounds.max_running = 1).await;
    let client = live.client().await;
    let module = push_wat(&client, SPINS).await;
    let running = client.submit(&Job::new(module)).await.unwrap().job;
    while client.show(running).await.unwrap().state != JobState::Running {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let waiting = client.submit(&Job::new(module)).await.unwrap().job;
    assert_eq!(client.cancel(waiting).await.unwrap().state, JobState::Cancelled);
    client.cancel(running).await.unwrap();
    assert_eq!(client.wait(running).await.unwrap().end.outcome, Outcome::Cancelled);
    match client.cancel(running).await {
        Err(Error::Refused(refusal)) => assert_eq!(refusal.code, RefusalCode::WrongState),
        other => panic!("{other:?}"),
    }
    // The slot is free again.
    let hello = push_wat(&client, &says("free", 0)).await;
    assert_succeeded(&run(&client, &Job::new(hello)).await);
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_input_streams_through_and_its_output_can_be_followed_and_resumed() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, CAT).await;
    let bytes: Vec<u8> = (0..8u32 << 20).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let input = client.push_input(bytes.clone()).await.unwrap();
    assert!(matches!(input, Input::Blob { length, .. } if length == bytes.len() as u64));
    let accepted = client.submit(&Job::new(module).input(input)).await.unwrap();
    let mut reader = client.output(accepted.job, OutputStream::Stdout, 0, true).await.unwrap();
    let mut followed = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        followed.extend_from_slice(&piece);
    }
    assert!(followed == bytes, "followed {} of {} bytes", followed.len(), bytes.len());
    let done = finish(&client, accepted.job).await;
    assert_succeeded(&done);
    assert!(done.stdout == bytes);
    let mut tail =
        client.output(accepted.job, OutputStream::Stdout, bytes.len() as u64 - 5, false).await.unwrap();
    assert_eq!(tail.next().await.unwrap().unwrap(), &bytes[bytes.len() - 5..]);
    live.stop().await;
}

// Red when `stop` does not wait: the job is then interrupted.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_finish_what_was_accepted() {
    let live = Live::with(|config| config.bounds.max_running = 1).await;
    let client = live.client().await;
    let module = push_wat(&client, &says("x", 0)).await;
    let batch = Batch::new(Job::new(module)).jobs((0..20).map(|_| BatchJob::new()));
    let jobs = client.submit_batch(&batch).await.unwrap();
    let dir = live.stop().await;
    let records = records(dir.path());
    for job in jobs {
        let ends = records
            .iter()
            .filter(|r| matches!(&r.event, Event::Finished { job: j, .. } if *j == job.job))
            .count();
        assert_eq!(ends, 1);
    }
}

// Red with the end of the guests' threads taken for an end of the guest (`on_guest_thread`), and those threads ended first.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_queued_at_a_stop_runs_after_the_next_start() {
    let live = Live::with(|config| config.bounds.max_running = 1).await;
    let client = live.client().await;
    let spins = push_wat(&client, SPINS).await;
    let hello = push_wat(&client, &says("later", 0)).await;
    let spinning = client.submit(&Job::new(spins).timeout(Duration::from_secs(600))).await.unwrap().job;
    let queued = client.submit(&Job::new(hello)).await.unwrap().job;
    while client.show(spinning).await.unwrap().state != JobState::Running {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client.close().await;
    let Live { host, dir } = live;
    // Time for nothing: the spinning guest is cut off, as it would be by a crash.
    host.stop(Stop::Running(Duration::ZERO)).await;
    let live = Live { host: start(dir.path(), |_| {}).await, dir };
    let client = live.client().await;
    assert_eq!(client.wait(spinning).await.unwrap().end.outcome, Outcome::Interrupted);
    let done = finish(&client, queued).await;
    assert_succeeded(&done);
    assert_eq!(done.stdout, b"later");
    live.stop().await;
}
