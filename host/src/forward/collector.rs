//! A collector that speaks OTLP over HTTP, in JSON: one request, one connection, one answer. Logs go through it here, traces and metrics
//! from `telemetry`.
//!
//! *Never:* repeats a request; what an answer means for what was sent is its sender's.
//! *Spec:* OTLP 1.x (OTLP/HTTP).

use std::time::Duration;

use strongroom_runtime::TlsRoots;
use tokio::time::timeout;

use super::Trouble;
use super::gaps::Told;
use super::tls::Tls;
use super::wire;
use crate::config::Server;
use crate::http::{Answered, Post, post};

/// Longest wait for an answer, connecting apart.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest answer that is read, bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Most characters of a reason that are kept.
const MAX_WHY: usize = 300;

/// Where one signal is taken.
pub(crate) struct Collector {
    server: Server,
    path: String,
    tls: Option<Tls>,
}

impl Collector {
    /// One that is reached at `path` of `server`, and with TLS if there are roots to trust. Opens nothing.
    ///
    /// # Errors
    /// Says what is wrong with the roots.
    pub(crate) fn new(server: Server, path: String, roots: Option<&TlsRoots>) -> Result<Self, String> {
        Ok(Self::through(server, path, roots.map(Tls::new).transpose()?))
    }

    pub(super) const fn through(server: Server, path: String, tls: Option<Tls>) -> Self {
        Self { server, path, tls }
    }

    pub(crate) async fn post(&self, body: Vec<u8>) -> Result<Answered, Trouble> {
        let wire = wire::connect(&self.server, self.tls.as_ref()).await?;
        let host = self.server.to_string();
        let request = Post { host: &host, path: &self.path, content_type: "application/json", body };
        timeout(ANSWER, post(wire, request, MAX_ANSWER_BYTES))
            .await
            .map_err(|_| Trouble::Later(format!("no answer within {} s", ANSWER.as_secs())))?
            .map_err(|error| Trouble::Later(format!("the collector {error}")))
    }
}

/// How much of a request that was answered with 200 the collector says that it has not taken; 0 also when that cannot be read.
pub(crate) fn rejected(answered: &Answered, count: &str) -> u64 {
    match told(answered.body.as_deref().map_err(|_| "is silent"), count) {
        Some(Told::Rejected(count, _)) => count,
        Some(Told::Unread(_)) | None => 0,
    }
}

/// What the collector has not taken, or may not have, as it says under status 200. `count` is what its number is called.
pub(super) fn told(answer: Result<&[u8], &str>, count: &str) -> Option<Told> {
    let unread = |problem: &str| Some(Told::Unread(format!("the collector {problem}")));
    let answer = match answer {
        // As short as it can be said that all is well.
        Ok([]) => return None,
        Ok(answer) => answer,
        Err(problem) => return unread(problem),
    };
    let Ok(answer) = serde_json::from_slice::<serde_json::Value>(answer) else {
        return unread("does not answer with JSON");
    };
    let partial = answer.get("partialSuccess")?;
    // A 64-bit number is a text in protobuf's JSON; some write a number.
    let count = partial.get(count)?;
    let Some(count) = count.as_u64().or_else(|| count.as_str()?.parse().ok()) else {
        return unread("does not say how many records it rejects");
    };
    let why = partial.get("errorMessage").and_then(|why| why.as_str()).unwrap_or_default();
    let why = why.chars().take(MAX_WHY).flat_map(char::escape_debug).collect();
    (count > 0).then_some(Told::Rejected(count, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDS: &str = "rejectedLogRecords";

    #[test]
    fn what_a_collector_rejects_is_seen() {
        let rejected = |count, why: &str| Some(Told::Rejected(count, why.to_owned()));
        let unread = |problem: &str| Some(Told::Unread(format!("the collector {problem}")));
        for (answer, expected) in [
            ("", None),
            (r#"{}"#, None),
            (r#"{"partialSuccess":{}}"#, None),
            (r#"{"partialSuccess":{"rejectedLogRecords":"0","errorMessage":"fine"}}"#, None),
            ("not json", unread("does not answer with JSON")),
            (
                r#"{"partialSuccess":{"rejectedLogRecords":[]}}"#,
                unread("does not say how many records it rejects"),
            ),
            (r#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"a\nb"}}"#, rejected(3, "a\\nb")),
            (r#"{"partialSuccess":{"rejectedLogRecords":2}}"#, rejected(2, "")),
        ] {
            assert_eq!(told(Ok(answer.as_bytes()), RECORDS), expected, "{answer}");
        }
        assert_eq!(told(Err("is gone"), RECORDS), unread("is gone"));
    }
}
