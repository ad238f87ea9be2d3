//! Asking witnesses: what was published is put before each of them, and what enough of them cosign is kept beside the log.
//!
//! It reads the log's files like any stranger, so it knows only what is published, and nothing waits for it: no job, no answer, no
//! publication. A witness that does not answer is asked again later and later; one that says that it has seen another history is an alarm,
//! and what is left of that is kept (`contradiction`).
//!
//! *Owns:* `audit/checkpoint.cosigned`. *Never:* counts an answer that its witness's key did not sign.
//! *Crash:* nothing is lost but time: the next start asks again from what the file says, or from what the witness says (409).
//! *Bound:* one question for each witness at a time, [`TIMEOUT`] long; pauses up to [`MAX_PAUSE`] looks.

mod ask;
pub(crate) mod contradiction;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use strongroom_job::cosignature::Cosignature;
use strongroom_job::merkle::{TreeHead, TreeSize};
use strongroom_job::note::VerifierKey;
use tokio::sync::watch;

use crate::audit::cosigned::{keep, published};
use crate::audit::read::LogReader;
use crate::config::Witness;
use crate::home::Home;

use ask::{Answer, AskError, Refusal, ask};

/// Between two looks at the log.
const LOOK: Duration = Duration::from_millis(500);
/// Longest wait for one witness.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for all of them when the host stops.
const LAST_ROUND: Duration = Duration::from_secs(2);
/// Longest pause after failures, in looks: five minutes.
const MAX_PAUSE: u32 = 600;

/// The task that asks.
#[derive(Debug)]
pub(crate) struct Cosigning {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Cosigning {
    /// Asks these witnesses about the log of the data directory `home` from now on; `quorum` cosignatures make a checkpoint worth
    /// keeping.
    pub(crate) fn start(home: &Home, log: VerifierKey, witnesses: &[Witness], quorum: usize) -> Self {
        let peers = witnesses.iter().map(Peer::new).collect();
        let round = Round { home: home.dir().into(), dir: home.audit(), log, peers, quorum, kept: None };
        let (stop, stopped) = watch::channel(false);
        Self { stop, task: tokio::spawn(run(round, stopped)) }
    }

    /// Asks a last time, for at most two seconds, about what was published in the end; then ends.
    pub(crate) async fn stop(self) {
        let Self { stop, task } = self;
        stop.send_replace(true);
        let _ = task.await;
    }
}

async fn run(mut round: Round, mut stop: watch::Receiver<bool>) {
    round.remember().await;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => round.go(told(&mut stop)).await,
            () = told(&mut stop) => break,
        }
    }
    round.go(tokio::time::sleep(LAST_ROUND)).await;
}

/// Waits for the word to stop. A sender that is gone means the same.
async fn told(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// One witness, as this host knows it.
struct Peer {
    witness: Witness,
    /// The largest tree of this log that it is known to have cosigned.
    seen: TreeSize,
    /// What it cosigned last.
    last: Option<(TreeHead, Cosignature)>,
    /// In a row.
    failures: u32,
    /// Looks until it is asked again.
    pause: u32,
    /// Times that it said that it has seen another history.
    contradicted: u64,
}

impl Peer {
    fn new(witness: &Witness) -> Self {
        Self {
            witness: witness.clone(),
            seen: TreeSize::ZERO,
            last: None,
            failures: 0,
            pause: 0,
            contradicted: 0,
        }
    }

    fn on(&self, head: &TreeHead) -> Option<&Cosignature> {
        self.last.as_ref().filter(|(cosigned, _)| cosigned == head).map(|(_, cosignature)| cosignature)
    }

    /// Takes what came of a question about this head. Gives a refusal back that says that there is another history.
    fn hear(&mut self, head: TreeHead, answer: Result<Answer, AskError>) -> Option<Refusal> {
        let (witness, seen) = (self.witness.key.name(), self.seen);
        match answer {
            Ok(answer) => {
                if let Some(forgot) = answer.forgot {
                    tracing::error!(%witness, cosigned = %seen, says = %forgot,
                        "ALARM: this witness forgot what it cosigned: its memory was set back, and it could cosign another history");
                }
                (self.seen, self.last) = (head.size, Some((head, answer.cosignature)));
                (self.failures, self.pause) = (0, 0);
                None
            }
            Err(error) => {
                if error.is_alarm() {
                    self.contradicted += u64::from(matches!(error, AskError::Refused(_)));
                    let contradicted = self.contradicted;
                    tracing::error!(%witness, size = %head.size, root = %head.root, contradicted, "ALARM: this witness does not cosign: it {error}");
                } else {
                    tracing::warn!(%witness, "not cosigned: this witness {error}");
                }
                self.failures = self.failures.saturating_add(1);
                self.pause = pause(self.failures);
                let is_alarm = error.is_alarm();
                match error {
                    AskError::Refused(refusal) if is_alarm => Some(*refusal),
                    _ => None,
                }
            }
        }
    }
}

/// One question, to the witness with this number; it has no more time than [`TIMEOUT`].
async fn question(
    number: usize,
    witness: Witness,
    seen: TreeSize,
    log: Arc<LogReader>,
) -> (usize, Result<Answer, AskError>) {
    let asked = tokio::time::timeout(TIMEOUT, ask(&witness, seen, log)).await;
    (number, asked.unwrap_or(Err(AskError::Late(TIMEOUT))))
}

/// Looks until the next question after so many failures, so that many hosts do not ask at one moment.
fn pause(failures: u32) -> u32 {
    let most = 1u32.checked_shl(failures).unwrap_or(MAX_PAUSE).min(MAX_PAUSE);
    let mut random = [0; 4];
    // Without randomness the pause is the whole one.
    let _ = getrandom::fill(&mut random);
    most - u32::from_le_bytes(random) % (most / 2 + 1)
}

struct Round {
    home: Arc<Path>,
    /// The log's directory.
    dir: PathBuf,
    log: VerifierKey,
    peers: Vec<Peer>,
    quorum: usize,
    /// The newest head that is kept, and with how many cosignatures.
    kept: Option<(TreeHead, usize)>,
}

impl Round {
    /// Takes up where the last process left off.
    async fn remember(&mut self) {
        let Some(log) = self.look().await else { return };
        let Ok(Some(cosigned)) = log.cosigned() else { return };
        let mut count = 0;
        for peer in &mut self.peers {
            if let Ok(cosignature) = peer.witness.key.find(&cosigned) {
                (peer.seen, peer.last) = (cosigned.size(), Some((*cosigned.head(), cosignature)));
                count += 1;
            }
        }
        self.kept = Some((*cosigned.head(), count));
    }

    async fn look(&self) -> Option<LogReader> {
        let (dir, log) = (self.dir.clone(), self.log.clone());
        let read = tokio::task::spawn_blocking(move || published(&dir, &log)).await;
        match read {
            Ok(Ok(log)) => Some(log),
            Ok(Err(error)) => {
                tracing::error!(%error, "no witness is asked: the log cannot be read");
                None
            }
            // The process ends.
            Err(_) => None,
        }
    }

    /// Asks every witness that has not cosigned the newest checkpoint and is not being left alone. What they answer is kept as it comes,
    /// those together that come together: one that is mute holds nobody else's cosignature back.
    /// Whoever has not answered when `enough` ends is not waited for any more.
    async fn go(&mut self, enough: impl Future<Output = ()>) {
        let Some(log) = self.look().await.map(Arc::new) else { return };
        let head = *log.checkpoint().head();
        if head.size == TreeSize::ZERO {
            return;
        }
        let mut late = pin!(tokio::time::sleep(TIMEOUT));
        let questions = FuturesUnordered::new();
        for (number, peer) in self.peers.iter_mut().enumerate().filter(|(_, peer)| peer.on(&head).is_none()) {
            if peer.pause > 0 {
                peer.pause -= 1;
            } else {
                questions.push(question(number, peer.witness.clone(), peer.seen, Arc::clone(&log)));
            }
        }
        let mut answers = questions.ready_chunks(self.peers.len().max(1));
        let mut enough = pin!(enough);
        let mut refused = FuturesUnordered::new();
        let mut asking = true;
        while asking || !refused.is_empty() {
            let some = tokio::select! {
                some = answers.next(), if asking => some,
                Some(()) = refused.next(), if !refused.is_empty() => continue,
                // The questions have their own end. What is looked for besides has no more time than they.
                () = &mut late, if !asking => return,
                () = &mut enough => return,
            };
            asking = some.is_some();
            for (number, answer) in some.into_iter().flatten() {
                let Some(peer) = self.peers.get_mut(number) else { continue };
                if let Some(refusal) = peer.hear(head, answer) {
                    let (home, witness) = (Arc::clone(&self.home), peer.witness.clone());
                    refused.push(contradiction::keep(home, witness, refusal, Arc::clone(&log)));
                }
            }
            self.keep(&log).await;
        }
    }

    async fn keep(&mut self, log: &LogReader) {
        let (checkpoint, head) = (log.checkpoint().clone(), *log.checkpoint().head());
        let cosignatures: Vec<_> = self.peers.iter().filter_map(|peer| peer.on(&head)).cloned().collect();
        let count = cosignatures.len();
        let better = self.kept.is_none_or(|(kept, had)| kept != head || had < count);
        if count < self.quorum || !better {
            return;
        }
        let (dir, log) = (self.dir.clone(), self.log.clone());
        let write = move || keep(&dir, &log, &checkpoint, &cosignatures);
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => {
                self.kept = Some((head, count));
                tracing::debug!(size = %head.size, witnesses = count, "the checkpoint is cosigned");
            }
            Ok(Err(error)) => tracing::error!(%error, "a cosigned checkpoint is not kept"),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_somewhere() {
        for failures in 1..100 {
            let most = if failures < 10 { 1 << failures } else { MAX_PAUSE };
            let pause = pause(failures);
            assert!(pause <= most && pause >= most / 2, "{failures}: {pause}");
        }
    }
}
