//! The publisher: brings durable records from the store into the log's tiles, and signs checkpoints over them; before that, it puts
//! down what they refer to (`evidence`).
//!
//! *Owns:* the one [`Log`] writer and the one [`Evidence`] writer, on a thread of its own, off the path of every acknowledgement.
//! *Never:* publishes what the store has not made durable: a checkpoint that a power cut takes back would be a lie.
//! *Crash:* the store keeps each record until the full bundle that holds it is durable, so the next start publishes what
//! is missing, through this same function.

mod ease;
mod progress;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use strongroom_job::SecretKey;
use strongroom_job::merkle::{Hash, LeafIndex, TreeHead, TreeSize};
use strongroom_job::note::KeyName;
use strongroom_job::tile::TILE_WIDTH;
use tokio::sync::watch;

pub(crate) use progress::Published;

use ease::Ease;
use progress::HURRIED;

use crate::audit::read::{LogReader, ReadError as LogError};
use crate::audit::writer::{HistoryError, Log, OpenError, PublishError};
use crate::evidence::{Evidence, EvidenceError};
use crate::store::{Leaf, Opened, PublishedHead, ReadError, Store, Transition};

/// From the beginning of a publication to that of the next, while records come and nobody waits.
const INTERVAL: Duration = Duration::from_millis(200);
/// Behind its beginning there are so long rests in a publication.
const SPREAD: Duration = Duration::from_millis(150);
/// Records of one publication.
const MAX_RECORDS: usize = 4096;

/// Why the store and the log do not fit together. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The log itself.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store has records, the log's directory is gone.
    #[error(
        "the state holds {0} audit records, but there is no log: restore the audit directory; a new log would be a second history"
    )]
    LogMissing(u64),
    /// The log has more than the store.
    #[error(
        "the audit log holds {log} records, the state only {state}: the state was lost or rolled back; restore it, \
         or keep this directory for evidence and start with a new one"
    )]
    StateBehind {
        /// Records published.
        log: u64,
        /// Records in the store.
        state: u64,
    },
    /// The state counts records that it does not have.
    #[error("the state does not have record {0}, which is not published yet")]
    LeavesMissing(u64),
    /// A record differs.
    #[error(transparent)]
    Differs(#[from] PublishError),
    /// The log is not the one that was published before.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The store's memory of the log is no tree.
    #[error("the state remembers a log of an impossible size")]
    BadHead,
}

/// Opens the log and holds it against the store, both ways: neither may have lost what the other has.
pub(crate) fn join(dir: &Path, name: KeyName, key: SecretKey, state: &Opened) -> Result<Log, JoinError> {
    let records = state.log_size();
    let log = if dir.join("checkpoint").exists() {
        Log::open(dir, name, key)?
    } else if records == 0 {
        Log::create(dir, name, key)?
    } else {
        return Err(JoinError::LogMissing(records));
    };
    let published = log.size().get();
    if published > records {
        return Err(JoinError::StateBehind { log: published, state: records });
    }
    if let Some(PublishedHead { size, root }) = state.published() {
        let size = TreeSize::new(size).map_err(|_| JoinError::BadHead)?;
        log.extends(&TreeHead { size, root: Hash::from_bytes(root) })?;
    }
    // The bundle of the last published record, also when it is full. What the state has forgotten of it is under `published`.
    let last = published.saturating_sub(1);
    let first = last - last % u64::from(TILE_WIDTH);
    let overlap = state.leaves(first, TILE_WIDTH as usize)?;
    log.verify_overlap(LeafIndex::new(first), &overlap)?;
    let mut next = published;
    while next < records {
        match state.leaves(next, MAX_RECORDS)?.len() as u64 {
            0 => return Err(JoinError::LeavesMissing(next)),
            more => next += more,
        }
    }
    Ok(log)
}

/// The running publisher.
#[derive(Debug)]
pub(crate) struct Publisher {
    bell: SyncSender<()>,
    stopping: Arc<AtomicBool>,
    size: watch::Receiver<u64>,
    thread: JoinHandle<()>,
    failed: watch::Receiver<Option<String>>,
}

impl Publisher {
    pub(crate) fn start(dir: &Path, log: Log, evidence: Evidence, store: Store) -> std::io::Result<Self> {
        let dir = dir.to_owned();
        let (bell, rung) = sync_channel(1);
        let stopping = Arc::new(AtomicBool::new(false));
        let (tell, size) = watch::channel(log.size().get());
        let ears = Ears { rung, stopping: Arc::clone(&stopping), tell };
        let (failing, failed) = watch::channel(None);
        let thread = std::thread::Builder::new().name("audit-publisher".into()).spawn(move || {
            if let Err(error) = run(&dir, log, evidence, &store, &ears) {
                tracing::error!(%error, "the audit log cannot be published; the host stops");
                failing.send_replace(Some(format!("the audit log cannot be published: {error}")));
            }
        })?;
        Ok(Self { bell, stopping, size, thread, failed })
    }

    /// Waits until publishing fails. The host must stop then.
    pub(crate) fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.clone()
    }

    /// The size of the log, which changes with every publication.
    pub(crate) fn sizes(&self) -> watch::Receiver<u64> {
        self.size.clone()
    }

    /// How far the log is published.
    pub(crate) fn published(&self) -> Published {
        Published { size: self.size.clone(), bell: self.bell.clone() }
    }

    /// Publishes what is left and ends. Blocks.
    ///
    /// # Errors
    /// Why something is left: now, or since the publisher failed earlier.
    pub(crate) fn stop(self) -> Result<(), String> {
        let Self { bell, stopping, thread, failed, .. } = self;
        stopping.store(true, Ordering::Release);
        // A publisher that failed has gone already, and one that was rung before looks all the same.
        let _ = bell.try_send(());
        if thread.join().is_err() {
            return Err("the audit log cannot be published: its thread panicked".into());
        }
        failed.borrow().clone().map_or(Ok(()), Err)
    }
}

#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("record {0} is missing from the state")]
    Missing(u64),
}

/// What the publisher's thread listens to, and whom it tells.
struct Ears {
    /// Somebody waits for a checkpoint, or for the end.
    rung: Receiver<()>,
    stopping: Arc<AtomicBool>,
    /// The published size.
    tell: watch::Sender<u64>,
}

fn run(dir: &Path, mut log: Log, mut evidence: Evidence, store: &Store, ears: &Ears) -> Result<(), RunError> {
    if !catch_up(dir, &log, &mut evidence, store, &ears.stopping)? {
        return Ok(());
    }
    let uptime = || store.meters().uptime();
    let (mut begun, mut rang) = (uptime(), false);
    loop {
        let heard = match rang {
            true => Ok(()),
            false => ears.rung.recv_timeout(INTERVAL.saturating_sub(uptime().saturating_sub(begun))),
        };
        // Nobody has the bell any more: a start that failed after this one. Without an end the thread would hold the store for ever.
        let is_alone = heard == Err(RecvTimeoutError::Disconnected);
        let last_round = is_alone || ears.stopping.load(Ordering::Acquire);
        begun = uptime();
        let is_hurried = last_round || heard.is_ok();
        let mut ease = if is_hurried { Ease::none() } else { Ease::over(SPREAD, &ears.rung) };
        publish(&mut log, &mut evidence, store, &mut ease)?;
        // Whoever rang during a rest may wait for what was not there yet when this began.
        rang = ease.heard();
        store.meters().caught_up(begun);
        let size = log.size().get();
        ears.tell.send_if_modified(|told| std::mem::replace(told, size) != size);
        if last_round {
            // What came during the last one, too: nobody publishes it before the next start.
            while log.size().get() < store.log_size() {
                publish(&mut log, &mut evidence, store, &mut Ease::none())?;
                ears.tell.send_replace(log.size().get());
            }
            return Ok(());
        }
        if heard.is_ok() {
            std::thread::sleep(HURRIED);
        }
    }
}

/// Writes the evidence of records that were published without it: by an earlier version, or because it was lost. Says whether it
/// came to the end: the next start goes on where it stopped.
fn catch_up(
    dir: &Path,
    log: &Log,
    evidence: &mut Evidence,
    store: &Store,
    stopping: &AtomicBool,
) -> Result<bool, RunError> {
    let size = log.size().get();
    if evidence.covered() < size {
        tracing::info!(from = evidence.covered(), to = size, "writing the evidence of published records");
    }
    while evidence.covered() < size {
        if stopping.load(Ordering::Acquire) {
            return Ok(false);
        }
        let (from, reader) = (evidence.covered(), LogReader::open(dir, None)?);
        let to = size.min(from + MAX_RECORDS as u64);
        let leaves = reader.entries(LeafIndex::new(from), LeafIndex::new(to));
        let leaves =
            leaves.map(|entry| entry.map(|(_, leaf)| Leaf::from(leaf))).collect::<Result<Vec<_>, _>>();
        let leaves = leaves.map_err(LogError::from)?;
        if leaves.is_empty() {
            return Err(RunError::Missing(from));
        }
        evidence.append(from, &leaves, store, &mut || ())?;
    }
    Ok(true)
}

/// Publishes what is durable when it begins.
///
/// What the records refer to goes first: a state that is lost afterwards can be made from what a checkpoint covers.
fn publish(
    log: &mut Log,
    evidence: &mut Evidence,
    store: &Store,
    ease: &mut Ease<'_>,
) -> Result<(), RunError> {
    let mut size = log.size().get();
    let before = size;
    // What comes meanwhile is for the next time: a host that always has a few records more would sign and sync for each of them, without an end.
    let durable = store.log_size();
    ease.expect(durable.saturating_sub(size));
    while size < durable {
        let leaves = store.take_unpublished(size, MAX_RECORDS)?;
        if leaves.is_empty() {
            return Err(RunError::Missing(size));
        }
        let taken = evidence.append(size, &leaves, store, &mut || ease.breathe())?;
        log.publish(LeafIndex::new(size), leaves[..taken].iter().inspect(|_| ease.turn()))?;
        size = log.size().get();
    }
    if size > before {
        let head = log.checkpoint().head();
        let head = PublishedHead { size: head.size.get(), root: *head.root.as_bytes() };
        let forget_below = size - size % u64::from(TILE_WIDTH);
        // If the writer is busy, the next publication says it; until then the store keeps a few records more.
        let _ = store.offer(Transition::Published { head, forget_below });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::sync::atomic::AtomicUsize;

    use strongroom_job::{Digest, Event};

    use super::*;
    use crate::audit::{Hook, Step, When};
    use crate::clock::Clock;
    use crate::store::NoFault;

    // Red when `publish` goes on for as long as there is more.
    #[test]
    fn a_publication_is_of_what_was_there_when_it_began() {
        const TIMES: usize = 20;
        let dir = tempfile::tempdir().unwrap();
        let opened = Store::open(&dir.path().join("state")).unwrap();
        let (store, closing) = opened.start(Arc::new(Clock::default()), Box::new(NoFault)).unwrap();
        let key = SecretKey::from_seed(&[7; 32].into());
        let (host, name) = (key.public(), "example.org/log".parse().unwrap());
        let signed = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&signed);
        let hook: Hook = Box::new(move |when, step| {
            if when == When::Before && matches!(step, Step::Rename(to) if to.ends_with("checkpoint")) {
                seen.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let mut log = Log::create_with(&dir.path().join("audit"), name, key, Some(hook)).unwrap();
        signed.store(0, Ordering::Relaxed);
        let mut evidence = Evidence::open(&dir.path().join("evidence"), 0).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let busy = [(); 4].map(|()| {
            let (store, ended, signed) = (store.clone(), Arc::clone(&ended), Arc::clone(&signed));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                // With more than that it has failed, and would not end while somebody goes on.
                while !ended.load(Ordering::Acquire) && signed.load(Ordering::Relaxed) <= TIMES {
                    let said = Event::HostStarted { host, version: "0".into(), config: Digest::of(b"") };
                    runtime.block_on(store.commit(Transition::Log(said))).unwrap();
                }
            })
        });
        for _ in 0..TIMES {
            while store.log_size() == log.size().get() && busy.iter().any(|busy| !busy.is_finished()) {
                std::thread::yield_now();
            }
            publish(&mut log, &mut evidence, &store, &mut Ease::none()).unwrap();
        }
        ended.store(true, Ordering::Release);
        busy.into_iter().for_each(|busy| busy.join().unwrap());
        let signed = signed.load(Ordering::Relaxed);
        assert_eq!(signed, TIMES);
        drop(store);
        assert_eq!(closing.wait(), None);
    }
}
