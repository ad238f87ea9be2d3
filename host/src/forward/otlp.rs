//! OTLP logs over HTTP, in JSON: each batch is one request, and is done when it is answered with 200.
//!
//! *Spec:* OTLP 1.x (OTLP/HTTP); `docs/formats/forwarding.md`.
//!
//! Against that specification in two points. A request that is answered with 400 is tried again, as after any other status: to
//! drop it would be to lose evidence. `Retry-After` is not read: the pauses of `course` double up to a minute, and another's word could
//! make them any length. A request that is too long for the collector (413) goes in halves.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;

use super::Trouble;
use super::entry::Entry;
use super::gaps::{Rejected, Told};
use super::json::{Resource, request};
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
/// HTTP's word for a request that is too long.
const TOO_LARGE: u16 = 413;

pub(super) struct OtlpSink {
    server: Server,
    path: String,
    tls: Option<Tls>,
    resource: Resource,
    /// Where it is kept what was rejected, and what is there.
    gaps: PathBuf,
    rejected: Rejected,
    /// Most records that the collector takes at once, as far as it has said.
    most: usize,
    /// Whether it was said that answers cannot be read.
    told: bool,
}

impl OtlpSink {
    pub(super) fn new(
        server: Server,
        path: String,
        tls: Option<Tls>,
        resource: Resource,
        gaps: PathBuf,
    ) -> Result<Self, Trouble> {
        let rejected = Rejected::load(&gaps)?.unwrap_or_default();
        Ok(Self { server, path, tls, resource, gaps, rejected, most: usize::MAX, told: false })
    }

    pub(super) async fn send(&mut self, batch: &[Entry]) -> Result<(), Trouble> {
        let mut left = batch;
        while !left.is_empty() {
            let (now, later) = left.split_at(self.most.min(left.len()));
            let answered = self.post(now).await?;
            match answered.status {
                200 => {
                    // An answer that is cut off or endless is still an answer: the status says that it was processed.
                    let body = answered.body.map_err(|error| error.to_string());
                    self.note(now, told(body.as_deref().map_err(String::as_str)))?;
                    left = later;
                }
                TOO_LARGE if now.len() > 1 => self.most = now.len() / 2,
                status => return Err(Trouble::Later(format!("the collector answers with status {status}"))),
            }
        }
        Ok(())
    }

    async fn post(&self, batch: &[Entry]) -> Result<Answered, Trouble> {
        let body = request(&self.resource, batch);
        let wire = wire::connect(&self.server, self.tls.as_ref()).await?;
        let host = self.server.to_string();
        let request = Post { host: &host, path: &self.path, content_type: "application/json", body };
        timeout(ANSWER, post(wire, request, MAX_ANSWER_BYTES))
            .await
            .map_err(|_| Trouble::Later(format!("no answer within {} s", ANSWER.as_secs())))?
            .map_err(|error| Trouble::Later(format!("the collector {error}")))
    }

    /// Keeps what is not taken of a batch, before the place moves on.
    fn note(&mut self, batch: &[Entry], told: Option<Told>) -> Result<(), Trouble> {
        let (Some(told), Some(first), Some(last)) = (told, batch.first(), batch.last()) else {
            return Ok(());
        };
        let (first, last) = (first.index, last.index);
        match &told {
            // The protocol does not say which, and forbids to send them again.
            Told::Rejected(count, why) => tracing::warn!(
                rejected = count,
                why,
                first,
                last,
                "the collector has rejected records of the audit log; the log still has them"
            ),
            Told::Unread(why) if !self.told => {
                self.told = true;
                tracing::warn!(
                    why,
                    first,
                    last,
                    "the collector's answer cannot be read; it may have rejected records of the audit log, which still has them"
                );
            }
            Told::Unread(_) => {}
        }
        self.rejected.add(&self.gaps, first, last, told)
    }
}

/// What the collector has not taken, or may not have, as it says under status 200.
fn told(answer: Result<&[u8], &str>) -> Option<Told> {
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
    let count = partial.get("rejectedLogRecords")?;
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
            assert_eq!(told(Ok(answer.as_bytes())), expected, "{answer}");
        }
        assert_eq!(told(Err("is gone")), unread("is gone"));
    }
}
