//! `POST /reload`: the configuration is to be read again.
//!
//! *Owns:* the way of that question to who reads files, and of the answer back. *Never:* reads one, or decides what may change:
//! `host/src/host/reload.rs` does. *Bound:* four questions at once, which are answered one after the other.
//! *Spec:* `docs/reference/cli.md`, "`strongroom reload`".

use serde::{Deserialize, Serialize};
use strongroom_job::Name;
use tokio::sync::{mpsc, oneshot};

use super::{Reply, reply};

/// Questions that wait.
const MOST: usize = 4;

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Read {
    /// Principals that were not there.
    pub(crate) added: Vec<Name>,
    /// Principals that are not there any more.
    pub(crate) removed: Vec<Name>,
    /// Principals that are others under their name.
    pub(crate) changed: Vec<Name>,
    /// In one line.
    pub(crate) diff: String,
    /// Connections that were closed.
    pub(crate) closed: usize,
    /// Jobs that were stopped.
    pub(crate) stopped: usize,
}

/// Somebody who waits for the answer. Dropped, the answer is that the host stops.
#[derive(Debug)]
pub(crate) struct Ask(oneshot::Sender<Result<Read, String>>);

impl Ask {
    /// Tells them. That they went away meanwhile is no error: what was read is in force.
    pub(crate) fn answer(self, answer: Result<Read, String>) {
        let _ = self.0.send(answer);
    }
}

/// Both ends of the way.
pub(crate) fn way() -> (mpsc::Sender<Ask>, mpsc::Receiver<Ask>) {
    mpsc::channel(MOST)
}

pub(super) async fn ask(way: &mpsc::Sender<Ask>) -> Reply {
    let (sender, answer) = oneshot::channel();
    match way.try_send(Ask(sender)) {
        Ok(()) => {}
        Err(mpsc::error::TrySendError::Full(_)) => {
            return Reply::words(
                503,
                "others wait for the same already; ask again when they have their answers",
            );
        }
        Err(mpsc::error::TrySendError::Closed(_)) => return super::stops(),
    }
    match answer.await {
        #[expect(clippy::expect_used, reason = "names and numbers always serialize")]
        Ok(Ok(read)) => {
            reply(200, "application/json", serde_json::to_string(&read).expect("plain data serializes"))
        }
        Ok(Err(problem)) => Reply::words(409, problem),
        Err(_) => super::stops(),
    }
}
