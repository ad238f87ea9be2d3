//! One question to one witness: from the size that it cosigned last, or else from the one that it says.
//!
//! *Never:* believes what came back before its signature was checked. *Spec:* C2SP tlog-witness.

use std::sync::Arc;
use std::time::Duration;

use strongroom_job::cosignature::Cosignature;
use strongroom_job::merkle::TreeSize;
use strongroom_job::witness::AddCheckpoint;

use crate::audit::read::{LogReader, ReadError};
use crate::config::Witness;
use crate::http::{PostError, post_text};

/// The longest answer that is read: a few signature lines, also of larger kinds.
pub(super) const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Questions to get one answer: the second from the size that the witness says, and one more if somebody else asked in between.
const MAX_QUESTIONS: usize = 3;
/// Of what a witness says, so much is repeated.
const MAX_SAID: usize = 200;

/// A good answer.
pub(super) struct Answer {
    pub(super) cosignature: Cosignature,
    /// What the witness said that it cosigned last, when that is less than it did.
    pub(super) forgot: Option<TreeSize>,
}

/// A question and its answer, byte for byte.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) asked: String,
    pub(super) status: u16,
    pub(super) answer: Vec<u8>,
}

/// Why there is no cosignature. The subject is the witness.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("does not answer within {0:?}")]
    Late(Duration),
    #[error(transparent)]
    Post(#[from] PostError),
    #[error("cannot be given a proof: {0}")]
    Read(#[from] ReadError),
    #[error("cannot be given a proof: the host stops")]
    Stopping,
    #[error("refuses (status {}): {}", .0.status, said(&.0.answer))]
    Refused(Box<Refusal>),
    #[error(
        "has cosigned {theirs} records of this log, which has {ours}: this directory is an older copy, or the log's key signs elsewhere"
    )]
    Ahead { theirs: TreeSize, ours: TreeSize },
    #[error("says that it cosigned another size each time it is asked")]
    Restless,
    #[error("answers what is not its cosignature of this checkpoint: {0}")]
    Unsigned(String),
}

impl AskError {
    /// Whether it may mean that this host, or the witness, is not what it was: for people to look into at once.
    pub(super) const fn is_alarm(&self) -> bool {
        match self {
            // 409 that says no size: the same size and another root, as witnesses said before July 2026; 422 since.
            Self::Refused(refusal) => matches!(refusal.status, 409 | 422),
            Self::Ahead { .. } | Self::Unsigned(_) => true,
            Self::Late(_) | Self::Post(_) | Self::Read(_) | Self::Stopping | Self::Restless => false,
        }
    }
}

/// Asks `witness`, which cosigned `seen` entries last, to cosign the log's checkpoint.
pub(super) async fn ask(witness: &Witness, seen: TreeSize, log: Arc<LogReader>) -> Result<Answer, AskError> {
    let ours = log.checkpoint().size();
    let mut old = seen;
    let mut forgot = None;
    for _ in 0..MAX_QUESTIONS {
        let reader = Arc::clone(&log);
        let proof = tokio::task::spawn_blocking(move || reader.prove_extension(old)).await;
        let proof = proof.map_err(|_| AskError::Stopping)??;
        let request = AddCheckpoint::new(old, proof, log.checkpoint().signed().clone()).to_string();
        let answered =
            post_text(&witness.url, "/add-checkpoint", request.clone().into_bytes(), MAX_ANSWER_BYTES)
                .await?;
        let body = answered.body?;
        match answered.status {
            200 => {
                let cosignature = cosignature(witness, &log, &body).map_err(AskError::Unsigned)?;
                return Ok(Answer { cosignature, forgot });
            }
            409 => {
                let Some(theirs) = size(&body) else { return Err(refused(request, 409, body)) };
                if theirs > ours {
                    return Err(AskError::Ahead { theirs, ours });
                }
                forgot = forgot.or((theirs < seen).then_some(theirs));
                old = theirs;
            }
            status => return Err(refused(request, status, body)),
        }
    }
    Err(AskError::Restless)
}

fn refused(asked: String, status: u16, answer: Vec<u8>) -> AskError {
    AskError::Refused(Box::new(Refusal { asked, status, answer }))
}

/// The witness's own line among what it sent, checked.
fn cosignature(witness: &Witness, log: &LogReader, body: &[u8]) -> Result<Cosignature, String> {
    let lines = str::from_utf8(body).map_err(|error| error.to_string())?;
    let verifier = log.verifier();
    let signed = log.checkpoint().signed().with_signatures(lines);
    let signed = signed.and_then(|signed| signed.verify(verifier.name(), verifier.key()));
    let checkpoint = signed.map_err(|error| error.to_string())?;
    witness.key.find(&checkpoint).map_err(|error| error.to_string())
}

fn size(body: &[u8]) -> Option<TreeSize> {
    let text = str::from_utf8(body).ok()?.strip_suffix('\n')?;
    let size: u64 = text.parse().ok()?;
    (size.to_string() == text).then(|| TreeSize::new(size).ok())?
}

/// What somebody else wrote, fit for a line of our log.
fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * MAX_SAID)]).into_owned();
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_SAID).collect()
}
