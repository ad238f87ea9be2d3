//! The keeper: asks `retention` which jobs that are over go, and has them go; removes files that are nobody's any more, and the
//! evidence of jobs that are forgotten (`evidence`).
//!
//! It works beside everything else and stops nobody. Jobs go in groups through the store's writer, which looks once more whether
//! another job needs them. A file goes when no registration and no job that is over names it; one that was kept a short time ago stays,
//! since its name may be on its way to the writer.
//!
//! *Owns:* when it is looked. *Never:* which jobs go. *Crash:* the next start's first round finds the rest. The order is always the
//! name first, in a durable batch, and the file later: a crash between leaves a file too many, never a name without its file.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use strongroom_job::{JobId, MAX_FORGOTTEN, Name, Timestamp};

use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::dispatch::OwnPolicy;
use crate::evidence::Sweeper;
use crate::retention::{Fate, Past, Sweep};
use crate::store::{CommitError, PastJob, ReadError, Store, Transition};

/// Jobs or inputs of one group: bounds how long others wait for it. One record names them all.
const GROUP: usize = MAX_FORGOTTEN;
/// Longest time between two rounds, and the shortest, however short jobs are kept.
const ROUND: Duration = Duration::from_secs(60);
const SHORTEST_ROUND: Duration = Duration::from_millis(100);
/// Longest time between two looks at the files, and how long one stays at least after it was kept: more than any commit takes.
const FILES_ROUND: Duration = Duration::from_secs(600);
/// Shortest such time, however short jobs are kept.
const SHORTEST_FILES_ROUND: Duration = Duration::from_secs(10);

/// What it works with.
pub(super) struct Keeper {
    pub(super) store: Store,
    pub(super) blobs: Blobs,
    pub(super) policy: Arc<OwnPolicy>,
    pub(super) clock: Arc<Clock>,
    pub(super) evidence: Sweeper,
}

/// Why a round did not come to its end.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error("the files cannot be looked at: {0}")]
    Files(#[from] std::io::Error),
}

impl Keeper {
    /// Works until it is aborted. A round that fails is told and tried again: what it did not do costs only disk.
    pub(super) async fn run(mut self) {
        let keep = self.policy.in_force().config.retention.keep;
        // Where jobs are kept for less than a round, a job stays at most twice as long as the rules say.
        let mut rounds = every(keep.clamp(SHORTEST_ROUND, ROUND));
        let mut files_rounds = every(keep.clamp(SHORTEST_FILES_ROUND, FILES_ROUND));
        loop {
            let done = tokio::select! {
                _ = rounds.tick() => self.jobs().await,
                _ = files_rounds.tick() => self.files(keep).await,
            };
            if let Err(error) = done {
                tracing::warn!(%error, "what is not needed any more could not be removed; it is tried again");
            }
        }
    }

    /// Lets go what the rules say.
    async fn jobs(&self) -> Result<(), KeepError> {
        let in_force = self.policy.in_force();
        let config = &in_force.config;
        let (now, skew) = (self.clock.now(), config.bounds.clock_skew);
        let tenants = self.store.past_tenants();
        if !tenants.is_empty() {
            let needed = self.store.needed()?;
            for (tenant, jobs, bytes) in tenants {
                let mut sweep = Sweep::new(&config.retention, skew, now, jobs, bytes);
                let mut after = None;
                while let Some(last) = self.group(&tenant, &mut sweep, &needed, after).await? {
                    after = Some(last);
                }
            }
        }
        let skew_ms = u64::try_from(skew.as_millis()).unwrap_or(u64::MAX);
        let expired = Timestamp::from_millis(now.as_millis().saturating_sub(skew_ms));
        loop {
            let jobs = self.store.merged_before(expired, GROUP)?;
            if jobs.is_empty() {
                return Ok(());
            }
            self.store.commit(Transition::ForgetMerged { jobs }).await?;
        }
    }

    /// Judges the next jobs of a tenant; gives the last of them if there may be more to judge.
    async fn group(
        &self,
        tenant: &Name,
        sweep: &mut Sweep<'_>,
        needed: &HashSet<JobId>,
        after: Option<PastJob>,
    ) -> Result<Option<PastJob>, KeepError> {
        let past = self.store.past(tenant, after.as_ref(), GROUP)?;
        let fates = past.iter().map_while(|job| {
            let PastJob { ended_at, bytes, not_after, key_until, .. } = *job;
            let needed = needed.contains(&job.job);
            sweep.judge(&Past { ended_at, bytes, not_after, key_until, needed }).map(|fate| (*job, fate))
        });
        let fates: Vec<_> = fates.collect();
        let more = fates.len() == GROUP;
        let changes = |(job, fate): &(PastJob, Fate)| match fate {
            Fate::Stays => false,
            Fate::Stripped => job.bytes > 0,
            Fate::Forgotten => true,
        };
        let jobs: Vec<_> = fates.into_iter().filter(changes).collect();
        if !jobs.is_empty() {
            self.store.commit(Transition::Forget { tenant: tenant.clone(), jobs }).await?;
        }
        // Many may be looked at of which none goes now: others of this thread come first.
        tokio::task::yield_now().await;
        Ok(past.last().copied().filter(|_| more))
    }

    /// Lets inputs go that no job has named for so long as jobs are kept, and removes files that are nobody's.
    async fn files(&mut self, keep: Duration) -> Result<(), KeepError> {
        let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        let before = Timestamp::from_millis(self.clock.now().as_millis().saturating_sub(keep_ms));
        let store = self.store.clone();
        let unused = tokio::task::spawn_blocking(move || store.unused_inputs(before)).await;
        for inputs in unused.map_err(std::io::Error::other)??.chunks(GROUP) {
            self.store.commit(Transition::ForgetInputs { inputs: inputs.to_vec() }).await?;
        }
        let (store, blobs) = (self.store.clone(), self.blobs.clone());
        let swept = tokio::task::spawn_blocking(move || {
            let mut files = blobs.sweep()?;
            // Listed first and asked about second: what is named meanwhile was kept meanwhile, and so is not in the list.
            store.drop_named(&mut files)?;
            Ok::<_, KeepError>(blobs.remove(&files)?)
        });
        let removed = swept.await.map_err(std::io::Error::other)??;
        if removed > 0 {
            tracing::info!(removed, "removed files that nobody names any more");
        }
        let (store, mut evidence) = (self.store.clone(), std::mem::take(&mut self.evidence));
        let swept = tokio::task::spawn_blocking(move || {
            let removed = evidence.sweep(&store);
            (evidence, removed)
        });
        let (evidence, removed) = swept.await.map_err(std::io::Error::other)?;
        self.evidence = evidence;
        if removed? > 0 {
            tracing::info!("removed evidence of jobs that are forgotten");
        }
        Ok(())
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut rounds = tokio::time::interval(period);
    // A round that took long is followed by a pause, not by those that it left out.
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    rounds
}
