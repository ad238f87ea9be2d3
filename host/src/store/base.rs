//! sled behind the journal: the one thread that gives it rows, and writes its file anew when that has grown long.
//!
//! It gets what the writer has gathered, some MiB at once and sorted, leaves last: what came and went meanwhile it never sees, and of what went while it
//! was at work it passes over the rest. Nobody waits for it, unless it is more than half a layer behind; as long as it is not it [takes its time](super::pace).
//!
//! *Owns:* every row that sled is given while the host works; a reader may split or merge a page of it. *Never:* what a row means. *Crash:* a layer is in the journal until sled has it durably;
//! `m/journal`, written after that, says up to which entry that is.
//! *Bound:* what sled is given between two syncs ([`PIECE_BYTES`]): a segment is free for other bytes once sled has written, not synced, elsewhere what
//! was in it, and this is a small part of one.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use sled::IVec;
use tokio::sync::watch;

use super::current::Current;
use super::headway::{self, Headway, Making};
use super::journal::{Change, Journal};
use super::nudge::Nudge;
use super::overlay::Layer;
use super::pace::{Haste, Pace};
use super::renew::{Renewed, Renewer};
use super::{garbage, keys};
use crate::clock::Stopwatch;
use crate::turns::Turns;

/// Bytes of rows that sled is given between two syncs: a few milliseconds of a processor and the disk.
const PIECE_BYTES: usize = 32 << 10;

/// So many bytes of rows as a file of the journal has are at least this many pieces.
const PIECES: usize = 4;

/// A layer that comes so soon behind the one before is of a busy host.
const BUSY: Duration = Duration::from_secs(5);

/// The journal, of which the writer writes entries, and this thread lets go.
pub(super) type SharedJournal = Arc<Mutex<Journal>>;

/// Locks it. A panic under the lock ended the writer.
pub(super) fn lock(journal: &SharedJournal) -> MutexGuard<'_, Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A layer for sled.
struct Order {
    rows: Arc<Layer>,
    /// sled then has every entry of the journal before this one.
    upto: u64,
}

/// The writer's end.
pub(super) struct Base {
    orders: SyncSender<Order>,
    headway: Headway,
    pace: Pace,
    thread: JoinHandle<()>,
}

/// The thread's.
struct Worker {
    db: sled::Db,
    /// sled's file, for `fdatasync`.
    sync: File,
    current: Current,
    journal: SharedJournal,
    renewer: Renewer,
    pace: Pace,
    turns: Turns,
    /// Bytes of rows that sled is given between two syncs.
    piece_bytes: usize,
}

impl Base {
    /// Starts the thread. It tells `failed` what it fails of, and ends.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub(super) fn start(
        opened: Renewed,
        current: Current,
        journal: SharedJournal,
        renewer: Renewer,
        failed: watch::Sender<Option<String>>,
    ) -> io::Result<Self> {
        let nudge = Nudge::start(current.clone())?;
        let (orders, ordered) = sync_channel(1);
        let (headway, making) = headway::new();
        let Renewed { db, sync } = opened;
        let pace = Pace::default();
        // Of a short journal a layer has several pieces, too: something can happen between them.
        let part = usize::try_from(lock(&journal).file_bytes()).unwrap_or(usize::MAX) / PIECES;
        let piece_bytes = PIECE_BYTES.min(part);
        let mut worker = Worker {
            db,
            sync,
            current,
            journal,
            renewer,
            pace: pace.clone(),
            turns: Turns::new(),
            piece_bytes,
        };
        let thread = std::thread::Builder::new().name("store-base".into()).spawn(move || {
            // sled panics where it finds what it cannot have written. A writer that has nothing to write would not see that.
            let ended = catch_unwind(AssertUnwindSafe(|| {
                let ran = worker.run(&ordered, &making, &nudge);
                if let Err(error) = &ran {
                    tracing::error!(%error, "the state's file cannot be written; the host stops");
                    fail(&failed, format!("the state's file cannot be written: {error}"));
                }
                ran.and(worker.end(&nudge).map_err(io::Error::from))
            }));
            let ended = ended.unwrap_or_else(|_| Err(io::Error::other("sled panicked")));
            if let Err(error) = ended {
                fail(&failed, format!("the state's file cannot be written: {error}"));
            }
            nudge.stop();
        })?;
        Ok(Self { orders, headway, pace, thread })
    }

    /// Whether it would take a layer at once.
    pub(super) fn is_idle(&self) -> bool {
        self.headway.is_idle()
    }

    /// Says how much time there is.
    pub(super) fn hurry(&self, haste: Haste) {
        self.pace.set(haste, self.thread.thread());
    }

    /// Waits until it would. False when it has failed.
    pub(super) fn wait(&self) -> bool {
        self.hurry(Haste::All);
        self.headway.wait()
    }

    /// Waits until sled has taken `part` of `of` of its layer, but not for longer than this. False when it has failed.
    pub(super) fn wait_for(&self, part: usize, of: usize, at_most: Duration) -> bool {
        self.hurry(Haste::All);
        self.headway.wait_for(part, of, at_most)
    }

    /// Gives it a layer. Only when it is idle. False when it has failed.
    pub(super) fn give(&self, rows: Arc<Layer>, upto: u64) -> bool {
        debug_assert!(self.is_idle(), "it has one layer at a time");
        self.headway.begin(rows.len());
        self.hurry(Haste::None);
        self.orders.send(Order { rows, upto }).is_ok()
    }

    /// Ends it, once it has done what it was given.
    pub(super) fn stop(self) {
        self.hurry(Haste::All);
        let Self { orders, thread, .. } = self;
        drop(orders);
        // A panic in it is sled's, and was told of by what it dropped.
        let _ = thread.join();
    }
}

impl Worker {
    fn run(&mut self, orders: &Receiver<Order>, making: &Making, nudge: &Nudge) -> io::Result<()> {
        let (mut taken, mut is_busy) = (None::<Stopwatch>, false);
        loop {
            let order = if self.renewer.owes() {
                self.pace.rest(&self.turns);
                None
            } else if self.renewer.is_copying() {
                match orders.recv_timeout(self.pace.after(&self.turns)) {
                    Ok(order) => Some(order),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                }
            } else {
                match orders.recv() {
                    Ok(order) => Some(order),
                    Err(_) => return Ok(()),
                }
            };
            if let Some(order) = order {
                is_busy = taken.replace(Stopwatch::start()).is_some_and(|taken| taken.passed() < BUSY);
                let (given, rows) = self.lower(order, making, nudge)?;
                self.renewer.owe(given);
                making.is_done();
                self.free(rows);
            }
            self.turns.begin();
            nudge.during(|| self.renew(is_busy))?;
        }
    }

    /// Gives sled a layer; says how many rows that were, and gives the layer back.
    fn lower(
        &mut self,
        Order { rows, upto }: Order,
        making: &Making,
        nudge: &Nudge,
    ) -> io::Result<(usize, Arc<Layer>)> {
        let erased = rows.get(keys::STALE).is_some_and(Option::is_some);
        let (mut passed_over, mut given) = (Vec::new(), 0);
        self.turns.begin();
        take(&rows, self.piece_bytes, |piece| {
            let whole = piece.len();
            self.current.overlay().pass_over(piece, &mut passed_over);
            if !piece.is_empty() {
                given += piece.len();
                nudge.during(|| self.apply(piece))?;
            }
            making.takes(whole);
            if piece.is_empty() {
                self.pace.turn(&mut self.turns);
            } else {
                self.pace.rest(&self.turns);
                self.turns.begin();
            }
            Ok(())
        })?;
        // By itself: what comes back early was not in sled durably before it.
        let done = [(keys::JOURNAL.into(), Some(IVec::from(&upto.to_be_bytes()))), self.renewer.count()];
        nudge.during(|| self.apply(&done))?;
        self.current.overlay().clear_lower(&passed_over);
        lock(&self.journal).forget_below(upto, erased)?;
        Ok((given, rows))
    }

    /// Frees a layer. There may be tens of thousands of rows in it, and nobody else has it any more.
    fn free(&mut self, rows: Arc<Layer>) {
        for row in Arc::try_unwrap(rows).unwrap_or_default() {
            drop(row);
            self.pace.turn(&mut self.turns);
        }
    }

    /// Copies a slice if there is something to copy.
    fn renew(&mut self, is_busy: bool) -> io::Result<()> {
        self.renewer.begin_if_due(&self.sync, is_busy);
        self.current.make(self.renewer.making());
        let turn = &mut || self.pace.turn(&mut self.turns);
        let Some(Renewed { db, sync }) = self.renewer.go_on(&self.db, &self.sync, &self.journal, turn)?
        else {
            // One that was given up takes room while anybody has it.
            self.current.make(self.renewer.making());
            return Ok(());
        };
        let before = self.current.put(db.clone());
        let handles = (before, std::mem::replace(&mut self.db, db));
        self.sync = sync;
        self.renewer.retire(handles);
        Ok(())
    }

    /// Gives sled a piece of a layer.
    fn apply(&mut self, piece: &[Change]) -> io::Result<()> {
        let share = self.renewer.share_of(piece);
        let more = give(&self.db, &self.sync, piece, || self.pace.turn(&mut self.turns))?;
        self.renewer.follow(share, more, &self.sync, &mut || self.pace.turn(&mut self.turns));
        Ok(())
    }

    fn end(&mut self, nudge: &Nudge) -> sled::Result<()> {
        nudge.during(|| self.renewer.stop());
        self.current.make(None);
        // What sled would write when it is dropped, while somebody still watches.
        nudge.during(|| self.db.flush())?;
        Ok(())
    }
}

/// Says why the store has failed, unless somebody has already said it.
pub(super) fn fail(failed: &watch::Sender<Option<String>>, reason: String) {
    failed.send_if_modified(|said| {
        let is_first = said.is_none();
        if is_first {
            *said = Some(reason);
        }
        is_first
    });
}

/// Hands a layer on in pieces, leaves last, since most of them go soon.
pub(super) fn take(
    rows: &Layer,
    piece_bytes: usize,
    mut apply: impl FnMut(&mut Vec<Change>) -> io::Result<()>,
) -> io::Result<()> {
    let (mut piece, mut bytes) = (Vec::new(), 0);
    let is_leaf = |(key, _): &(&IVec, _)| key.starts_with(keys::LEAVES);
    let others = rows.iter().filter(|row| !is_leaf(row));
    let leaves = rows.range::<[u8], _>((Bound::Included(keys::LEAVES), Bound::Unbounded)).take_while(is_leaf);
    for (key, value) in others.chain(leaves) {
        bytes += key.len() + value.as_ref().map_or(0, |value| value.len());
        piece.push((key.clone(), value.clone()));
        if bytes >= piece_bytes {
            apply(&mut piece)?;
            (bytes, piece) = (0, Vec::new());
        }
    }
    if piece.is_empty() { Ok(()) } else { apply(&mut piece) }
}

/// Gives sled some rows, durably, and calls `between` before each; says by how many bytes its rows are more.
fn give(db: &sled::Db, sync: &File, piece: &[Change], mut between: impl FnMut()) -> io::Result<i64> {
    let more = put(db, piece.iter().inspect(|_| between()))?;
    db.flush()?;
    sync.sync_data()?;
    garbage::free(piece.len());
    Ok(more)
}

/// Gives sled some rows, each by itself; says by how many bytes its rows are more. A batch would be all or nothing, which the journal is already, and nobody in this process could read any sled
/// before the last of its rows is in: the writer would stand still for tens of milliseconds.
pub(super) fn put<'a>(db: &sled::Db, changes: impl IntoIterator<Item = &'a Change>) -> sled::Result<i64> {
    let mut more = 0;
    for (key, value) in changes {
        let before = match value {
            Some(value) => db.insert(key, value)?,
            None => db.remove(key)?,
        };
        let bytes = |value: Option<&IVec>| value.map_or(0, |value| (key.len() + value.len()) as i64);
        more += bytes(value.as_ref()) - bytes(before.as_ref());
    }
    Ok(more)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::super::settings;
    use super::*;

    // Red when `take` hands rows on as they come: most leaves would be given to sled, since nobody has published them yet.
    #[test]
    fn leaves_are_handed_on_last() {
        let all = [
            keys::active(1),
            keys::leaf(1),
            keys::over(1),
            keys::leaf(2),
            keys::place(&strongroom_job::JobId::from_bytes([1; 16])),
        ];
        // Two of them fill a piece.
        let value: IVec = vec![7; PIECE_BYTES / 2].into();
        let rows: Layer = all.iter().map(|key| (key.as_slice().into(), Some(value.clone()))).collect();
        let mut pieces = Vec::new();
        let keep = |piece: &mut Vec<Change>| -> io::Result<()> {
            pieces.push(piece.iter().map(|(key, _)| key.to_vec()).collect::<Vec<_>>());
            Ok(())
        };
        take(&rows, PIECE_BYTES, keep).unwrap();
        let [active, first, over, second, place] = all;
        assert_eq!(pieces, [vec![over, place], vec![active, first], vec![second]]);
    }

    // Red without `inspect` in `give`: a piece would be some milliseconds without a turn of others.
    #[test]
    fn others_may_come_in_between_any_two_rows() {
        let dir = tempfile::tempdir().unwrap();
        let db = settings::of(dir.path()).open().unwrap();
        let sync = File::open(dir.path().join("db")).unwrap();
        let piece = [1, 2, 3].map(|record| (keys::active(record).into(), Some(IVec::from(&[7]))));
        let mut turns = Vec::new();
        give(&db, &sync, &piece, || turns.push(db.len())).unwrap();
        assert_eq!(turns, [0, 1, 2]);
    }
}
