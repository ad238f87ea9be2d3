//! OTLP logs over HTTP: a collector that is busy, then takes everything.

use serde_json::Value;
use strongroom::forward::{Rejected, statuses};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::server::TlsStream;

use crate::common::patience::bounded;
use crate::support::{Got, host, log, to, work};
use crate::tls::{Pki, server};

/// Reads one request and gives its head and its body.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 8192];
        let read = stream.read(&mut piece).await.ok()?;
        if read == 0 {
            return None;
        }
        bytes.extend(&piece[..read]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let length: Option<usize> = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let body = &bytes[end + 4..];
        if body.len() == length.expect("a length") {
            return Some((head, body.to_vec()));
        }
    }
}

// Red when a status other than 200 counts as taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_busy_gets_everything_later() {
    bounded(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (got, refused) = (Got::default(), Got::default());
        let (all, busy) = (got.clone(), refused.clone());
        let task = tokio::spawn(async move {
            let answers = ["503 Service Unavailable", "429 Too Many Requests", "400 Bad Request"];
            let mut answers = answers.iter();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some((head, body)) = request(&mut stream).await else { continue };
                assert!(head.starts_with("POST /v1/logs HTTP/1.1\r\n"), "{head}");
                assert!(head.to_ascii_lowercase().contains("content-type: application/json"), "{head}");
                let (status, to) = answers.next().map_or(("200 OK", &all), |status| (*status, &busy));
                to.push(body);
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{{}}"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let live = host(to(&format!("otlp+http://{address}"))).await;
        work(&live.client().await, 3).await;
        // Beyond the answers that refuse.
        got.at_least(1).await;
        let dir = live.stop().await;
        assert_eq!(refused.len(), 3);
        let mut taken = Vec::new();
        for body in got.all() {
            let body: Value = serde_json::from_slice(&body).unwrap();
            let resource = &body["resourceLogs"][0];
            for record in resource["scopeLogs"][0]["logRecords"].as_array().unwrap() {
                let index = &record["attributes"][0];
                assert_eq!(index["key"], "strongroom.index");
                assert_eq!(index["value"]["intValue"], taken.len().to_string(), "in order, once");
                let leaf = record["body"]["stringValue"].as_str().unwrap();
                let read: Value = serde_json::from_str(leaf).unwrap();
                let nanos = format!("{}000000", read["time"].as_u64().unwrap());
                assert_eq!(record["timeUnixNano"], nanos.as_str());
                assert_eq!(record["eventName"], format!("strongroom.{}", read["type"].as_str().unwrap()));
                taken.push(leaf.as_bytes().to_vec());
            }
        }
        assert_eq!(taken, log(dir.path()));
        task.abort();
    })
    .await;
}

/// A collector that answers the n-th request with the n-th answer, and those after them with `{}`.
async fn collector(answers: Vec<(&'static str, String)>) -> (String, Got, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let got = Got::default();
    let all = got.clone();
    let task = tokio::spawn(async move {
        let mut answers = answers.into_iter();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let Some((_, body)) = request(&mut stream).await else { continue };
            all.push(body);
            let (status, body) = answers.next().unwrap_or_else(|| ("200 OK", "{}".to_owned()));
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
            // One that has heard enough does not read to the end.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (format!("otlp+http://{address}"), got, task)
}

/// The indexes of the records of a request.
fn indexes(body: &[u8]) -> Vec<u64> {
    let body: Value = serde_json::from_slice(body).unwrap();
    let records = body["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap().clone();
    let index =
        |record: &Value| record["attributes"][0]["value"]["intValue"].as_str().unwrap().parse().unwrap();
    records.iter().map(index).collect()
}

// Red without `note` in `OtlpSink::send`: the place moves on, and nobody learns what is missing.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_collector_rejects_is_kept_and_told() {
    bounded(async {
        let partial = r#"{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"too old"}}"#;
        let long = format!("{{\"partialSuccess\":{{}}}}{}", " ".repeat(65 << 10));
        let answers = vec![("200 OK", partial.to_owned()), ("200 OK", long)];
        let (address, got, task) = collector(answers).await;
        let forward = to(&address);
        let live = host(forward.clone()).await;
        got.at_least(1).await;
        work(&live.client().await, 1).await;
        got.at_least(2).await;
        let dir = live.stop().await;
        let status = || statuses(dir.path(), None, std::slice::from_ref(&forward)).unwrap().remove(0);
        let (first, second) = (indexes(&got.all()[0]), indexes(&got.all()[1]));
        let expected = Rejected {
            records: 1,
            maybe: second.len() as u64,
            first: first[0],
            last: second[second.len() - 1],
            why: "the collector sends more than 65536 bytes".into(),
        };
        assert_eq!((status().behind, status().problem, status().rejected), (0, None, Some(expected.clone())));
        // It stays over starts.
        let again =
            crate::common::live::start(dir.path(), |config| config.forwards = vec![forward.clone()]).await;
        Box::pin(again.stop(strongroom::host::Stop::Everything(std::time::Duration::from_secs(60)))).await;
        assert_eq!(status().rejected, Some(expected));
        task.abort();
    })
    .await;
}

// Red without the halves of `OtlpSink::send`: the same request for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_takes_only_short_requests_gets_everything() {
    Box::pin(bounded(async {
        // Somewhere to be behind: nobody takes anything yet.
        let live = host(to("otlp+http://127.0.0.1:9")).await;
        work(&live.client().await, 3).await;
        let dir = live.stop().await;
        let too_long = || ("413 Content Too Large", String::new());
        let (address, got, task) = collector(vec![too_long(), too_long()]).await;
        let forward = to(&address);
        let again =
            crate::common::live::start(dir.path(), |config| config.forwards = vec![forward.clone()]).await;
        got.at_least(4).await;
        Box::pin(again.stop(strongroom::host::Stop::Everything(std::time::Duration::from_secs(60)))).await;
        let requests: Vec<_> = got.all().iter().map(|body| indexes(body)).collect();
        let whole = requests[0].len();
        assert_eq!((requests[1].len(), requests[2].len()), (whole / 2, whole / 4));
        let taken: Vec<u64> = requests[2..].concat();
        assert_eq!(taken, (0..log(dir.path()).len() as u64).collect::<Vec<_>>(), "in order, once");
        task.abort();
    }))
    .await;
}

// Red without TLS in what `Course::sink` makes for OTLP; with another name than the destination's in `Tls::connect`.
#[tokio::test(flavor = "multi_thread")]
async fn over_https_only_the_collector_that_is_meant_gets_everything() {
    bounded(Box::pin(async {
        let (pki, other) = (Pki::new("localhost"), Pki::new("localhost"));
        let got = Got::default();
        let all = got.clone();
        let each = move |mut stream: TlsStream<TcpStream>| {
            let all = all.clone();
            async move {
                let Some((_, body)) = request(&mut stream).await else { return };
                all.push(body);
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
                let _ = stream.shutdown().await;
            }
        };
        let (port, task) = server(&pki, each).await;
        for forward in [
            other.trusted_by(to(&format!("otlp+https://localhost:{port}"))),
            pki.trusted_by(to(&format!("otlp+https://127.0.0.1:{port}"))),
        ] {
            let live = host(forward).await;
            work(&live.client().await, 1).await;
            live.stop().await;
            assert_eq!(got.len(), 0);
        }
        let live = host(pki.trusted_by(to(&format!("otlp+https://localhost:{port}")))).await;
        work(&live.client().await, 2).await;
        got.at_least(1).await;
        let dir = live.stop().await;
        let taken: Vec<u64> = got.all().iter().flat_map(|body| indexes(body)).collect();
        assert_eq!(taken, (0..log(dir.path()).len() as u64).collect::<Vec<_>>(), "in order, once");
        task.abort();
    }))
    .await;
}
