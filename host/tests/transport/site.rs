//! A host in memory: real intake on a loopback port, and a service that remembers what reached it.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use strongroom::config::{Bounds, Principal, Roles};
use strongroom::intake::{
    Accepted, EndReader, EventReader, Intake, OutputReader, Page, Service, Strangers, Upload,
};
use strongroom_job::note::VerifierKey;
use strongroom_job::{
    Acceptance, AcceptedJob, BlobKind, Digest, Digester, Envelope, ErasedView, EventQuery, GrantView,
    HostView, JobEnd, JobId, JobState, JobView, Limits, ModuleRef, ModuleView, Name, Outcome, OutputStream,
    OutputSummary, PrincipalView, PublicKey, QueueMode, QueueView, Refusal, RefusalCode, Request, SecretKey,
    Timestamp, Usage,
};
use strongroom_sdk::{Client, ConnectOptions, Error, Identity};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

pub(crate) use crate::common::patience::soon;

/// Waits until `condition` holds.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A running intake.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) host_key: PublicKey,
    pub(crate) fake: Arc<Fake>,
    pub(crate) strangers: Strangers,
    pub(crate) drain: Option<oneshot::Sender<()>>,
    pub(crate) close: Option<oneshot::Sender<()>>,
    pub(crate) running: JoinHandle<()>,
}

impl Site {
    /// A site that knows the keys of two clients.
    pub(crate) fn start(identities: &[&Identity]) -> Self {
        Self::with(identities, &bounds())
    }

    pub(crate) fn with(identities: &[&Identity], bounds: &Bounds) -> Self {
        let key = Identity::generate().unwrap();
        Self::at((std::net::Ipv4Addr::LOCALHOST, 0).into(), &key, Fake::knowing(identities), bounds)
    }

    pub(crate) fn at(listen: SocketAddr, key: &Identity, fake: Arc<Fake>, bounds: &Bounds) -> Self {
        *fake.key.lock().unwrap() = Some(key.secret().clone());
        let intake = Intake::bind(listen, key.secret(), Arc::clone(&fake), bounds).unwrap();
        let (drain, draining) = oneshot::channel();
        let (close, closing) = oneshot::channel();
        let (address, strangers) = (intake.local_addr(), intake.strangers());
        let running = tokio::spawn(intake.run(async { drop(draining.await) }, async { drop(closing.await) }));
        let (drain, close) = (Some(drain), Some(close));
        Self { address, host_key: key.public(), fake, strangers, drain, close, running }
    }

    pub(crate) fn options(&self, identity: &Identity) -> ConnectOptions {
        // The service has no log, and so no receipts.
        ConnectOptions::new(self.address, self.host_key, identity.clone()).without_receipts()
    }

    pub(crate) async fn client(&self, identity: &Identity) -> Client {
        soon(self.try_client(identity)).await.unwrap()
    }

    pub(crate) async fn try_client(&self, identity: &Identity) -> Result<Client, Error> {
        Client::connect(self.options(identity)).await
    }
}

/// Generous in everything but time.
pub(crate) fn bounds() -> Bounds {
    Bounds {
        max_running: 1,
        max_queued: 1000,
        max_module_bytes: 1 << 20,
        max_input_bytes: 1 << 30,
        max_lifetime: Duration::from_secs(3600),
        clock_skew: Duration::from_secs(60),
        max_schedule_ahead: Duration::from_secs(86_400),
        max_limits: Limits::default(),
        max_connections: 64,
        max_connections_per_key: 16,
        max_streams_per_connection: 1024,
        request_timeout: Duration::from_secs(10),
        drain: Duration::from_secs(30),
        compile_memory_bytes: 1 << 32,
        compile_time: Duration::from_secs(60),
        compile_cache_bytes: 1 << 30,
        disk_reserve_bytes: 0,
        max_workers: 1,
        worker_idle: Duration::from_secs(60),
    }
}

/// What reached the service, and what it is told to do.
pub(crate) struct Fake {
    principals: Mutex<HashMap<PublicKey, Arc<Principal>>>,
    /// How many times it still says who somebody is.
    pub(crate) knows_for: AtomicUsize,
    /// Calls of any method but `principal`.
    pub(crate) calls: AtomicUsize,
    /// Complete envelopes.
    pub(crate) envelopes: Mutex<Vec<Vec<u8>>>,
    /// Blobs that were finished, by digest, with their length.
    pub(crate) blobs: Arc<Mutex<HashMap<Digest, u64>>>,
    /// Uploads that were dropped before they were finished.
    pub(crate) cut_off: Arc<AtomicUsize>,
    pub(crate) jobs: Mutex<BTreeMap<JobId, JobView>>,
    /// Submits that are refused as `queue-full` before one is taken.
    pub(crate) full_for: AtomicUsize,
    /// Waits that somebody listens to.
    pub(crate) waiting: AtomicUsize,
    /// Wakes the waits for jobs that hang.
    pub(crate) release: Notify,
    /// Uploads stop at their first piece while this is false.
    pub(crate) uploads_flow: watch::Sender<bool>,
    /// How the service lies.
    pub(crate) lie: Mutex<Lie>,
    /// The host's own key, which signs what is accepted.
    key: Mutex<Option<SecretKey>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lie {
    /// It does not.
    #[default]
    None,
    /// Accepts another job than the one that was submitted.
    OtherJob,
    /// Signs another place in the log than it says.
    OtherPlace,
    /// Shows another job than the one that was asked for.
    OtherView,
    /// Sends other output than it recorded.
    OtherOutput,
    /// Sends less output than it announced.
    ShortOutput,
    /// Fails in the middle of the output.
    FailingOutput,
    /// Says that the job is over, not how.
    NoEnd,
    /// Tells of fewer ends than were asked for.
    FewerEnds,
}

/// A job with this argument is never over by itself.
pub(crate) const HANG: &str = "hang";
/// A job with this argument panics the service when it is shown.
pub(crate) const PANIC: &str = "panic";

impl Fake {
    pub(crate) fn knowing(identities: &[&Identity]) -> Arc<Self> {
        let principals = identities.iter().map(|identity| {
            let principal = Principal {
                name: "tester".parse().unwrap(),
                key: identity.public(),
                tenant: Name::default_name(),
                volumes: BTreeMap::new(),
                any_directory: false,
                any_network: false,
                roles: Roles::USUAL,
                connect: Vec::new(),
                listen: Vec::new(),
                http: Vec::new(),
                secrets: std::collections::BTreeSet::new(),
                narrowed: None,
            };
            (identity.public(), Arc::new(principal))
        });
        Arc::new(Self {
            principals: Mutex::new(principals.collect()),
            knows_for: AtomicUsize::new(usize::MAX),
            calls: AtomicUsize::new(0),
            envelopes: Mutex::default(),
            blobs: Arc::default(),
            cut_off: Arc::default(),
            jobs: Mutex::default(),
            full_for: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            release: Notify::new(),
            uploads_flow: watch::Sender::new(true),
            lie: Mutex::default(),
            key: Mutex::default(),
        })
    }

    pub(crate) fn forget(&self, identity: &Identity) {
        self.principals.lock().unwrap().remove(&identity.public());
    }

    pub(crate) fn tell(&self, lie: Lie) {
        *self.lie.lock().unwrap() = lie;
    }

    pub(crate) fn called(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn submitted(&self) -> usize {
        self.envelopes.lock().unwrap().len()
    }

    fn lies(&self) -> Lie {
        *self.lie.lock().unwrap()
    }

    fn find(&self, job: JobId) -> Result<JobView, Refusal> {
        let jobs = self.jobs.lock().unwrap();
        let view = jobs.get(&job).cloned();
        let mut view =
            view.ok_or_else(|| Refusal::new(RefusalCode::UnknownJob, format_args!("no job {job}")))?;
        match self.lies() {
            Lie::OtherView => view.job = JobId::from_bytes([9; 16]),
            Lie::NoEnd => view.end = None,
            _ => {}
        }
        Ok(view)
    }

    fn hangs(&self, job: JobId) -> bool {
        self.jobs.lock().unwrap().get(&job).is_some_and(|view| !view.state.is_terminal())
    }
}

/// The output of every job: as many bytes as its priority says, in KiB.
pub(crate) fn output_of(view: &JobView) -> Vec<u8> {
    let length = usize::try_from(view.priority).unwrap_or(0) << 10;
    (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

impl Service for Fake {
    type Upload = FakeUpload;
    type Output = FakeOutput;
    type Events = FakeEvents;
    type Ends = FakeEnds;

    fn principal(&self, key: &PublicKey) -> Option<Arc<Principal>> {
        let left =
            self.knows_for.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.ok().and_then(|_| self.principals.lock().unwrap().get(key).cloned())
    }

    fn may(&self, _who: &Arc<Principal>, _request: &Request) -> Result<(), Refusal> {
        Ok(())
    }

    fn host(&self, who: &Arc<Principal>) -> HostView {
        self.calls.fetch_add(1, Ordering::SeqCst);
        host_view(who.key)
    }

    async fn submit(&self, who: &Arc<Principal>, envelope: Vec<u8>) -> Result<Accepted, Refusal> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.full_for.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        {
            return Err(Refusal::new(RefusalCode::QueueFull, "the queue is full"));
        }
        let bad = |error: &dyn std::fmt::Display| Refusal::new(RefusalCode::BadEnvelope, error);
        let verified = Envelope::parse(&envelope)
            .map_err(|error| bad(&error))?
            .verify(&who.key)
            .map_err(|error| bad(&error))?;
        self.envelopes.lock().unwrap().push(envelope);
        let mut jobs = self.jobs.lock().unwrap();
        let accept = |(index, job): (u64, strongroom_job::VerifiedJob)| {
            let view = view_of(&job, index);
            let id = if self.lies() == Lie::OtherJob { JobId::from_bytes([9; 16]) } else { view.job };
            jobs.insert(view.job, view);
            AcceptedJob { job: id, log_index: index, existing: None }
        };
        let digest = *verified[0].envelope();
        let jobs: Vec<_> = (0..).zip(verified).map(accept).collect();
        let mut signed = jobs.clone();
        if self.lies() == Lie::OtherPlace {
            signed[0].log_index += 1;
        }
        let key = self.key.lock().unwrap().clone().unwrap();
        let log = VerifierKey::new("test".parse().unwrap(), who.key);
        let time = Timestamp::from_millis(1);
        let acceptance = Acceptance::new(key.public(), log, digest, time, signed).sign(&key);
        Ok(Accepted { jobs, acceptance })
    }

    async fn has(&self, _who: &Arc<Principal>, _kind: BlobKind, digest: Digest) -> Result<bool, Refusal> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Ok(self.blobs.lock().unwrap().contains_key(&digest))
    }

    async fn upload(
        &self,
        _who: &Arc<Principal>,
        kind: BlobKind,
        digest: Digest,
        length: u64,
    ) -> Result<FakeUpload, Refusal> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let max = if kind == BlobKind::Module { 1 << 20 } else { 1 << 30 };
        if length > max {
            return Err(Refusal::new(RefusalCode::TooLarge, format_args!("{length} bytes; at most {max}")));
        }
        let flow = self.uploads_flow.subscribe();
        let blobs = Arc::clone(&self.blobs);
        let cut_off = CountDrop { counter: Arc::clone(&self.cut_off), armed: true };
        Ok(FakeUpload { digest, length: 0, digester: Digester::new(), flow, cut_off, blobs })
    }

    async fn show(&self, _who: &Arc<Principal>, job: JobId) -> Result<JobView, Refusal> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let view = self.find(job)?;
        assert_ne!(view.module.length, PANIC.len() as u64, "a panic of the service");
        Ok(view)
    }

    async fn wait(&self, _who: &Arc<Principal>, job: JobId) -> Result<JobView, Refusal> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _listening = CountDown(&self.waiting);
        while self.hangs(job) {
            let released = self.release.notified();
            released.await;
            if let Some(view) = self.jobs.lock().unwrap().get_mut(&job) {
                finish(view);
            }
        }
        self.find(job)
    }

    async fn ends(self: &Arc<Self>, _who: &Arc<Principal>, jobs: Vec<JobId>) -> Result<FakeEnds, Refusal> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        for job in &jobs {
            self.find(*job)?;
        }
        Ok(FakeEnds { fake: Arc::clone(self), left: jobs })
    }

    async fn cancel(&self, _who: &Arc<Principal>, job: JobId) -> Result<JobView, Refusal> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let view = self.find(job)?;
        if view.state.is_terminal() {
            return Err(Refusal::new(RefusalCode::WrongState, format_args!("job {job} is over")));
        }
        if let Some(view) = self.jobs.lock().unwrap().get_mut(&job) {
            finish(view);
        }
        Ok(view)
    }

    async fn list(
        &self,
        _who: &Arc<Principal>,
        before: Option<JobId>,
        state: Option<JobState>,
        limit: u32,
    ) -> Result<Page, Refusal> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let jobs = self.jobs.lock().unwrap();
        let all = jobs.values().filter(|view| before.is_none_or(|before| view.job > before));
        let mut listed: Vec<_> =
            all.filter(|view| state.is_none_or(|state| view.state == state)).cloned().collect();
        let more = listed.len() > limit as usize;
        listed.truncate(limit as usize);
        Ok(Page { jobs: listed, more, next: None })
    }

    async fn output(
        &self,
        _who: &Arc<Principal>,
        job: JobId,
        _stream: OutputStream,
        offset: u64,
        _follow: bool,
    ) -> Result<FakeOutput, Refusal> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let mut output = output_of(&self.find(job)?);
        output.drain(..usize::try_from(offset).unwrap().min(output.len()));
        let length = output.len() as u64;
        match self.lies() {
            Lie::OtherOutput => output[0] ^= 1,
            Lie::ShortOutput => output.truncate(output.len() - 1),
            _ => {}
        }
        Ok(FakeOutput { length, left: output.into(), fails: self.lies() == Lie::FailingOutput })
    }

    async fn artifact(
        &self,
        who: &Arc<Principal>,
        job: JobId,
        _name: String,
        offset: u64,
    ) -> Result<FakeOutput, Refusal> {
        self.output(who, job, OutputStream::Stdout, offset, false).await
    }

    async fn task(&self, who: &Arc<Principal>, job: JobId) -> Result<FakeOutput, Refusal> {
        self.output(who, job, OutputStream::Stdout, 0, false).await
    }

    async fn receipt(
        &self,
        who: &Arc<Principal>,
        job: JobId,
        _envelope: bool,
    ) -> Result<FakeOutput, Refusal> {
        self.output(who, job, OutputStream::Stdout, 0, false).await
    }

    async fn events(
        &self,
        _who: &Arc<Principal>,
        query: EventQuery,
        _everybody: bool,
    ) -> Result<FakeEvents, Refusal> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Ok(FakeEvents { from: query.from.unwrap_or_default() })
    }

    async fn erase(&self, _who: &Arc<Principal>, _job: JobId, _batch: bool) -> Result<ErasedView, Refusal> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Ok(ErasedView {
            jobs: 1,
            log_index: 7,
            files_waiting: 0,
            published: true,
            in_clear: 0,
            damaged: 0,
            merged: Vec::new(),
        })
    }

    fn queues(&self, _who: &Arc<Principal>) -> Vec<QueueView> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Vec::new()
    }

    async fn set_queue(
        &self,
        _who: &Arc<Principal>,
        queue: Name,
        _mode: QueueMode,
    ) -> Result<QueueView, Refusal> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Err(Refusal::new(RefusalCode::UnknownQueue, format_args!("no queue {queue}")))
    }

    async fn add_grant(&self, _who: &Arc<Principal>, _envelope: Vec<u8>) -> Result<GrantView, Refusal> {
        Err(Refusal::new(RefusalCode::BadEnvelope, "this host takes no grants"))
    }

    fn grants(&self, _who: &Arc<Principal>, _after: Option<JobId>) -> (Vec<GrantView>, bool) {
        (Vec::new(), false)
    }

    async fn revoke_grant(&self, _who: &Arc<Principal>, grant: JobId) -> Result<Vec<GrantView>, Refusal> {
        Err(Refusal::new(RefusalCode::UnknownGrant, format_args!("no grant {grant}")))
    }

    async fn change_principal(
        &self,
        _who: &Arc<Principal>,
        _envelope: Vec<u8>,
    ) -> Result<Vec<PrincipalView>, Refusal> {
        Err(Refusal::new(RefusalCode::BadEnvelope, "this host takes no commands"))
    }

    fn principals(&self, _after: Option<PublicKey>) -> (Vec<PrincipalView>, bool) {
        (Vec::new(), false)
    }

    async fn modules(&self, _who: &Arc<Principal>) -> Result<Vec<ModuleView>, Refusal> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let view = |(digest, length): (&Digest, &u64)| ModuleView {
            module: ModuleRef { digest: *digest, length: *length },
            registered_at: Timestamp::from_millis(1),
        };
        Ok(self.blobs.lock().unwrap().iter().map(view).collect())
    }
}

/// What the host says of itself.
pub(crate) fn host_view(log_key: PublicKey) -> HostView {
    HostView {
        version: "1".into(),
        log_origin: "test".into(),
        log_key,
        tenant: Name::default_name(),
        max_limits: Limits::default(),
        max_module_bytes: 1 << 20,
        max_input_bytes: 1 << 30,
        max_lifetime_ms: 3_600_000,
    }
}

fn view_of(job: &strongroom_job::VerifiedJob, log_index: u64) -> JobView {
    let task = &job.body().task;
    let mut view = JobView {
        job: job.body().id,
        tenant: job.body().context.tenant.clone(),
        principal: *job.signer(),
        module: task.module,
        queue: task.queue.clone(),
        priority: task.priority,
        state: JobState::Running,
        attempt: 1,
        accepted_at: Timestamp::from_millis(1),
        started_at: Some(Timestamp::from_millis(2)),
        finished_at: None,
        log_index,
        ready_at: None,
        waits_for: None,
        progress: None,
        end: None,
    };
    if task.args.iter().any(|arg| arg == PANIC) {
        view.module.length = PANIC.len() as u64;
    }
    if !task.args.iter().any(|arg| arg == HANG) {
        finish(&mut view);
    }
    view
}

fn finish(view: &mut JobView) {
    let output = output_of(view);
    let summary = OutputSummary { length: output.len() as u64, digest: Digest::of(&output) };
    view.state = JobState::Succeeded;
    view.finished_at = Some(Timestamp::from_millis(3));
    view.end = Some(JobEnd {
        outcome: Outcome::Exited { code: 0 },
        usage: Usage::default(),
        stdout: summary,
        stderr: summary,
        denied: Vec::new(),
        artifacts: Vec::new(),
        result: None,
        dead: None,
        log_index: 7,
    });
}

pub(crate) struct FakeUpload {
    digest: Digest,
    length: u64,
    digester: Digester,
    flow: watch::Receiver<bool>,
    cut_off: CountDrop,
    blobs: Arc<Mutex<HashMap<Digest, u64>>>,
}

impl Upload for FakeUpload {
    async fn write(&mut self, piece: Bytes) -> Result<(), Refusal> {
        self.flow.wait_for(|flows| *flows).await.map_err(|_| Refusal::new(RefusalCode::HostFault, "gone"))?;
        self.length += piece.len() as u64;
        self.digester.update(&piece);
        Ok(())
    }

    async fn finish(mut self) -> Result<bool, Refusal> {
        self.cut_off.armed = false;
        if self.digester.finish() != self.digest {
            return Err(Refusal::new(RefusalCode::DigestMismatch, "other bytes came than were announced"));
        }
        Ok(self.blobs.lock().unwrap().insert(self.digest, self.length).is_some())
    }
}

/// Those that hang come last, all at once.
pub(crate) struct FakeEnds {
    fake: Arc<Fake>,
    left: Vec<JobId>,
}

impl EndReader for FakeEnds {
    async fn next(&mut self) -> Result<Vec<JobView>, Refusal> {
        if self.fake.lies() == Lie::FewerEnds {
            return Ok(Vec::new());
        }
        if self.left.iter().all(|job| self.fake.hangs(*job)) && !self.left.is_empty() {
            let released = self.fake.release.notified();
            self.fake.waiting.fetch_add(1, Ordering::SeqCst);
            let _listening = CountDown(&self.fake.waiting);
            released.await;
            self.fake.jobs.lock().unwrap().values_mut().for_each(finish);
        }
        let (hang, over) = self.left.iter().partition(|job| self.fake.hangs(**job));
        self.left = hang;
        let over: Vec<JobId> = over;
        over.into_iter().map(|job| self.fake.find(job)).collect()
    }
}

/// Nothing ever happens.
pub(crate) struct FakeEvents {
    from: u64,
}

impl EventReader for FakeEvents {
    fn from(&self) -> u64 {
        self.from
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        std::future::pending().await
    }
}

pub(crate) struct FakeOutput {
    length: u64,
    left: Bytes,
    fails: bool,
}

impl OutputReader for FakeOutput {
    fn length(&self) -> Option<u64> {
        (!self.fails).then_some(self.length)
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        let half = usize::try_from(self.length / 2).unwrap();
        if self.fails && self.left.len() <= half {
            return Err(Refusal::new(RefusalCode::HostFault, "the disk is gone"));
        }
        let piece = self.left.split_to(self.left.len().min(1000));
        Ok((!piece.is_empty()).then_some(piece))
    }
}

struct CountDrop {
    counter: Arc<AtomicUsize>,
    armed: bool,
}

impl Drop for CountDrop {
    fn drop(&mut self) {
        if self.armed {
            self.counter.fetch_add(1, Ordering::SeqCst);
        }
    }
}

struct CountDown<'a>(&'a AtomicUsize);

impl Drop for CountDown<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
