//! Receipts: what a host says of a job that is over, checked against the pinned key before anybody sees it.

use strongroom_job::note::{KeyName, VerifierKey};
use strongroom_job::receipt::{MAX_RECEIPT_BYTES, Receipt, Verified};
use strongroom_job::{HostView, JobEnd, JobId, JobView, Request, Response};
use tokio::time::timeout;

use crate::exchange::{Exchange, kind_of};
use crate::{Client, Error};

impl Client {
    /// The receipt of a job that is over: the file, checked, and what it proves.
    ///
    /// It holds nothing of arguments, variables and input, unless `with_envelope` asks for the envelope that the job came in: then
    /// whoever has the receipt can run the job again.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) when there is no such job of our tenant, or it is not over. [`BadReceipt`](Error::BadReceipt)
    /// when the receipt does not prove what it should: then the host is at fault.
    pub async fn receipt(&self, job: JobId, with_envelope: bool) -> Result<(Receipt, Verified), Error> {
        let bytes = self.receipt_bytes(job, with_envelope).await?;
        let bad = |problem: String| Error::BadReceipt { job, problem };
        let log = log_of(self).await?;
        let receipt = Receipt::parse(&bytes).map_err(|error| bad(error.to_string()))?;
        let proven = receipt.verify(&self.host_key(), Some(&log)).map_err(|error| bad(error.to_string()))?;
        if proven.admitted.job != job {
            return Err(bad(format!("it is of job {}", proven.admitted.job)));
        }
        Ok((receipt, proven))
    }

    /// The receipt of a job that is said to have ended in this way, held against that.
    pub(crate) async fn receipt_of(&self, view: &JobView, end: &JobEnd) -> Result<Receipt, Error> {
        let (receipt, proven) = self.receipt(view.job, false).await?;
        match difference(view, end, &proven) {
            None => Ok(receipt),
            Some(part) => {
                let problem = format!("it proves another {part} than the host told before");
                Err(Error::BadReceipt { job: view.job, problem })
            }
        }
    }

    /// A receipt that is cut off is made anew, and may be another one then: no part of it is kept.
    async fn receipt_bytes(&self, job: JobId, envelope: bool) -> Result<Vec<u8>, Error> {
        let within = self.link.options.timeouts.answer;
        let attempt = async || {
            let session = self.link.session().await?;
            let mut exchange =
                Exchange::on(&self.link, &session, &Request::Receipt { job, envelope }).await?;
            let answered = async {
                exchange.end_request();
                let answer = exchange.answer().await?;
                let Response::Output { length: Some(length) } = answer else {
                    return Err(exchange.unexpected(kind_of(&answer)));
                };
                let mut bytes = Vec::new();
                while let Some(piece) = exchange.next().await? {
                    if bytes.len() + piece.len() > MAX_RECEIPT_BYTES {
                        return Err(exchange.protocol("its receipt is longer than any can be".into()));
                    }
                    bytes.extend_from_slice(&piece);
                }
                if bytes.len() as u64 != length {
                    return Err(exchange.protocol("its receipt is not as long as it said".into()));
                }
                Ok(bytes)
            };
            timeout(within, answered).await.unwrap_or_else(|_| Err(self.timed_out("answer", within)))
        };
        self.link.options.retry.run(attempt).await
    }
}

/// The log of the host that we are connected to, by its own word.
pub(crate) async fn log_of(client: &Client) -> Result<VerifierKey, Error> {
    // What it is asked for is here already: a connection that closed just behind it loses nothing.
    let session = client.link.options.retry.run(async || client.link.session().await).await?;
    let HostView { log_origin, log_key, .. } = &session.host;
    let name: KeyName =
        log_origin.parse().map_err(|_| client.protocol("its log has a name that no log can have"))?;
    Ok(VerifierKey::new(name, *log_key))
}

/// The first part of what the host told that the receipt does not prove.
fn difference(view: &JobView, end: &JobEnd, proven: &Verified) -> Option<&'static str> {
    let Verified { admitted, finished, .. } = proven;
    let same = [
        ("job", view.job == admitted.job),
        ("tenant", view.tenant == admitted.tenant),
        ("principal", view.principal == admitted.principal),
        ("module", view.module == admitted.module),
        ("admission", view.log_index == proven.admitted_at.0),
        ("outcome", end.outcome == finished.outcome),
        ("usage", end.usage == finished.usage),
        ("standard output", end.stdout == finished.stdout),
        ("standard error", end.stderr == finished.stderr),
        ("result", end.result == finished.result),
        ("list of artifacts", end.artifacts == finished.artifacts),
        ("list of denials", end.denied == finished.denied),
        ("end", end.dead == finished.dead && end.log_index == proven.finished_at.0),
    ];
    same.into_iter().find(|(_, same)| !same).map(|(part, _)| part)
}
