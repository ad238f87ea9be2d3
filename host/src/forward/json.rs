//! A record as one line of a file, and records as one request of OTLP.
//!
//! *Spec:* JSON Lines; the JSON encoding of `opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest`; `docs/formats/forwarding.md`.

use serde::Serialize;

use super::entry::{Entry, Severity};
use super::syslog;

/// How every line begins; the index follows.
const LINE: &str = "{\"index\":";

/// `{"index":N,"record":…}` and a newline. The record's bytes are those of the log.
pub(super) fn line(entry: &Entry) -> Vec<u8> {
    let mut line = format!("{LINE}{},\"record\":", entry.index).into_bytes();
    // A record has no control byte. If one ever had, it must not end a line.
    line.extend(entry.leaf.iter().map(|byte| if byte.is_ascii_control() { b'?' } else { *byte }));
    line.extend(b"}\n");
    line
}

/// The index of a line that [`line`] wrote.
pub(super) fn index_of(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(LINE.as_bytes())?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

/// Whether a line that [`line`] wrote may begin so.
pub(super) fn may_begin(text: &[u8]) -> bool {
    text.starts_with(LINE.as_bytes()) || LINE.as_bytes().starts_with(text)
}

/// What is the same in every request of one host.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub(super) hostname: String,
    pub(super) pid: u32,
    /// The log's name.
    pub(super) log: String,
}

impl Resource {
    /// This process, whose log has that name.
    pub(crate) fn new(log: String) -> Self {
        Self { hostname: syslog::hostname(), pid: std::process::id(), log }
    }

    pub(crate) fn attributes(&self) -> Vec<Attribute<'_>> {
        let mut about = vec![
            Attribute::text("service.name", "strongroom"),
            Attribute::text("service.version", env!("CARGO_PKG_VERSION")),
            Attribute::number("process.pid", u64::from(self.pid)),
            Attribute::text("strongroom.log", &self.log),
        ];
        if !self.hostname.is_empty() {
            about.push(Attribute::text("host.name", &self.hostname));
        }
        about
    }
}

/// The body of one request.
pub(super) fn request(resource: &Resource, entries: &[Entry]) -> Vec<u8> {
    let request = Request {
        resource_logs: [ResourceLogs {
            resource: About { attributes: resource.attributes() },
            scope_logs: [ScopeLogs {
                scope: Scope { name: "strongroom.audit", version: env!("CARGO_PKG_VERSION") },
                log_records: entries.iter().map(LogRecord::of).collect(),
            }],
        }],
    };
    #[expect(
        clippy::expect_used,
        reason = "string keys and plain values always serialize; a Vec takes every write"
    )]
    serde_json::to_vec(&request).expect("plain data serializes")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_logs: [ResourceLogs<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceLogs<'a> {
    resource: About<'a>,
    scope_logs: [ScopeLogs<'a>; 1],
}

#[derive(Serialize)]
struct About<'a> {
    attributes: Vec<Attribute<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ScopeLogs<'a> {
    scope: Scope,
    log_records: Vec<LogRecord<'a>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LogRecord<'a> {
    /// 64-bit numbers are texts in protobuf's JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_unix_nano: Option<String>,
    /// The record is made and observed by the same host.
    #[serde(skip_serializing_if = "Option::is_none")]
    observed_time_unix_nano: Option<String>,
    severity_number: u8,
    severity_text: &'static str,
    body: Value<'a>,
    attributes: Vec<Attribute<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_name: Option<String>,
}

/// A name and its value.
#[derive(Debug, Serialize)]
pub(crate) struct Attribute<'a> {
    key: &'static str,
    value: Value<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Value<'a> {
    StringValue(std::borrow::Cow<'a, str>),
    IntValue(String),
}

impl<'a> Attribute<'a> {
    pub(crate) fn text(key: &'static str, text: &'a str) -> Self {
        Self { key, value: Value::StringValue(text.into()) }
    }

    pub(crate) fn owned(key: &'static str, text: String) -> Self {
        Self { key, value: Value::StringValue(text.into()) }
    }

    pub(crate) fn number(key: &'static str, number: u64) -> Self {
        Self { key, value: Value::IntValue(number.to_string()) }
    }
}

impl<'a> LogRecord<'a> {
    fn of(entry: &'a Entry) -> Self {
        let nanos = entry.time.map(|millis| (u128::from(millis) * 1_000_000).to_string());
        let (severity_number, severity_text) = match entry.severity {
            Severity::Info => (9, "INFO"),
            Severity::Notice => (10, "NOTICE"),
            Severity::Warning => (13, "WARNING"),
            Severity::Error => (17, "ERROR"),
        };
        let mut attributes = vec![Attribute::number("strongroom.index", entry.index)];
        if let Some(kind) = &entry.kind {
            attributes.push(Attribute::text("strongroom.type", kind));
        }
        if let Some(job) = entry.job {
            let job = Value::StringValue(job.to_string().into());
            attributes.push(Attribute { key: "strongroom.job", value: job });
        }
        Self {
            time_unix_nano: nanos.clone(),
            observed_time_unix_nano: nanos,
            severity_number,
            severity_text,
            // Records are UTF-8, whatever is in them.
            body: Value::StringValue(String::from_utf8_lossy(&entry.leaf)),
            attributes,
            event_name: entry.kind.as_ref().map(|kind| format!("strongroom.{kind}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_records_bytes_and_its_index() {
        let written = line(&Entry::new(42, b"{\"v\":9}".to_vec()));
        assert_eq!(written, b"{\"index\":42,\"record\":{\"v\":9}}\n");
        assert_eq!(index_of(&written), Some(42));
        for other in
            ["", "{", "{\"index\":", "{\"index\":x", "{ \"index\":1", "{\"index\":99999999999999999999,"]
        {
            assert_eq!(index_of(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_request_is_the_json_of_the_protocol() {
        let leaf = r#"{"v":1,"time":1700000000123,"type":"started","job":"a0a0a0a0a0a0a0a0a0a0a0a0a0a00001","attempt":1}"#;
        let resource = Resource { hostname: "gate".into(), pid: 7, log: "example.com/log".into() };
        let body = request(&resource, &[Entry::new(3, leaf.into())]);
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let record = &body["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        assert_eq!(record["timeUnixNano"], "1700000000123000000");
        assert_eq!(record["body"]["stringValue"], leaf);
        assert_eq!(record["severityNumber"], 9);
        assert_eq!(record["attributes"][0]["key"], "strongroom.index");
        assert_eq!(record["attributes"][0]["value"]["intValue"], "3");
        assert_eq!(record["eventName"], "strongroom.started");
        assert_eq!(
            body["resourceLogs"][0]["resource"]["attributes"][0]["value"]["stringValue"],
            "strongroom"
        );
    }
}
