//! Erasing what is private of a job: the store's rows in one commit, its files, and evidence with the record's publication.
//!
//! Only operators may: what is erased is evidence too, and who holds a tenant's key must not be able to take away what it was used for.
//!
//! *Crash:* rows and record are one batch. Files without a name are removed by the keeper, evidence when the record is published.

use std::collections::HashSet;

use strongroom_job::{JobId, PublicKey, Refusal, RefusalCode};

use super::service::{HostService, refuse_commit};
use super::view::refuse_read;
use crate::config::Principal;
use crate::intake::Erased;
use crate::store::{CommitError, Committed, ReadError, Transition};

impl HostService {
    /// Erases a job, and with `batch` all that came in its envelope. Asked for twice, it says so.
    pub(super) async fn erase_job(
        &self,
        who: &Principal,
        job: JobId,
        batch: bool,
    ) -> Result<Erased, Refusal> {
        self.check_operator(who, "erase what is private of jobs", Some(job))?;
        if let Some(refusal) = self.was_erased(&job, None).await? {
            return Err(refusal);
        }
        let committed = self.store().commit(Transition::Erase { job, all: batch, by: who.key }).await;
        let (jobs, log_index, files) = match committed {
            Ok(Committed::Erased { jobs, log_index, files }) => (jobs, log_index, files),
            Ok(_) => return Err(Refusal::new(RefusalCode::HostFault, "a wrong answer of the store")),
            Err(CommitError::UnknownJob) => return Err(unknown(&job)),
            Err(error) => return Err(refuse_commit(&error, Some(job)).0),
        };
        let (store, blobs) = (self.store().clone(), self.blobs().clone());
        let removed = tokio::task::spawn_blocking(move || {
            let mut files: HashSet<_> = files.into_iter().filter(|file| blobs.has(file)).collect();
            store.drop_named(&mut files)?;
            let removed = blobs.remove(&files).map_err(ReadError::Io)?;
            Ok::<_, ReadError>(files.len() - removed)
        });
        let waiting = match removed.await.map_err(|error| ReadError::Io(std::io::Error::other(error))) {
            Ok(Ok(waiting)) => waiting,
            Ok(Err(error)) | Err(error) => return Err(refuse_read(&error)),
        };
        if !self.is_published(log_index).await {
            tracing::warn!(%job, log_index, "no checkpoint covers an erasure yet: its evidence goes before one does");
        }
        tracing::info!(%job, jobs = jobs.len(), by = %PublicKey::short(&who.key), "erased what was private");
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(Erased { jobs: number(jobs.len()), log_index, files_waiting: number(waiting) })
    }

    /// What whoever asks for a job is told when it was erased: an operator, or with `of` a principal of the job's own tenant.
    pub(super) async fn was_erased(
        &self,
        job: &JobId,
        of: Option<&Principal>,
    ) -> Result<Option<Refusal>, Refusal> {
        let erased = self.store().erased(job).await.map_err(|error| refuse_read(&error))?;
        let erased = erased.filter(|erased| of.is_none_or(|who| who.tenant == erased.tenant));
        Ok(erased.map(|erased| {
            let text = format!(
                "job {job} was erased, as record {} of the log says: the host keeps nothing of what it was and left. Its records {} and {} \
                 stay, and so do receipts that were fetched before",
                erased.erased, erased.admitted, erased.finished
            );
            Refusal::new(RefusalCode::WrongState, text)
        }))
    }
}

fn unknown(job: &JobId) -> Refusal {
    let text = format!(
        "this host knows no job {job}: check the id and the host. What a host has forgotten it can no longer erase by its id"
    );
    Refusal::new(RefusalCode::UnknownJob, text)
}
