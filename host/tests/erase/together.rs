//! What goes together with a job, what stays because somebody else needs it, and what is refused for that.

use std::time::Duration;

use strongroom::config::Roles;
use strongroom_job::{Event, Missed, SecretKey};
use strongroom_sdk::{Flow, Job, JobState, ListFilter, RefusalCode, Repeats, Signed, Taken};

use super::{WORDS, gone, holding, log_is_whole, refusal};
use crate::common::guests::CAT;
use crate::common::live::{Live, SPINS, finish, passes, push_wat, start};

const HOUR: Duration = Duration::from_secs(3600);
/// Runs of the series that are made up for.
const RUNS: u32 = 3;

/// Some bytes of an envelope, as it is kept.
fn piece(signed: &Signed) -> Vec<u8> {
    let bytes = signed.envelope.as_bytes();
    bytes[bytes.len() / 2..][..60].to_vec()
}

fn nowhere() -> Vec<String> {
    Vec::new()
}

// Red without the look at `x/` in `Store::doomed` (nobody knows the job), and without `merged_into`.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_not_run_has_an_envelope_that_can_be_erased() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, CAT).await;
    let keyed = Job::new(module).args([WORDS]).unique("the key", HOUR, Taken::Existing);
    let first = client.submit(&keyed).await.unwrap().job;
    finish(&client, first).await;
    let signed = client.sign(&keyed).await.unwrap();
    let accepted = client.submit_for_acceptance(&signed).await.unwrap();
    let second = accepted.jobs[0].job;
    assert_eq!(accepted.jobs[0].existing, Some(first));
    assert_eq!(client.erase(first, false).await.unwrap().merged, [second]);
    let evidence = live.dir.path().join("evidence");
    let envelope = piece(&signed);
    assert_ne!(holding(&evidence, &envelope), nowhere(), "its own envelope");
    let told = client.erase(second, false).await.unwrap();
    assert!(told.jobs == 1 && told.merged.is_empty(), "{told:?}");
    assert_eq!(holding(&evidence, &envelope), nowhere());
    gone(&client, second).await;
    assert_eq!(client.erase(second, false).await.unwrap().jobs, 0);
    let live = live.restart().await;
    for private in [&envelope, WORDS.as_bytes()] {
        assert_eq!(holding(live.dir.path(), private), nowhere());
    }
    // The same envelope gets the same answer, also now.
    let again = live.client().await.submit_for_acceptance(&signed).await.unwrap();
    assert_eq!(again, accepted);
    let records = log_is_whole(live.stop().await.path());
    let told = records.iter().filter_map(|record| match &record.event {
        Event::Erased { jobs, .. } => Some((jobs[0].job, jobs[0].finished.is_some())),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [(first, true), (second, false)]);
}

// Red without the question for what others take, in `Group::over`.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_job_takes_as_its_input_stays_until_that_is_over() {
    let live = Live::new().await;
    let client = live.client().await;
    let (copies, spins) = (push_wat(&client, CAT).await, push_wat(&client, SPINS).await);
    let keyed = || Job::new(copies).stdin_bytes(WORDS).unique("the key", HOUR, Taken::Existing);
    let first = client.submit(&keyed()).await.unwrap().job;
    finish(&client, first).await;
    // In this envelope the first job has the key of the one that was run.
    let mut flow = Flow::new();
    let stands = flow.add(keyed());
    let takes = flow.add(Job::new(spins).after(stands).stdin_from_outputs());
    let accepted = client.submit_flow(&flow).await.unwrap();
    assert_eq!(accepted[stands.index()].existing, Some(first));
    let (code, text) = refusal(client.erase(first, false).await.unwrap_err());
    assert_eq!(code, RefusalCode::WrongState);
    assert!(text.contains("takes the output of job"), "{text}");
    let takes = accepted[takes.index()].job;
    client.cancel(takes).await.unwrap();
    client.wait(takes).await.unwrap();
    assert_eq!(client.erase(first, false).await.unwrap().merged, [accepted[stands.index()].job]);
    assert_eq!(client.erase(takes, true).await.unwrap().jobs, 2);
    let live = live.restart().await;
    assert_eq!(holding(&live.dir.path().join("state"), WORDS.as_bytes()), nowhere());
    log_is_whole(live.stop().await.path());
}

// Red without `used` in `Store::unread`: the other job's input would be known to nobody.
#[tokio::test(flavor = "multi_thread")]
async fn an_input_stays_that_another_job_reads() {
    let live = Live::new().await;
    let client = live.client().await;
    let (copies, spins) = (push_wat(&client, CAT).await, push_wat(&client, SPINS).await);
    let input = client.push_input(format!("{WORDS};").repeat(2000).into_bytes()).await.unwrap();
    let reads = client.submit(&Job::new(spins).input(input.clone())).await.unwrap().job;
    let read = client.submit(&Job::new(copies).input(input.clone())).await.unwrap().job;
    finish(&client, read).await;
    assert_eq!(client.erase(read, false).await.unwrap().jobs, 1);
    let again = client.submit(&Job::new(copies).input(input.clone())).await.unwrap().job;
    assert_eq!(finish(&client, again).await.view.state, JobState::Succeeded);
    client.cancel(reads).await.unwrap();
    client.wait(reads).await.unwrap();
    for job in [reads, again] {
        assert_eq!(client.erase(job, false).await.unwrap().jobs, 1);
    }
    let (code, _) = refusal(client.submit(&Job::new(copies).input(input)).await.unwrap_err());
    assert_eq!(code, RefusalCode::UnknownInput, "it went with the last of them");
    log_is_whole(live.stop().await.path());
}

// Red without `add_runs`: nobody would find the runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_series_goes_with_all_its_runs_once_it_is_over() {
    let live = Live::new().await;
    let client = live.client().await;
    let module = push_wat(&client, CAT).await;
    let every_minute = Repeats::new("* * * * *", "UTC", 24 * HOUR).missed(Missed::All(RUNS));
    let job = Job::new(module).stdin_bytes(WORDS).repeat(every_minute);
    let signed = client.sign(&job).await.unwrap();
    let series = client.submit_signed(&signed).await.unwrap()[0].job;
    client.close().await;
    let dir = live.stop().await;
    passes(dir.path(), Duration::from_secs(600)).await;
    let live = Live { host: start(dir.path(), |_| {}).await, dir };
    let client = live.client().await;
    let runs = loop {
        let jobs = client.list(ListFilter::default()).await.unwrap().jobs;
        let runs: Vec<_> = jobs.iter().filter(|view| view.state == JobState::Succeeded).collect();
        if runs.len() as u32 == RUNS {
            break runs.into_iter().map(|view| view.job).collect::<Vec<_>>();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let (code, text) = refusal(client.erase(runs[0], true).await.unwrap_err());
    assert_eq!(code, RefusalCode::WrongState);
    assert!(text.contains(&format!("job {series} is scheduled")), "{text}");
    client.cancel(series).await.unwrap();
    client.wait(series).await.unwrap();
    let (_, text) = refusal(client.erase(runs[0], false).await.unwrap_err());
    assert!(text.contains("with 3 others"), "{text}");
    let evidence = live.dir.path().join("evidence");
    for private in [&piece(&signed), WORDS.as_bytes()] {
        assert_ne!(holding(&evidence, private), nowhere());
    }
    assert_eq!(client.erase(runs[0], true).await.unwrap().jobs, RUNS + 1);
    for job in runs.iter().chain([&series]) {
        gone(&client, *job).await;
    }
    for private in [&piece(&signed), WORDS.as_bytes()] {
        assert_eq!(holding(&evidence, private), nowhere());
    }
    let live = live.restart().await;
    for private in [&piece(&signed), WORDS.as_bytes()] {
        assert_eq!(holding(live.dir.path(), private), nowhere());
    }
    log_is_whole(live.stop().await.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_erases_a_job_of_any_tenant() {
    let live = Live::with(|config| {
        let mut other = config.principals[0].clone();
        other.name = "other".parse().unwrap();
        other.tenant = "other".parse().unwrap();
        other.key = SecretKey::from_seed(&[9; 32].into()).public();
        other.roles = Roles::USUAL;
        config.principals.push(other);
    })
    .await;
    let other =
        live.client_with(|options| options.identity = SecretKey::from_seed(&[9; 32].into()).into()).await;
    let module = push_wat(&other, CAT).await;
    let job = other.submit(&Job::new(module).stdin_bytes(WORDS)).await.unwrap().job;
    finish(&other, job).await;
    let client = live.client().await;
    let (code, _) = refusal(client.show(job).await.unwrap_err());
    assert_eq!(code, RefusalCode::UnknownJob, "it is somebody else's");
    assert_eq!(client.erase(job, false).await.unwrap().jobs, 1);
    gone(&other, job).await;
    let (code, _) = refusal(client.show(job).await.unwrap_err());
    assert_eq!(code, RefusalCode::UnknownJob, "and still is");
    assert_eq!(holding(&live.dir.path().join("evidence"), WORDS.as_bytes()), nowhere());
    log_is_whole(live.stop().await.path());
}
