//! Submitting: a signed envelope goes to the host, and what the host answers is held against it and against the host's signature.

use std::collections::HashMap;

use strongroom_job::{
    Acceptance, AcceptanceSignature, AcceptedJob, Envelope, EnvelopeError, JobId, Request, Response,
    SignedAcceptance, SignedEnvelope,
};

use crate::{Batch, Client, Error, Flow, Job, Signed, receipts};

/// What a host accepted, and its signature under that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// In the order in which the jobs were given.
    pub jobs: Vec<AcceptedJob>,
    /// What the host signed, its jobs in the envelope's order; [`to_dsse`](SignedAcceptance::to_dsse) makes a file of it.
    pub acceptance: SignedAcceptance,
}

impl Client {
    /// Signs `job` as a new job and submits it. Once this returns, the job is durable and in the audit log.
    ///
    /// If the job is [`unique`](Job::unique) with [`Taken::Existing`](crate::Taken) and its key is taken, it is not run, and
    /// `existing` in the answer names the job that has the key. The host keeps no job under the new id then: show, wait for and
    /// read that one, for which [`runs_as`](crate::runs_as) is the short word.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) with the host's reason; [`InvalidJob`](Error::InvalidJob) before anything is sent.
    pub async fn submit(&self, job: &Job) -> Result<AcceptedJob, Error> {
        let signed = self.sign(job).await?;
        let accepted = self.submit_signed(&signed).await?;
        accepted.first().copied().ok_or_else(|| self.protocol("it accepted no job"))
    }

    /// Signs a batch once and submits it: all of its jobs are accepted, in its order, or none.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_batch(&self, batch: &Batch) -> Result<Vec<AcceptedJob>, Error> {
        let signed = self.sign_batch(batch).await?;
        self.submit_signed(&signed).await
    }

    /// Signs a flow once and submits it: all of its jobs are accepted or none. The answer is in the order in which the jobs were
    /// added: `accepted[handle.index()]` is the one of `handle`.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_flow(&self, flow: &Flow) -> Result<Vec<AcceptedJob>, Error> {
        let signed = self.sign_flow(flow).await?;
        self.submit_signed(&signed).await
    }

    /// Submits what was signed before. Safe to repeat: the same bytes get the same answer and run once. The answer is in the order
    /// of [`Signed::jobs`].
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) with the host's reason.
    pub async fn submit_signed(&self, signed: &Signed) -> Result<Vec<AcceptedJob>, Error> {
        Ok(self.submit_for_acceptance(signed).await?.jobs)
    }

    /// As [`submit_signed`](Self::submit_signed), and hands on what the host signed: evidence that it took the jobs, and where its
    /// log has them. Its signature is checked in every submit; here it can be kept.
    ///
    /// # Errors
    /// As [`submit_signed`](Self::submit_signed).
    pub async fn submit_for_acceptance(&self, signed: &Signed) -> Result<Accepted, Error> {
        let Accepted { jobs, acceptance } = self.send_envelope(&signed.envelope, &signed.sent).await?;
        if signed.jobs == signed.sent {
            return Ok(Accepted { jobs, acceptance });
        }
        let mut by_id: HashMap<JobId, AcceptedJob> = jobs.into_iter().map(|one| (one.job, one)).collect();
        let jobs = signed.jobs.iter().filter_map(|job| by_id.remove(job)).collect();
        Ok(Accepted { jobs, acceptance })
    }

    /// Submits an envelope that was signed elsewhere with this client's key. Safe to repeat.
    ///
    /// # Errors
    /// [`InvalidEnvelope`](Error::InvalidEnvelope) or [`WrongAudience`](Error::WrongAudience) before anything is sent;
    /// [`Refused`](Error::Refused) with the host's reason.
    pub async fn submit_envelope(&self, envelope: &SignedEnvelope) -> Result<Vec<AcceptedJob>, Error> {
        let claimed = Envelope::parse(envelope.as_bytes()).map_err(invalid)?;
        let jobs = claimed.verify(&self.public_key()).map_err(invalid)?;
        if let Some(job) = jobs.iter().find(|job| job.body().context.audience != self.host_key()) {
            return Err(Error::WrongAudience {
                address: self.link.options.addr.clone(),
                audience: Box::new(job.body().context.audience),
            });
        }
        let ids: Vec<JobId> = jobs.iter().map(|job| job.body().id).collect();
        Ok(self.send_envelope(envelope, &ids).await?.jobs)
    }

    async fn send_envelope(&self, envelope: &SignedEnvelope, ids: &[JobId]) -> Result<Accepted, Error> {
        let bytes = bytes::Bytes::copy_from_slice(envelope.as_bytes());
        let length = bytes.len() as u64;
        let (jobs, acceptance) = self
            .exchange(
                &Request::Submit { length },
                &bytes,
                Some(self.link.options.timeouts.answer),
                |response| match response {
                    Response::Accepted { jobs, acceptance } => Some((jobs, acceptance)),
                    _ => None,
                },
            )
            .await?;
        if jobs.len() != ids.len() || jobs.iter().zip(ids).any(|(one, id)| one.job != *id) {
            return Err(self.protocol("the jobs that it accepted are not those that were submitted"));
        }
        let Some(AcceptanceSignature { time, signature }) = acceptance else {
            return Err(self.protocol("it did not sign its answer"));
        };
        let log = receipts::log_of(self).await?;
        let acceptance = Acceptance::new(self.host_key(), log, *envelope.digest(), time, jobs.clone());
        let acceptance =
            acceptance.verify(&signature.0).map_err(|error| self.protocol(&error.to_string()))?;
        Ok(Accepted { jobs, acceptance })
    }
}

fn invalid(error: EnvelopeError) -> Error {
    Error::InvalidEnvelope(Box::new(error))
}
