//! The witness over HTTP: which request is which, which refusal has which status.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strongroom_job::witness::{AddCheckpoint, MAX_REQUEST_BYTES, WitnessRefusal};
use tokio::sync::Semaphore;

use crate::http::{Answer, Asked, Body, Method, Reply};

use super::memory::{Memory, NotCosigned};

/// Requests that are judged or wait for the one that is. One whose asker has gone keeps its place to its end, so that nobody piles
/// up work here by asking and leaving; as many logs as this are served at one moment.
const AT_ONCE: usize = 16;

/// Cosigns for whoever asks: the log's signature is all that says who may.
#[derive(Debug)]
pub(super) struct Cosigner {
    memory: Arc<Memory>,
    places: Arc<Semaphore>,
    /// Requests that were refused and that anybody can make.
    strangers: AtomicU64,
}

impl Cosigner {
    pub(super) fn new(memory: Memory) -> Self {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        Self { memory: Arc::new(memory), places, strangers: AtomicU64::new(0) }
    }

    async fn add_checkpoint(&self, body: &[u8]) -> Reply {
        let request = match AddCheckpoint::parse(body) {
            Ok(request) => request,
            Err(error) => return Reply::words(400, error),
        };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Reply::words(
                503,
                "as much as can be written at once is being written: ask again in a second",
            );
        };
        let memory = Arc::clone(&self.memory);
        // Also when the asker has gone: what is being written is written to its end, on a thread that may block.
        let origin = request.unverified().unverified_origin().clone();
        let cosigned = tokio::task::spawn_blocking(move || {
            let _place = place;
            memory.cosign(request)
        })
        .await;
        let refused = match cosigned {
            Ok(Ok(line)) => return Reply { status: 200, ..text(line) },
            Ok(Err(refused)) => refused,
            Err(_) => NotCosigned::Disk("it is being stopped".into()),
        };
        match &refused {
            NotCosigned::Refused(WitnessRefusal::OtherSize(size)) => {
                let content_type = "text/x.tlog.size";
                return Reply { status: 409, content_type, ..text(format!("{size}\n")) };
            }
            NotCosigned::Refused(WitnessRefusal::OtherRoot) => tracing::error!(
                %origin,
                "ALARM: this log's key signed two checkpoints of one size; both are kept in this witness's evidence directory"
            ),
            NotCosigned::Disk(reason) => tracing::error!(%origin, %reason, "nothing is cosigned"),
            // Anybody can ask with an unknown log, a foreign signature, or a wrong proof for a log's own checkpoint. They are
            // counted, and told the fewer times the more they are.
            _ => {
                let refused_so_far = self.strangers.fetch_add(1, Ordering::Relaxed) + 1;
                if refused_so_far.is_power_of_two() {
                    tracing::warn!(%origin, reason = %refused, refused_so_far, "not cosigned");
                }
            }
        }
        Reply::words(status(&refused), &refused)
    }
}

impl Answer for Cosigner {
    const MAX_BODY: usize = MAX_REQUEST_BYTES;
    const METHODS: &'static str = "GET, HEAD, POST";

    async fn answer(&self, asked: Asked) -> Reply {
        match (asked.method, asked.path.as_str()) {
            (Method::Post, "/add-checkpoint") => self.add_checkpoint(&asked.body).await,
            (Method::Get, path) => match of_log(path).and_then(|hash| self.memory.latest(hash)) {
                Some(checkpoint) => text(checkpoint),
                None => Reply::words(404, "no checkpoint of such a log was cosigned"),
            },
            (Method::Post, _) => Reply::words(404, "ask at /add-checkpoint"),
            (Method::Other, _) => Reply::words(405, "only GET, HEAD and POST"),
        }
    }
}

/// The hash in `/<64 lowercase hex digits>/checkpoint`.
fn of_log(path: &str) -> Option<&str> {
    let hash = path.strip_prefix('/')?.strip_suffix("/checkpoint")?;
    let digits = hash.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    (hash.len() == 64 && digits).then_some(hash)
}

fn text(text: String) -> Reply {
    let body = Body::Bytes(text.into_bytes());
    Reply { status: 200, content_type: "text/plain; charset=utf-8", cache: "no-store", body }
}

const fn status(refused: &NotCosigned) -> u16 {
    match refused {
        NotCosigned::UnknownLog(_) => 404,
        NotCosigned::Refused(refusal) => refusal.status(),
        NotCosigned::Form(_) => 400,
        NotCosigned::Disk(_) => 500,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use strongroom_job::SecretKey;
    use strongroom_job::note::VerifierKey;

    use super::*;

    // Red without `try_acquire_owned`: then it is 404, after work that whoever asks and leaves could pile up.
    #[tokio::test]
    async fn what_finds_no_place_is_told_to_come_again() {
        let dir = tempfile::tempdir().unwrap();
        let key = SecretKey::from_seed(&[7; 32].into());
        let memory = Memory::open(dir.path(), "w".parse().unwrap(), key, Vec::<VerifierKey>::new()).unwrap();
        let cosigner = Cosigner::new(memory);
        let root = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        let body = format!("old 0\n\nunknown\n0\n{root}\n\n\u{2014} unknown AAAAAAAA\n");
        let permits = u32::try_from(AT_ONCE).unwrap();
        let taken = Arc::clone(&cosigner.places).acquire_many_owned(permits).await.unwrap();
        assert_eq!(cosigner.add_checkpoint(body.as_bytes()).await.status, 503);
        drop(taken);
        assert_eq!(cosigner.add_checkpoint(body.as_bytes()).await.status, 404);
        assert_eq!(cosigner.places.available_permits(), AT_ONCE);
    }
}
