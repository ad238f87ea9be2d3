//! What a job wrote or left, in pieces, checked against what the host recorded at the job's end.

use bytes::Bytes;
use strongroom_job::{Artifact, Digester, JobId, OutputStream, OutputSummary, Request, Response};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::exchange::{Exchange, kind_of};
use crate::{Client, Error};

/// Output or an artifact of a job on its way to us. A lost connection is made again and the output goes on where it stood.
#[must_use = "output is read with `next` or `copy_to`"]
pub struct OutputReader {
    client: Client,
    job: JobId,
    what: What,
    exchange: Option<Exchange>,
    /// Where the next byte stands in the whole output.
    position: u64,
    /// Where the output ends, when the host knew it at the beginning.
    end: Option<u64>,
    /// Sees every byte when we began at the first.
    digester: Option<Digester>,
    /// Failures since the last byte.
    tried: u32,
    done: bool,
}

/// What is read.
enum What {
    /// One of the streams; with `follow`, until the job is over.
    Stream { stream: OutputStream, follow: bool },
    /// A file, as the host recorded it.
    Artifact(Artifact),
    /// The task as it was signed, in JSON.
    Task,
}

impl OutputReader {
    pub(crate) async fn open_stream(
        client: Client,
        job: JobId,
        stream: OutputStream,
        offset: u64,
        follow: bool,
    ) -> Result<Self, Error> {
        Self::open(client, job, What::Stream { stream, follow }, offset).await
    }

    pub(crate) async fn open_artifact(
        client: Client,
        job: JobId,
        artifact: Artifact,
        offset: u64,
    ) -> Result<Self, Error> {
        Self::open(client, job, What::Artifact(artifact), offset).await
    }

    pub(crate) async fn open_task(client: Client, job: JobId) -> Result<Self, Error> {
        Self::open(client, job, What::Task, 0).await
    }

    async fn open(client: Client, job: JobId, what: What, offset: u64) -> Result<Self, Error> {
        let mut reader = Self {
            client,
            job,
            what,
            exchange: None,
            position: offset,
            end: None,
            digester: (offset == 0).then(Digester::new),
            tried: 0,
            done: false,
        };
        while let Err(error) = reader.begin().await {
            reader.recover(error).await?;
        }
        Ok(reader)
    }

    /// Bytes still to come, when the host knew that at the beginning because the job was over.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        self.end.map(|end| end.saturating_sub(self.position))
    }

    /// Where the next byte stands in the whole output.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The next bytes; none at the end.
    ///
    /// At the end of output that was read from its first byte, and whose job is over, length and SHA-256 have been compared
    /// with what the host recorded; from a later offset, the length only.
    ///
    /// # Errors
    /// [`OutputMismatch`](Error::OutputMismatch) or [`ArtifactMismatch`](Error::ArtifactMismatch) instead of the end; any other
    /// when the host cannot be asked.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.done {
                return Ok(None);
            }
            match self.piece().await {
                Ok(Some(piece)) => {
                    self.tried = 0;
                    self.position += piece.len() as u64;
                    if let Some(digester) = &mut self.digester {
                        digester.update(&piece);
                    }
                    return Ok(Some(piece));
                }
                Ok(None) => {
                    self.done = true;
                    self.exchange = None;
                    self.check().await?;
                }
                Err(error) => self.recover(error).await?,
            }
        }
    }

    /// Copies the rest to `writer`; returns where the output ends.
    ///
    /// # Errors
    /// As [`next`](Self::next); [`Io`](Error::Io) when `writer` fails.
    pub async fn copy_to(mut self, writer: &mut (dyn AsyncWrite + Send + Unpin)) -> Result<u64, Error> {
        while let Some(piece) = self.next().await? {
            writer.write_all(&piece).await.map_err(Error::io("(output)".as_ref()))?;
        }
        writer.flush().await.map_err(Error::io("(output)".as_ref()))?;
        Ok(self.position)
    }

    async fn begin(&mut self) -> Result<(), Error> {
        let link = &self.client.link;
        let within = link.options.timeouts.answer;
        let session = link.session().await?;
        let (job, offset) = (self.job, self.position);
        let request = match &self.what {
            What::Stream { stream, follow } => {
                Request::Output { job, stream: *stream, offset, follow: *follow }
            }
            What::Artifact(artifact) => Request::Artifact { job, name: artifact.name.clone(), offset },
            What::Task => Request::Task { job },
        };
        let mut exchange = Exchange::on(link, &session, &request).await?;
        exchange.end_request();
        let answer = timeout(within, exchange.answer())
            .await
            .unwrap_or_else(|_| Err(self.client.timed_out("answer", within)))?;
        let Response::Output { length } = answer else { return Err(exchange.unexpected(kind_of(&answer))) };
        self.end = match length.map(|length| offset.checked_add(length)) {
            None => None,
            Some(Some(end)) => Some(end),
            Some(None) => return Err(exchange.protocol("its output is longer than any can be".into())),
        };
        self.exchange = Some(exchange);
        Ok(())
    }

    /// Waits for the next bytes: without bound when they are followed; otherwise they are there already, and silence is a
    /// fault.
    async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        if self.exchange.is_none() {
            self.begin().await?;
        }
        let follows = self.follows();
        let Some(exchange) = &mut self.exchange else { return Ok(None) };
        let within = self.client.link.options.timeouts.answer;
        let piece = if follows {
            exchange.next().await?
        } else {
            timeout(within, exchange.next())
                .await
                .unwrap_or_else(|_| Err(self.client.timed_out("send the next output", within)))?
        };
        let length = piece.as_ref().map_or(0, |piece| piece.len() as u64);
        match self.end {
            Some(end) if self.position + length > end => {
                Err(exchange.protocol("its output is longer than it said".into()))
            }
            Some(end) if piece.is_none() && self.position < end => {
                Err(exchange.protocol("its output is shorter than it said".into()))
            }
            _ => Ok(piece),
        }
    }

    async fn recover(&mut self, error: Error) -> Result<(), Error> {
        self.exchange = None;
        if matches!(self.what, What::Task) && self.position > 0 {
            // It is always sent whole, so a part of it cannot be gone on with.
            self.done = true;
            return Err(error);
        }
        if !error.is_temporary() {
            self.done = true;
            return Err(error);
        }
        self.tried += 1;
        self.client.link.options.retry.rest(self.tried, error).await
    }

    const fn follows(&self) -> bool {
        matches!(self.what, What::Stream { follow: true, .. })
    }

    /// Compares what came with what the host recorded, when it is the whole.
    async fn check(&mut self) -> Result<(), Error> {
        let recorded = match &self.what {
            What::Artifact(artifact) => OutputSummary { length: artifact.length, digest: artifact.digest },
            // A task has no digest of its own: whoever uses it checks that it is one.
            What::Task => return Ok(()),
            What::Stream { .. } if !self.follows() && self.end.is_none() => return Ok(()),
            What::Stream { stream, .. } => {
                let view = self.client.show(self.job).await?;
                let Some(end) = view.end else {
                    return Err(self.client.protocol("it ended the output of a job that is not over"));
                };
                match stream {
                    OutputStream::Stdout => end.stdout,
                    OutputStream::Stderr => end.stderr,
                    OutputStream::Result => end.result.unwrap_or_else(OutputSummary::nothing),
                }
            }
        };
        let digest = self.digester.take().map_or(recorded.digest, Digester::finish);
        // An offset behind the end gives nothing, and nothing is then the whole rest.
        let length_fits =
            self.position == recorded.length || (self.digester.is_none() && self.position > recorded.length);
        if length_fits && digest == recorded.digest {
            return Ok(());
        }
        let OutputSummary { length: expected_length, digest: expected_digest } = recorded;
        let (job, found_length, found_digest) = (self.job, self.position, digest);
        Err(match &self.what {
            What::Task => self.client.protocol("it recorded a digest of a task"),
            What::Stream { stream, .. } => Error::OutputMismatch {
                job,
                stream: *stream,
                expected_length,
                expected_digest,
                found_length,
                found_digest,
            },
            What::Artifact(artifact) => Error::ArtifactMismatch {
                job,
                name: artifact.name.clone(),
                expected_length,
                expected_digest,
                found_length,
                found_digest,
            },
        })
    }
}
