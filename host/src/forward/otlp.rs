//! OTLP logs over HTTP, in JSON: each batch is one request, and is done when it is answered with 200.
//!
//! *Never:* follows a redirect, asks a proxy, or keeps a connection. *Spec:* OTLP 1.x (OTLP/HTTP); `docs/formats/forwarding.md`.
//!
//! Against that specification in one point: a request that is answered with 400 is tried again, too, at the longest pause. To drop it would be
//! to lose evidence.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use tokio::time::timeout;

use super::Trouble;
use super::entry::Entry;
use super::json::{Resource, request};
use super::tls::Tls;
use super::wire::{self, HttpWire};
use crate::config::Server;

/// Longest wait for an answer, connecting apart.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest answer that is read, bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Memory of hyper's buffers.
const BUFFER_BYTES: usize = 16 << 10;
const AGENT: &str = concat!("strongroom/", env!("CARGO_PKG_VERSION"));

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
        let (status, answer) = timeout(ANSWER, self.post(HttpWire(wire), body))
            .await
            .map_err(|_| Trouble::Later(format!("no answer within {} s", ANSWER.as_secs())))??;
        if status != 200 {
            return Err(Trouble::Later(format!("the collector answers with status {status}")));
        }
        if let Some((rejected, why)) = rejected(&answer) {
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

    async fn post(&self, wire: HttpWire, body: Vec<u8>) -> Result<(u16, Vec<u8>), Trouble> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(BUFFER_BYTES);
        let (mut sender, connection) = builder.handshake(wire).await.map_err(Trouble::later)?;
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = self.path.parse().map_err(Trouble::later)?;
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::try_from(self.server.to_string()).map_err(Trouble::later)?);
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let exchange = async {
            let response = sender.send_request(request).await.map_err(Trouble::later)?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            // An answer that is cut off or endless is still an answer: the status says all that is needed.
            let body = body.map(|all| all.to_bytes().to_vec()).unwrap_or_default();
            Ok((status, body))
        };
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            answered = exchange.as_mut() => answered,
            // The connection may be over before its last bytes are taken.
            _ = connection => exchange.await,
        }
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
