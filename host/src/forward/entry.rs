//! A record on its way out: its bytes as in the log, and what is said about it beside them.

use strongroom_job::{DeadReason, Event, JobId, Outcome, Record};

use super::Trouble;
use crate::audit::read::LogReader;
use strongroom_job::merkle::LeafIndex;

/// Records of one batch, and their bytes: what one destination holds in memory, besides one bundle of the log.
const MAX_BATCH: u64 = 256;
const MAX_BATCH_BYTES: usize = 1 << 20;
/// Longest name of a record's type; RFC 5424 leaves 32 bytes for it.
const MAX_KIND_BYTES: usize = 32;

/// How much somebody should care: the numbers of RFC 5424.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Error = 3,
    Warning = 4,
    Notice = 5,
    Info = 6,
}

/// One entry of the log.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) index: u64,
    /// One line of JSON without control characters.
    pub(super) leaf: Vec<u8>,
    /// Milliseconds since 1970, when the record can be read.
    pub(super) time: Option<u64>,
    /// The record's type.
    pub(super) kind: Option<String>,
    pub(super) job: Option<JobId>,
    pub(super) severity: Severity,
}

impl Entry {
    /// A record of a newer format is sent as it stands, with less beside it.
    pub(super) fn new(index: u64, leaf: Vec<u8>) -> Self {
        let record = Record::from_leaf(&leaf).ok();
        let severity = record.as_ref().map_or(Severity::Notice, |record| severity(&record.event));
        Self {
            index,
            time: record.as_ref().map(|record| record.time.as_millis()),
            kind: record.as_ref().and_then(|_| kind(&leaf)),
            job: record.as_ref().and_then(|record| record.job().copied()),
            severity,
            leaf,
        }
    }
}

/// What a person who is woken up by it should see.
fn severity(event: &Event) -> Severity {
    match event {
        Event::Finished { outcome, dead, .. } => of_end(outcome, *dead),
        Event::Refused { .. } | Event::Retried { .. } | Event::Requeued { .. } | Event::Missed { .. } => {
            Severity::Warning
        }
        Event::HostStarted { .. }
        | Event::HostStopped {}
        | Event::QueueSet { .. }
        | Event::ConfigurationChanged { .. }
        | Event::TrustChanged { .. }
        | Event::GrantAdded { .. }
        | Event::GrantsEnded { .. }
        | Event::CancelRequested { .. } => Severity::Notice,
        // Somebody has to follow it.
        Event::ClockStepped { .. } | Event::KeyRotated { .. } | Event::PrincipalChanged { .. } => {
            Severity::Warning
        }
        Event::Checked { problems: 1.., .. } => Severity::Error,
        // Somebody should look at the disk, and at what the last moments before it were.
        Event::StateRebuilt { .. } => Severity::Error,
        _ => Severity::Info,
    }
}

fn of_end(outcome: &Outcome, dead: Option<DeadReason>) -> Severity {
    match outcome {
        Outcome::Faulted { .. } => Severity::Error,
        _ if dead.is_some() => Severity::Error,
        Outcome::Exited { code: 0 } => Severity::Info,
        Outcome::Trapped { .. } | Outcome::Exceeded { .. } | Outcome::Interrupted | Outcome::Expired => {
            Severity::Warning
        }
        _ => Severity::Notice,
    }
}

/// The word behind `"type":`. Version and time, which stand before it, are numbers: the first such text is the record's own.
fn kind(leaf: &[u8]) -> Option<String> {
    let text = str::from_utf8(leaf).ok()?;
    let (_, rest) = text.split_once("\"type\":\"")?;
    let (kind, _) = rest.split_once('"')?;
    let plain = kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    (plain && (1..=MAX_KIND_BYTES).contains(&kind.len())).then(|| kind.to_owned())
}

/// The next entries from `from` on, at least one if the log has one there. Ends with a bundle of the log, so that none is read twice.
pub(super) fn batch(log: &LogReader, from: u64) -> Result<Vec<Entry>, Trouble> {
    let to = from.saturating_add(MAX_BATCH - from % MAX_BATCH);
    let mut batch = Vec::new();
    let mut bytes = 0;
    for entry in log.entries(LeafIndex::new(from), LeafIndex::new(to)) {
        let (index, leaf) = entry.map_err(Trouble::later)?;
        bytes += leaf.len();
        batch.push(Entry::new(index.get(), leaf));
        if bytes >= MAX_BATCH_BYTES {
            break;
        }
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_beside_a_record_is_the_records_own() {
        let leaf = br#"{"v":1,"time":1700000000123,"type":"started","job":"a0a0a0a0a0a0a0a0a0a0a0a0a0a00001","attempt":1}"#;
        let entry = Entry::new(7, leaf.to_vec());
        assert_eq!((entry.time, entry.kind.as_deref()), (Some(1_700_000_000_123), Some("started")));
        assert_eq!(entry.job.unwrap().to_string(), "a0a0a0a0a0a0a0a0a0a0a0a0a0a00001");
        assert_eq!(entry.severity, Severity::Info);
        let newer = Entry::new(7, br#"{"v":9,"type":"x"}"#.to_vec());
        assert_eq!((newer.time, newer.kind, newer.job), (None, None, None));
        assert_eq!(newer.severity, Severity::Notice);
    }
}
