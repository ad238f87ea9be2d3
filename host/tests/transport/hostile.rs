//! What must be survived: hostile list 9, 14, 15, 16, 17.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quinn::{Connection, ReadError, ReadExactError, RecvStream, SendStream, VarInt};
use strongroom_job::frame::{self, MAX_REQUEST_BYTES};
use strongroom_job::{
    BlobKind, CloseCode, Digest, JobId, MAX_BATCH_JOBS, MAX_ENVELOPE_BYTES, ModuleRef, RefusalCode, Request,
    Response,
};
use strongroom_sdk::{Batch, BatchJob, Identity, Job};

use super::site::{HANG, Site, bounds, soon, until};
use crate::common::raw::{self, Peer, answer, ask, open_with};

fn identities<const N: usize>() -> [Identity; N] {
    [(); N].map(|()| Identity::generate().unwrap())
}

fn job() -> Job {
    Job::new(ModuleRef { digest: Digest::of(b"module"), length: 7 })
}

async fn refused(recv: &mut RecvStream) -> RefusalCode {
    match soon(answer(recv)).await.unwrap() {
        Response::Refused(refusal) => refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}

/// How the host ended a stream that it gave no answer on.
async fn ended_with(recv: &mut RecvStream) -> VarInt {
    match soon(recv.read_exact(&mut [0])).await {
        Err(ReadExactError::ReadError(ReadError::Reset(code))) => code,
        other => panic!("ended otherwise: {other:?}"),
    }
}

fn too_slow() -> VarInt {
    CloseCode::TooSlow.number().into()
}

// Red without the bound in `header_length`, and without the one in `submit`.
#[tokio::test]
async fn a_gigabyte_that_is_only_announced_is_refused_at_once() {
    let [me] = identities();
    let site = Site::start(&[&me]);
    let connection = Peer::known(&me).connect(site.address).await;
    let called = site.fake.called();

    let (_send, mut recv) = open_with(&connection, &(1u32 << 30).to_be_bytes()).await;
    assert_eq!(refused(&mut recv).await, RefusalCode::BadRequest);
    let just_too_long = u32::try_from(MAX_REQUEST_BYTES).unwrap() + 1;
    let (_send, mut recv) = open_with(&connection, &just_too_long.to_be_bytes()).await;
    assert_eq!(refused(&mut recv).await, RefusalCode::BadRequest);
    for length in [MAX_ENVELOPE_BYTES as u64 + 1, 1 << 30, u64::MAX] {
        let header = frame::encode_header(&Request::Submit { length });
        let (_send, mut recv) = open_with(&connection, &header).await;
        assert_eq!(refused(&mut recv).await, RefusalCode::TooLarge);
    }
    assert_eq!(site.fake.called(), called);
    let push = Request::Push { kind: BlobKind::Module, digest: Digest::of(b""), length: u64::MAX };
    let (_send, mut recv) = open_with(&connection, &frame::encode_header(&push)).await;
    assert_eq!(refused(&mut recv).await, RefusalCode::TooLarge);
}

// Red without the bounds of `count` in `ends`, and without `seen` in `ids`.
#[tokio::test]
async fn the_ends_of_no_jobs_too_many_or_one_twice_are_refused() {
    let [me] = identities();
    let site = Site::start(&[&me]);
    let connection = Peer::known(&me).connect(site.address).await;
    let called = site.fake.called();
    let most = u32::try_from(MAX_BATCH_JOBS).unwrap();
    for (count, ids) in [(0, 0), (most + 1, 0), (u32::MAX, 0), (2, 2), (2, 1), (1, 2)] {
        let ids = [7; 16].repeat(ids);
        let bytes = [frame::encode_header(&Request::Ends { count }), ids].concat();
        let (mut send, mut recv) = open_with(&connection, &bytes).await;
        // Fails when the host has heard enough.
        let _ = send.finish();
        assert_eq!(refused(&mut recv).await, RefusalCode::BadRequest, "{count}");
    }
    assert_eq!(site.fake.called(), called);
}

// Red without `own_share` in `ends`: a key could make the host remember without an end whom it waits for.
#[tokio::test]
async fn a_key_that_waits_for_too_many_ends_is_busy() {
    let [me, other] = identities();
    let patient = strongroom::config::Bounds { request_timeout: Duration::from_secs(2), ..bounds() };
    let site = Site::with(&[&me, &other], &patient);
    let client = site.client(&me).await;
    let jobs = (0..MAX_BATCH_JOBS).map(|n| BatchJob::new().args([HANG.to_owned(), n.to_string()]));
    let accepted = soon(client.submit_batch(&Batch::new(job()).jobs(jobs))).await.unwrap();
    let ids: Vec<u8> = accepted.iter().flat_map(|accepted| *accepted.job.as_bytes()).collect();
    let asked = [frame::encode_header(&Request::Ends { count: u32::try_from(MAX_BATCH_JOBS).unwrap() }), ids]
        .concat();
    let connection = Peer::known(&me).connect(site.address).await;
    let mut streams = Vec::new();
    for _ in 0..10 {
        let (mut send, recv) = open_with(&connection, &asked).await;
        send.finish().unwrap();
        streams.push((send, recv));
    }
    until(|| site.fake.waiting.load(Ordering::SeqCst) == 10).await;
    let one = [&frame::encode_header(&Request::Ends { count: 1 })[..], accepted[0].job.as_bytes()].concat();
    let ask_for_one = async |connection: &Connection| {
        let (mut send, recv) = open_with(connection, &one).await;
        send.finish().unwrap();
        (send, recv)
    };
    let (_send, mut recv) = ask_for_one(&connection).await;
    assert_eq!(refused(&mut recv).await, RefusalCode::Busy);
    // Another key has its own.
    let theirs = Peer::known(&other).connect(site.address).await;
    let _waits = ask_for_one(&theirs).await;
    until(|| site.fake.waiting.load(Ordering::SeqCst) == 11).await;
    // And who stops listening gives back what he had.
    drop(streams);
    until(|| site.fake.waiting.load(Ordering::SeqCst) == 1).await;
    let _waits = ask_for_one(&connection).await;
    until(|| site.fake.waiting.load(Ordering::SeqCst) == 2).await;
}

#[tokio::test]
async fn a_malformed_header_is_refused_and_the_connection_lives() {
    let [me] = identities();
    let site = Site::start(&[&me]);
    let connection = Peer::known(&me).connect(site.address).await;
    let called = site.fake.called();
    let deep = format!("{{\"type\":{}", "[".repeat(10_000));
    for header in [
        "",
        "{}",
        "null",
        "{\"type\":\"nonsense\"}",
        "{\"type\":\"host\",\"type\":\"host\"}",
        "{\"type\":\"host\",\"extra\":1}",
        "{\"type\":\"host\"}x",
        "{\"type\":\"submit\",\"length\":1.0}",
        "{\"type\":\"submit\",\"length\":-1}",
        "\u{1}\u{2}",
        &deep,
    ] {
        let length = u32::try_from(header.len()).unwrap().to_be_bytes();
        let (_send, mut recv) = open_with(&connection, &[&length, header.as_bytes()].concat()).await;
        assert_eq!(refused(&mut recv).await, RefusalCode::BadRequest, "{header:.40}");
    }
    assert_eq!(site.fake.called(), called);
    assert!(soon(ask(&connection, &Request::Host {})).await.is_ok());
}

// Red without `end` in `submit` and `handle`.
#[tokio::test]
async fn bytes_after_the_announced_ones_are_refused() {
    let [me] = identities();
    let site = Site::start(&[&me]);
    let client = site.client(&me).await;
    let signed = soon(client.sign(&job())).await.unwrap();
    let connection = Peer::known(&me).connect(site.address).await;
    let called = site.fake.called();
    for request in [
        [
            frame::encode_header(&Request::Submit { length: signed.envelope.as_bytes().len() as u64 }),
            signed.envelope.as_bytes().to_vec(),
        ]
        .concat(),
        frame::encode_header(&Request::Host {}),
    ] {
        let (mut send, mut recv) = open_with(&connection, &[&request[..], b"x"].concat()).await;
        let _ = send.finish();
        assert_eq!(refused(&mut recv).await, RefusalCode::BadRequest);
    }
    assert_eq!((site.fake.submitted(), site.fake.called()), (0, called));
}

fn hasty() -> strongroom::config::Bounds {
    strongroom::config::Bounds { request_timeout: Duration::from_millis(300), ..bounds() }
}

/// Writes one byte every 50 ms until the host has had enough; never more than `bytes` of them.
async fn drip(mut send: SendStream, bytes: usize) {
    for _ in 0..bytes {
        if send.write_all(b"0").await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

// Red without the deadline in `header`; the drip is red with a deadline for each byte.
#[tokio::test]
async fn a_header_that_does_not_come_ends_at_its_deadline() {
    let [me] = identities();
    let site = Site::with(&[&me], &hasty());
    let connection = Peer::known(&me).connect(site.address).await;
    let called = site.fake.called();

    let (_idle, mut idle) = open_with(&connection, &[0]).await;
    let (dripping, mut dripped) = open_with(&connection, &1000u32.to_be_bytes()).await;
    let drip = tokio::spawn(drip(dripping, 1000));
    assert_eq!(ended_with(&mut idle).await, too_slow());
    assert_eq!(ended_with(&mut dripped).await, too_slow());
    soon(drip).await.unwrap();
    assert_eq!(site.fake.called(), called);
    assert!(soon(ask(&connection, &Request::Host {})).await.is_ok());
}

// Red without the deadline in `piece`; the drip is red with a deadline for each byte.
#[tokio::test]
async fn a_body_that_does_not_come_ends_at_its_deadline() {
    let [me] = identities();
    let site = Site::with(&[&me], &hasty());
    let connection = Peer::known(&me).connect(site.address).await;
    let submit = frame::encode_header(&Request::Submit { length: 1000 });
    let push = Request::Push { kind: BlobKind::Input, digest: Digest::of(b"x"), length: 1000 };
    let push = frame::encode_header(&push);
    for header in [submit, push] {
        let (_idle, mut idle) = open_with(&connection, &header).await;
        let (dripping, mut dripped) = open_with(&connection, &header).await;
        let drip = tokio::spawn(drip(dripping, 1000));
        assert_eq!(ended_with(&mut idle).await, too_slow());
        assert_eq!(ended_with(&mut dripped).await, too_slow());
        soon(drip).await.unwrap();
    }
    assert_eq!(site.fake.submitted(), 0);
    until(|| site.fake.cut_off.load(Ordering::SeqCst) == 2).await;
    assert!(site.fake.blobs.lock().unwrap().is_empty());
}

// Red without `end`'s deadline.
#[tokio::test]
async fn a_request_that_is_never_ended_is_never_carried_out() {
    let [me] = identities();
    let site = Site::with(&[&me], &hasty());
    let client = site.client(&me).await;
    let signed = soon(client.sign(&job())).await.unwrap();
    let bytes = signed.envelope.as_bytes();
    let connection = Peer::known(&me).connect(site.address).await;
    let header = frame::encode_header(&Request::Submit { length: bytes.len() as u64 });
    let (_send, mut recv) = open_with(&connection, &[&header, bytes].concat()).await;
    assert_eq!(ended_with(&mut recv).await, too_slow());
    assert_eq!(site.fake.submitted(), 0);
}

// Red without the bound in `Keyring::admit`.
#[tokio::test]
async fn one_key_has_its_share_of_connections_and_no_more() {
    let [greedy, other] = identities();
    let site = Site::start(&[&greedy, &other]);
    let peer = Peer::known(&greedy);
    let mut held = Vec::new();
    for _ in 0..bounds().max_connections_per_key {
        held.push(peer.connect(site.address).await);
    }
    let one_more = soon(peer.call(site.address)).await.unwrap();
    let expected = format!("{:?}", VarInt::from_u32(CloseCode::TooManyConnections.number()));
    match soon(one_more.closed()).await {
        quinn::ConnectionError::ApplicationClosed(close) => {
            assert_eq!(format!("{:?}", close.error_code), expected)
        }
        error => panic!("ended otherwise: {error:?}"),
    }
    assert!(held.iter().all(|connection| connection.close_reason().is_none()));
    soon(site.client(&other).await.host()).await.unwrap();
    // A place that is given back can be taken again.
    drop(held.pop());
    let again = soon(async {
        loop {
            let connection = peer.call(site.address).await.unwrap();
            if ask(&connection, &Request::Host {}).await.is_ok() {
                return connection;
            }
        }
    })
    .await;
    assert!(again.close_reason().is_none());
}

// Red with `None` in place of the search for the richest key.
#[tokio::test]
async fn keys_that_hold_all_connections_make_room_for_another_key() {
    let [first, second, late] = identities();
    let few = strongroom::config::Bounds { max_connections: 8, max_connections_per_key: 4, ..bounds() };
    let site = Site::with(&[&first, &second, &late], &few);
    let mut held = Vec::new();
    for greedy in [&first, &second] {
        for _ in 0..4 {
            held.push(Peer::known(greedy).connect(site.address).await);
        }
    }
    let client = site.client(&late).await;
    soon(client.host()).await.unwrap();
    until(|| held.iter().filter(|connection| connection.close_reason().is_some()).count() == 1).await;
}

/// The share of `keyring::MAX_REQUESTS_PER_KEY`.
const REQUESTS_PER_KEY: usize = 4096;

// Red without the permit in `connection::serve`; the connections are red without `closed` beside it.
#[tokio::test]
async fn one_key_has_its_share_of_requests_and_another_is_still_served() {
    let [greedy, other] = identities();
    let site = Site::start(&[&greedy, &other]);
    let client = site.client(&greedy).await;
    let hanging = soon(client.submit(&job().arg(HANG))).await.unwrap();
    let wait = frame::encode_header(&Request::Wait { job: hanging.job });
    // Five connections with 1,000 waits each: more than the share.
    let mut flood: Vec<(Connection, Vec<(SendStream, RecvStream)>)> = Vec::new();
    for _ in 0..5 {
        let connection = Peer::known(&greedy).connect(site.address).await;
        let mut streams = Vec::new();
        for _ in 0..1000 {
            let (mut send, recv) = open_with(&connection, &wait).await;
            send.finish().unwrap();
            streams.push((send, recv));
        }
        flood.push((connection, streams));
    }
    let waiting = || site.fake.waiting.load(Ordering::SeqCst);
    // Connections without a stream hold a permit each while they listen.
    until(|| waiting() > REQUESTS_PER_KEY - 10).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(waiting() <= REQUESTS_PER_KEY, "{} requests of one key are in progress", waiting());
    soon(site.client(&other).await.host()).await.unwrap();
    connections_come_and_go(&site, &Peer::known(&greedy)).await;
    drop(flood);
    until(|| waiting() == 0).await;
    soon(client.host()).await.unwrap();
}

/// Half of a key's connections, opened and closed again and again: closed ones must not keep their place.
async fn connections_come_and_go(site: &Site, peer: &Peer) {
    for _ in 0..3 {
        // Sooner than the flood's own idle timeout, which would free everything.
        let round = tokio::time::timeout(Duration::from_secs(10), async {
            loop {
                let mut held = Vec::new();
                for _ in 0..bounds().max_connections_per_key / 2 {
                    held.push(peer.call(site.address).await.unwrap());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                if held.iter().all(|connection| connection.close_reason().is_none()) {
                    return;
                }
            }
        });
        round.await.expect("closed connections keep their places");
    }
}

// Red with `max_concurrent_bidi_streams` at a higher number.
#[tokio::test]
async fn one_connection_has_its_share_of_streams() {
    let [me] = identities();
    let site = Site::with(&[&me], &strongroom::config::Bounds { max_streams_per_connection: 10, ..bounds() });
    let connection = soon(Peer::known(&me).call(site.address)).await.unwrap();
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(open_with(&connection, &[0]).await);
    }
    assert!(tokio::time::timeout(Duration::from_millis(200), connection.open_bi()).await.is_err());
    assert!(tokio::time::timeout(Duration::from_millis(200), connection.open_uni()).await.is_err());
    assert_eq!(connection.max_datagram_size(), None);
}

/// The share of `keyring::MAX_UPLOADS_PER_KEY`.
const UPLOADS_PER_KEY: usize = 32;

// Red without the permit in `push`.
#[tokio::test]
async fn one_key_has_its_share_of_uploads() {
    let [greedy, other] = identities();
    let site = Site::with(&[&greedy, &other], &hasty());
    site.fake.uploads_flow.send_replace(false);
    let connection = Peer::known(&greedy).connect(site.address).await;
    let called = site.fake.called();
    let push = Request::Push { kind: BlobKind::Input, digest: Digest::of(b"x"), length: 1 };
    let push = [&frame::encode_header(&push)[..], b"x"].concat();
    let mut held = Vec::new();
    for _ in 0..UPLOADS_PER_KEY {
        held.push(open_with(&connection, &push).await);
    }
    until(|| site.fake.called() == called + UPLOADS_PER_KEY).await;
    let (_send, mut recv) = open_with(&connection, &push).await;
    assert_eq!(refused(&mut recv).await, RefusalCode::Busy);
    soon(site.client(&other).await.host()).await.unwrap();
}

// Red without the permit in `submit`.
#[tokio::test]
async fn one_key_has_its_share_of_memory_for_envelopes() {
    let [greedy] = identities();
    let bounds = strongroom::config::Bounds { request_timeout: Duration::from_secs(1), ..bounds() };
    let site = Site::with(&[&greedy], &bounds);
    let connection = Peer::known(&greedy).connect(site.address).await;
    let largest = frame::encode_header(&Request::Submit { length: MAX_ENVELOPE_BYTES as u64 });
    // Four of the largest, fed just fast enough to stay alive.
    let mut feeders = Vec::new();
    for _ in 0..4 {
        let (mut send, recv) = open_with(&connection, &largest).await;
        feeders.push(tokio::spawn(async move {
            let _held = recv;
            while send.write_all(&[b'0'; 40 << 10]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (_send, mut recv) = open_with(&connection, &largest).await;
    assert_eq!(refused(&mut recv).await, RefusalCode::Busy);
    for feeder in feeders {
        feeder.abort();
    }
}

// Red with newcomers refused while `MAX_HANDSHAKES` are unfinished.
#[tokio::test]
async fn half_open_handshakes_give_way_to_a_known_key() {
    const HALF_OPEN: usize = 200;
    const PLACES: u64 = 128;
    let [me, stranger] = identities();
    let site = Site::start(&[&me]);
    let endpoint = raw::free_endpoint();
    let peer = Peer::known(&stranger);
    let arrived = Arc::new(AtomicUsize::new(0));
    let mut held = Vec::new();
    for _ in 0..HALF_OPEN {
        let relay = raw::one_way_relay(site.address, Arc::clone(&arrived)).await;
        held.push(peer.call_from(&endpoint, relay));
    }
    until(|| arrived.load(Ordering::SeqCst) == HALF_OPEN).await;
    // At once, while all places are taken: they would be free again after the handshake's deadline.
    soon(site.client(&me).await.host()).await.unwrap();
    until(|| site.strangers.count() >= HALF_OPEN as u64 - PLACES).await;
    drop(held);
}

/// What a submit looks like on the wire.
async fn submit_bytes(site: &Site, me: &Identity) -> (Vec<u8>, JobId) {
    let signed = soon(site.client(me).await.sign(&job())).await.unwrap();
    let bytes = signed.envelope.as_bytes();
    let header = frame::encode_header(&Request::Submit { length: bytes.len() as u64 });
    ([&header, bytes].concat(), signed.jobs[0])
}

// Red with `submit` called before `reader.end()`, and with a short body passed on.
#[tokio::test]
async fn a_submit_that_is_cut_off_at_any_byte_leaves_no_job() {
    let [me] = identities();
    let mut site = Site::start(&[&me]);
    let (bytes, id) = submit_bytes(&site, &me).await;
    let peer = Peer::known(&me);
    let connection = peer.connect(site.address).await;
    for cut in 0..=bytes.len() {
        // Cut off by a reset of the stream: not even the last byte makes it count without its end.
        let (mut send, _recv) = open_with(&connection, &bytes[..cut]).await;
        if cut == bytes.len() {
            // A reset overtakes bytes; here they all have to have arrived.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let _ = send.reset(0u32.into());
        // Ended in order, but too early.
        if cut < bytes.len() {
            let (mut send, mut recv) = open_with(&connection, &bytes[..cut]).await;
            let _ = send.finish();
            assert_eq!(refused(&mut recv).await, RefusalCode::BadRequest, "cut at {cut}");
        }
        // Cut off by the end of the connection.
        if cut % 16 == 0 || cut == bytes.len() {
            let dying = soon(peer.call(site.address)).await.unwrap();
            let _stream = open_with(&dying, &bytes[..cut]).await;
            dying.close(0u32.into(), b"");
        }
    }
    assert_eq!(site.fake.submitted(), 0);

    let mut answers = Vec::new();
    for _ in 0..2 {
        let (mut send, mut recv) = open_with(&connection, &bytes).await;
        send.finish().unwrap();
        let Response::Accepted { jobs, .. } = soon(answer(&mut recv)).await.unwrap() else {
            panic!("not accepted")
        };
        assert_eq!(jobs[0].job, id);
        answers.push(jobs);
    }
    assert_eq!(answers[0], answers[1]);
    // Once intake has ended, nothing of the above can still be on its way.
    drop(connection);
    site.drain.take().unwrap().send(()).unwrap();
    soon(site.running).await.unwrap();
    assert_eq!(site.fake.submitted(), 2);
}

#[tokio::test]
async fn random_datagrams_are_survived() {
    let [me] = identities();
    let site = Site::start(&[&me]);
    let client = site.client(&me).await;
    let called = site.fake.called();
    raw::noise(site.address, 20_000).await;
    assert_eq!(site.fake.called(), called);
    soon(client.host()).await.unwrap();
    soon(site.client(&me).await.host()).await.unwrap();
    assert!(!site.running.is_finished());
}
