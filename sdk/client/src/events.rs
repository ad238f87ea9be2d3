//! What happens on a host, told as it happens.

use std::fmt;

use strongroom_job::{EventLine, EventQuery, MAX_EVENT_LINE_BYTES, Request, Response};
use tokio::time::timeout;

use crate::exchange::{Exchange, kind_of};
use crate::{Client, Error};

/// Events on their way to us, in the order of the host's audit log. A lost connection is made again, and the stream goes on behind the
/// last event: nothing is missing, nothing comes twice.
///
/// The host holds nothing for a reader. One that is slow gets what it has not read yet from the host's log, however far behind it is.
#[must_use = "events are read with `next`"]
pub struct Events {
    client: Client,
    query: EventQuery,
    everybody: bool,
    exchange: Option<Exchange>,
    /// Bytes behind the last whole line: less than a line and a piece.
    buffer: Vec<u8>,
    /// Bytes at its beginning that were read.
    read: usize,
    /// Failures since the host last answered.
    tried: u32,
    done: bool,
}

impl Client {
    /// What happens to our tenant's jobs.
    ///
    /// ```no_run
    /// # async fn example(client: &strongroom_sdk::Client) -> Result<(), strongroom_sdk::Error> {
    /// use strongroom_sdk::{EventLine, EventQuery};
    ///
    /// let mut events = client.events(EventQuery { follow: true, ..EventQuery::default() }).await?;
    /// while let Some(line) = events.next().await? {
    ///     if let EventLine::Event(event) = line {
    ///         println!("{} {}", event.index, event.record.event.kind());
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Refused`](Error::Refused): `missing-role` without the role `view`, `unknown-job` when the job is not our tenant's, `bad-request`
    /// when there is no such type of record, or the log has no such index yet.
    pub async fn events(&self, query: EventQuery) -> Result<Events, Error> {
        Events::open(self.clone(), query, false).await
    }

    /// What happens on the host, to the jobs of every tenant; for operators.
    ///
    /// # Errors
    /// As [`events`](Self::events); `missing-role` without the role `operate`, `forbidden` when the host's trust file does not name us.
    pub async fn all_events(&self, query: EventQuery) -> Result<Events, Error> {
        Events::open(self.clone(), query, true).await
    }
}

impl Events {
    async fn open(client: Client, query: EventQuery, everybody: bool) -> Result<Self, Error> {
        let (exchange, buffer) = (None, Vec::new());
        let mut events = Self { client, query, everybody, exchange, buffer, read: 0, tried: 0, done: false };
        while let Err(error) = events.begin().await {
            events.recover(error).await?;
        }
        Ok(events)
    }

    /// What to say as [`from`](EventQuery::from) to go on here another time: everything before it was told, or was not asked for.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.query.from.unwrap_or_default()
    }

    /// The next event, or the word that some were left out: never [`EventLine::Next`]. None at the end, which comes only when they are
    /// not followed. Safe to drop: what was not returned comes with the next call.
    ///
    /// # Errors
    /// When the host cannot be asked, or does not keep to the order of its log.
    pub async fn next(&mut self) -> Result<Option<EventLine>, Error> {
        loop {
            if self.done {
                return Ok(None);
            }
            match self.line().await {
                Ok(Some(EventLine::Next { .. })) => {}
                Ok(Some(line)) => return Ok(Some(line)),
                Ok(None) if self.query.follow => {
                    let (address, reason) = (self.client.link.options.addr.clone(), "it stops".into());
                    self.recover(Error::Lost { address, reason }).await?;
                }
                Ok(None) => self.done = true,
                Err(error) => self.recover(error).await?,
            }
        }
    }

    async fn begin(&mut self) -> Result<(), Error> {
        let link = &self.client.link;
        let within = link.options.timeouts.answer;
        let session = link.session().await?;
        let query = self.query.clone();
        let request = if self.everybody { Request::AllEvents(query) } else { Request::Events(query) };
        let mut exchange = Exchange::on(link, &session, &request).await?;
        exchange.end_request();
        let answer = timeout(within, exchange.answer())
            .await
            .unwrap_or_else(|_| Err(self.client.timed_out("answer", within)))?;
        let Response::Events { from } = answer else { return Err(exchange.unexpected(kind_of(&answer))) };
        if self.query.from.is_some_and(|asked| asked != from) {
            return Err(exchange.protocol(format!("it was asked for events from elsewhere than {from}")));
        }
        self.query.from = Some(from);
        self.buffer.clear();
        (self.exchange, self.read, self.tried) = (Some(exchange), 0, 0);
        Ok(())
    }

    /// The next line; none when the host says no more.
    async fn line(&mut self) -> Result<Option<EventLine>, Error> {
        loop {
            if let Some(length) = self.buffer[self.read..].iter().position(|byte| *byte == b'\n') {
                let line = EventLine::parse(&self.buffer[self.read..self.read + length]);
                self.read += length + 1;
                let line = line.map_err(|error| self.client.protocol(&format!("its event: {error}")))?;
                return self.in_order(line).map(Some);
            }
            self.buffer.drain(..self.read);
            self.read = 0;
            if self.buffer.len() > MAX_EVENT_LINE_BYTES {
                return Err(self.client.protocol("its event is longer than any may be"));
            }
            if self.exchange.is_none() {
                self.begin().await?;
            }
            let Some(exchange) = &mut self.exchange else { return Ok(None) };
            match exchange.next().await? {
                Some(piece) => self.buffer.extend_from_slice(&piece),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(self.client.protocol("its events end in the middle of one")),
            }
        }
    }

    fn in_order(&mut self, line: EventLine) -> Result<EventLine, Error> {
        let at = match &line {
            EventLine::Event(event) => event.index,
            other => other.next(),
        };
        if at < self.position() {
            return Err(self.client.protocol(&format!("it goes back to {at} from {}", self.position())));
        }
        self.query.from = Some(line.next());
        Ok(line)
    }

    async fn recover(&mut self, error: Error) -> Result<(), Error> {
        self.exchange = None;
        self.buffer.clear();
        self.read = 0;
        if !error.is_temporary() {
            self.done = true;
            return Err(error);
        }
        self.tried += 1;
        self.client.link.options.retry.rest(self.tried, error).await
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("query", &self.query)
            .field("everybody", &self.everybody)
            .finish_non_exhaustive()
    }
}
