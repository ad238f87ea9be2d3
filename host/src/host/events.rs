//! What happens on the host, told to whoever may hear it: records of the log, in its order, as soon as they are durable.
//!
//! ```text
//! HostService::open_events   who asks, and from where on
//! Events::next               waits for the log to grow
//! Reading::piece             some records: from the store, or, what that has given up, from the log's files
//! Listener::hears            whose a record is (`events/whose.rs`)
//! ```
//!
//! *Never:* holds a record for anybody: who reads slowly reads the log's files later, and the host does not wait. Nothing is skipped
//! without a word.
//! *Memory:* for each reader one piece of the log and [`MAX_KNOWN`](whose::MAX_KNOWN) jobs, whatever it does.
//! *Spec:* `docs/formats/wire.md`, "Events".

mod whose;

use std::path::PathBuf;

use bytes::Bytes;
use strongroom_job::merkle::LeafIndex;
use strongroom_job::{
    Event, EventLine, EventQuery, HostEvent, JobId, Name, PublicKey, Record, Refusal, RefusalCode,
};
use tokio::sync::watch;

use super::service::HostService;
use super::view::refuse_read;
use crate::audit::read::LogReader;
use crate::config::Principal;
use crate::intake::EventReader;
use crate::store::{ReadError, Store};

use whose::{Listener, Verdict};

/// Records that are looked at before others have their turn.
const AT_ONCE: usize = 32;
/// A piece ends behind the line that makes it so long.
const PIECE_BYTES: usize = 64 << 10;
/// After so many records without a line, one says how far the stream is.
const SILENCE: u64 = 1024;

/// The events that one reader is told.
#[derive(Debug)]
pub(crate) struct Events {
    /// Not here while it reads.
    reading: Option<Box<Reading>>,
    from: u64,
    /// Where it ends, when it does not follow.
    end: Option<u64>,
    grows: watch::Receiver<u64>,
}

/// A place in the log, and what was not said of what is before it.
#[derive(Debug)]
struct Reading {
    store: Store,
    audit: PathBuf,
    log_key: PublicKey,
    listener: Listener,
    next: u64,
    /// The place behind the last line.
    said: u64,
    left_out: u64,
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Store(#[from] ReadError),
    #[error("the log cannot be read: {0}")]
    Log(String),
    #[error("record {0} is neither in the state nor in the log")]
    Missing(u64),
    #[error("record {0} cannot be read: {1}")]
    Record(u64, String),
}

impl HostService {
    /// Opens the events that `query` asks for, of the principal's tenant or of everybody.
    pub(super) async fn open_events(
        &self,
        who: &Principal,
        query: EventQuery,
        everybody: bool,
    ) -> Result<Events, Refusal> {
        if everybody {
            self.check_operator(who, "hear of everybody's jobs", query.job)?;
        }
        if let Some(kind) = &query.kind {
            check_kind(kind)?;
        }
        let tenant = if everybody { None } else { Some(who.tenant.clone()) };
        if let (Some(job), Some(tenant)) = (&query.job, &tenant) {
            self.check_own(tenant, job)?;
        }
        let size = self.store().log_size();
        let from = query.from.unwrap_or(size);
        if from > size {
            let text = format!(
                "the log has {size} records: there is nothing to go on with at {from}. If this host had told you of more, its log would \
                 not be the one that you know: compare checkpoints before you go on"
            );
            return Err(Refusal::new(RefusalCode::BadRequest, text));
        }
        let end = (!query.follow).then_some(size);
        let listener = Listener::new(self.store().clone(), self.policy.clone(), tenant, query);
        let (audit, log_key) = self.log_place();
        let store = self.store().clone();
        let reading = Reading { store, audit, log_key, listener, next: from, said: from, left_out: 0 };
        Ok(Events { reading: Some(Box::new(reading)), from, end, grows: self.store().grows() })
    }

    fn check_own(&self, tenant: &Name, job: &JobId) -> Result<(), Refusal> {
        let is_own = self.store().is_of(job, tenant).map_err(|error| refuse_read(&error))?;
        if is_own == Some(true) {
            return Ok(());
        }
        let text = format!("tenant {tenant} has no job {job} on this host: check the id and the host");
        Err(Refusal::new(RefusalCode::UnknownJob, text))
    }
}

fn check_kind(kind: &str) -> Result<(), Refusal> {
    if Event::KINDS.contains(&kind) {
        return Ok(());
    }
    let known = Event::KINDS.join(", ");
    let text = format!("{kind:?} is no type of record; there are {known}");
    Err(Refusal::new(RefusalCode::BadRequest, text))
}

impl EventReader for Events {
    fn from(&self) -> u64 {
        self.from
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let Some(mut reading) = self.reading.take() else { return Ok(None) };
            let durable = *self.grows.borrow_and_update();
            let until = self.end.unwrap_or(durable).min(durable);
            if reading.next >= until {
                if self.end.is_some() {
                    return Ok(reading.last_line());
                }
                self.reading = Some(reading);
                // The store is gone: so is the host.
                if self.grows.changed().await.is_err() {
                    self.reading = None;
                }
                continue;
            }
            let read = tokio::task::spawn_blocking(move || {
                let piece = reading.piece(until);
                (reading, piece)
            });
            let (reading, piece) = read.await.map_err(|error| refuse(&error))?;
            let piece = piece.map_err(|error| refuse(&error))?;
            self.reading = Some(reading);
            if !piece.is_empty() {
                return Ok(Some(piece.into()));
            }
        }
    }
}

fn refuse(error: &dyn std::fmt::Display) -> Refusal {
    tracing::error!(%error, "events cannot be told");
    Refusal::new(RefusalCode::HostFault, "the host cannot read its log; its own log says why")
}

impl Reading {
    /// The lines for some records before `until`; there are any to look at.
    fn piece(&mut self, until: u64) -> Result<Vec<u8>, Fault> {
        let mut lines = Vec::new();
        for leaf in self.leaves(until)? {
            let record = Record::from_leaf(&leaf);
            let record = record.map_err(|error| Fault::Record(self.next, error.to_string()))?;
            self.tell(record, &mut lines)?;
            if lines.len() >= PIECE_BYTES {
                break;
            }
        }
        if self.next - self.said >= SILENCE {
            lines.extend(self.last_line().unwrap_or_default());
        }
        Ok(lines)
    }

    fn tell(&mut self, record: Record, lines: &mut Vec<u8>) -> Result<(), Fault> {
        let index = self.next;
        match self.listener.hears(&record)? {
            Verdict::Show(tenant) => {
                // Before it, so that whoever goes on behind it knows what is missing.
                if self.left_out > 0 {
                    lines.extend(self.last_line().unwrap_or_default());
                }
                let event = HostEvent { index, tenant, record };
                lines.extend(EventLine::Event(Box::new(event)).to_bytes());
                self.said = index + 1;
            }
            Verdict::Hide => {}
            Verdict::Unknown => self.left_out += 1,
        }
        self.next = index + 1;
        Ok(())
    }

    /// How far the stream is, unless the last line said so.
    fn last_line(&mut self) -> Option<Bytes> {
        let next = self.next;
        if self.said == next {
            return None;
        }
        self.said = next;
        let line = match std::mem::take(&mut self.left_out) {
            0 => EventLine::Next { next },
            records => EventLine::LeftOut { records, next },
        };
        Some(line.to_bytes().into())
    }

    /// The next leaves, at least one: all of them durable.
    fn leaves(&self, until: u64) -> Result<Vec<Vec<u8>>, Fault> {
        let most = usize::try_from(until - self.next).unwrap_or(AT_ONCE).min(AT_ONCE);
        let leaves = self.store.leaves(self.next, most)?;
        if !leaves.is_empty() {
            return Ok(leaves);
        }
        // The store gives a leaf up only when the full bundle that holds it is durable.
        let log = LogReader::open(&self.audit, Some(&self.log_key))
            .map_err(|error| Fault::Log(error.to_string()))?;
        let to = self.next.saturating_add(most as u64);
        let entries = log.entries(LeafIndex::new(self.next), LeafIndex::new(to));
        let leaves = entries.map(|entry| entry.map(|(_, leaf)| leaf)).collect::<Result<Vec<_>, _>>();
        let leaves = leaves.map_err(|error| Fault::Log(error.to_string()))?;
        if leaves.is_empty() { Err(Fault::Missing(self.next)) } else { Ok(leaves) }
    }
}
