//! What a client does on an ordinary day, through the SDK.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use strongroom_job::{Digest, JobId, JobState, MAX_BATCH_JOBS, ModuleRef, OutputStream, RefusalCode};
use strongroom_sdk::{
    Batch, BatchJob, Client, ConnectOptions, Error, Identity, Input, Job, ListFilter, Progress, Retry, Source,
};

use super::site::{HANG, PANIC, Site, output_of, soon, until};

const MIB: usize = 1 << 20;

fn identity() -> Identity {
    Identity::generate().unwrap()
}

fn module() -> ModuleRef {
    ModuleRef { digest: Digest::of(b"module"), length: 7 }
}

fn code(error: &Error) -> RefusalCode {
    match error {
        Error::Refused(refusal) => refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}

fn quick() -> Retry {
    Retry {
        attempts: 5,
        first_pause: Duration::from_millis(1),
        max_pause: Duration::from_millis(5),
        queue_full: true,
    }
}

async fn site_and_client() -> (Site, Client) {
    let me = identity();
    let site = Site::start(&[&me]);
    let client = site.client(&me).await;
    (site, client)
}

#[tokio::test]
async fn a_job_goes_in_and_its_output_comes_out() {
    let (site, client) = site_and_client().await;
    let bytes = vec![7; 1000];
    let module = soon(client.push_module(bytes.clone()).into_future()).await.unwrap();
    assert_eq!(module, ModuleRef { digest: Digest::of(&bytes), length: 1000 });
    assert_eq!(soon(client.modules()).await.unwrap()[0].module, module);

    let accepted = soon(client.submit(&Job::new(module).arg("a").priority(100))).await.unwrap();
    let finished = soon(client.wait(accepted.job)).await.unwrap();
    assert_eq!(finished.view.job, accepted.job);
    assert_eq!(finished.view.principal, client.public_key());
    assert_eq!(finished.end.stdout.length, 100 << 10);
    assert_eq!(soon(client.show(accepted.job)).await.unwrap(), finished.view);

    let mut output = Vec::new();
    let length = soon(client.fetch_output(accepted.job, OutputStream::Stdout, &mut output)).await.unwrap();
    assert_eq!(length, 100 << 10);
    assert_eq!(output, output_of(&finished.view));

    let mut rest = Vec::new();
    let reader = soon(client.output(accepted.job, OutputStream::Stdout, 5, false)).await.unwrap();
    assert_eq!(reader.remaining(), Some((100 << 10) - 5));
    assert_eq!(soon(reader.copy_to(&mut rest)).await.unwrap(), 100 << 10);
    assert_eq!(rest, output[5..]);
    assert_eq!(site.fake.submitted(), 1);
    soon(client.close()).await;
}

#[tokio::test]
async fn refusals_reach_the_caller_with_their_code() {
    let (_site, client) = site_and_client().await;
    let nobody = JobId::from_bytes([1; 16]);
    assert_eq!(code(&soon(client.show(nobody)).await.unwrap_err()), RefusalCode::UnknownJob);
    for limit in [0, 501] {
        let listed = soon(client.list(ListFilter { limit, ..ListFilter::default() })).await;
        assert_eq!(code(&listed.unwrap_err()), RefusalCode::BadRequest);
    }
    let over = soon(client.submit(&Job::new(module()))).await.unwrap();
    assert_eq!(code(&soon(client.cancel(over.job)).await.unwrap_err()), RefusalCode::WrongState);
}

#[tokio::test]
async fn a_batch_is_signed_once_and_answered_in_its_order() {
    let (site, client) = site_and_client().await;
    let jobs = (0..1000).map(|index| BatchJob::new().args([index.to_string()]));
    let batch = Batch::new(Job::new(module())).jobs(jobs);
    let accepted = soon(client.submit_batch(&batch)).await.unwrap();
    assert_eq!(accepted.len(), 1000);
    assert!(accepted.iter().zip(0..).all(|(job, index)| job.log_index == index));
    assert_eq!(site.fake.submitted(), 1);

    let page = soon(client.list(ListFilter { limit: 500, ..ListFilter::default() })).await.unwrap();
    assert_eq!((page.jobs.len(), page.next), (500, page.jobs.last().map(|last| last.job)));
    let none = ListFilter { state: Some(JobState::Failed), ..ListFilter::default() };
    assert!(soon(client.list(none)).await.unwrap().jobs.is_empty());
    let error = soon(client.submit_batch(&Batch::new(Job::new(module())))).await.unwrap_err();
    assert!(matches!(error, Error::InvalidJob(_)), "{error:?}");
}

#[tokio::test]
async fn the_same_envelope_may_be_sent_again_by_its_signer_to_its_host_only() {
    let (me, other) = (identity(), identity());
    let site = Site::start(&[&me, &other]);
    let client = site.client(&me).await;
    let signed = soon(client.sign(&Job::new(module()))).await.unwrap();
    let first = soon(client.submit_signed(&signed)).await.unwrap();
    assert_eq!(first[0].job, signed.jobs[0]);
    assert_eq!(soon(client.submit_envelope(&signed.envelope)).await.unwrap(), first);
    let envelopes = site.fake.envelopes.lock().unwrap().clone();
    assert_eq!(envelopes, [signed.envelope.as_bytes(), signed.envelope.as_bytes()]);

    let stranger = site.client(&other).await;
    let error = soon(stranger.submit_envelope(&signed.envelope)).await.unwrap_err();
    assert!(matches!(error, Error::InvalidEnvelope(_)), "{error:?}");
    let elsewhere = Site::start(&[&me]);
    let error = soon(elsewhere.client(&me).await.submit_envelope(&signed.envelope)).await.unwrap_err();
    assert!(matches!(error, Error::WrongAudience { .. }), "{error:?}");
    assert_eq!(elsewhere.fake.submitted(), 0);
}

#[tokio::test]
async fn a_full_queue_is_tried_again_but_not_for_ever() {
    let me = identity();
    let site = Site::start(&[&me]);
    let patient = ConnectOptions { retry: quick(), ..site.options(&me) };
    let client = soon(Client::connect(patient)).await.unwrap();
    site.fake.full_for.store(4, Ordering::SeqCst);
    soon(client.submit(&Job::new(module()))).await.unwrap();
    site.fake.full_for.store(5, Ordering::SeqCst);
    let error = soon(client.submit(&Job::new(module()))).await.unwrap_err();
    assert_eq!(code(&error), RefusalCode::QueueFull);
    assert_eq!(site.fake.full_for.load(Ordering::SeqCst), 0);
    assert_eq!(site.fake.submitted(), 1);
}

/// All windows between the SDK and the service, with room for what each side has in its hands.
const IN_FLIGHT: u64 = 12 << 20;

// Red with the windows of both sides at 256 MiB.
#[tokio::test]
async fn a_large_upload_waits_for_a_slow_service_and_then_arrives_whole() {
    let (site, client) = site_and_client().await;
    let content: Vec<u8> = (0..64 * MIB).map(|index| u8::try_from(index % 251).unwrap()).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &content).unwrap();
    site.fake.uploads_flow.send_replace(false);

    let shown = Mutex::new(Vec::new());
    let upload = client.push_input(file.path()).on_progress(|progress| shown.lock().unwrap().push(progress));
    let mut upload = Box::pin(upload.into_future());
    // The service takes nothing: the client must come to rest with little of the file on its way.
    let mut before = 0;
    soon(async {
        loop {
            assert!(tokio::time::timeout(Duration::from_millis(500), &mut upload).await.is_err());
            let sent = shown.lock().unwrap().last().map_or(0, |progress: &Progress| progress.sent);
            if sent > 0 && sent == before {
                break;
            }
            before = sent;
        }
    })
    .await;
    assert!(before < IN_FLIGHT, "{before} bytes left the client while the service took none");

    site.fake.uploads_flow.send_replace(true);
    let input = soon(upload).await.unwrap();
    let digest = Digest::of(&content);
    assert_eq!(input, Input::Blob { digest, length: content.len() as u64 });
    assert_eq!(site.fake.blobs.lock().unwrap().get(&digest), Some(&(content.len() as u64)));
    let shown = shown.into_inner().unwrap();
    assert!(shown.windows(2).all(|pair| pair[0].sent < pair[1].sent));
    assert_eq!(shown.last(), Some(&Progress { sent: 64 << 20, total: 64 << 20 }));

    let quiet = client.push_input(file.path()).on_progress(|progress| panic!("sent again: {progress:?}"));
    assert_eq!(soon(quiet.into_future()).await.unwrap(), input);
}

#[tokio::test]
async fn a_stalled_upload_ends_at_its_timeout_and_leaves_nothing() {
    let me = identity();
    let site = Site::start(&[&me]);
    let mut options = ConnectOptions { retry: Retry::none(), ..site.options(&me) };
    options.timeouts.answer = Duration::from_millis(300);
    let client = soon(Client::connect(options)).await.unwrap();
    site.fake.uploads_flow.send_replace(false);
    let error = soon(client.push_input(vec![1; 32 * MIB]).into_future()).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    site.fake.uploads_flow.send_replace(true);
    until(|| site.fake.cut_off.load(Ordering::SeqCst) == 1).await;
    assert!(site.fake.blobs.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_upload_that_is_too_large_is_refused_before_it_is_sent() {
    let (_site, client) = site_and_client().await;
    let sent = Mutex::new(0);
    let push =
        client.push_module(vec![0; 64 * MIB]).on_progress(|progress| *sent.lock().unwrap() = progress.sent);
    assert_eq!(code(&soon(push.into_future()).await.unwrap_err()), RefusalCode::TooLarge);
    assert!(*sent.lock().unwrap() < IN_FLIGHT);
}

#[tokio::test]
async fn large_input_is_pushed_when_its_job_is_signed() {
    let (site, client) = site_and_client().await;
    let input = vec![5; 20_000];
    soon(client.submit(&Job::new(module()).stdin_bytes(input.clone()))).await.unwrap();
    assert_eq!(site.fake.blobs.lock().unwrap().get(&Digest::of(&input)), Some(&20_000));
    let missing = Job::new(module()).stdin_file("/no/such/file");
    let error = soon(client.submit(&missing)).await.unwrap_err().to_string();
    assert!(error.starts_with("/no/such/file: "), "{error}");
    let open = tempfile::tempfile().unwrap();
    let empty = soon(client.push_input(Source::file(open)).into_future()).await.unwrap();
    assert_eq!(empty, Input::Blob { digest: Digest::of(b""), length: 0 });
}

// Red without `catch_unwind` in `stream::serve`: no answer comes.
#[tokio::test]
async fn a_panic_ends_one_request_and_nothing_else() {
    let (_site, client) = site_and_client().await;
    let hanging = soon(client.submit(&Job::new(module()).arg(HANG))).await.unwrap();
    let panics = soon(client.submit(&Job::new(module()).arg(PANIC))).await.unwrap();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.wait(hanging.job).await }
    });
    let error = soon(client.show(panics.job)).await.unwrap_err();
    assert_eq!(code(&error), RefusalCode::HostFault);
    assert!(!error.to_string().contains("a panic of the service"), "{error}");
    assert!(!waiting.is_finished());
    soon(client.cancel(hanging.job)).await.unwrap();
    _site.fake.release.notify_waiters();
    assert_eq!(soon(waiting).await.unwrap().unwrap().view.job, hanging.job);
}

#[tokio::test]
async fn ends_come_as_they_come_and_none_is_lost() {
    let (site, client) = site_and_client().await;
    let mut jobs = Vec::new();
    for arg in [HANG, "a", "b"] {
        jobs.push(soon(client.submit(&Job::new(module()).arg(arg))).await.unwrap().job);
    }
    let mut ends = client.ends(jobs.iter().copied().chain([jobs[1]]));
    let mut over = HashSet::new();
    for _ in 0..2 {
        over.insert(soon(ends.next()).await.unwrap().unwrap().view.job);
    }
    assert_eq!(over, HashSet::from([jobs[1], jobs[2]]));
    for _ in 0..3 {
        let waiting = tokio::time::timeout(Duration::from_millis(50), ends.next()).await;
        assert!(waiting.is_err(), "{waiting:?}");
    }
    let called = site.fake.called();
    let last = tokio::spawn(async move { (ends.next().await, ends.next().await) });
    until(|| site.fake.waiting.load(Ordering::SeqCst) == 1).await;
    site.fake.release.notify_waiters();
    let (last, none) = soon(last).await.unwrap();
    assert_eq!(last.unwrap().unwrap().view.job, jobs[0]);
    assert_eq!(none.unwrap(), None);
    assert_eq!(site.fake.called(), called, "it was asked once");
    assert_eq!(soon(client.ends([]).next()).await.unwrap(), None);
}

#[tokio::test]
async fn the_ends_of_more_jobs_than_a_host_takes_at_once_are_asked_for_in_turns() {
    let (site, client) = site_and_client().await;
    let mut jobs = Vec::new();
    for count in [MAX_BATCH_JOBS, 3] {
        let batch =
            Batch::new(Job::new(module())).jobs((0..count).map(|n| BatchJob::new().args([n.to_string()])));
        jobs.extend(soon(client.submit_batch(&batch)).await.unwrap().iter().map(|accepted| accepted.job));
    }
    let calls = site.fake.called();
    let (mut ends, mut over) = (client.ends(jobs.clone()), HashSet::new());
    while let Some(finished) = soon(ends.next()).await.unwrap() {
        assert!(over.insert(finished.view.job), "told twice");
    }
    assert_eq!(over, jobs.into_iter().collect());
    assert_eq!(site.fake.called() - calls, 2);
}

// Red without `deaf` in `while_heard`.
#[tokio::test]
async fn a_wait_that_nobody_listens_to_ends() {
    let (site, client) = site_and_client().await;
    let hanging = soon(client.submit(&Job::new(module()).arg(HANG))).await.unwrap();
    for gone in [false, true] {
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.wait(hanging.job).await }
        });
        until(|| site.fake.waiting.load(Ordering::SeqCst) == 1).await;
        if gone {
            soon(client.close()).await;
        }
        waiting.abort();
        until(|| site.fake.waiting.load(Ordering::SeqCst) == 0).await;
    }
}
