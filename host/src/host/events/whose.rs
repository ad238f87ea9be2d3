//! Whose a record is: what one listener hears of it.
//!
//! *Never:* lets a record through whose owner is not known. *Bound:* [`MAX_KNOWN`] jobs are remembered.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use strongroom_job::{Event, EventQuery, JobId, Name, PublicKey, Record, Timestamp};

use crate::dispatch::OwnPolicy;
use crate::store::{ReadError, Store, Whose};

/// Jobs of which a listener remembers whose they are, so that it need not ask for each record.
pub(super) const MAX_KNOWN: usize = 1024;

/// What one listener is told, and what it asked for.
#[derive(Debug)]
pub(super) struct Listener {
    store: Store,
    policy: Arc<OwnPolicy>,
    /// Whose records it may hear; none: everybody's, and the host's own.
    tenant: Option<Name>,
    query: EventQuery,
    known: HashMap<JobId, Known>,
    /// In the order in which they came; some of them are gone.
    came: VecDeque<JobId>,
}

/// What is to be done with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Told, as this tenant's or as the host's own.
    Show(Option<Name>),
    /// Not for this listener, or not asked for.
    Hide,
    /// It may be either: the host has let the job go.
    Unknown,
}

/// What is known of a job, as far as it was needed.
#[derive(Clone, Debug)]
struct Known {
    /// None: somebody's who is not to be heard.
    tenant: Option<Name>,
    queue: Option<Name>,
}

impl Listener {
    pub(super) fn new(store: Store, policy: Arc<OwnPolicy>, tenant: Option<Name>, query: EventQuery) -> Self {
        let (known, came) = (HashMap::new(), VecDeque::new());
        Self { store, policy, tenant, query, known, came }
    }

    pub(super) fn hears(&mut self, record: &Record) -> Result<Verdict, ReadError> {
        let event = &record.event;
        if self.query.kind.as_deref().is_some_and(|kind| kind != event.kind())
            || self.query.job.is_some_and(|job| !record.concerns(&job))
        {
            return Ok(Verdict::Hide);
        }
        let verdict = match event {
            Event::Admitted { job, tenant, .. } => {
                self.remember(*job, Known { tenant: self.heard(tenant), queue: None });
                self.of_job(job)?
            }
            // Of several jobs, which may have been in several queues.
            Event::Forgotten { tenant, .. }
            | Event::Erased { tenant, .. }
            | Event::GrantAdded { tenant, .. }
            | Event::GrantsEnded { tenant, .. } => {
                if self.query.queue.is_some() {
                    Verdict::Hide
                } else {
                    self.of_tenant(Some(tenant))
                }
            }
            Event::Refused { principal, .. } | Event::ModuleRegistered { principal, .. } => {
                self.of_principal(principal, record.time)
            }
            // The job itself was never taken.
            Event::Merged { into, .. } => self.of_job(into)?,
            Event::QueueSet { queue, .. } => match &self.query.queue {
                Some(asked) if asked != queue => Verdict::Hide,
                _ => self.of_tenant(None),
            },
            _ => match record.job() {
                Some(job) => self.of_job(job)?,
                None if self.query.queue.is_some() => Verdict::Hide,
                None => self.of_tenant(None),
            },
        };
        if let Event::Finished { job, .. } = event {
            self.known.remove(job);
        }
        Ok(verdict)
    }

    /// None: it is the host's own, or of nobody whom the host knows.
    fn of_tenant(&self, of: Option<&Name>) -> Verdict {
        match (&self.tenant, of) {
            (None, _) => Verdict::Show(of.cloned()),
            (Some(heard), Some(of)) if heard == of => Verdict::Show(Some(of.clone())),
            _ => Verdict::Hide,
        }
    }

    /// What a principal did, and not one of its jobs: its tenant's, as the configuration now says.
    fn of_principal(&self, key: &PublicKey, at: Timestamp) -> Verdict {
        if self.query.queue.is_some() {
            return Verdict::Hide;
        }
        match self.policy.in_force().principal(key, at) {
            Some(who) => self.of_tenant(Some(&who.tenant)),
            // Whose it was is not known any more: of a key that was taken out, or of a grant that has ended.
            None if self.tenant.is_some() => Verdict::Unknown,
            None => self.of_tenant(None),
        }
    }

    fn of_job(&mut self, job: &JobId) -> Result<Verdict, ReadError> {
        let Some(known) = self.known(job)? else { return Ok(Verdict::Unknown) };
        if known.tenant.is_none() {
            return Ok(Verdict::Hide);
        }
        Ok(match (&self.query.queue, &known.queue) {
            (Some(_), None) => Verdict::Unknown,
            (Some(asked), Some(queue)) if asked != queue => Verdict::Hide,
            _ => Verdict::Show(known.tenant),
        })
    }

    fn known(&mut self, job: &JobId) -> Result<Option<Known>, ReadError> {
        let by_queue = self.query.queue.is_some();
        if let Some(known) = self.known.get(job)
            && (known.queue.is_some() || known.tenant.is_none() || !by_queue)
        {
            return Ok(Some(known.clone()));
        }
        let known = match &self.tenant {
            Some(tenant) if !by_queue => {
                let is_of = self.store.is_of(job, tenant)?;
                is_of.map(|is_of| Known { tenant: is_of.then(|| tenant.clone()), queue: None })
            }
            _ => self.store.whose(job)?.map(|whose| match whose {
                Whose::Job(spec) => Known {
                    tenant: self.heard(&spec.context().tenant),
                    queue: Some(spec.task().queue.clone()),
                },
                Whose::Erased(tenant) => Known { tenant: self.heard(&tenant), queue: None },
            }),
        };
        if let Some(known) = &known {
            self.remember(*job, known.clone());
        }
        // What the record of its admission said holds, whatever became of the job since.
        Ok(known.or_else(|| self.known.get(job).cloned()))
    }

    /// The tenant, if this listener hears it.
    fn heard(&self, tenant: &Name) -> Option<Name> {
        self.tenant.as_ref().is_none_or(|heard| heard == tenant).then(|| tenant.clone())
    }

    fn remember(&mut self, job: JobId, known: Known) {
        if self.known.insert(job, known).is_some() {
            return;
        }
        if self.came.len() == MAX_KNOWN
            && let Some(oldest) = self.came.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.came.push_back(job);
    }
}
