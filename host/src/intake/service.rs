//! What intake asks of the host behind it: one method per kind of request.
//!
//! Intake has read and bounded the request, and knows by its handshake whose key asked, before it calls any of these.
//!
//! *Never:* bytes of a frame, a QUIC type, a retry. An implementation answers or refuses; intake speaks to the wire.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use strongroom_job::delegation::GrantId;
use strongroom_job::{
    AcceptanceSignature, AcceptedJob, BlobKind, Digest, ErasedView, EventQuery, GrantView, HostView, JobId,
    JobState, JobView, ModuleView, Name, OutputStream, PrincipalView, PublicKey, QueueMode, QueueView,
    Refusal, Request,
};

use crate::config::Principal;

/// Some of a tenant's jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Newest first.
    pub jobs: Vec<JobView>,
    /// Whether there may be older ones.
    pub more: bool,
    /// Where those begin, when it is not behind the last of `jobs`.
    pub next: Option<JobId>,
}

/// The host, as intake sees it.
///
/// Which futures intake drops before they are done: those of [`wait`](Self::wait), of [`list`](Self::list),
/// [`show`](Self::show), [`modules`](Self::modules), [`has`](Self::has), [`output`](Self::output), [`artifact`](Self::artifact),
/// [`task`](Self::task), [`receipt`](Self::receipt), [`ends`](Self::ends), [`events`](Self::events) and of
/// [`OutputReader::next`], [`EndReader::next`] and [`EventReader::next`], as soon as nobody listens for the answer any more. Those of [`submit`](Self::submit),
/// [`cancel`](Self::cancel), [`set_queue`](Self::set_queue), [`add_grant`](Self::add_grant), [`revoke_grant`](Self::revoke_grant), [`upload`](Self::upload) and of [`Upload`] always run to their end, whether or not the client
/// is still there.
pub trait Service: Send + Sync + 'static {
    /// A blob on its way in.
    type Upload: Upload;
    /// Output on its way out.
    type Output: OutputReader;
    /// Events on their way out.
    type Events: EventReader;
    /// Ends of jobs on their way out.
    type Ends: EndReader;

    /// Who holds this key, if the host knows it.
    ///
    /// Asked during the handshake and again before every request: a key that becomes unknown loses its connections.
    /// Must be quick; it blocks the endpoint.
    fn principal(&self, key: &PublicKey) -> Option<Arc<Principal>>;

    /// Whether a request of this kind may come from `who` at all. Asked once for each, before anything else is done for it.
    ///
    /// # Errors
    /// The refusal that names the role that is missing.
    fn may(&self, who: &Arc<Principal>, request: &Request) -> Result<(), Refusal>;

    /// The host and what it allows `who`.
    fn host(&self, who: &Arc<Principal>) -> HostView;

    /// Takes a complete envelope, at most [`MAX_ENVELOPE_BYTES`](strongroom_job::MAX_ENVELOPE_BYTES) long. Answers once all of
    /// its jobs are durable and logged, in the envelope's order.
    fn submit(
        &self,
        who: &Arc<Principal>,
        envelope: Vec<u8>,
    ) -> impl Future<Output = Result<Accepted, Refusal>> + Send;

    /// Whether a blob is there.
    fn has(
        &self,
        who: &Arc<Principal>,
        kind: BlobKind,
        digest: Digest,
    ) -> impl Future<Output = Result<bool, Refusal>> + Send;

    /// Begins a blob of `length` bytes. What is too large is refused here, before its first byte is read.
    fn upload(
        &self,
        who: &Arc<Principal>,
        kind: BlobKind,
        digest: Digest,
        length: u64,
    ) -> impl Future<Output = Result<Self::Upload, Refusal>> + Send;

    /// How a job stands.
    fn show(&self, who: &Arc<Principal>, job: JobId)
    -> impl Future<Output = Result<JobView, Refusal>> + Send;

    /// How a job ended, once it has.
    fn wait(&self, who: &Arc<Principal>, job: JobId)
    -> impl Future<Output = Result<JobView, Refusal>> + Send;

    /// Tells of each of these jobs when it is over. Intake has checked that there are 1 to [`MAX_BATCH_JOBS`](strongroom_job::MAX_BATCH_JOBS) of them, and none
    /// twice.
    fn ends(
        self: &Arc<Self>,
        who: &Arc<Principal>,
        jobs: Vec<JobId>,
    ) -> impl Future<Output = Result<Self::Ends, Refusal>> + Send;

    /// Asks for a job to be stopped; answers once that is recorded.
    fn cancel(
        &self,
        who: &Arc<Principal>,
        job: JobId,
    ) -> impl Future<Output = Result<JobView, Refusal>> + Send;

    /// At most `limit` jobs of the principal's tenant, newest first. Intake has checked that `limit` is 1 to
    /// [`MAX_LIST`](strongroom_job::MAX_LIST).
    fn list(
        &self,
        who: &Arc<Principal>,
        before: Option<JobId>,
        state: Option<JobState>,
        limit: u32,
    ) -> impl Future<Output = Result<Page, Refusal>> + Send;

    /// Opens a job's output at `offset`. With `follow` it goes on until the job is over.
    fn output(
        &self,
        who: &Arc<Principal>,
        job: JobId,
        stream: OutputStream,
        offset: u64,
        follow: bool,
    ) -> impl Future<Output = Result<Self::Output, Refusal>> + Send;

    /// Opens an artifact of a finished job at `offset`.
    fn artifact(
        &self,
        who: &Arc<Principal>,
        job: JobId,
        name: String,
        offset: u64,
    ) -> impl Future<Output = Result<Self::Output, Refusal>> + Send;

    /// The task of a job as it was signed, in JSON.
    fn task(
        &self,
        who: &Arc<Principal>,
        job: JobId,
    ) -> impl Future<Output = Result<Self::Output, Refusal>> + Send;

    /// The receipt of a job that is over, with its envelope if that is asked for.
    fn receipt(
        &self,
        who: &Arc<Principal>,
        job: JobId,
        envelope: bool,
    ) -> impl Future<Output = Result<Self::Output, Refusal>> + Send;

    /// Erases what is private of a job that is over, of any tenant; answers once that is recorded.
    fn erase(
        &self,
        who: &Arc<Principal>,
        job: JobId,
        batch: bool,
    ) -> impl Future<Output = Result<ErasedView, Refusal>> + Send;

    /// The queues, with the jobs of the principal's tenant. Must be quick.
    fn queues(&self, who: &Arc<Principal>) -> Vec<QueueView>;

    /// Makes a queue do something else; answers once that is recorded.
    fn set_queue(
        &self,
        who: &Arc<Principal>,
        queue: Name,
        mode: QueueMode,
    ) -> impl Future<Output = Result<QueueView, Refusal>> + Send;

    /// What the log tells of the principal's tenant, or of everybody.
    fn events(
        &self,
        who: &Arc<Principal>,
        query: EventQuery,
        everybody: bool,
    ) -> impl Future<Output = Result<Self::Events, Refusal>> + Send;

    /// Takes a complete envelope of a grant; answers once it is durable and logged.
    fn add_grant(
        &self,
        who: &Arc<Principal>,
        envelope: Vec<u8>,
    ) -> impl Future<Output = Result<GrantView, Refusal>> + Send;

    /// Some grants of the principal's tenant, in the order of their ids, and whether there are more. Must be quick.
    fn grants(&self, who: &Arc<Principal>, after: Option<GrantId>) -> (Vec<GrantView>, bool);

    /// Ends a grant and all below it; answers once that is recorded, their connections are closed, and their jobs stopped.
    fn revoke_grant(
        &self,
        who: &Arc<Principal>,
        grant: GrantId,
    ) -> impl Future<Output = Result<Vec<GrantView>, Refusal>> + Send;

    /// Does what a command in its envelope orders; answers once that is durable and in the log, and whoever is out has no connection and no job that runs.
    fn change_principal(
        &self,
        who: &Arc<Principal>,
        envelope: Vec<u8>,
    ) -> impl Future<Output = Result<Vec<PrincipalView>, Refusal>> + Send;

    /// Some principals of the host, in the order of their keys, and whether there are more. Must be quick.
    fn principals(&self, after: Option<PublicKey>) -> (Vec<PrincipalView>, bool);

    /// The modules that the principal may run.
    fn modules(&self, who: &Arc<Principal>) -> impl Future<Output = Result<Vec<ModuleView>, Refusal>> + Send;
}

/// The answer to an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// In the envelope's order.
    pub jobs: Vec<AcceptedJob>,
    /// The host's signature under the answer. The same envelope always gets the same.
    pub acceptance: AcceptanceSignature,
}

/// A blob on its way in.
///
/// Dropped without [`finish`](Self::finish), it was cut off and must leave nothing behind.
pub trait Upload: Send + 'static {
    /// Takes the next bytes; until it is done, no more are read from the client.
    fn write(&mut self, piece: Bytes) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// All announced bytes were written: checks the digest, makes the blob durable, and says whether the host had it
    /// before.
    fn finish(self) -> impl Future<Output = Result<bool, Refusal>> + Send;
}

/// Output on its way out.
pub trait OutputReader: Send + 'static {
    /// Bytes from the offset on, when the job is over and they are counted.
    fn length(&self) -> Option<u64>;

    /// The next bytes, or none at the end. A refusal after the first byte cuts the stream off, so that the client cannot
    /// take what it has for the whole.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Refusal>> + Send;
}

/// Ends of jobs on their way out, in the order in which they became durable; before them, those that were over when it was asked.
pub trait EndReader: Send + 'static {
    /// The next; none when all were told of. Waits until there are any.
    fn next(&mut self) -> impl Future<Output = Result<Vec<JobView>, Refusal>> + Send;
}

/// Events on their way out, as fast as the client takes them: nobody else waits for it, and nothing is held for it meanwhile.
pub trait EventReader: Send + 'static {
    /// The index of the first record that is told.
    fn from(&self) -> u64;

    /// The next lines; none at the end. Waits until there are any.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Refusal>> + Send;
}
