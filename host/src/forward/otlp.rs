//! OTLP logs over HTTP, in JSON: each batch is one request, and is done when it is answered with 200.
//!
//! *Spec:* OTLP 1.x (OTLP/HTTP); `docs/formats/forwarding.md`.
//!
//! Against that specification in two points. A request that is answered with 400 is tried again, as after any other status: to
//! drop it would be to lose evidence. `Retry-After` is not read: the pauses of `course` double up to a minute, and another's word could
//! make them any length. A request that is too long for the collector (413) goes in halves.

use std::path::PathBuf;

use super::Trouble;
use super::collector::{Collector, told};
use super::entry::Entry;
use super::gaps::{Rejected, Told};
use super::json::{Resource, request};
use super::tls::Tls;
use crate::config::Server;

/// What an answer calls the number of records that it rejects.
const REJECTED: &str = "rejectedLogRecords";
/// HTTP's word for a request that is too long.
const TOO_LARGE: u16 = 413;

pub(super) struct OtlpSink {
    collector: Collector,
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
        let collector = Collector::through(server, path, tls);
        Ok(Self { collector, resource, gaps, rejected, most: usize::MAX, told: false })
    }

    pub(super) async fn send(&mut self, batch: &[Entry]) -> Result<(), Trouble> {
        let mut left = batch;
        while !left.is_empty() {
            let (now, later) = left.split_at(self.most.min(left.len()));
            let answered = self.collector.post(request(&self.resource, now)).await?;
            match answered.status {
                200 => {
                    // An answer that is cut off or endless is still an answer: the status says that it was processed.
                    let body = answered.body.map_err(|error| error.to_string());
                    self.note(now, told(body.as_deref().map_err(String::as_str), REJECTED))?;
                    left = later;
                }
                TOO_LARGE if now.len() > 1 => self.most = now.len() / 2,
                status => return Err(Trouble::Later(format!("the collector answers with status {status}"))),
            }
        }
        Ok(())
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
