//! [`Client`]: what a program does with a host.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use strongroom_job::receipt::Receipt;
use strongroom_job::{
    Artifact, BlobKind, Digest, HostView, Input, JobEnd, JobId, JobState, JobView, ModuleRef, ModuleView,
    OutputStream, PublicKey, Request, Response,
};
use tokio::time::timeout;

use crate::exchange::{Exchange, kind_of};
use crate::output::OutputReader;
use crate::push::Push;
use crate::session::Link;
use crate::signing::{self, Signed};
use crate::{Batch, Error, Flow, Identity, Job, Retry, Source};

/// Jobs that [`ListFilter::default`] asks for at once.
const DEFAULT_PAGE: u32 = 100;

/// How to connect to a host.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// `HOST:PORT`.
    pub addr: String,
    /// The host's public key: any other host is an error.
    pub host_key: PublicKey,
    /// Who we are.
    pub identity: Identity,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// How often to repeat what failed for a temporary reason.
    pub retry: Retry,
    /// Whether [`Client::wait`] asks for the job's receipt and checks it, so that an end that the host's log does not prove is an
    /// error. True unless turned off. It costs a request and waits for the log's next checkpoint, which comes at once when asked
    /// for: some milliseconds, a few syncs of the host's disk.
    pub check_receipts: bool,
}

impl ConnectOptions {
    /// Options with the default timeouts and retries.
    #[must_use]
    pub fn new(addr: impl fmt::Display, host_key: PublicKey, identity: impl Into<Identity>) -> Self {
        Self {
            addr: addr.to_string(),
            host_key,
            identity: identity.into(),
            timeouts: Timeouts::default(),
            retry: Retry::default(),
            check_receipts: true,
        }
    }

    /// The same, but [`wait`](Client::wait) takes the host's word: see [`check_receipts`](Self::check_receipts).
    #[must_use]
    pub fn without_receipts(self) -> Self {
        Self { check_receipts: false, ..self }
    }
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection: 5 s.
    pub connect: Duration,
    /// For an answer, and for the host to take the next piece of an upload: 60 s. [`Client::wait`] and output that is followed
    /// wait without bound; drop their future to stop.
    pub answer: Duration,
    /// For the host to check and keep a blob after its last byte, which for a module means compiling it: 10 min.
    pub store: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(60),
            store: Duration::from_secs(600),
        }
    }
}

/// A connection to one host, as one principal. Clones share it; it connects again by itself.
#[derive(Clone)]
pub struct Client {
    pub(crate) link: Arc<Link>,
}

/// A job that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The job.
    pub view: JobView,
    /// How it ended; the same as in `view`.
    pub end: JobEnd,
    /// The host's receipt for it, checked; none if [`check_receipts`](ConnectOptions::check_receipts) is turned off.
    pub receipt: Option<Box<Receipt>>,
}

/// Which jobs to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListFilter {
    /// Only jobs accepted before this one: [`JobList::next`] of the page before.
    pub before: Option<JobId>,
    /// Only jobs in this state.
    pub state: Option<JobState>,
    /// At most this many, 1 to 500.
    pub limit: u32,
}

impl Default for ListFilter {
    fn default() -> Self {
        Self { before: None, state: None, limit: DEFAULT_PAGE }
    }
}

/// One page of jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobList {
    /// Newest first. A page can be short, also empty, and not be the last one: a host does not search for ever.
    pub jobs: Vec<JobView>,
    /// What to say as [`before`](ListFilter::before) for the page after this one; none: there are no older ones.
    pub next: Option<JobId>,
}

impl Client {
    /// Connects, and returns once the host has accepted our key.
    ///
    /// # Errors
    /// [`NotReachable`](Error::NotReachable), [`WrongHostKey`](Error::WrongHostKey), [`KeyNotAccepted`](Error::KeyNotAccepted),
    /// [`Closed`](Error::Closed) when the host has no room, [`Protocol`](Error::Protocol) when it is no Strongroom host.
    pub async fn connect(options: ConnectOptions) -> Result<Self, Error> {
        Ok(Self { link: Arc::new(Link::connect(options).await?) })
    }

    /// The key that this client proves to hold.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.link.options.identity.public()
    }

    /// The pinned key of the host.
    #[must_use]
    pub fn host_key(&self) -> PublicKey {
        self.link.options.host_key
    }

    /// Says goodbye. Without it the host notices by itself, after its idle timeout at the latest.
    pub async fn close(&self) {
        self.link.close().await;
    }

    /// The host and what it allows us.
    ///
    /// # Errors
    /// When the host cannot be asked.
    pub async fn host(&self) -> Result<HostView, Error> {
        self.call(&Request::Host {}, Some(self.link.options.timeouts.answer), |response| match response {
            Response::Host(view) => Some(view),
            _ => None,
        })
        .await
    }

    /// Gives the host a module: a path or bytes. Sends nothing that the host already has.
    ///
    /// Await it, or attach [`on_progress`](Push::on_progress) first.
    pub fn push_module(&self, module: impl Into<Source>) -> Push<'_, ModuleRef> {
        Push::new(self, BlobKind::Module, module.into(), |digest, length| ModuleRef { digest, length })
    }

    /// Gives the host an input for [`Job::input`]: a path, an open file or bytes. Sends nothing that the host already has.
    ///
    /// A file is read twice, once to know its digest and once to send it; never more than a piece of it is in memory.
    pub fn push_input(&self, input: impl Into<Source>) -> Push<'_, Input> {
        Push::new(self, BlobKind::Input, input.into(), |digest, length| Input::Blob { digest, length })
    }

    /// Signs `job` as a new job without submitting it; pushes its input when that is not in the envelope.
    ///
    /// Keep what this returns to submit the same job again after a crash of your own: it runs once.
    ///
    /// # Errors
    /// When the job breaks a rule, or its input cannot be read or pushed.
    pub async fn sign(&self, job: &Job) -> Result<Signed, Error> {
        signing::sign(self, job).await
    }

    /// Signs a batch once without submitting it.
    ///
    /// # Errors
    /// As [`sign`](Self::sign).
    pub async fn sign_batch(&self, batch: &Batch) -> Result<Signed, Error> {
        signing::sign_batch(self, batch).await
    }

    /// Signs a flow once without submitting it.
    ///
    /// # Errors
    /// As [`sign`](Self::sign).
    pub async fn sign_flow(&self, flow: &Flow) -> Result<Signed, Error> {
        signing::sign_flow(self, flow).await
    }

    /// How a job stands.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) when there is no such job of our tenant.
    pub async fn show(&self, job: JobId) -> Result<JobView, Error> {
        let answer = Some(self.link.options.timeouts.answer);
        self.view(job, &Request::Show { job }, answer).await
    }

    /// Waits until a job is over, however long that takes; then checks the host's receipt for it, unless
    /// [`check_receipts`](ConnectOptions::check_receipts) is turned off.
    ///
    /// # Errors
    /// As [`show`](Self::show). [`BadReceipt`](Error::BadReceipt) when the host's log does not prove what the host says.
    pub async fn wait(&self, job: JobId) -> Result<Finished, Error> {
        let view = self.view(job, &Request::Wait { job }, None).await?;
        self.finished(view).await
    }

    /// What is known of a job that is said to be over, its receipt checked if that is wanted.
    pub(crate) async fn finished(&self, view: JobView) -> Result<Finished, Error> {
        let Some(end) = view.end.clone() else {
            return Err(self.protocol("it says that the job is over, but not how it ended"));
        };
        let receipt = match self.link.options.check_receipts {
            true => Some(Box::new(self.receipt_of(&view, &end).await?)),
            false => None,
        };
        Ok(Finished { view, end, receipt })
    }

    /// Asks for a job to be stopped; returns how it stood when that was recorded. [`wait`](Self::wait) for its end.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) when there is no such job of our tenant, or it is over.
    pub async fn cancel(&self, job: JobId) -> Result<JobView, Error> {
        let answer = Some(self.link.options.timeouts.answer);
        self.view(job, &Request::Cancel { job }, answer).await
    }

    /// Our tenant's jobs, newest first, one page.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) when the limit is out of bounds.
    pub async fn list(&self, filter: ListFilter) -> Result<JobList, Error> {
        let ListFilter { before, state, limit } = filter;
        let answer = Some(self.link.options.timeouts.answer);
        self.call(&Request::List { before, state, limit }, answer, |response| match response {
            Response::Jobs { jobs, more, next } => {
                let next = next.or(jobs.last().map(|last| last.job)).filter(|_| more);
                Some(JobList { jobs, next })
            }
            _ => None,
        })
        .await
    }

    /// The registered modules.
    ///
    /// # Errors
    /// When the host cannot be asked.
    pub async fn modules(&self) -> Result<Vec<ModuleView>, Error> {
        let answer = Some(self.link.options.timeouts.answer);
        self.call(&Request::Modules {}, answer, |response| match response {
            Response::Modules { modules } => Some(modules),
            _ => None,
        })
        .await
    }

    /// Opens a job's output at `offset`. With `follow` it goes on until the job is over.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) when there is no such job of our tenant.
    pub async fn output(
        &self,
        job: JobId,
        stream: OutputStream,
        offset: u64,
        follow: bool,
    ) -> Result<OutputReader, Error> {
        OutputReader::open_stream(self.clone(), job, stream, offset, follow).await
    }

    /// Opens a file that a job left under `/scratch/out`, by its name below it, at `offset`.
    ///
    /// Which there are stands in [`JobEnd::artifacts`]. At the end, the bytes have been compared with the length and (when
    /// `offset` is 0) the SHA-256 there.
    ///
    /// ```no_run
    /// # async fn example(client: &strongroom_sdk::Client, job: strongroom_sdk::JobId) -> Result<(), strongroom_sdk::Error> {
    /// for artifact in client.wait(job).await?.end.artifacts {
    ///     let mut bytes = Vec::new();
    ///     client.artifact(job, &artifact.name, 0).await?.copy_to(&mut bytes).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) when there is no such job of our tenant, it is not over, or it left no such file.
    pub async fn artifact(&self, job: JobId, name: &str, offset: u64) -> Result<OutputReader, Error> {
        let end = self.show(job).await?.end;
        let artifacts = end.into_iter().flat_map(|end| end.artifacts);
        let artifact = artifacts.into_iter().find(|artifact| artifact.name == name);
        // The host says best why there is none.
        let artifact = artifact.unwrap_or_else(|| Artifact {
            name: name.to_owned(),
            length: 0,
            digest: Digest::of(b""),
        });
        OutputReader::open_artifact(self.clone(), job, artifact, offset).await
    }

    /// Copies a job's whole output to `writer`, as it comes, until the job is over; returns its length.
    ///
    /// # Errors
    /// [`OutputMismatch`](Error::OutputMismatch) when it is not what the host recorded; what was written is then not to be used.
    pub async fn fetch_output(
        &self,
        job: JobId,
        stream: OutputStream,
        writer: &mut (dyn tokio::io::AsyncWrite + Send + Unpin),
    ) -> Result<u64, Error> {
        self.output(job, stream, 0, true).await?.copy_to(writer).await
    }

    async fn view(&self, job: JobId, request: &Request, within: Option<Duration>) -> Result<JobView, Error> {
        let view = self
            .call(request, within, |response| match response {
                Response::Job(view) => Some(*view),
                _ => None,
            })
            .await?;
        if view.job != job {
            return Err(self.protocol(&format!("it was asked about job {job} and spoke of {}", view.job)));
        }
        Ok(view)
    }

    /// A request without a body.
    pub(crate) async fn call<T>(
        &self,
        request: &Request,
        within: Option<Duration>,
        take: impl Fn(Response) -> Option<T>,
    ) -> Result<T, Error> {
        self.exchange(request, &bytes::Bytes::new(), within, take).await
    }

    /// A request with a body that is in memory, repeated while the trouble is temporary.
    pub(crate) async fn exchange<T>(
        &self,
        request: &Request,
        body: &bytes::Bytes,
        within: Option<Duration>,
        take: impl Fn(Response) -> Option<T>,
    ) -> Result<T, Error> {
        let attempt = async || {
            let session = self.link.session().await?;
            let mut exchange = Exchange::on(&self.link, &session, request).await?;
            let answered = async {
                if !body.is_empty() {
                    exchange.body(body.clone()).await?;
                }
                exchange.end_request();
                let response = exchange.answer().await?;
                let kind = kind_of(&response);
                take(response).ok_or_else(|| exchange.unexpected(kind))
            };
            match within {
                Some(within) => {
                    timeout(within, answered).await.unwrap_or_else(|_| Err(self.timed_out("answer", within)))
                }
                None => answered.await,
            }
        };
        self.link.options.retry.run(attempt).await
    }

    pub(crate) fn timed_out(&self, what: &'static str, after: Duration) -> Error {
        Error::TimedOut { address: self.link.options.addr.clone(), what, after }
    }

    pub(crate) fn protocol(&self, detail: &str) -> Error {
        Error::Protocol { address: self.link.options.addr.clone(), detail: detail.into() }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("addr", &self.link.options.addr)
            .field("host_key", &self.link.options.host_key)
            .field("public_key", &self.public_key())
            .finish_non_exhaustive()
    }
}
