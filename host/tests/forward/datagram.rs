//! Syslog over UDP and Unix sockets.

use tokio::net::{UdpSocket, UnixDatagram};

use crate::common::live::{Live, push_wat};
use crate::common::patience::bounded;
use crate::support::{Got, assert_whole, host, log, published, read, to, work};

#[tokio::test(flavor = "multi_thread")]
async fn every_record_arrives_over_udp() {
    bounded(async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let got = Got::default();
        let all = got.clone();
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 65_536];
            loop {
                let length = socket.recv(&mut buffer).await.unwrap();
                all.push(buffer[..length].to_vec());
            }
        });
        let live = host(to(&format!("syslog+udp://{address}"))).await;
        work(&live.client().await, 3).await;
        let dir = live.stop().await;
        got.whole(dir.path()).await;
        assert_whole(&got.all(), &log(dir.path()));
        task.abort();
    })
    .await;
}

// Red without the wait for room in `Socket::send`, with which a full receiver would lose what does not fit.
#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_that_is_full_is_waited_for() {
    bounded(async {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        let socket = UnixDatagram::bind(&path).unwrap();
        let live = host(to(&format!("syslog+unix://{}", path.display()))).await;
        let client = live.client().await;
        // Far more than a socket holds (some ten datagrams), and nobody reads.
        work(&client, 25).await;
        let got = Got::default();
        let all = got.clone();
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 1 << 18];
            loop {
                let length = socket.recv(&mut buffer).await.unwrap();
                all.push(buffer[..length].to_vec());
            }
        });
        published(live.dir.path(), 25).await;
        got.whole(live.dir.path()).await;
        drop(client);
        let dir = live.stop().await;
        got.whole(dir.path()).await;
        assert_whole(&got.all(), &log(dir.path()));
        task.abort();
    })
    .await;
}

// Red without the stand-in: the record is cut, or never comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_too_long_for_a_datagram_is_told_and_not_cut() {
    bounded(async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let live = Live::with(|config| config.forwards = vec![to(&format!("syslog+udp://{address}"))]).await;
        let client = live.client().await;
        let module = push_wat(&client, &crate::common::live::says("x", 0)).await;
        // Every rule of a grant is in its record.
        let mut job = strongroom_sdk::Job::new(module);
        for number in 0..64 {
            let (long, longer) = ("a".repeat(42), "b".repeat(52));
            job = job.connect(format!("tcp://h{number:02}.{long}.{longer}.example.com:5432"));
        }
        crate::common::live::run(&client, &job).await;
        drop(client);
        let dir = live.stop().await;
        let log = log(dir.path());
        let long = log.iter().position(|leaf| leaf.len() > 8192).expect("a long record");
        let mut buffer = vec![0; 65_536];
        for (index, leaf) in log.iter().enumerate() {
            let length = socket.recv(&mut buffer).await.unwrap();
            let message = read(&buffer[..length]);
            assert_eq!(message.param("index"), Some(index.to_string().as_str()));
            if index == long {
                let hash = hex::encode(strongroom_job::merkle::Hash::of_leaf(leaf).as_bytes());
                assert_eq!(message.param("omitted"), Some(leaf.len().to_string().as_str()));
                assert_eq!(message.param("leaf"), Some(hash.as_str()));
                assert_eq!(message.msgid.as_deref(), Some("admitted"));
            } else {
                assert_eq!(message.text, *leaf);
            }
        }
    })
    .await;
}
