//! Erasing what is private of a job: the store's rows in one commit, its files, and evidence with the record's publication.
//!
//! Only operators may: what is erased is evidence too, and who holds a tenant's key must not be able to take away what it was used for.
//!
//! *Crash:* rows and record are one batch. Files without a name are removed by the keeper, evidence when the record is published.

use std::collections::HashSet;
use std::time::Duration;

use strongroom_job::{Digest, ErasedView, JobId, PublicKey, Refusal, RefusalCode};

use super::refuse::refuse_commit;
use super::service::HostService;
use super::view::refuse_read;
use crate::config::Principal;
use crate::evidence::Damage;
use crate::store::{CommitError, Committed, ReadError, Transition};

/// How many jobs that are over a host may remember so that files of an erasure are looked for at once: whether a file is named by one of
/// them takes a look at each. Where there are more, the keeper's next round does it, for all erasures since the last one.
const LOOKED_AT_ONCE: usize = 10_000;

/// How long an answer waits for a checkpoint: not as long as a client waits for the answer.
const PATIENCE: Duration = Duration::from_secs(20);

impl HostService {
    /// With what evidence finds damaged when it erases.
    pub(super) fn told_of(mut self, damage: Damage) -> Self {
        self.damage = damage;
        self
    }

    /// Erases a job, and with `batch` all that came in its envelope. Asked for twice, it answers with the record that says so.
    pub(super) async fn erase_job(
        &self,
        who: &Principal,
        job: JobId,
        batch: bool,
    ) -> Result<ErasedView, Refusal> {
        self.check_operator(who, "erase what is private of jobs", Some(job))?;
        if let Some(erased) = self.erased_before(&job).await? {
            return Ok(erased);
        }
        let (store, now) = (self.store().clone(), self.clock.now());
        let found = tokio::task::spawn_blocking(move || {
            let doomed = store.doomed(job, batch, now)?;
            let merged = store.merged_into(&doomed.jobs);
            Ok((doomed, merged.map_err(|error| CommitError::Failed(error.to_string()))?))
        });
        let failed = |error: CommitError| match error {
            CommitError::UnknownJob => unknown(&job),
            error => refuse_commit(&error, Some(job)).0,
        };
        let found = found.await.map_err(|error| refuse_read(&ReadError::Io(std::io::Error::other(error))))?;
        let (doomed, merged) = found.map_err(failed)?;
        let in_clear = doomed.in_clear;
        let transition = Transition::Erase { doomed: Box::new(doomed), by: who.key };
        let (jobs, log_index, files) = match self.store().commit(transition).await {
            Ok(Committed::Erased { jobs, log_index, files }) => (jobs, log_index, files),
            Ok(_) => return Err(Refusal::new(RefusalCode::HostFault, "a wrong answer of the store")),
            // Somebody else asked for it at the same time.
            Err(CommitError::UnknownJob) => {
                return self.erased_before(&job).await?.ok_or_else(|| unknown(&job));
            }
            Err(error) => return Err(failed(error)),
        };
        tracing::info!(%job, jobs, by = %PublicKey::short(&who.key), "erased what was private");
        let files_waiting = number(self.remove_files(files).await);
        let published = self.is_told(&job, log_index).await;
        let damaged = number(self.damage.count());
        Ok(ErasedView { jobs: number(jobs), log_index, files_waiting, published, in_clear, damaged, merged })
    }

    /// Removes those of these files that nobody names; says how many the keeper has to look at.
    async fn remove_files(&self, files: Vec<Digest>) -> usize {
        let (store, blobs) = (self.store().clone(), self.blobs().clone());
        let removed = tokio::task::spawn_blocking(move || {
            let mut files: HashSet<_> = files.into_iter().filter(|file| blobs.has(file)).collect();
            let remembered: usize = store.past_tenants().iter().map(|(_, jobs, _)| jobs).sum();
            if files.is_empty() || remembered > LOOKED_AT_ONCE {
                return files.len();
            }
            let here = files.len();
            let removed = store.drop_named(&mut files).and_then(|()| {
                let removed = blobs.remove(&files).map_err(ReadError::Io)?;
                Ok(files.len() - removed)
            });
            removed.unwrap_or_else(|error| {
                tracing::warn!(%error, "files of an erasure could not be removed now; the keeper tries again");
                here
            })
        });
        // It does not panic.
        removed.await.unwrap_or_default()
    }

    /// Waits for a checkpoint over the record: evidence is erased before there is one.
    async fn is_told(&self, job: &JobId, log_index: u64) -> bool {
        let told = tokio::time::timeout(PATIENCE, self.is_published(log_index));
        let published = told.await.unwrap_or(false);
        if !published {
            tracing::warn!(%job, log_index, "no checkpoint covers an erasure yet: its evidence goes before one does");
        }
        published
    }

    /// The answer to who asks once more.
    async fn erased_before(&self, job: &JobId) -> Result<Option<ErasedView>, Refusal> {
        let erased = self.store().erased(job).await.map_err(|error| refuse_read(&error))?;
        let Some(erased) = erased else { return Ok(None) };
        let published = self.is_told(job, erased.erased).await;
        let damaged = number(self.damage.count());
        Ok(Some(ErasedView {
            jobs: 0,
            log_index: erased.erased,
            files_waiting: 0,
            published,
            in_clear: 0,
            damaged,
            merged: Vec::new(),
        }))
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
            let finished = erased.finished.map_or_else(String::new, |finished| format!(" and {finished}"));
            let text = format!(
                "job {job} was erased, as record {} of the log says: the host keeps nothing of what it was and left. Its record {}{finished} \
                 stays, and so do receipts that were fetched before",
                erased.erased, erased.admitted
            );
            Refusal::new(RefusalCode::WrongState, text)
        }))
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn unknown(job: &JobId) -> Refusal {
    let text = format!(
        "this host knows no job {job}: check the id and the host. What a host has forgotten it can no longer erase by its id"
    );
    Refusal::new(RefusalCode::UnknownJob, text)
}
