//! The SDK checks what the host says, even on the pinned channel: a wrong answer is an error, never a result.

use std::time::Duration;

use strongroom_job::{CloseCode, Digest, ModuleRef, OutputStream};
use strongroom_sdk::{Client, ConnectOptions, Error, Identity, Job, JobId, Retry};

use super::site::{Lie, Site, soon};

async fn finished_job() -> (Site, Client, JobId) {
    let me = Identity::generate().unwrap();
    let site = Site::start(&[&me]);
    let pause = Duration::from_millis(1);
    let retry = Retry { attempts: 3, first_pause: pause, max_pause: pause, queue_full: true };
    let client = soon(Client::connect(ConnectOptions { retry, ..site.options(&me) })).await.unwrap();
    let accepted = soon(client.submit(&job())).await.unwrap();
    (site, client, accepted.job)
}

fn job() -> Job {
    Job::new(ModuleRef { digest: Digest::of(b"module"), length: 7 }).priority(50)
}

async fn fetch(client: &Client, job: JobId) -> Result<u64, Error> {
    soon(client.fetch_output(job, OutputStream::Stdout, &mut Vec::new())).await
}

// Red without the comparison of ids in `send_envelope`.
#[tokio::test]
async fn another_job_than_the_submitted_one_is_noticed() {
    let (site, client, _) = finished_job().await;
    site.fake.tell(Lie::OtherJob);
    let error = soon(client.submit(&job())).await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
}

// Red without the check of the acceptance in `send_envelope`.
#[tokio::test]
async fn an_answer_that_the_host_did_not_sign_is_noticed() {
    let (site, client, _) = finished_job().await;
    site.fake.tell(Lie::OtherPlace);
    let error = soon(client.submit(&job())).await.unwrap_err();
    assert!(
        matches!(&error, Error::Protocol { detail, .. } if detail.contains("bad signature")),
        "{error:?}"
    );
}

// Red without `receipt_of` in `wait`.
#[tokio::test]
async fn an_end_without_a_good_receipt_is_noticed() {
    let me = Identity::generate().unwrap();
    let site = Site::start(&[&me]);
    let options = ConnectOptions { check_receipts: true, ..site.options(&me) };
    let client = soon(Client::connect(options)).await.unwrap();
    let job = soon(client.submit(&job())).await.unwrap().job;
    let error = soon(client.wait(job)).await.unwrap_err();
    assert!(matches!(&error, Error::BadReceipt { job: of, .. } if *of == job), "{error:?}");
}

// Red without the comparison of ids in `view`.
#[tokio::test]
async fn another_job_than_the_one_asked_for_is_noticed() {
    let (site, client, job) = finished_job().await;
    site.fake.tell(Lie::OtherView);
    for result in [soon(client.show(job)).await.err(), soon(client.wait(job)).await.err()] {
        assert!(matches!(result, Some(Error::Protocol { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn an_end_without_an_outcome_is_noticed() {
    let (site, client, job) = finished_job().await;
    site.fake.tell(Lie::NoEnd);
    for result in [soon(client.wait(job)).await.err(), soon(client.ends([job]).next()).await.err()] {
        assert!(matches!(result, Some(Error::Protocol { .. })), "{result:?}");
    }
}

// Red without the look at `asked` in `Answer::view`.
#[tokio::test]
async fn ends_that_were_not_asked_for_and_ends_that_are_missing_are_noticed() {
    let (site, client, job) = finished_job().await;
    for (lie, said) in [(Lie::OtherView, "which was not asked for"), (Lie::FewerEnds, "told of 1 jobs")] {
        site.fake.tell(lie);
        let error = soon(client.ends([job]).next()).await.unwrap_err();
        assert!(matches!(&error, Error::Protocol { detail, .. } if detail.contains(said)), "{error:?}");
    }
}

// Red without `check` in `OutputReader`.
#[tokio::test]
async fn output_that_differs_in_one_bit_is_noticed() {
    let (site, client, job) = finished_job().await;
    assert_eq!(fetch(&client, job).await.unwrap(), 50 << 10);
    site.fake.tell(Lie::OtherOutput);
    let error = fetch(&client, job).await.unwrap_err();
    assert!(
        matches!(&error, Error::OutputMismatch { found_length: 51200, expected_length: 51200, .. }),
        "{error:?}"
    );
}

// Red without the reset in `Answer::drop`: the end looks like any other.
#[tokio::test]
async fn output_that_breaks_off_is_never_taken_for_the_whole() {
    let (site, client, job) = finished_job().await;
    for lie in [Lie::FailingOutput, Lie::ShortOutput] {
        site.fake.tell(lie);
        let before = site.fake.called();
        let error = fetch(&client, job).await.unwrap_err();
        assert!(matches!(error, Error::Closed { code: CloseCode::HostFault, .. }), "{lie:?}: {error:?}");
        assert!(site.fake.called() > before);
    }
}
