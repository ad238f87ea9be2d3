//! One request: read, bounded, handed to the service, answered.

use std::collections::HashSet;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use quinn::{RecvStream, SendStream};
use strongroom_job::delegation::MAX_DELEGATION_ENVELOPE_BYTES;
use strongroom_job::frame::{self, MAX_RESPONSE_BYTES, PREFIX_BYTES};
use strongroom_job::principal::MAX_COMMAND_ENVELOPE_BYTES;
use strongroom_job::{
    BlobKind, CloseCode, Digest, EventQuery, JobId, JobState, MAX_BATCH_JOBS, MAX_ENVELOPE_BYTES, MAX_LIST,
    Refusal, RefusalCode, Request, Response,
};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tracing::Instrument as _;

use super::answer::Answer;
use super::body::{ReadFault, Reader};
use super::keyring::Share;
use super::service::{Accepted, EndReader, EventReader, OutputReader, Page, Service, Upload};
use super::{Shared, Stage};
use crate::config::Principal;

/// Serves one stream. The future that it returns is done once the answer has arrived.
///
/// A panic of the service ends here: its client hears of a fault of the host, everybody else hears nothing.
pub(super) async fn serve<S: Service>(
    shared: &Shared<S>,
    who: &Arc<Principal>,
    share: &Share,
    send: SendStream,
    recv: RecvStream,
) -> impl Future<Output = ()> + Send + 'static {
    let mut request = InRequest { shared, who, share, answer: Answer::new(send) };
    let mut reader = Reader::new(recv, shared.request_timeout);
    let handled = AssertUnwindSafe(request.handle(&mut reader)).catch_unwind().await;
    let result = handled.unwrap_or_else(|_| {
        tracing::error!(principal = %who.name, "a request panicked; the host goes on");
        Err(Refusal::new(RefusalCode::HostFault, "the host failed at this request; its log says more").into())
    });
    let mut answer = request.answer;
    let reading_ends = match result {
        Ok(()) => CloseCode::Done,
        Err(ReadFault::Gone(code)) => {
            answer.cut_off(code);
            code
        }
        Err(ReadFault::Refuse(refusal)) if !answer.has_begun() => {
            tracing::debug!(principal = %who.name, code = %refusal.code, "refused");
            shared.meters.refusal(refusal.code);
            if answer.header(&Response::Refused(refusal)).await.is_ok() {
                answer.finish();
            }
            CloseCode::NotNeeded
        }
        Err(ReadFault::Refuse(_)) => CloseCode::HostFault,
    };
    reader.stop(reading_ends);
    answer.delivered()
}

/// A request and those whom it concerns.
struct InRequest<'a, S> {
    shared: &'a Shared<S>,
    who: &'a Arc<Principal>,
    share: &'a Share,
    answer: Answer,
}

impl<'a, S: Service> InRequest<'a, S> {
    async fn handle(&mut self, reader: &mut Reader) -> Result<(), ReadFault> {
        let request = reader.header().await?;
        // A receipt is the last word about a job whose end somebody waited for, and was told while the host drains.
        let is_last_word = matches!(request, Request::Receipt { .. });
        if *self.shared.stage.borrow() == Stage::Draining && !is_last_word {
            let text = "the host is shutting down; try again when it is back";
            return Err(Refusal::new(RefusalCode::ShuttingDown, text).into());
        }
        let (service, who) = (Arc::clone(&self.shared.service), self.who);
        service.may(who, &request)?;
        match request {
            Request::Submit { length } => return self.submit(reader, length).await,
            Request::Push { kind, digest, length } => return self.push(reader, kind, digest, length).await,
            Request::Ends { count } => return self.ends(reader, count).await,
            Request::AddGrant { length } => return self.add_grant(reader, length).await,
            Request::ChangePrincipal { length } => return self.change_principal(reader, length).await,
            _ => reader.end().await?,
        }
        match request {
            Request::Submit { .. }
            | Request::Push { .. }
            | Request::Ends { .. }
            | Request::AddGrant { .. }
            | Request::ChangePrincipal { .. } => Ok(()),
            Request::Host {} => self.reply(&Response::Host(service.host(who))).await,
            Request::Has { kind, digest } => {
                let present = self.while_heard(service.has(who, kind, digest)).await?;
                self.reply(&Response::Stored { present, known: present }).await
            }
            Request::Show { job } => {
                let view = self.while_heard(service.show(who, job)).await?;
                self.reply(&Response::Job(Box::new(view))).await
            }
            Request::Wait { job } => {
                let view = self.while_heard(service.wait(who, job)).await?;
                self.reply(&Response::Job(Box::new(view))).await
            }
            Request::Cancel { job } => {
                let view = service.cancel(who, job).await?;
                self.reply(&Response::Job(Box::new(view))).await
            }
            Request::List { before, state, limit } => self.list(before, state, limit).await,
            Request::Output { job, stream, offset, follow } => {
                let opened = self.shared.service.output(self.who, job, stream, offset, follow);
                let output = self.while_heard(opened).await?;
                self.output(job, output).await
            }
            Request::Artifact { job, name, offset } => {
                let opened = self.shared.service.artifact(self.who, job, name, offset);
                let output = self.while_heard(opened).await?;
                self.output(job, output).await
            }
            Request::Modules {} => {
                let modules = self.while_heard(service.modules(who)).await?;
                self.reply(&Response::Modules { modules }).await
            }
            Request::Task { job } => {
                let opened = self.shared.service.task(self.who, job);
                let output = self.while_heard(opened).await?;
                self.output(job, output).await
            }
            Request::Receipt { job, envelope } => {
                // Held until it is sent: until then it is in memory.
                let bytes = if envelope { u32::try_from(MAX_ENVELOPE_BYTES).unwrap_or(u32::MAX) } else { 0 };
                let _memory = self.own_share(&self.share.envelope_bytes, bytes, "envelopes").await?;
                let made = self.shared.service.receipt(self.who, job, envelope);
                let receipt = self.while_heard(made).await?;
                self.output(job, receipt).await
            }
            Request::Erase { job, batch } => {
                let answer = Response::Erased(service.erase(who, job, batch).await?);
                self.reply(&answer).await
            }
            Request::Events(query) => self.events(query, false).await,
            Request::AllEvents(query) => self.events(query, true).await,
            Request::Queues {} => self.reply(&Response::Queues { queues: service.queues(who) }).await,
            Request::SetQueue { queue, mode } => {
                let queue = service.set_queue(who, queue, mode).await?;
                self.reply(&Response::Queues { queues: vec![queue] }).await
            }
            Request::Grants { after } => {
                let (grants, more) = service.grants(who, after);
                self.reply(&Response::Grants { grants, more }).await
            }
            Request::Principals { after } => {
                let (principals, more) = service.principals(after);
                self.reply(&Response::Principals { principals, more }).await
            }
            Request::RevokeGrant { grant } => {
                let grants = service.revoke_grant(who, grant).await?;
                self.reply(&Response::Grants { grants, more: false }).await
            }
        }
    }

    async fn submit(&mut self, reader: &mut Reader, length: u64) -> Result<(), ReadFault> {
        let (envelope, _memory) = self.envelope(reader, length, MAX_ENVELOPE_BYTES).await?;
        let Accepted { jobs, acceptance } = self.shared.service.submit(self.who, envelope).await?;
        self.reply(&Response::Accepted { jobs, acceptance: Some(acceptance) }).await
    }

    async fn add_grant(&mut self, reader: &mut Reader, length: u64) -> Result<(), ReadFault> {
        let (envelope, _memory) = self.envelope(reader, length, MAX_DELEGATION_ENVELOPE_BYTES).await?;
        let grant = self.shared.service.add_grant(self.who, envelope).await?;
        self.reply(&Response::Grants { grants: vec![grant], more: false }).await
    }

    async fn change_principal(&mut self, reader: &mut Reader, length: u64) -> Result<(), ReadFault> {
        let (envelope, _memory) = self.envelope(reader, length, MAX_COMMAND_ENVELOPE_BYTES).await?;
        let principals = self.shared.service.change_principal(self.who, envelope).await?;
        self.reply(&Response::Principals { principals, more: false }).await
    }

    /// The envelope that is the request's body, and the memory that the key may hold for it: held until the answer, since the service holds
    /// the envelope as long.
    async fn envelope(
        &self,
        reader: &mut Reader,
        length: u64,
        most: usize,
    ) -> Result<(Vec<u8>, SemaphorePermit<'a>), ReadFault> {
        let Some(length) = usize::try_from(length).ok().filter(|length| *length <= most) else {
            let text = format!("an envelope of {length} bytes; at most {most} are taken");
            return Err(Refusal::new(RefusalCode::TooLarge, text).into());
        };
        let bytes = u32::try_from(length).unwrap_or(u32::MAX);
        let share: &'a Share = self.share;
        let memory = self.own_share(&share.envelope_bytes, bytes, "envelopes").await?;
        let envelope = body(reader, length).instrument(stage!("receive")).await?;
        Ok((envelope, memory))
    }

    async fn push(
        &mut self,
        reader: &mut Reader,
        kind: BlobKind,
        digest: Digest,
        length: u64,
    ) -> Result<(), ReadFault> {
        let _place = self.own_share(&self.share.uploads, 1, "uploads").await?;
        let mut upload = self.shared.service.upload(self.who, kind, digest, length).await?;
        let mut left = length;
        while left > 0 {
            let piece = reader.piece(left).await?;
            left -= piece.len() as u64;
            upload.write(piece).await?;
        }
        reader.end().await?;
        let known = upload.finish().await?;
        self.reply(&Response::Stored { present: true, known }).await
    }

    /// The end of each of these jobs, as it comes. A job that is forgotten meanwhile ends the answer, as a refusal.
    async fn ends(&mut self, reader: &mut Reader, count: u32) -> Result<(), ReadFault> {
        let Some(jobs) = usize::try_from(count).ok().filter(|count| (1..=MAX_BATCH_JOBS).contains(count))
        else {
            let text = format!("the ends of {count} jobs: 1 to {MAX_BATCH_JOBS} can be asked for at once");
            return Err(Refusal::new(RefusalCode::BadRequest, text).into());
        };
        let _share = self.own_share(&self.share.ends, count, "jobs whose end is waited for").await?;
        let jobs = ids(reader, jobs).await?;
        let opened = self.shared.service.ends(self.who, jobs);
        let mut ends = self.while_heard(opened).await?;
        loop {
            let over = match self.while_heard(ends.next()).await {
                Ok(over) => over,
                Err(ReadFault::Refuse(refusal)) if self.answer.has_begun() => {
                    return self.reply(&Response::Refused(refusal)).await;
                }
                Err(fault) => return Err(fault),
            };
            if over.is_empty() {
                break;
            }
            let views = over.into_iter().map(|view| Response::Job(Box::new(view)));
            self.answer.headers(views).await.map_err(|_| GONE)?;
        }
        self.answer.finish();
        Ok(())
    }

    async fn list(
        &mut self,
        before: Option<JobId>,
        state: Option<JobState>,
        limit: u32,
    ) -> Result<(), ReadFault> {
        if limit == 0 || limit > MAX_LIST {
            let text = format!("limit {limit}: 1 to {MAX_LIST} jobs can be listed at once");
            return Err(Refusal::new(RefusalCode::BadRequest, text).into());
        }
        let listed = self.while_heard(self.shared.service.list(self.who, before, state, limit)).await?;
        let Page { mut jobs, mut more, mut next } = listed;
        loop {
            let response = Response::Jobs { jobs, more, next };
            let length = frame::encode_header(&response).len() - PREFIX_BYTES;
            let Response::Jobs { jobs: mut too_many, .. } = response else { return Ok(()) };
            if length <= MAX_RESPONSE_BYTES || too_many.len() <= 1 {
                return self.reply(&Response::Jobs { jobs: too_many, more, next }).await;
            }
            // A page that does not fit is shortened; the client asks for the rest as for any next page.
            too_many.truncate(too_many.len() / 2);
            (jobs, more, next) = (too_many, true, None);
        }
    }

    async fn output(&mut self, job: JobId, mut output: S::Output) -> Result<(), ReadFault> {
        let length = output.length();
        self.answer.header(&Response::Output { length }).await.map_err(|_| GONE)?;
        let mut sent = 0;
        while let Some(bytes) = self.while_heard(output.next()).await? {
            sent += bytes.len() as u64;
            if !bytes.is_empty() {
                self.answer.chunk(bytes).await.map_err(|_| GONE)?;
            }
        }
        if length.is_some_and(|length| length != sent) {
            tracing::error!(%job, ?length, sent, "an output is not as long as the host recorded");
            return Err(ReadFault::Gone(CloseCode::HostFault));
        }
        self.answer.finish();
        Ok(())
    }

    /// Lines until there are no more, or the host drains: a stream that could go on for ever must not keep it from its end.
    async fn events(&mut self, query: EventQuery, everybody: bool) -> Result<(), ReadFault> {
        let _place = self.own_share(&self.share.event_streams, 1, "event streams").await?;
        let opened = self.shared.service.events(self.who, query, everybody);
        let mut events = self.while_heard(opened).await?;
        self.answer.header(&Response::Events { from: events.from() }).await.map_err(|_| GONE)?;
        let stage = self.shared.stage.subscribe();
        let drains = async || drop(stage.clone().wait_for(|stage| *stage == Stage::Draining).await);
        loop {
            let lines = tokio::select! {
                biased;
                () = drains() => None,
                lines = self.while_heard(events.next()) => lines?,
            };
            let Some(lines) = lines else { break };
            tokio::select! {
                biased;
                sent = self.answer.chunk(lines) => sent.map_err(|_| GONE)?,
                // Whoever reads nothing does not hold the end up.
                () = drains() => return Err(ReadFault::Gone(CloseCode::ShuttingDown)),
            }
        }
        self.answer.finish();
        Ok(())
    }

    async fn reply(&mut self, response: &Response) -> Result<(), ReadFault> {
        self.answer.header(response).await.map_err(|_| GONE)?;
        self.answer.finish();
        Ok(())
    }

    /// The result of something that changes nothing: not worth going on with when nobody listens.
    async fn while_heard<T>(
        &self,
        work: impl Future<Output = Result<T, Refusal>> + Send,
    ) -> Result<T, ReadFault> {
        tokio::select! {
            biased;
            result = work => Ok(result?),
            () = self.answer.deaf() => Err(GONE),
        }
    }

    /// Part of what the key may hold at once; waits for it as long as for a request.
    async fn own_share<'s>(
        &self,
        of: &'s Semaphore,
        amount: u32,
        what: &str,
    ) -> Result<SemaphorePermit<'s>, ReadFault> {
        match timeout(self.shared.request_timeout, of.acquire_many(amount)).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => {
                let text =
                    format!("this key has too many {what} on their way; try again when some have arrived");
                Err(Refusal::new(RefusalCode::Busy, text).into())
            }
        }
    }
}

/// The whole of a body that is short enough to be held, up to the request's end.
async fn body(reader: &mut Reader, length: usize) -> Result<Vec<u8>, ReadFault> {
    let mut body = Vec::with_capacity(length);
    while body.len() < length {
        let left = (length - body.len()) as u64;
        body.extend_from_slice(&reader.piece(left).await?);
    }
    reader.end().await?;
    Ok(body)
}

/// So many ids of jobs, none twice.
async fn ids(reader: &mut Reader, count: usize) -> Result<Vec<JobId>, ReadFault> {
    const BYTES: usize = 16;
    let bytes = body(reader, count * BYTES).await?;
    let (ids, _) = bytes.as_chunks::<BYTES>();
    let jobs: Vec<JobId> = ids.iter().copied().map(JobId::from_bytes).collect();
    let mut seen = HashSet::with_capacity(count);
    if let Some(twice) = jobs.iter().find(|job| !seen.insert(**job)) {
        let text = format!("job {twice} is named twice: ask for the end of each job once");
        return Err(Refusal::new(RefusalCode::BadRequest, text).into());
    }
    Ok(jobs)
}

/// The client stopped listening; whatever it has got was all that it wanted.
const GONE: ReadFault = ReadFault::Gone(CloseCode::NotNeeded);
