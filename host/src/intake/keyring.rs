//! What each key holds of the host: connections, requests, memory. One key's flood ends at its own share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::Connection;
use strongroom_job::{CloseCode, MAX_ENVELOPE_BYTES, PublicKey};
use tokio::sync::Semaphore;

/// Requests of one key at once, over all its connections; more wait in their streams. Each holds a header of at most 16 KiB
/// while it is read: 64 MiB.
pub(super) const MAX_REQUESTS_PER_KEY: usize = 4096;
/// Bytes of envelopes of one key at once: 4 of the largest, or 20,000 of an ordinary kilobyte.
pub(super) const ENVELOPE_BYTES_PER_KEY: usize = 4 * MAX_ENVELOPE_BYTES;
/// Uploads of one key at once, each with a buffer of [`PIECE_BYTES`](super::body::PIECE_BYTES): 8 MiB.
pub(super) const MAX_UPLOADS_PER_KEY: usize = 32;
/// Event streams of one key at once, each with one piece of lines on its way.
pub(super) const MAX_EVENT_STREAMS_PER_KEY: usize = 16;

/// Jobs whose ends one key waits for at once, over all its requests for many: some 250 bytes each.
pub(super) const MAX_ENDS_PER_KEY: usize = 100_000;

/// All keys that have connected since the start, without those whose connections were all closed from outside. No more than the
/// configuration names.
pub(super) struct Keyring {
    max_connections: usize,
    max_per_key: usize,
    keys: Mutex<HashMap<PublicKey, Entry>>,
}

struct Entry {
    share: Arc<Share>,
    connections: Vec<Connection>,
}

/// What the requests of one key have in common.
pub(super) struct Share {
    /// One permit per request.
    pub(super) requests: Arc<Semaphore>,
    /// One permit per byte.
    pub(super) envelope_bytes: Semaphore,
    /// One permit per upload.
    pub(super) uploads: Semaphore,
    /// One permit per event stream.
    pub(super) event_streams: Semaphore,
    /// One permit per job.
    pub(super) ends: Semaphore,
}

impl Keyring {
    pub(super) fn new(max_connections: usize, max_per_key: usize) -> Self {
        Self { max_connections, max_per_key, keys: Mutex::default() }
    }

    /// Gives a new connection its place, if its key may have one more.
    ///
    /// When all places are taken, the key with the most connections gives one up to a key that has fewer: several keys
    /// together cannot keep another one out.
    pub(super) fn admit(&self, key: PublicKey, connection: &Connection) -> Option<Arc<Share>> {
        let mut keys = self.lock();
        let held = keys.get(&key).map_or(0, |entry| entry.connections.len());
        if held >= self.max_per_key {
            return None;
        }
        if keys.values().map(|entry| entry.connections.len()).sum::<usize>() >= self.max_connections {
            let richest = keys.values_mut().max_by_key(|entry| entry.connections.len())?;
            if richest.connections.len() <= held + 1 {
                return None;
            }
            let newest = richest.connections.pop()?;
            newest.close(CloseCode::TooManyConnections.number().into(), b"another key had none");
        }
        let entry = keys.entry(key).or_insert_with(Entry::new);
        entry.connections.push(connection.clone());
        Some(Arc::clone(&entry.share))
    }

    /// Closes all connections of these keys, and forgets the keys; gives the number of connections.
    pub(super) fn close(&self, which: impl Fn(&PublicKey) -> bool, code: CloseCode, reason: &str) -> usize {
        let mut closed = 0;
        self.lock().retain(|key, entry| {
            let stays = !which(key);
            if !stays {
                closed += entry.connections.len();
                for connection in &entry.connections {
                    connection.close(code.number().into(), reason.as_bytes());
                }
            }
            stays
        });
        closed
    }

    /// Whether nobody is connected.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().values().all(|entry| entry.connections.is_empty())
    }

    /// Takes the place of a closed connection back.
    pub(super) fn leave(&self, key: &PublicKey, connection: &Connection) {
        if let Some(entry) = self.lock().get_mut(key) {
            entry.connections.retain(|held| held.stable_id() != connection.stable_id());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PublicKey, Entry>> {
        // No step above leaves the map half changed.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new() -> Self {
        let share = Share {
            requests: Arc::new(Semaphore::new(MAX_REQUESTS_PER_KEY)),
            envelope_bytes: Semaphore::new(ENVELOPE_BYTES_PER_KEY),
            uploads: Semaphore::new(MAX_UPLOADS_PER_KEY),
            event_streams: Semaphore::new(MAX_EVENT_STREAMS_PER_KEY),
            ends: Semaphore::new(MAX_ENDS_PER_KEY),
        };
        Self { share: Arc::new(share), connections: Vec::new() }
    }
}
