//! What is left of a refusal: what was asked, what came back, and the proof of two histories where there is one.
//!
//! A refusal proves nothing: words that nobody signed, over a connection that anybody on the way could have answered. What may prove
//! something is the checkpoint that the witness cosigned last, which some witnesses show: signed by this log's key, and of a
//! tree with which this log does not begin, it convicts whoever has the key. So it is asked for, checked, and kept.
//!
//! *Owns:* `contradictions` in the data directory. *Never:* says that something is proven which it did not verify.
//! *Bound:* three files for each witness, [`MAX_ANSWER_BYTES`] each; a proof stays as it is, anything else gives way to the next refusal.
//! *Crash:* each file whole or not at all, the proof last. *Spec:* `docs/formats/cosignature.md`, "What a refusal leaves".

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_job::Digest;
use strongroom_job::checkpoint::{Checkpoint, SignedCheckpoint};
use strongroom_job::cosignature::CosignerKey;

use super::ask::{MAX_ANSWER_BYTES, Refusal};
use crate::audit::read::LogReader;
use crate::config::Witness;
use crate::home::HomeError;
use crate::home::place::{private_directory, replace};
use crate::http::get_text;

/// The directory, in the data directory.
pub(crate) const DIRECTORY: &str = "contradictions";

/// The files of one witness.
pub(crate) struct Place {
    directory: PathBuf,
    name: String,
}

impl Place {
    pub(crate) fn of(home: &Path, witness: &CosignerKey) -> Self {
        // A witness's name may hold what a file's may not.
        let hex = Digest::of(witness.to_string().as_bytes()).to_hex();
        Self { directory: home.join(DIRECTORY), name: hex[..16].to_owned() }
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.directory.join(format!("{}.{ending}", self.name))
    }

    /// The witness's checkpoint that contradicts the log.
    pub(crate) fn proof(&self) -> PathBuf {
        self.file("checkpoint")
    }

    /// Whether a refusal was kept.
    pub(crate) fn is_used(&self) -> bool {
        self.file("answered").exists()
    }

    fn keep(&self, refusal: &Refusal) -> Result<(), HomeError> {
        private_directory(&self.directory)?;
        if self.proof().exists() {
            return Ok(());
        }
        replace(&self.file("asked"), refusal.asked.as_bytes())?;
        let answered = [format!("{}\n", refusal.status).as_bytes(), &refusal.answer].concat();
        replace(&self.file("answered"), &answered)
    }
}

/// The checkpoint in `bytes`, if this log's key, or one that it had before, signed it and this log does not begin with its tree.
pub(crate) fn contradicts(bytes: &[u8], log: &LogReader) -> Option<Checkpoint> {
    let verifier = log.verifier();
    let theirs = SignedCheckpoint::parse(bytes).ok()?.verify_kept(verifier.name(), log.keys()).ok()?;
    // More than this log has may extend it: that this directory is an older copy is told elsewhere.
    let is_within = theirs.size() <= log.checkpoint().size();
    (is_within && log.begins_with(theirs.head()).is_ok_and(|begins| !begins)).then_some(theirs)
}

/// Keeps a refusal, then looks for its proof. Whoever gives up waiting leaves the first of it behind.
pub(super) async fn keep(home: Arc<Path>, witness: Witness, refusal: Refusal, log: Arc<LogReader>) {
    let name = witness.key.name().clone();
    let place = Arc::new(Place::of(&home, &witness.key));
    let there = Arc::clone(&place);
    match tokio::task::spawn_blocking(move || there.keep(&refusal)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return tracing::error!(witness = %name, %error, "a refusal cannot be kept"),
        // The process ends.
        Err(_) => return,
    }
    let origin = Digest::of(log.verifier().name().as_str().as_bytes()).to_hex();
    let theirs = get_text(&witness.url, &format!("/{origin}/checkpoint"), MAX_ANSWER_BYTES).await;
    // A witness need not show it.
    let Some(bytes) = theirs.ok().filter(|shown| shown.status == 200).and_then(|shown| shown.body.ok())
    else {
        return;
    };
    let kept = tokio::task::spawn_blocking(move || {
        let theirs = contradicts(&bytes, &log)?;
        let file = place.proof();
        let kept = if file.exists() { Ok(()) } else { replace(&file, &bytes) };
        Some((*theirs.head(), file, kept))
    });
    match kept.await {
        Ok(Some((head, file, Ok(())))) => tracing::error!(
            witness = %name, size = %head.size, root = %head.root, file = %file.display(),
            "ALARM: proven: this log's key signed another history, which the witness cosigned. Somebody else has the key, or this log was rewritten"
        ),
        Ok(Some((.., Err(error)))) => {
            tracing::error!(witness = %name, %error, "ALARM: this log's key signed another history, and the proof cannot be kept");
        }
        Ok(None) | Err(_) => {}
    }
}
