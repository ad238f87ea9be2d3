//! What the host signs with its own key: acceptances, and receipts of jobs that are over; and what it says of the keys before that one.
//!
//! *Never:* on the way of a job. A receipt is made when somebody asks for it, from the log's files, and kept nowhere.
//! *Bound:* [`AT_ONCE`] receipts at a time; each reads two bundles and O(log n) tiles.

use std::path::PathBuf;
use std::sync::Arc;

use strongroom_job::merkle::LeafIndex;
use strongroom_job::note::VerifierKey;
use strongroom_job::receipt::{Parts, Proven, Receipt};
use strongroom_job::succession::Succession;
use strongroom_job::{
    Acceptance, AcceptanceSignature, AcceptedJob, Digest, Input, OutputSummary, PublicKey, Refusal,
    RefusalCode, SecretKey, Timestamp,
};
use tokio::sync::Semaphore;

use crate::admission::AdmittedJob;
use crate::audit::read::LogReader;
use crate::publisher::Published;
use crate::store::{JobRow, Store};

/// Receipts that are made at a time: one with a large envelope takes some 20 MiB.
const AT_ONCE: usize = 4;

/// The host's own signature, and what it vouches for.
#[derive(Debug)]
pub(crate) struct Receipts {
    key: SecretKey,
    /// How that key came in the place of those before it.
    earlier: Arc<[Succession]>,
    log: VerifierKey,
    /// Where the log's files are.
    audit: PathBuf,
    published: Published,
    places: Arc<Semaphore>,
}

impl Receipts {
    pub(super) fn new(
        key: SecretKey,
        earlier: Vec<Succession>,
        log: VerifierKey,
        audit: PathBuf,
        published: Published,
    ) -> Self {
        let earlier = earlier.into();
        Self { key, earlier, log, audit, published, places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Where the log's files are.
    pub(super) fn audit(&self) -> PathBuf {
        self.audit.clone()
    }

    /// Waits until a durable checkpoint covers this record; false when that takes too long.
    pub(super) async fn are_made_of(&self, index: u64) -> bool {
        self.published.covers(index).await
    }

    /// Who signed for a key that this host had before is told of the one that it has now.
    pub(super) fn explained(&self, refusal: Refusal, audience: &PublicKey) -> Refusal {
        let had = self.earlier.iter().any(|one| one.old_key() == audience);
        if refusal.code != RefusalCode::WrongAudience || !had {
            return refusal;
        }
        let text = format!(
            "the job is signed for {audience}, which was this host's key before; now it is {}: follow it with `strongroom key accept` and \
             the statement of the host's operator, and sign the job for that one",
            self.key.public()
        );
        Refusal::new(RefusalCode::WrongAudience, text)
    }

    /// Signs the answer to an envelope. The same answer always gets the same signature, until the key is another one.
    pub(super) fn accept(
        &self,
        envelope: Digest,
        time: Timestamp,
        jobs: &[AcceptedJob],
    ) -> AcceptanceSignature {
        let host = self.key.public();
        Acceptance::new(host, self.log.clone(), envelope, time, jobs.to_vec()).sign(&self.key)
    }

    /// The receipt of a job that is over, once a checkpoint covers its end; with the envelope, if it is to be taken from `envelope`.
    pub(super) async fn issue(
        &self,
        row: &JobRow,
        spec: &AdmittedJob,
        envelope: Option<Store>,
    ) -> Result<Vec<u8>, Refusal> {
        let (Some(end), Some(finished)) = (row.life.end(), row.finished) else {
            let text = format!("job {} is not over yet: its receipt is there when it is", row.job);
            return Err(Refusal::new(RefusalCode::WrongState, text));
        };
        if !self.published.covers(finished).await {
            tracing::error!(job = %row.job, finished, "no checkpoint covers the end of a job yet");
            let text = "no checkpoint covers the end of the job yet; the host's log says more";
            return Err(Refusal::new(RefusalCode::HostFault, text));
        }
        let input = match &spec.task().input {
            Input::Blob { digest, length } => Some(OutputSummary { length: *length, digest: *digest }),
            // One in the envelope is the envelope's to tell, and one from other jobs is those jobs'.
            Input::Empty | Input::Inline(_) | Input::Outputs { .. } => None,
        };
        // Nobody closes this semaphore.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (key, log, audit) = (self.key.clone(), self.log.clone(), self.audit.clone());
        let (job, admitted, started_at) = (row.job, row.admitted, row.life.started_at);
        let digest = row.envelope;
        let opening = end.opening();
        let (audience, earlier) = (spec.context().audience, Arc::clone(&self.earlier));
        let made = tokio::task::spawn_blocking(move || {
            let _place = place;
            let envelope = match envelope {
                Some(store) => store.envelope(&digest).map_err(|error| error.to_string())?,
                None => None,
            };
            let reader = LogReader::open(&audit, Some(log.key())).map_err(|error| error.to_string())?;
            // One checkpoint for both proofs: witnesses may replace the cosigned one meanwhile.
            let under = reader.covering(LeafIndex::new(finished)).map_err(|error| error.to_string())?;
            let prove = |index| {
                let proven = reader.prove_under(LeafIndex::new(index), &under);
                let proven = proven.map_err(|error| error.to_string());
                proven.map(|(proof, leaf)| Proven { index, leaf, hashes: proof.hashes().to_vec() })
            };
            let parts = Parts {
                version: env!("CARGO_PKG_VERSION"),
                admitted: prove(admitted)?,
                finished: prove(finished)?,
                opening: Some(&opening),
                log,
                started_at,
                input,
                checkpoint: under.signed().clone(),
                envelope: envelope.as_deref(),
            };
            let receipt = Receipt::issue(parts, &key).map_err(|error| error.to_string())?;
            Ok::<_, String>(receipt.for_audience(&audience, &earlier).to_bytes())
        });
        let made = made.await.map_err(|error| error.to_string()).and_then(|made| made);
        if made.is_ok() {
            tracing::debug!("a receipt was made");
        }
        made.map_err(|error| {
            tracing::error!(%job, %error, "a receipt cannot be made");
            Refusal::new(RefusalCode::HostFault, "the host cannot make the receipt; its log says why")
        })
    }
}
