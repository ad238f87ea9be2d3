//! The witness over HTTP: which request is which, which refusal has which status.

use std::sync::Arc;

use strongroom_job::witness::{AddCheckpoint, MAX_REQUEST_BYTES, WitnessRefusal};

use crate::http::{Answer, Asked, Body, Method, Reply};

use super::memory::{Memory, NotCosigned};

/// Cosigns for whoever asks: the log's signature is all that says who may.
#[derive(Debug)]
pub(super) struct Cosigner {
    memory: Arc<Memory>,
}

impl Cosigner {
    pub(super) fn new(memory: Memory) -> Self {
        Self { memory: Arc::new(memory) }
    }

    async fn add_checkpoint(&self, body: &[u8]) -> Reply {
        let request = match AddCheckpoint::parse(body) {
            Ok(request) => request,
            Err(error) => return Reply::words(400, error),
        };
        let memory = Arc::clone(&self.memory);
        // Also when the asker has gone: what is being written is written to its end, on a thread that may block.
        let origin = request.unverified().unverified_origin().clone();
        let cosigned = tokio::task::spawn_blocking(move || memory.cosign(request)).await;
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
            NotCosigned::Refused(reason @ (WitnessRefusal::Inconsistent(_) | WitnessRefusal::OtherRoot)) => {
                tracing::error!(
                    %origin, %reason,
                    "ALARM: a checkpoint that this log signed does not extend the last one: two histories, or a bad request"
                )
            }
            NotCosigned::Disk(reason) => tracing::error!(%origin, %reason, "nothing is cosigned"),
            _ => tracing::warn!(%origin, reason = %refused, "not cosigned"),
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
