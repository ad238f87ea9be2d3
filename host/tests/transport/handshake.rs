//! Who gets in, and who does not: hostile list 12, 13.

use std::sync::atomic::Ordering;

use quinn::ConnectionError;
use strongroom_job::{JobId, Response, frame};
use strongroom_sdk::{Error, Identity};

use super::site::{Site, bounds, host_view, soon, until};
use crate::common::raw::{Peer, Shows, first_answer, impostor};

/// TLS alerts inside QUIC error codes.
const ALERTS: std::ops::Range<u64> = 0x100..0x200;
const ACCESS_DENIED: u64 = 0x100 + 49;
const CERTIFICATE_REQUIRED: u64 = 0x100 + 116;
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;

fn identities<const N: usize>() -> [Identity; N] {
    [(); N].map(|()| Identity::generate().unwrap())
}

fn alert(error: &ConnectionError) -> u64 {
    match error {
        ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
        other => panic!("the host ended it otherwise: {other:?}"),
    }
}

// Red without the `if` in `verify_client_cert`; red with `principal` asked only after the handshake.
#[tokio::test]
async fn an_unknown_key_is_turned_away_before_any_application_byte() {
    let [known, stranger] = identities();
    let site = Site::start(&[&known]);
    let error = Peer::known(&stranger).is_turned_away(site.address).await;
    assert_eq!(alert(&error), ACCESS_DENIED);
    until(|| site.strangers.count() == 1).await;
    assert_eq!(site.fake.called(), 0);
}

#[tokio::test]
async fn the_sdk_says_which_key_the_host_does_not_know() {
    let [known, stranger] = identities();
    let site = Site::start(&[&known]);
    let error = site.try_client(&stranger).await.unwrap_err();
    assert!(matches!(&error, Error::KeyNotAccepted { key, .. } if **key == stranger.public()), "{error:?}");
    assert!(error.to_string().contains(&stranger.public().to_string()), "{error}");
    assert_eq!(site.fake.called(), 0);
}

// Red with `client_auth_mandatory` false.
#[tokio::test]
async fn no_key_at_all_is_turned_away() {
    let [known] = identities();
    let site = Site::start(&[&known]);
    let error = Peer::new(Shows::EmptyHand, frame::ALPN).is_turned_away(site.address).await;
    assert_eq!(alert(&error), CERTIFICATE_REQUIRED);
    let error = Peer::new(Shows::Nothing, frame::ALPN).is_turned_away(site.address).await;
    assert!(ALERTS.contains(&alert(&error)), "{error:?}");
    until(|| site.strangers.count() == 2).await;
    assert_eq!(site.fake.called(), 0);
}

// Red without the `retry` in `accept_until`.
#[tokio::test]
async fn an_address_is_validated_before_anything_is_kept() {
    let [known] = identities();
    let site = Site::start(&[&known]);
    // A long header of the type Retry (RFC 9000, section 17.2.5).
    assert_eq!(first_answer(&Peer::known(&known), site.address).await & 0xf0, 0xf0);
    assert_eq!(site.strangers.count(), 0);
}

// Not a raw key, so not even looked at; `parse_key` would be the second lock. No single line makes this red: with
// `requires_raw_public_keys` false nobody gets in at all.
#[tokio::test]
async fn an_x509_certificate_is_turned_away() {
    let [known] = identities();
    let site = Site::start(&[&known]);
    let error = Peer::new(Shows::Certificate, frame::ALPN).is_turned_away(site.address).await;
    assert!(ALERTS.contains(&alert(&error)), "{error:?}");
    until(|| site.strangers.count() == 1).await;
    assert_eq!(site.fake.called(), 0);
}

// Red with `h3` among the host's `alpn_protocols`.
#[tokio::test]
async fn another_protocol_is_turned_away() {
    let [known] = identities();
    let site = Site::start(&[&known]);
    let error = Peer::new(Shows::Key(&known), b"h3").is_turned_away(site.address).await;
    assert_eq!(alert(&error), NO_APPLICATION_PROTOCOL);
    until(|| site.strangers.count() == 1).await;
    assert_eq!(site.fake.called(), 0);
}

// Red without `send_tls13_tickets = 0`: two tickets come, and the second handshake resumes.
#[tokio::test]
async fn no_session_is_resumed_and_nothing_is_taken_early() {
    let [known] = identities();
    let site = Site::start(&[&known]);
    let peer = Peer::known(&known);
    let first = peer.connect(site.address).await;
    first.close(0u32.into(), b"");
    assert_eq!(peer.tickets.count(), 0);
    let again = peer.call(site.address).into_0rtt();
    assert!(again.is_err(), "early data was possible");
    // Forgotten in between, the key is of no use: nothing of the first handshake counts.
    site.fake.forget(&known);
    assert_eq!(alert(&peer.is_turned_away(site.address).await), ACCESS_DENIED);
}

// Red without the comparison in `verify_server_cert`.
#[tokio::test]
async fn a_wrong_host_key_is_loud_and_nothing_is_sent_there() {
    let [known, other] = identities();
    let site = Site::start(&[&known]);
    let mut options = site.options(&known);
    options.host_key = other.public();
    let error = soon(strongroom_sdk::Client::connect(options)).await.unwrap_err();
    let Error::WrongHostKey { address, expected, found } = &error else { panic!("{error:?}") };
    assert_eq!((address, **expected, **found), (&site.address.to_string(), other.public(), site.host_key));
    let text = error.to_string();
    assert!(text.contains("@@@@@@") && text.contains("IS NOT THE ONE YOU TRUST"), "{text}");
    assert!(
        text.contains(&other.public().to_string()) && text.contains(&site.host_key.to_string()),
        "{text}"
    );
    assert_eq!(site.fake.called(), 0);
}

// A host that holds its key gets through the same door (the next one is refused for nothing but its signature).
#[tokio::test]
async fn a_host_that_holds_the_pinned_key_is_believed() {
    let [mine, trusted] = identities();
    let reply = frame::encode_header(&Response::Host(host_view(trusted.public())));
    let (_endpoint, address) = impostor(&trusted, trusted.public(), reply);
    let options = strongroom_sdk::ConnectOptions::new(address, trusted.public(), mine);
    soon(strongroom_sdk::Client::connect(options)).await.unwrap();
}

// Red without `verifies` in the SDK's `verify_tls13_signature`.
#[tokio::test]
async fn a_host_that_shows_a_key_without_holding_it_is_refused() {
    let [mine, trusted, thief] = identities();
    let reply = frame::encode_header(&Response::Host(host_view(trusted.public())));
    let (_endpoint, address) = impostor(&thief, trusted.public(), reply);
    let options = strongroom_sdk::ConnectOptions::new(address, trusted.public(), mine);
    let error = soon(strongroom_sdk::Client::connect(options)).await.unwrap_err();
    assert!(matches!(&error, Error::Protocol { detail, .. } if detail.contains("BadSignature")), "{error:?}");
}

// Red without `verifies` in the host's `verify_tls13_signature`.
#[tokio::test]
async fn a_client_that_shows_a_key_without_holding_it_is_turned_away() {
    let [known, thief] = identities();
    let site = Site::start(&[&known]);
    let error =
        Peer::new(Shows::Stolen(&thief, known.public()), frame::ALPN).is_turned_away(site.address).await;
    assert!(ALERTS.contains(&alert(&error)), "{error:?}");
    assert_eq!(site.fake.called(), 0);
}

#[tokio::test]
async fn nobody_there_is_said_within_the_connect_timeout() {
    let [mine, host] = identities();
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut options =
        strongroom_sdk::ConnectOptions::new(nobody.local_addr().unwrap(), host.public(), mine.clone());
    options.timeouts.connect = std::time::Duration::from_millis(200);
    let error = soon(strongroom_sdk::Client::connect(options)).await.unwrap_err();
    assert!(matches!(error, Error::NotReachable { .. }), "{error:?}");
    let options = strongroom_sdk::ConnectOptions::new("no port", host.public(), mine);
    let error = soon(strongroom_sdk::Client::connect(options)).await.unwrap_err().to_string();
    assert!(error.contains("no port") && error.contains("HOST:PORT"), "{error}");
}

// Red without the second question in `connection::serve`.
#[tokio::test]
async fn a_key_that_is_forgotten_loses_its_live_connection() {
    let [known] = identities();
    let site = Site::start(&[&known]);
    let client = site.client(&known).await;
    site.fake.forget(&known);
    let called = site.fake.called();
    let error = soon(client.show(JobId::from_bytes([1; 16]))).await.unwrap_err();
    assert!(matches!(error, Error::Closed { code: strongroom_job::CloseCode::KeyRevoked, .. }), "{error:?}");
    assert_eq!(site.fake.called(), called);
    let error = soon(client.show(JobId::from_bytes([1; 16]))).await.unwrap_err();
    assert!(matches!(error, Error::KeyNotAccepted { .. }), "{error:?}");
}

// Red without the first question in `connection::serve`: nobody asks again before there is a request.
#[tokio::test]
async fn a_key_that_is_forgotten_during_its_handshake_does_not_come_in() {
    let [known] = identities();
    let site = Site::start(&[&known]);
    site.fake.knows_for.store(1, Ordering::SeqCst);
    let ended = match soon(Peer::known(&known).call(site.address)).await {
        Ok(connection) => soon(connection.closed()).await,
        Err(error) => error,
    };
    let ConnectionError::ApplicationClosed(closed) = ended else { panic!("{ended}") };
    assert_eq!(closed.error_code, strongroom_job::CloseCode::KeyRevoked.number().into());
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let [known] = identities();
    let site = Site::start(&[&known]);
    let second = strongroom::intake::Intake::bind(
        site.address,
        known.secret(),
        std::sync::Arc::clone(&site.fake),
        &bounds(),
    );
    let error = second.unwrap_err().to_string();
    assert!(
        error.contains(&format!("UDP {} is in use", site.address)) && error.contains("`listen`"),
        "{error}"
    );
    assert_eq!(site.fake.waiting.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn something_else_that_answers_is_no_host() {
    let [mine, host] = identities();
    for reply in [&b""[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x00\x00\x02{}"] {
        let (_endpoint, address) = impostor(&host, host.public(), reply.to_vec());
        let options = strongroom_sdk::ConnectOptions::new(address, host.public(), mine.clone());
        let error = soon(strongroom_sdk::Client::connect(options)).await.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
        assert!(!error.to_string().contains("handshake"), "{error}");
    }
}
