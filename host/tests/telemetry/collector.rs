//! A collector: reads each request whole, answers as it is told to, and keeps what it took.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::cli_support::{Place, wait_for};
use crate::support::configure;

/// What a collector says to a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Says {
    /// A status, and a body.
    Answer(&'static str, &'static str),
    /// Nothing, for ever.
    Nothing,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) path: String,
    pub(crate) body: Value,
    /// Whether it was answered with 200.
    pub(crate) taken: bool,
    /// The bytes as they came.
    pub(crate) text: String,
}

#[derive(Clone)]
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Collector {
    /// One that answers the n-th request with the n-th answer, and those after them with 200.
    pub(crate) fn start(answers: impl IntoIterator<Item = Says>) -> Self {
        Self::at(TcpListener::bind("127.0.0.1:0").unwrap(), answers)
    }

    pub(crate) fn at(listener: TcpListener, answers: impl IntoIterator<Item = Says>) -> Self {
        let address = listener.local_addr().unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        let (all, mut answers) = (Arc::clone(&got), answers.into_iter().collect::<VecDeque<_>>());
        // It ends with the test's process.
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                let Some((path, text)) = request(&mut stream) else { continue };
                let says = answers.pop_front().unwrap_or(Says::Answer("200 OK", "{}"));
                let body = serde_json::from_str(&text).unwrap();
                let taken = matches!(says, Says::Answer("200 OK", _));
                all.lock().unwrap().push(Got { path, body, taken, text });
                match says {
                    Says::Answer(status, body) => {
                        let length = body.len();
                        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
                        // One that has gone meanwhile has its reasons.
                        let _ = stream.write_all(answer.as_bytes());
                    }
                    Says::Nothing => silent.push(stream),
                }
            }
        });
        Self { address, got }
    }

    /// Has the host of this place send everything here. `more` is more of the table.
    pub(crate) fn for_host(&self, place: &Place, more: &str) {
        configure(place, "", &format!("[telemetry]\nto = \"otlp+http://{}\"\n{more}", self.address));
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// All spans that it took.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let traces = self.got().into_iter().filter(|got| got.taken && got.path == "/v1/traces");
        traces.flat_map(|got| spans(&got.body)).collect()
    }

    /// The spans of the trace that is called so, once its root has come.
    pub(crate) fn trace(&self, id: &str) -> Vec<Span> {
        wait_for("the trace", || {
            let spans: Vec<_> = self.spans().into_iter().filter(|span| span.trace == id).collect();
            spans.iter().any(|span| span.name == "job").then_some(spans)
        })
    }
}

fn request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut piece = [0; 8192];
    loop {
        let read = stream.read(&mut piece).ok()?;
        if read == 0 {
            return None;
        }
        bytes.extend(&piece[..read]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let body = &bytes[end + 4..];
        if body.len() < length.expect("a length") {
            continue;
        }
        assert!(head.contains("content-type: application/json"), "{head}");
        let path = head.strip_prefix("post ").expect("a post").split(' ').next().unwrap().to_owned();
        return Some((path, String::from_utf8(body.to_vec()).unwrap()));
    }
}

/// A span as it came.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) from: u128,
    pub(crate) to: u128,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) status: u64,
}

impl Span {
    pub(crate) fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

fn spans(body: &Value) -> Vec<Span> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let resource = &body["resourceSpans"][0];
    let of = resource["scopeSpans"][0]["spans"].as_array().unwrap();
    let span = |span: &Value| Span {
        trace: text(&span["traceId"]),
        id: text(&span["spanId"]),
        parent: text(&span["parentSpanId"]),
        name: text(&span["name"]),
        from: text(&span["startTimeUnixNano"]).parse().unwrap(),
        to: text(&span["endTimeUnixNano"]).parse().unwrap(),
        attributes: attributes(&span["attributes"]),
        status: span["status"]["code"].as_u64().unwrap_or_default(),
    };
    of.iter().map(span).collect()
}

/// Names and values, whatever their type.
pub(crate) fn attributes(list: &Value) -> Vec<(String, String)> {
    let value = |value: &Value| {
        let (_, value) = value.as_object().unwrap().iter().next().unwrap();
        value.as_str().unwrap().to_owned()
    };
    let list = list.as_array().unwrap().iter();
    list.map(|each| (each["key"].as_str().unwrap().to_owned(), value(&each["value"]))).collect()
}
