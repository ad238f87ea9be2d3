//! Ids of connections: the host gives no two clients the same.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::HashSet;
use std::time::Duration;

use common::live::Live;
use common::patience::bounded;
use common::secret;
use strongroom_sdk::{Client, ConnectOptions};
use tokio::net::UdpSocket;

/// So many ids of three random bytes have eight pairs of the same, on average.
const IDS: usize = 16_384;

/// The id that a retry packet gives (RFC 9000, section 17.2.5), if it is one.
fn given(packet: &[u8]) -> Option<&[u8]> {
    let (first, rest) = packet.split_first()?;
    let (_version, rest) = rest.split_at_checked(4)?;
    let (length, rest) = rest.split_first()?;
    let (_to, rest) = rest.split_at_checked(usize::from(*length))?;
    let (length, rest) = rest.split_first()?;
    (first & 0xf0 == 0xf0).then(|| rest.get(..usize::from(*length)))?
}

// Red with the generator of `EndpointConfig::default`.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gives_each_client_an_id_of_its_own() {
    bounded(Box::pin(async {
        let live = Live::new().await;
        // The first packet of a client that calls us, and takes us for the host.
        let us = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let options = ConnectOptions::new(us.local_addr().unwrap(), *live.host.public_key(), secret(7));
        let calling = tokio::spawn(Client::connect(options));
        let mut packet = [0; 2048];
        let (length, _) = us.recv_from(&mut packet).await.unwrap();
        calling.abort();
        let hello = packet[..length].to_vec();

        let host = live.host.local_addr();
        let mut ids = HashSet::new();
        while ids.len() < IDS {
            // One after the other: the same packet again, while the first one is looked at, is no other client.
            us.send_to(&hello, host).await.unwrap();
            let answer = async {
                loop {
                    let (length, from) = us.recv_from(&mut packet).await.unwrap();
                    if from == host
                        && let Some(id) = given(&packet[..length])
                    {
                        break id.to_vec();
                    }
                }
            };
            // It may be lost.
            let Ok(id) = tokio::time::timeout(Duration::from_secs(1), answer).await else { continue };
            assert!(ids.insert(id), "of {}, two are the same", ids.len() + 1);
        }
        live.stop().await;
    }))
    .await;
}
