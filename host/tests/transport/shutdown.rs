//! The end of a host: what is in progress ends in order, nothing new begins, and clients find the next one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use strongroom_job::{CloseCode, Digest, ModuleRef, OutputStream, RefusalCode, Request, Response, frame};
use strongroom_sdk::{Client, ConnectOptions, Error, Identity, Job, Retry};

use super::site::{Fake, HANG, Site, bounds, soon, until};
use crate::common::raw::{Peer, answer, open_with};

fn hanging_job() -> Job {
    Job::new(ModuleRef { digest: Digest::of(b"module"), length: 7 }).arg(HANG)
}

async fn impatient(site: &Site, me: &Identity) -> Client {
    soon(Client::connect(ConnectOptions { retry: Retry::none(), ..site.options(me) })).await.unwrap()
}

// Red with `run` returning at `drain`; red without the stage in `handle`.
#[tokio::test]
async fn a_drain_lets_answers_arrive_and_takes_nothing_new() {
    let me = Identity::generate().unwrap();
    let mut site = Site::start(&[&me]);
    let client = impatient(&site, &me).await;
    let accepted = soon(client.submit(&hanging_job())).await.unwrap();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.wait(accepted.job).await }
    });
    until(|| site.fake.waiting.load(Ordering::SeqCst) == 1).await;

    site.drain.take().unwrap().send(()).unwrap();
    let refused = soon(async {
        loop {
            match client.submit(&hanging_job()).await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                Err(error) => return error,
            }
        }
    })
    .await;
    assert!(
        matches!(&refused, Error::Refused(refusal) if refusal.code == RefusalCode::ShuttingDown),
        "{refused:?}"
    );
    let submitted = site.fake.submitted();
    let mut options = ConnectOptions { retry: Retry::none(), ..site.options(&me) };
    options.timeouts.connect = Duration::from_millis(300);
    assert!(soon(Client::connect(options)).await.is_err());
    assert!(!site.running.is_finished());

    site.fake.release.notify_waiters();
    assert_eq!(soon(waiting).await.unwrap().unwrap().view.job, accepted.job);
    soon(site.running).await.unwrap();
    assert_eq!(site.fake.submitted(), submitted);
}

// Red without the wait in `Answer::delivered`.
#[tokio::test]
async fn a_drain_lets_the_last_byte_of_an_answer_arrive() {
    let me = Identity::generate().unwrap();
    let mut site = Site::start(&[&me]);
    let long = Job::new(ModuleRef { digest: Digest::of(b"module"), length: 7 }).priority(100);
    let job = soon(site.client(&me).await.submit(&long)).await.unwrap().job;
    let connection = Peer::known(&me).connect(site.address).await;
    let output = Request::Output { job, stream: OutputStream::Stdout, offset: 0, follow: true };
    let (mut send, mut recv) = open_with(&connection, &frame::encode_header(&output)).await;
    send.finish().unwrap();
    let Response::Output { length: Some(length) } = soon(answer(&mut recv)).await.unwrap() else { panic!() };
    // The host has handed all of it to QUIC by now, and most of it has not left.
    site.drain.take().unwrap().send(()).unwrap();
    let output = soon(recv.read_to_end(1 << 20)).await.unwrap();
    assert_eq!((output.len() as u64, length), (100 << 10, 100 << 10));
    soon(site.running).await.unwrap();
}

// Red without the `close` arm in `run`.
#[tokio::test]
async fn a_close_cuts_off_what_would_not_end() {
    let me = Identity::generate().unwrap();
    let mut site = Site::start(&[&me]);
    let client = impatient(&site, &me).await;
    let accepted = soon(client.submit(&hanging_job())).await.unwrap();
    let waiting = tokio::spawn(async move { client.wait(accepted.job).await });
    until(|| site.fake.waiting.load(Ordering::SeqCst) == 1).await;
    site.drain.take().unwrap().send(()).unwrap();
    site.close.take().unwrap().send(()).unwrap();
    soon(site.running).await.unwrap();
    let error = soon(waiting).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Closed { code: CloseCode::ShuttingDown, .. }), "{error:?}");
    assert_eq!(site.fake.waiting.load(Ordering::SeqCst), 0);
}

// Red when `Told::next` gives temporary trouble back at once.
#[tokio::test]
async fn ends_are_asked_for_again_after_a_restart() {
    let (me, host) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let fake = Fake::knowing(&[&me]);
    let any = (std::net::Ipv4Addr::LOCALHOST, 0).into();
    let mut first = Site::at(any, &host, Arc::clone(&fake), &bounds());
    let client = first.client(&me).await;
    let job = soon(client.submit(&hanging_job())).await.unwrap().job;
    let waiting = tokio::spawn(async move { client.ends([job]).next().await });
    until(|| fake.waiting.load(Ordering::SeqCst) == 1).await;
    first.drain.take().unwrap().send(()).unwrap();
    first.close.take().unwrap().send(()).unwrap();
    soon(first.running).await.unwrap();
    until(|| fake.waiting.load(Ordering::SeqCst) == 0).await;

    let _second = Site::at(first.address, &host, Arc::clone(&fake), &bounds());
    until(|| fake.waiting.load(Ordering::SeqCst) == 1).await;
    fake.release.notify_waiters();
    assert_eq!(soon(waiting).await.unwrap().unwrap().unwrap().view.job, job);
}

// Red with a session that is not made again in `Link::session`.
#[tokio::test]
async fn a_client_finds_the_host_again_after_a_restart() {
    let me = Identity::generate().unwrap();
    let host = Identity::generate().unwrap();
    let fake = Fake::knowing(&[&me]);
    let any = (std::net::Ipv4Addr::LOCALHOST, 0).into();
    let mut first = Site::at(any, &host, Arc::clone(&fake), &bounds());
    let client = first.client(&me).await;
    let accepted = soon(client.submit(&hanging_job())).await.unwrap();
    first.drain.take().unwrap().send(()).unwrap();
    soon(first.running).await.unwrap();

    let _second = Site::at(first.address, &host, fake, &bounds());
    assert_eq!(soon(client.show(accepted.job)).await.unwrap().job, accepted.job);
}

// Red without the comparison in `verify_server_cert`: whoever took the port would be trusted.
#[tokio::test]
async fn another_host_on_the_same_port_is_not_trusted_after_a_restart() {
    let me = Identity::generate().unwrap();
    let fake = Fake::knowing(&[&me]);
    let any = (std::net::Ipv4Addr::LOCALHOST, 0).into();
    let mut first = Site::at(any, &Identity::generate().unwrap(), Arc::clone(&fake), &bounds());
    let client = first.client(&me).await;
    let accepted = soon(client.submit(&hanging_job())).await.unwrap();
    first.drain.take().unwrap().send(()).unwrap();
    soon(first.running).await.unwrap();

    let other = Site::at(first.address, &Identity::generate().unwrap(), fake, &bounds());
    let called = other.fake.called();
    let error = soon(client.show(accepted.job)).await.unwrap_err();
    assert!(matches!(error, Error::WrongHostKey { .. }), "{error:?}");
    assert_eq!(other.fake.called(), called);
}
