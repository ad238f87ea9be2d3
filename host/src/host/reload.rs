//! Another configuration for a host that runs: all of it or nothing of it.
//!
//! The order, and what a crash after each step means: the record that says so is durable (the next start reads the same file, and says
//! nothing more) → it is in force → connections of keys that are gone are closed → their jobs are stopped (the next start finds
//! them waiting or cut off, and gives them no grant).
//!
//! *Owns:* that order. *Never:* reads a file. What may change: `config/change.rs`.

use std::collections::HashSet;

use strongroom_job::{AcceptedJob, JobId, PublicKey};
use tokio::task::JoinSet;

use super::Host;
use super::service::HostService;
use crate::admin::Read;
use crate::config::{Config, Diff, LockOut, Principal};
use crate::dispatch::InForce;
use crate::intake::Service as _;
use crate::store::{CommitError, ReadError, Transition};

/// Jobs that are looked at before others of the thread have their turn.
const LOOKED_AT_ONCE: usize = 256;
/// Jobs that are being stopped at once: they share their commits.
const STOPPED_AT_ONCE: usize = 64;
/// Looks at all jobs: one that was let in just before the reload may come to be behind the first, and a series may have made a run.
const LOOKS: usize = 3;

/// What came of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Principals that differ.
    pub diff: Diff,
    /// Connections that were closed.
    pub closed: usize,
    /// Jobs that were stopped, because who signed them is gone.
    pub stopped: usize,
}

impl Reloaded {
    /// For who asked over the socket.
    pub(crate) fn told(self) -> Read {
        let Self { diff, closed, stopped } = self;
        let words = diff.to_string();
        let Diff { added, removed, changed } = diff;
        Read { added, removed, changed, diff: words, closed, stopped }
    }
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// Other parts differ, too.
    #[error("{} cannot change while the host runs: restart it, or take that back", .0.join(", "))]
    Fixed(Vec<&'static str>),
    /// It would lock people out.
    #[error(transparent)]
    LockedOut(#[from] LockOut),
    /// What governs the host cannot be read from the state.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The record cannot be made durable.
    #[error("the change cannot be recorded: {0}")]
    Commit(#[from] CommitError),
}

impl Host {
    /// Puts another configuration in force. Returns when everything of those who are gone is stopped.
    ///
    /// Safe to drop: what it has not stopped by then has no grant any more, and the next reload stops it.
    ///
    /// # Errors
    /// When it is refused, as a whole: then nothing was changed.
    pub async fn reload(&self, config: Config) -> Result<Reloaded, ReloadError> {
        // One after the other.
        let service = &self.service;
        let _turn = service.reloading.lock().await;
        let before = service.policy.in_force();
        let fixed = before.file.fixed(&config);
        if !fixed.is_empty() {
            return Err(ReloadError::Fixed(fixed));
        }
        // As it will be with what operators ordered.
        match service.lets_in(&before.commands.over(&config)) {
            // It had nobody to lose.
            Err(LockOut::Operators) if service.lets_in(&before.config) == Err(LockOut::Operators) => {}
            other => other?,
        }
        let diff = before.file.diff(&config);
        let governed = service.store().governed()?;
        if let Some(changed) = config.governs.changed_from(governed.map(|governed| governed.by)) {
            service.store().commit(Transition::Log(changed)).await?;
        }
        service.policy.replace(config);
        let (closed, stopped) = service.enforce(&before).await;
        Ok(Reloaded { diff, closed, stopped })
    }
}

/// Whether what began for `then` must not go on for `now`.
fn is_narrower(then: &Principal, now: &Principal) -> bool {
    now.tenant != then.tenant || !now.roles.cover(then.roles)
}

impl HostService {
    /// What is in force now is another than `before`: closes connections of keys that are gone or may do less, and stops jobs of those who are
    /// gone. Gives the numbers of both.
    pub(super) async fn enforce(&self, before: &InForce) -> (usize, usize) {
        let closed = self.doors.get().map_or(0, |(doors, _)| {
            doors.close_unknown(|key| self.principal(key).is_none())
                + doors.close_narrowed(|key| {
                    // Whose time was up meanwhile is gone, and was closed above.
                    let (then, now) = (before.principal(key, self.now()), self.principal(key));
                    then.zip(now).is_some_and(|(then, now)| is_narrower(&then, &now))
                })
        });
        self.refusals().keep(|key| self.principal(key).is_some());
        (closed, self.stop_jobs_of_the_gone().await)
    }

    /// Whom this configuration keeps out, by the trust file of this host.
    fn lets_in(&self, config: &Config) -> Result<(), LockOut> {
        config.lets_in(|who| self.trust.as_ref().is_none_or(|trust| trust.names(&who.key)))
    }

    /// Stops jobs that were accepted while their principal was taken out.
    pub(super) async fn stop_if_gone(&self, who: &Principal, jobs: &[AcceptedJob]) {
        if self.principal(&who.key).is_none() {
            for job in jobs.iter().filter(|job| job.existing.is_none()) {
                stop(self.dispatcher().cancel(job.job, self.policy.host).await.map(drop), job.job);
            }
        }
    }

    /// Stops every job whose signer is no principal, those that run first; gives their number.
    async fn stop_jobs_of_the_gone(&self) -> usize {
        let mut stopped = HashSet::new();
        let mut running = Vec::new();
        for job in self.dispatcher().running_jobs() {
            match self.store().row(&job).await {
                Ok(row) if row.as_ref().is_some_and(|row| self.principal(&row.signer).is_none()) => {
                    running.push(job);
                }
                Ok(_) => {}
                Err(error) => tracing::error!(%job, %error, "whether its principal is gone cannot be read"),
            }
        }
        self.stop(running, &mut stopped).await;
        for _ in 0..LOOKS {
            let before = stopped.len();
            let mut from = 0;
            loop {
                let jobs = match self.store().signed(from, LOOKED_AT_ONCE) {
                    Ok(jobs) => jobs,
                    Err(error) => {
                        tracing::error!(%error, "jobs of principals that are gone cannot be found: they are given no grant when they start");
                        return stopped.len();
                    }
                };
                let Some(last) = jobs.last() else { break };
                from = last.admitted + 1;
                let gone = jobs.iter().filter(|job| self.principal(&job.signer).is_none());
                self.stop(gone.map(|job| job.job).collect(), &mut stopped).await;
                tokio::task::yield_now().await;
            }
            if stopped.len() == before {
                break;
            }
        }
        stopped.len()
    }

    async fn stop(&self, jobs: Vec<JobId>, stopped: &mut HashSet<JobId>) {
        let mut stopping = JoinSet::new();
        for job in jobs {
            if stopping.len() >= STOPPED_AT_ONCE {
                drop(stopping.join_next().await);
            }
            if stopped.insert(job) {
                let (dispatcher, host): (_, PublicKey) = (self.dispatcher().clone(), self.policy.host);
                stopping.spawn(async move { stop(dispatcher.cancel(job, host).await.map(drop), job) });
            }
        }
        while stopping.join_next().await.is_some() {}
    }
}

/// A job that is over meanwhile, or is being stopped already, is as it should be.
fn stop(cancelled: Result<(), CommitError>, job: JobId) {
    match cancelled {
        Ok(()) => tracing::info!(%job, "stopped: who signed it is no principal any more"),
        Err(CommitError::Illegal(_) | CommitError::UnknownJob) => {}
        Err(error) => tracing::error!(%job, %error, "a job whose principal is gone cannot be stopped"),
    }
}
