//! Scratch space and artifacts, through the whole host: what a guest leaves in order is kept, and nothing else stays behind.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::time::Duration;

use common::guests::{Call, appends_to, leaves, tries};
use common::live::{Live, assert_succeeded, push_wat, run};
use common::records::records;
use strongroom_job::{ArtifactRecord, Digest, Event, Limit, MAX_ARTIFACTS, Outcome};
use strongroom_sdk::{Job, JobState};

impl Live {
    /// What lies in the directory of attempts.
    fn rooms(&self) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(self.dir.path().join("scratch")).unwrap();
        let rooms = entries.map(|entry| entry.unwrap().path()).filter(|path| !path.ends_with("secrets"));
        rooms.collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_leaves_is_kept_recorded_and_fetched() {
    let live = Live::new().await;
    let client = live.client().await;
    // Whatever its exit status: a report of what failed is a result, too.
    let module = push_wat(&client, &leaves("out/report.txt", "done", 3)).await;
    let done = run(&client, &Job::new(module).scratch()).await;
    assert_eq!(done.view.state, JobState::Failed);
    let end = done.view.end.unwrap();
    let [artifact] = end.artifacts.as_slice() else { panic!("{end:?}") };
    assert_eq!(
        (artifact.name.as_str(), artifact.length, artifact.digest),
        ("report.txt", 4, Digest::of(b"done"))
    );
    assert!(live.rooms().is_empty(), "{:?}", live.rooms());
    // A host that stops publishes all that it recorded.
    let live = live.restart().await;
    let recorded = records(live.dir.path()).into_iter().find_map(|record| match record.event {
        Event::Finished { artifacts, .. } => Some(artifacts),
        _ => None,
    });
    // Its name is hidden, as its digest is.
    assert!(
        matches!(recorded.unwrap_or_default()[..], [ArtifactRecord::Committed(one)] if one.length == 4 && one.commitment != artifact.digest)
    );

    let client = live.client().await;
    let job = done.view.job;
    let mut bytes = Vec::new();
    client.artifact(job, "report.txt", 0).await.unwrap().copy_to(&mut bytes).await.unwrap();
    assert_eq!(bytes, b"done");
    let mut rest = Vec::new();
    client.artifact(job, "report.txt", 2).await.unwrap().copy_to(&mut rest).await.unwrap();
    assert_eq!(rest, b"ne");
    let page = client.list(strongroom_sdk::ListFilter::default()).await.unwrap();
    assert!(page.jobs[0].end.as_ref().unwrap().artifacts.is_empty(), "a list is brief");
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_are_walked_and_links_are_told() {
    let live = Live::new().await;
    let client = live.client().await;
    let calls = [
        Call::Create(3, "out/b"),
        Call::Mkdir(3, "out/d"),
        Call::Create(3, "out/d/a"),
        Call::Create(3, "elsewhere"),
        Call::Symlink("b", 3, "out/link"),
    ];
    let module = push_wat(&client, &tries(&calls)).await;
    let done = run(&client, &Job::new(module).scratch()).await;
    assert_succeeded(&done);
    assert_eq!(done.stdout, [0; 5]);
    let end = done.view.end.unwrap();
    let names: Vec<&str> = end.artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
    assert_eq!(names, ["b", "d/a"]);
    let denied: Vec<&str> = end.denied.iter().map(|denial| denial.what.as_str()).collect();
    assert_eq!(denied, ["artifact \"link\" (a symbolic link)"]);
    // Without the word there is no such directory.
    let done = run(&client, &Job::new(module)).await;
    assert_ne!(done.stdout.first(), Some(&0));
    assert!(done.view.end.unwrap().artifacts.is_empty());
}

// Red without the match on the outcome in `leave`.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_is_stopped_leaves_nothing() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, &appends_to("out/x")).await;
    let timed = Job::new(module).scratch().timeout(Duration::from_millis(200));
    let end = run(&client, &timed).await.view.end.unwrap();
    assert!(matches!(end.outcome, Outcome::Exceeded { .. }), "{end:?}");
    assert!(end.artifacts.is_empty() && live.rooms().is_empty(), "{end:?} {:?}", live.rooms());

    for pause in [0, 5, 50, 200] {
        let job = client.submit(&Job::new(module).scratch()).await.unwrap().job;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        client.cancel(job).await.unwrap();
        let end = client.wait(job).await.unwrap().end;
        assert!(end.artifacts.is_empty(), "{end:?}");
        assert!(live.rooms().is_empty(), "{:?}", live.rooms());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_artifacts_are_a_limit() {
    let live = Live::new().await;
    let client = live.client().await;
    let names: Vec<String> = (0..=MAX_ARTIFACTS).map(|number| format!("out/{number}")).collect();
    let calls: Vec<Call<'_>> = names.iter().map(|name| Call::Create(3, name)).collect();
    let module = push_wat(&client, &tries(&calls)).await;
    let end = run(&client, &Job::new(module).scratch()).await.view.end.unwrap();
    let allowed = MAX_ARTIFACTS as u64;
    assert_eq!(end.outcome, Outcome::Exceeded { limit: Limit::Artifacts, allowed, used: allowed + 1 });
    assert!(end.artifacts.is_empty() && live.rooms().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_is_gone_after_the_next_start() {
    let live = Live::new().await;
    let left = live.dir.path().join("scratch/left");
    std::fs::create_dir_all(left.join("out")).unwrap();
    std::fs::write(left.join("out/x"), b"x").unwrap();
    let live = live.restart().await;
    assert!(live.rooms().is_empty(), "{:?}", live.rooms());
}
