//! OTLP logs over HTTP: a collector that is busy, then takes everything.

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::common::patience::bounded;
use crate::support::{Got, host, log, to, work};

/// Reads one request and gives its head and its body.
async fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
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
