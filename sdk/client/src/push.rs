//! Giving the host a blob: ask first, then send it in pieces.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use strongroom_job::{BlobKind, Digest, Request, Response};
use tokio::time::timeout;

use crate::exchange::{Exchange, kind_of};
use crate::{Client, Error, Source};

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes handed to the network.
    pub sent: u64,
    /// Bytes in all.
    pub total: u64,
}

/// An upload that begins when it is awaited.
#[must_use = "an upload begins when it is awaited"]
pub struct Push<'a, T> {
    client: &'a Client,
    kind: BlobKind,
    source: Source,
    progress: Option<Box<dyn FnMut(Progress) + Send + 'a>>,
    reference: fn(Digest, u64) -> T,
}

impl<'a, T> Push<'a, T> {
    pub(crate) fn new(
        client: &'a Client,
        kind: BlobKind,
        source: Source,
        reference: fn(Digest, u64) -> T,
    ) -> Self {
        Self { client, kind, source, progress: None, reference }
    }

    /// Calls `show` after every piece. Never when the host has the blob already; from 0 again when the connection was lost.
    pub fn on_progress(mut self, show: impl FnMut(Progress) + Send + 'a) -> Self {
        self.progress = Some(Box::new(show));
        self
    }

    async fn run(mut self) -> Result<T, Error> {
        let (digest, length) = self.source.measure().await?;
        let present = self
            .client
            .call(
                &Request::Has { kind: self.kind, digest },
                Some(self.client.link.options.timeouts.answer),
                |response| match response {
                    Response::Stored { present, .. } => Some(present),
                    _ => None,
                },
            )
            .await?;
        if !present {
            self.upload(digest, length).await?;
        }
        Ok((self.reference)(digest, length))
    }

    async fn upload(&mut self, digest: Digest, length: u64) -> Result<(), Error> {
        let retry = self.client.link.options.retry;
        let mut tried = 0;
        loop {
            match self.attempt(digest, length).await {
                Err(error) if error.is_temporary() => {
                    tried += 1;
                    retry.rest(tried, error).await?;
                }
                other => return other,
            }
        }
    }

    async fn attempt(&mut self, digest: Digest, total: u64) -> Result<(), Error> {
        let timeouts = self.client.link.options.timeouts;
        let mut pieces = self.source.open().await?;
        let session = self.client.link.session().await?;
        let request = Request::Push { kind: self.kind, digest, length: total };
        let mut exchange = Exchange::on(&self.client.link, &session, &request).await?;
        let mut sent = 0;
        while sent < total {
            let piece = pieces.next(total - sent).await?;
            if piece.is_empty() {
                // The file shrank. The host sees fewer bytes than announced and says so.
                break;
            }
            sent += piece.len() as u64;
            let wanted = timeout(timeouts.answer, exchange.body(piece))
                .await
                .unwrap_or_else(|_| Err(self.client.timed_out("take the next bytes", timeouts.answer)))?;
            if !wanted {
                break;
            }
            if let Some(show) = &mut self.progress {
                show(Progress { sent, total });
            }
        }
        exchange.end_request();
        let answer = timeout(timeouts.store, exchange.answer())
            .await
            .unwrap_or_else(|_| Err(self.client.timed_out("check and keep the bytes", timeouts.store)))?;
        match answer {
            Response::Stored { present: true, .. } => Ok(()),
            other => Err(exchange.unexpected(kind_of(&other))),
        }
    }
}

impl<'a, T: Send + 'a> IntoFuture for Push<'a, T> {
    type Output = Result<T, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
