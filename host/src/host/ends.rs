//! The ends of some jobs on their way out, as they come.
//!
//! *Bound:* the ids of those that are left, and [`AT_ONCE`] views.

use std::collections::VecDeque;
use std::sync::Arc;

use strongroom_job::{JobId, JobView, Refusal};

use super::service::{HostService, LOOKED_AT_ONCE};
use crate::config::Principal;
use crate::dispatch;
use crate::intake::EndReader;

/// Views that are made before they are sent.
const AT_ONCE: usize = 32;

/// Whose end is told of, and to whom.
#[derive(Debug)]
pub(crate) struct Ends {
    service: Arc<HostService>,
    who: Arc<Principal>,
    /// Those that were over when it was asked.
    before: VecDeque<JobId>,
    coming: dispatch::Ends,
}

impl Ends {
    /// For jobs of the principal's own tenant, each named once.
    pub(super) async fn of(
        service: Arc<HostService>,
        who: Arc<Principal>,
        jobs: Vec<JobId>,
    ) -> Result<Self, Refusal> {
        // Before they are looked at, so that no end is missed.
        let mut coming = service.dispatcher().listen(&jobs);
        let mut before = VecDeque::new();
        for (looked_at, job) in jobs.into_iter().enumerate() {
            if looked_at % LOOKED_AT_ONCE == LOOKED_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            if service.is_over(&who, job).await? {
                coming.is_known(&job);
                before.push_back(job);
            }
        }
        Ok(Self { service, who, before, coming })
    }
}

impl EndReader for Ends {
    async fn next(&mut self) -> Result<Vec<JobView>, Refusal> {
        let mut over: Vec<JobId> = self.before.drain(..self.before.len().min(AT_ONCE)).collect();
        if over.is_empty() {
            over = self.coming.next(AT_ONCE).await;
        }
        let mut views = Vec::with_capacity(over.len());
        for job in over {
            let (row, spec) = self.service.own_row(&self.who, job).await?;
            views.push(self.service.view(&row, &spec));
        }
        Ok(views)
    }
}
