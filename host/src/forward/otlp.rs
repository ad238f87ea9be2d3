//! OTLP logs over HTTP, in JSON: each batch is one request, and is done when it is answered with 200.
//!
//! *Spec:* OTLP 1.x (OTLP/HTTP); `docs/formats/forwarding.md`.
//!
//! Against that specification in one point: a request that is answered with 400 is tried again, too, at the longest pause. To drop it would be
//! to lose evidence.

use std::time::Duration;

use tokio::time::timeout;

use super::Trouble;
use super::entry::Entry;
use super::json::{Resource, request};
use super::tls::Tls;
use super::wire;
use crate::config::Server;
use crate::http::{Post, post};

/// Longest wait for an answer, connecting apart.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest answer that is read, bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;

pub(super) struct OtlpSink {
    server: Server,
    path: String,
    tls: Option<Tls>,
    resource: Resource,
}

impl OtlpSink {
    pub(super) const fn new(server: Server, path: String, tls: Option<Tls>, resource: Resource) -> Self {
        Self { server, path, tls, resource }
    }

    pub(super) async fn send(&self, batch: &[Entry]) -> Result<(), Trouble> {
        let body = request(&self.resource, batch);
        let wire = wire::connect(&self.server, self.tls.as_ref()).await?;
        let host = self.server.to_string();
        let request = Post { host: &host, path: &self.path, content_type: "application/json", body };
        let answered = timeout(ANSWER, post(wire, request, MAX_ANSWER_BYTES))
            .await
            .map_err(|_| Trouble::Later(format!("no answer within {} s", ANSWER.as_secs())))?
            .map_err(|error| Trouble::Later(format!("the collector {error}")))?;
        if answered.status != 200 {
            return Err(Trouble::Later(format!("the collector answers with status {}", answered.status)));
        }
        // An answer that is cut off or endless is still an answer: the status says all that is needed.
        if let Some((rejected, why)) = rejected(&answered.body.unwrap_or_default()) {
            // The protocol does not say which, and forbids to send them again.
            let (first, last) =
                (batch.first().map(|entry| entry.index), batch.last().map(|entry| entry.index));
            tracing::warn!(
                rejected,
                why,
                first,
                last,
                "the collector has rejected records of the audit log; the log still has them"
            );
        }
        Ok(())
    }
}

/// How many records the collector has not taken, and why, when it says so.
fn rejected(answer: &[u8]) -> Option<(u64, String)> {
    let answer: serde_json::Value = serde_json::from_slice(answer).ok()?;
    let partial = answer.get("partialSuccess")?;
    // A 64-bit number is a text in protobuf's JSON; some write a number.
    let count = partial.get("rejectedLogRecords")?;
    let count = count.as_u64().or_else(|| count.as_str()?.parse().ok()).filter(|count| *count > 0)?;
    let why = partial.get("errorMessage").and_then(|why| why.as_str()).unwrap_or_default();
    Some((count, why.chars().take(300).flat_map(char::escape_debug).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_collector_rejects_is_seen() {
        for (answer, expected) in [
            (r#"{}"#, None),
            (r#"{"partialSuccess":{}}"#, None),
            (r#"{"partialSuccess":{"rejectedLogRecords":"0","errorMessage":"fine"}}"#, None),
            ("not json", None),
            (
                r#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"a\nb"}}"#,
                Some((3, "a\\nb".to_owned())),
            ),
            (r#"{"partialSuccess":{"rejectedLogRecords":2}}"#, Some((2, String::new()))),
        ] {
            assert_eq!(rejected(answer.as_bytes()), expected, "{answer}");
        }
    }
}
