//! A host whose disk runs short refuses what is new, ends what runs, and goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::time::Duration;

use common::live::{Live, SPINS, push_wat, says, start};
use strongroom::host::Stop;
use strongroom_job::{JobState, RefusalCode};
use strongroom_sdk::{Client, ConnectOptions, Error, Job, Retry};

/// More than any disk has.
const TOO_MUCH: u64 = i64::MAX as u64;

fn refused<T: std::fmt::Debug>(answer: Result<T, Error>) {
    let Err(Error::Refused(refusal)) = answer else { panic!("{answer:?}") };
    assert_eq!(refusal.code, RefusalCode::Busy);
    assert!(refusal.code.is_temporary(), "clients may try again");
    assert!(refusal.message.contains("disk_reserve_bytes"), "{refusal}");
}

// Red without `reserve.check` in `check_open`.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_new_is_taken_on_the_last_of_the_disk_and_what_was_taken_goes_on() {
    let live = Live::with(|config| config.bounds.disk_reserve_bytes = 0).await;
    let client = live.client().await;
    let (spins, word) = (push_wat(&client, SPINS).await, push_wat(&client, &says("a word", 0)).await);
    let waiting = client.submit(&Job::new(spins).idempotent()).await.unwrap().job;
    drop(client);
    let Live { host, dir } = live;
    Box::pin(host.stop(Stop::Running(Duration::ZERO))).await;
    let host = start(dir.path(), |config| config.bounds.disk_reserve_bytes = TOO_MUCH).await;
    let key = strongroom::home::Home::open(dir.path()).unwrap().client_key().unwrap();
    let mut options = ConnectOptions::new(host.local_addr(), *host.public_key(), key);
    options.retry = Retry::none();
    let client = Client::connect(options).await.unwrap();
    refused(client.submit(&Job::new(word)).await);
    refused(client.push_module(wat::parse_str(says("another word", 0)).unwrap()).await);
    // What was there before can be looked at, ends, and the host serves.
    assert!(client.show(waiting).await.is_ok());
    client.cancel(waiting).await.unwrap();
    let end = client.wait(waiting).await.unwrap().view.state;
    assert!(matches!(end, JobState::Cancelled | JobState::Interrupted), "{end:?}");
    drop(client);
    Box::pin(host.stop(Stop::Everything(Duration::from_secs(60)))).await;
    // With room again, so are jobs.
    let live = Live { host: start(dir.path(), |_| {}).await, dir };
    let client = live.client().await;
    assert_eq!(common::live::run(&client, &Job::new(word)).await.view.state, JobState::Succeeded);
}
