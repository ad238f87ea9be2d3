//! The host as intake sees it: each kind of request, from who asks to what is answered.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use strongroom_job::delegation::GrantId;
use strongroom_job::trust::TrustBody;
use strongroom_job::{
    BlobKind, Digest, ErasedView, EventQuery, GrantView, HostView, JobId, JobState, JobView, ModuleRef,
    ModuleView, Name, OutputStream, PrincipalView, PublicKey, QueueMode, QueueView, Refusal, RefusalCode,
    Request, Timestamp,
};
use tokio::sync::{Mutex, Semaphore};
use tracing::Instrument as _;

use super::ends::Ends;
use super::events::Events;
use super::gate::Gate;
use super::receipts::Receipts;
use super::refuse::refuse_commit;
use super::reserve::Reserve;
use super::upload::{Incoming, MAX_MODULES};
use super::view::{Output, refuse_read};

use crate::admission::quota::{self, Asked};
use crate::admission::{self, AdmittedJob};
use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::config::{Principal, TenantRules};
use crate::dispatch::{Dispatcher, OwnPolicy};
use crate::evidence::Damage;
use crate::intake::{Accepted, Doors, Page, Service};
use crate::lifecycle::Illegal;
use crate::refusals::Refusals;
use crate::spans;
use crate::store::{CommitError, Cursor, JobRow, Store, Transition};

/// Jobs that one `list` looks at, at most, however few of them fit its filter: some 50 ms of a processor.
const MAX_LOOKED_AT: usize = 10_000;
/// Others of its thread come first each time that it has looked at so many.
pub(super) const LOOKED_AT_ONCE: usize = 100;

/// Large envelopes between their signature and their commit: some 100 KiB of batch can mean 32 MiB of jobs.
const LARGE_ENVELOPES: usize = 4;

/// Everything that a request can reach.
#[derive(Debug)]
pub(crate) struct HostService {
    pub(super) policy: Arc<OwnPolicy>,
    log_key: PublicKey,
    store: Store,
    blobs: Blobs,
    dispatcher: Dispatcher,
    pub(super) clock: Arc<Clock>,
    refusals: Arc<Refusals>,
    pub(super) receipts: Receipts,
    pub(super) damage: Damage,
    pub(super) large_envelopes: Semaphore,
    /// One change of who may do what at a time: a reload, or a grant.
    pub(super) reloading: Mutex<()>,
    /// What closes connections of those who may do less than before, once there are connections, and the file that forbids changes.
    pub(super) doors: OnceLock<(Doors, PathBuf)>,
    pub(super) stopping: Gate,
    pub(super) reserve: Reserve,
    /// The version of the trust file in force; without one the configuration says who is an operator.
    pub(super) trust: Option<TrustBody>,
}

impl HostService {
    pub(super) fn new(
        policy: Arc<OwnPolicy>,
        log_key: PublicKey,
        store: Store,
        blobs: Blobs,
        dispatcher: Dispatcher,
        clock: Arc<Clock>,
        receipts: Receipts,
    ) -> Self {
        let reserve = Reserve::of(blobs.dir(), policy.in_force().config.bounds.disk_reserve_bytes);
        Self {
            policy,
            log_key,
            store,
            blobs,
            dispatcher,
            clock,
            refusals: Arc::default(),
            receipts,
            damage: Damage::default(),
            large_envelopes: Semaphore::new(LARGE_ENVELOPES),
            stopping: Gate::default(),
            reloading: Mutex::default(),
            doors: OnceLock::new(),
            reserve,
            trust: None,
        }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    pub(super) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Where the log's files are, and who signs it.
    pub(super) fn log_place(&self) -> (PathBuf, PublicKey) {
        (self.receipts.audit(), self.log_key)
    }

    pub(super) async fn is_published(&self, index: u64) -> bool {
        self.receipts.are_made_of(index).await
    }

    pub(super) fn dispatcher(&self) -> &Dispatcher {
        &self.dispatcher
    }

    pub(super) fn rules(&self, who: &Principal) -> Box<TenantRules> {
        Box::new(self.policy.in_force().config.tenants.get(&who.tenant).cloned().unwrap_or_default())
    }

    pub(super) fn has_blob(&self, who: &Principal, kind: BlobKind, digest: &Digest) -> Result<bool, Refusal> {
        self.store.has_blob(kind, &who.tenant, digest).map_err(|error| refuse_read(&error))
    }

    pub(super) fn view(&self, row: &JobRow, spec: &AdmittedJob) -> JobView {
        let mut view = row.view(spec, self.clock.now());
        if view.state == JobState::Running {
            view.progress = self.dispatcher.outputs(&row.job).and_then(|outputs| outputs.progress());
        }
        view
    }

    /// What a job left may be gone before the job is.
    fn check_kept(&self, who: &Principal, row: &JobRow) -> Result<(), Refusal> {
        if self.store.is_kept(&who.tenant, row).map_err(|error| refuse_read(&error))? {
            return Ok(());
        }
        let text = format!(
            "what job {} left is no longer kept; its end is. Fetch results earlier, or ask this host's operator to keep them for longer",
            row.job
        );
        Err(Refusal::new(RefusalCode::WrongState, text))
    }

    /// Whether a job of the principal's own tenant is over. What it is, which can be long, is not read for that.
    pub(super) async fn is_over(&self, who: &Principal, job: JobId) -> Result<bool, Refusal> {
        let row = self.store.row(&job).await.map_err(|error| refuse_read(&error))?;
        let is_own = self.store.is_of(&job, &who.tenant).map_err(|error| refuse_read(&error))?;
        match row.filter(|_| is_own == Some(true)) {
            Some(row) => Ok(row.life.end().is_some()),
            // Says why it is not for them.
            None => self.own_row(who, job).await.map(|(row, _)| row.life.end().is_some()),
        }
    }

    /// A job of the principal's own tenant. Somebody else's job does not exist for him.
    pub(super) async fn own_row(
        &self,
        who: &Principal,
        job: JobId,
    ) -> Result<(JobRow, AdmittedJob), Refusal> {
        let unknown = || {
            let text =
                format!("tenant {} has no job {job} on this host: check the id and the host", who.tenant);
            Refusal::new(RefusalCode::UnknownJob, text)
        };
        let Some(row) = self.store.row(&job).await.map_err(|error| refuse_read(&error))? else {
            return Err(self.was_erased(&job, Some(who)).await?.unwrap_or_else(unknown));
        };
        let spec = self.store.spec_of(&row).map_err(|error| refuse_read(&error))?.ok_or_else(unknown)?;
        if spec.context().tenant != who.tenant {
            return Err(unknown());
        }
        Ok((row, spec))
    }
}

impl Service for HostService {
    type Upload = Incoming;
    type Output = Output;
    type Events = Events;
    type Ends = Ends;

    fn principal(&self, key: &PublicKey) -> Option<Arc<Principal>> {
        self.policy.in_force().principal(key, self.clock.now())
    }

    fn may(&self, who: &Arc<Principal>, request: &Request) -> Result<(), Refusal> {
        self.check_role(who, request)
    }

    fn host(&self, who: &Arc<Principal>) -> HostView {
        let in_force = self.policy.in_force();
        let bounds = &in_force.config.bounds;
        HostView {
            version: env!("CARGO_PKG_VERSION").into(),
            log_origin: in_force.config.log_origin.clone(),
            log_key: self.log_key,
            tenant: who.tenant.clone(),
            max_limits: admission::max_limits(who, &in_force.config).into_owned(),
            max_module_bytes: bounds.max_module_bytes,
            max_input_bytes: bounds.max_input_bytes,
            max_lifetime_ms: u64::try_from(bounds.max_lifetime.as_millis()).unwrap_or(u64::MAX),
        }
    }

    async fn submit(&self, who: &Arc<Principal>, envelope: Vec<u8>) -> Result<Accepted, Refusal> {
        let span = spans::accept(&who.tenant);
        self.accept(who, envelope).instrument(span).await.map_err(|(refusal, job)| {
            self.note_refusal(who, &refusal, job);
            refusal
        })
    }

    async fn has(&self, who: &Arc<Principal>, kind: BlobKind, digest: Digest) -> Result<bool, Refusal> {
        self.has_blob(who, kind, &digest)
    }

    async fn upload(
        &self,
        who: &Arc<Principal>,
        kind: BlobKind,
        digest: Digest,
        length: u64,
    ) -> Result<Incoming, Refusal> {
        self.check_open()?;
        let in_force = self.policy.in_force();
        let bounds = &in_force.config.bounds;
        let max = match kind {
            BlobKind::Module => bounds.max_module_bytes,
            BlobKind::Input => bounds.max_input_bytes,
        };
        if length > max {
            let what = match kind {
                BlobKind::Module => "a module",
                BlobKind::Input => "an input",
            };
            let text = format!(
                "{what} of {length} bytes: this host takes at most {max}. Send less, or ask its operator for more"
            );
            return Err(Refusal::new(RefusalCode::TooLarge, text));
        }
        let rules = self.rules(who);
        if !self.has_blob(who, kind, &digest)? {
            // A first look, so that nothing is sent in vain; the store's writer decides when the bytes are here.
            let asked = Asked { bytes: length, modules: usize::from(kind == BlobKind::Module), jobs: 0 };
            quota::check(&who.tenant, &rules, &self.store.usage(&who.tenant, self.clock.now()), &asked)?;
        }
        let promised = self.promise(length)?;
        let (store, dispatcher) = (self.store.clone(), self.dispatcher.clone());
        let announced = ModuleRef { digest, length };
        Incoming::begin(&self.blobs, store, dispatcher, Arc::clone(who), rules, kind, (announced, promised))
            .await
    }

    async fn show(&self, who: &Arc<Principal>, job: JobId) -> Result<JobView, Refusal> {
        let (row, spec) = self.own_row(who, job).await?;
        Ok(self.view(&row, &spec))
    }

    async fn wait(&self, who: &Arc<Principal>, job: JobId) -> Result<JobView, Refusal> {
        let (row, spec) = self.own_row(who, job).await?;
        if row.life.end().is_some() {
            return Ok(self.view(&row, &spec));
        }
        let over = self.dispatcher.wait(job).await.map_err(|error| refuse_read(&error))?;
        Ok(self.view(&over.unwrap_or(row), &spec))
    }

    async fn ends(self: &Arc<Self>, who: &Arc<Principal>, jobs: Vec<JobId>) -> Result<Ends, Refusal> {
        Ends::of(Arc::clone(self), Arc::clone(who), jobs).await
    }

    async fn cancel(&self, who: &Arc<Principal>, job: JobId) -> Result<JobView, Refusal> {
        let (_, spec) = self.own_row(who, job).await?;
        match self.dispatcher.cancel(job, who.key).await {
            Ok(row) => Ok(self.view(&row, &spec)),
            // Asked for twice: the first request is on its way.
            Err(CommitError::Illegal(Illegal::WrongState(JobState::Running))) => self.show(who, job).await,
            Err(error) => Err(refuse_commit(&error, Some(job)).0),
        }
    }

    async fn list(
        &self,
        who: &Arc<Principal>,
        before: Option<JobId>,
        state: Option<JobState>,
        limit: u32,
    ) -> Result<Page, Refusal> {
        let from = match before {
            Some(job) => Cursor::after(self.own_row(who, job).await?.0.admitted),
            None => Cursor::START,
        };
        let mut page = Page::default();
        let mut last = None;
        for (looked_at, job) in self.store.tenant_jobs(&who.tenant, from).enumerate() {
            let job = job.map_err(|error| refuse_read(&error))?;
            if looked_at == MAX_LOOKED_AT {
                (page.more, page.next) = (true, last);
                break;
            }
            if looked_at % LOOKED_AT_ONCE == LOOKED_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            last = Some(job);
            // What a job is can be long, and is read of those alone that are listed. It may have been forgotten since the list was begun.
            let row = self.store.row(&job).await.map_err(|error| refuse_read(&error))?;
            let Some(row) =
                row.filter(|row| state.is_none_or(|state| state == row.life.state(self.clock.now())))
            else {
                continue;
            };
            if page.jobs.len() == limit as usize {
                page.more = true;
                break;
            }
            let spec = self.store.spec(&job).map_err(|error| refuse_read(&error))?;
            // Its id may be somebody else's since.
            let spec = spec.filter(|spec| spec.context().tenant == who.tenant);
            page.jobs.extend(spec.map(|spec| self.view(&row, &spec).brief()));
        }
        Ok(page)
    }

    async fn output(
        &self,
        who: &Arc<Principal>,
        job: JobId,
        stream: OutputStream,
        offset: u64,
        follow: bool,
    ) -> Result<Output, Refusal> {
        let (row, _) = self.own_row(who, job).await?;
        self.check_kept(who, &row)?;
        Output::open(
            self.store.clone(),
            self.blobs.clone(),
            self.dispatcher.clone(),
            job,
            stream,
            offset,
            follow,
        )
        .await
    }

    async fn artifact(
        &self,
        who: &Arc<Principal>,
        job: JobId,
        name: String,
        offset: u64,
    ) -> Result<Output, Refusal> {
        let (row, _) = self.own_row(who, job).await?;
        self.check_kept(who, &row)?;
        Output::of_artifact(&self.blobs, &row, &name, offset).await
    }

    async fn task(&self, who: &Arc<Principal>, job: JobId) -> Result<Output, Refusal> {
        let (_, spec) = self.own_row(who, job).await?;
        let json = serde_json::to_vec(spec.task());
        let json = json.map_err(|error| refuse_read(&error.into()))?;
        Ok(Output::of_bytes(json))
    }

    async fn receipt(&self, who: &Arc<Principal>, job: JobId, envelope: bool) -> Result<Output, Refusal> {
        let (row, spec) = self.own_row(who, job).await?;
        let envelope = envelope.then(|| self.store.clone());
        let span = spans::receipt(&job, &who.tenant);
        Ok(Output::of_bytes(self.receipts.issue(&row, &spec, envelope).instrument(span).await?))
    }

    async fn erase(&self, who: &Arc<Principal>, job: JobId, batch: bool) -> Result<ErasedView, Refusal> {
        self.erase_job(who, job, batch).await
    }

    fn queues(&self, who: &Arc<Principal>) -> Vec<QueueView> {
        self.dispatcher.board().queues(&who.tenant)
    }

    async fn set_queue(
        &self,
        who: &Arc<Principal>,
        queue: Name,
        mode: QueueMode,
    ) -> Result<QueueView, Refusal> {
        self.check_operator(who, "change what a queue does", None)?;
        admission::check_queue(&queue, &self.policy.in_force().config)?;
        let transition = Transition::SetQueue { queue: queue.clone(), mode, by: who.key };
        self.store.commit(transition).await.map_err(|error| refuse_commit(&error, None).0)?;
        let view = self.queues(who).into_iter().find(|view| view.queue == queue);
        view.ok_or_else(|| {
            Refusal::new(RefusalCode::HostFault, "the host's own fault: the queue is not there")
        })
    }

    async fn events(&self, who: &Arc<Principal>, query: EventQuery, all: bool) -> Result<Events, Refusal> {
        self.open_events(who, query, all).await
    }

    async fn add_grant(&self, who: &Arc<Principal>, envelope: Vec<u8>) -> Result<GrantView, Refusal> {
        self.take_grant(who, &envelope).await.inspect_err(|refusal| self.note_refusal(who, refusal, None))
    }

    fn grants(&self, who: &Arc<Principal>, after: Option<GrantId>) -> (Vec<GrantView>, bool) {
        self.show_grants(who, after)
    }

    async fn revoke_grant(&self, who: &Arc<Principal>, grant: GrantId) -> Result<Vec<GrantView>, Refusal> {
        self.end_grant(who, grant).await.inspect_err(|refusal| self.note_refusal(who, refusal, None))
    }

    async fn change_principal(
        &self,
        who: &Arc<Principal>,
        envelope: Vec<u8>,
    ) -> Result<Vec<PrincipalView>, Refusal> {
        let taken = self.take_command(who, &envelope).await;
        taken.inspect_err(|refusal| self.note_refusal(who, refusal, None))
    }

    fn principals(&self, after: Option<PublicKey>) -> (Vec<PrincipalView>, bool) {
        self.show_principals(after)
    }

    async fn modules(&self, who: &Arc<Principal>) -> Result<Vec<ModuleView>, Refusal> {
        let modules: Result<Vec<_>, _> = self.store.modules(&who.tenant).take(MAX_MODULES).collect();
        modules.map_err(|error| refuse_read(&error))
    }
}
