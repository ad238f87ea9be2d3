//! Syslog over TCP.

use std::time::Duration;

use strongroom::forward::statuses;
use strongroom_sdk::Job;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;

use crate::common::guests::traps_in;
use crate::common::live::{Live, push_wat, run, says};
use crate::common::patience::bounded;
use crate::common::process::Serving;
use crate::receiver::{frames, takes_all};
use crate::support::{Got, assert_whole, host, log, published, to, work};

/// A name of a function, and output.
const FORGED: &str =
    "x\n<110>1 2026-01-01T00:00:00Z h strongroom 1 finished - {\"v\":1}\r\n\0\u{7f}\u{85}\"]\\";

// Red without the escapes of `syslog::escaped`: the log's name has all three characters.
#[tokio::test(flavor = "multi_thread")]
async fn every_record_arrives_as_the_rfc_says_and_the_cursor_follows() {
    bounded(async {
        let (address, got, _task) = takes_all("127.0.0.1:0").await;
        let forward = to(&format!("syslog+tcp://{address}"));
        let live = Live::with(|config| {
            config.log_origin = r#"example.com/a"b]c\d"#.into();
            config.forwards = vec![forward.clone()];
        })
        .await;
        let client = live.client().await;
        work(&client, 4).await;
        // A guest that would like to write records of its own.
        let module = push_wat(&client, &traps_in(FORGED.as_bytes(), FORGED.as_bytes())).await;
        run(&client, &Job::new(module)).await;
        drop(client);
        let dir = live.stop().await;
        let log = log(dir.path());
        assert_whole(&got.all(), &log);
        assert_eq!(got.len(), log.len(), "nothing went wrong, so nothing comes twice");
        let first = crate::support::read(&got.all()[0]);
        assert_eq!(first.param("log"), Some(r#"example.com/a"b]c\d"#));
        assert_eq!((first.msgid.as_deref(), first.severity), (Some("host-started"), 5));
        assert_eq!(first.procid, Some(std::process::id().to_string()));
        let status = statuses(dir.path(), None, &[forward]).unwrap().remove(0);
        assert_eq!((status.next, status.behind, status.problem), (Some(log.len() as u64), 0, None));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_down_gets_everything_once_it_is_up() {
    bounded(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let live = host(to(&format!("syslog+tcp://{address}"))).await;
        let client = live.client().await;
        work(&client, 3).await;
        let (_, got, _task) = takes_all(&address).await;
        work(&client, 1).await;
        published(live.dir.path(), 4).await;
        got.whole(live.dir.path()).await;
        drop(client);
        let dir = live.stop().await;
        assert_whole(&got.all(), &log(dir.path()));
    })
    .await;
}

// That nobody waits is the doing of the threads: there is no guard to take away, so this one was not seen red.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_takes_nothing_keeps_no_job_and_no_publication_waiting() {
    bounded(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(16).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (open, mut held) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            loop {
                open.send(listener.accept().await.unwrap().0).unwrap();
            }
        });
        let live = host(to(&format!("syslog+tcp://{address}"))).await;
        let client = live.client().await;
        let module = push_wat(&client, &says("on", 0)).await;
        // Long records, of which the kernel's buffers cannot hold all.
        let host = ["a"; 4].map(|label| label.repeat(60)).join(".");
        let job = (1..=30).fold(Job::new(module), |job, port| job.connect(format!("{host}:{port}")));
        for _ in 0..120 {
            assert_eq!(run(&client, &job).await.stdout, b"on");
        }
        // All of it is published, whoever takes it.
        published(live.dir.path(), 120).await;
        drop(client);
        // It also stops, within seconds.
        let dir = live.stop().await;
        let forward = to(&format!("syslog+tcp://{address}"));
        let status = statuses(dir.path(), None, &[forward]).unwrap().remove(0);
        assert_eq!(status.next, Some(0), "nothing was read, so nothing counts as sent");
        let whole: usize = log(dir.path()).iter().map(Vec::len).sum();
        task.abort();
        let mut connections = 0;
        while let Some(mut stream) = held.recv().await {
            let mut buffered = Vec::new();
            let _ = stream.read_to_end(&mut buffered).await;
            assert!(
                !buffered.is_empty() && buffered.len() < whole,
                "{} of {whole} bytes: a write had to wait",
                buffered.len()
            );
            connections += 1;
        }
        assert!(connections > 0);
    })
    .await;
}

// Red when the place moves on as soon as a batch is written: what was in buffers is lost with the receiver.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_dies_in_the_middle_misses_nothing() {
    bounded(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let got = Got::default();
        let all = got.clone();
        let task = tokio::spawn(async move {
            // Reads a few, and is gone with the rest unread; then one that closes by itself between two messages; then all.
            for most in [3, 1, 7] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = frames(&mut stream, &all, most).await;
            }
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = frames(&mut stream, &all, usize::MAX).await;
            }
        });
        let live = host(to(&format!("syslog+tcp://{address}"))).await;
        work(&live.client().await, 12).await;
        published(live.dir.path(), 12).await;
        got.whole(live.dir.path()).await;
        let dir = live.stop().await;
        assert_whole(&got.all(), &log(dir.path()));
        task.abort();
    })
    .await;
}

// Red when the cursor is written some time before the batch is sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_killed_leaves_no_gap() {
    bounded(async {
        let (address, got, _task) = takes_all("127.0.0.1:0").await;
        let dir = tempfile::tempdir().unwrap();
        strongroom::home::Home::create(dir.path()).unwrap();
        let config = dir.path().join("strongroom.toml");
        let mut text = std::fs::read_to_string(&config).unwrap();
        text.push_str(&format!("\n[[forward]]\nname = \"a\"\nto = \"syslog+tcp://{address}\"\n"));
        std::fs::write(&config, text).unwrap();
        for round in 1..=8 {
            let path = dir.path().to_owned();
            let serving = tokio::task::spawn_blocking(move || Serving::start(&path)).await.unwrap();
            work(&serving.client().await, 2).await;
            // At one moment or another between a publication, what is sent of it, and its cursor.
            tokio::time::sleep(Duration::from_millis(round * 50)).await;
            serving.kill();
        }
        let path = dir.path().to_owned();
        let serving = tokio::task::spawn_blocking(move || Serving::start(&path)).await.unwrap();
        tokio::task::spawn_blocking(move || serving.stop()).await.unwrap();
        assert_whole(&got.all(), &log(dir.path()));
    })
    .await;
}

// Red without `Cursor::fits`: records of another log would follow those of the first.
#[tokio::test(flavor = "multi_thread")]
async fn another_log_is_not_mixed_into_what_a_destination_has() {
    Box::pin(bounded(async {
        let (address, got, _task) = takes_all("127.0.0.1:0").await;
        let forward = to(&format!("syslog+tcp://{address}"));
        let live = host(forward.clone()).await;
        work(&live.client().await, 1).await;
        let dir = live.stop().await;
        let size = got.len();
        let cursor = dir.path().join("forward/a.cursor");
        let good = std::fs::read_to_string(&cursor).unwrap();
        let root = good.lines().last().unwrap();
        let bad = good.replace(root, &format!("root {}", "07".repeat(32)));
        for (text, says) in [
            (bad, "does not begin with"),
            (good.replace("log ", "log other"), "another log"),
            (good.replace("\nsize ", "\nsize 9"), "does not begin with"),
            ("nonsense".to_owned(), "damaged"),
        ] {
            std::fs::write(&cursor, &text).unwrap();
            let status = statuses(dir.path(), None, std::slice::from_ref(&forward)).unwrap().remove(0);
            assert!(
                status.problem.as_deref().is_some_and(|problem| problem.contains(says)),
                "{says}: {status:?}"
            );
            // The host works all the same.
            let host =
                crate::common::live::start(dir.path(), |config| config.forwards = vec![forward.clone()])
                    .await;
            Box::pin(host.stop(strongroom::host::Stop::Everything(Duration::from_secs(60)))).await;
            assert_eq!(got.len(), size, "{says}");
            assert_eq!(std::fs::read_to_string(&cursor).unwrap(), text, "what is wrong stays to be seen");
        }
        std::fs::write(&cursor, &good).unwrap();
        let host =
            crate::common::live::start(dir.path(), |config| config.forwards = vec![forward.clone()]).await;
        Box::pin(host.stop(strongroom::host::Stop::Everything(Duration::from_secs(60)))).await;
        assert_whole(&got.all(), &log(dir.path()));
    }))
    .await;
}
