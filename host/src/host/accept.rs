//! The spine: an envelope becomes jobs that are verified, admitted and durable, in one function.
//!
//! *Owns:* the order of the questions. *Never:* an answer before the commit. *Crash:* before the commit nothing happened; behind it a
//! client that asks again gets the first answer.

use std::sync::Arc;

use strongroom_job::{
    AcceptedJob, BlobKind, Digest, Envelope, Input, JobId, Refusal, RefusalCode, Timestamp, VerifiedJob,
};
use tracing::Instrument as _;

use super::refuse::{refuse_commit, refuse_envelope};
use super::service::HostService;
use super::view::refuse_read;
use crate::admission::{self, AdmittedJob};
use crate::config::Principal;
use crate::intake::Accepted;
use crate::spans;
use crate::store::{Committed, Transition, unknown_input};

/// Envelopes longer than this wait for one of the places for large ones. A batch of this length means 1 MiB of jobs at most.
const SMALL_ENVELOPE_BYTES: usize = 16 << 10;

impl HostService {
    pub(super) async fn accept(
        &self,
        who: &Arc<Principal>,
        envelope: Vec<u8>,
    ) -> Result<Accepted, (Refusal, Option<JobId>)> {
        self.check_open().map_err(|refusal| (refusal, None))?;
        let _place = match envelope.len() > SMALL_ENVELOPE_BYTES {
            // Nobody closes this semaphore.
            true => self.large_envelopes.acquire().await.ok(),
            false => None,
        };
        let mut noted = self.dispatcher().board().tracer().map(|tracer| tracer.accepting(self.clock.now()));
        let (verified, alone) = stage!("verify")
            .in_scope(|| {
                let parsed = Envelope::parse(&envelope)?;
                let alone = parsed.is_of_one_job();
                Ok((parsed.verify(&who.key)?, alone))
            })
            .map_err(|error| (refuse_envelope(&error), None))?;
        // The jobs of an envelope all have its digest, and there is at least one.
        let digest = verified.first().map_or_else(|| Digest::of(&[]), |job| *job.envelope());
        if let Some(first) = verified.first() {
            spans::is_about(&first.body().id);
        }
        let signed = |jobs: Vec<AcceptedJob>, time| {
            let acceptance = self.receipts.accept(digest, time, &jobs);
            Accepted { jobs, acceptance }
        };
        let before = self.answered_before(&verified).instrument(stage!("look up")).await;
        if let Some((jobs, time)) = before.map_err(|refusal| (refusal, None))? {
            return Ok(signed(jobs, time));
        }
        // Behind the answer to what is known: it takes no room.
        self.check_room().map_err(|refusal| (refusal, None))?;
        let mut jobs = Vec::with_capacity(verified.len());
        stage!("admit").in_scope(|| {
            for job in verified {
                let id = job.body().id;
                jobs.push(self.admit(job, who).map_err(|refusal| (refusal, Some(id)))?);
            }
            Ok(())
        })?;
        if let Some(noted) = &mut noted {
            noted.are(&jobs);
        }
        let first = jobs.first().map(AdmittedJob::id);
        let max_active = self.policy.in_force().config.bounds.max_queued;
        let transition =
            Transition::Admit { jobs, envelope: envelope.into(), alone, max_active, rules: self.rules(who) };
        let committed = self.store().commit(transition).instrument(stage!("commit")).await;
        match committed.map_err(|error| refuse_commit(&error, first))? {
            Committed::Admitted { jobs, time } => {
                tracing::debug!(jobs = jobs.len(), "accepted");
                if let Some(noted) = noted {
                    noted.accepted(&jobs);
                }
                self.stop_if_gone(who, &jobs).await;
                Ok(signed(jobs, time))
            }
            Committed::Stepped(_)
            | Committed::Erased { .. }
            | Committed::Granted { .. }
            | Committed::Done => {
                Err((Refusal::new(RefusalCode::HostFault, "a wrong answer of the store"), None))
            }
        }
    }

    /// The first answer again, when every job of the envelope was accepted in it before: a client may always repeat itself,
    /// also when the time window has passed meanwhile.
    async fn answered_before(
        &self,
        jobs: &[VerifiedJob],
    ) -> Result<Option<(Vec<AcceptedJob>, Timestamp)>, Refusal> {
        let mut answer = Vec::with_capacity(jobs.len());
        let mut time = Timestamp::default();
        for job in jobs {
            match self.store().row(&job.body().id).await.map_err(|error| refuse_read(&error))? {
                Some(row) if row.came_in(job.envelope(), job.signer()) => {
                    time = time.max(row.admitted_at);
                    answer.push(AcceptedJob { job: row.job, log_index: row.admitted, existing: None });
                }
                Some(_) => return Ok(None),
                None => {
                    match self.store().merged(&job.body().id).await.map_err(|error| refuse_read(&error))? {
                        Some(merged) if merged.came_in(job.envelope(), job.signer()) => {
                            time = time.max(merged.at);
                            answer.push(merged.answer(job.body().id));
                        }
                        Some(_) | None => return Ok(None),
                    }
                }
            }
        }
        Ok(Some((answer, time)))
    }

    fn admit(&self, job: VerifiedJob, who: &Principal) -> Result<AdmittedJob, Refusal> {
        let audience = job.body().context.audience;
        let in_force = self.policy.in_force();
        let admitted = admission::admit(job, who, &self.policy.of(&in_force), self.clock.now());
        let admitted = admitted.map_err(|refusal| self.receipts.explained(refusal, &audience))?;
        let task = admitted.task();
        if !self.has_blob(who, BlobKind::Module, &task.module.digest)? {
            let text = format!(
                "tenant {} has not given this host the module {}: push it first",
                who.tenant, task.module.digest
            );
            return Err(Refusal::new(RefusalCode::UnknownModule, text));
        }
        if let Input::Blob { digest, .. } = &task.input
            && !self.has_blob(who, BlobKind::Input, digest)?
        {
            return Err(unknown_input(&who.tenant, digest));
        }
        Ok(admitted)
    }
}
