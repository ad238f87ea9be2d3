//! The live connection to the host, made again when it was lost.
//!
//! *Owns:* the endpoint and the connection. One `Link` per [`Client`](crate::Client), shared by its clones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, Endpoint};
use strongroom_job::{CloseCode, HostView, PublicKey, Request, Response};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::client::ConnectOptions;
use crate::exchange::{Exchange, kind_of};
use crate::tls::FoundKey;
use crate::{Error, quic};

/// Time between two looks whether the goodbye is on its way.
const GOODBYE_TICK: Duration = Duration::from_millis(1);

/// Where to connect, and the connection if there is one.
pub(crate) struct Link {
    pub(crate) options: ConnectOptions,
    session: Mutex<Option<Arc<Session>>>,
}

/// One connection on which both sides have proven their keys.
pub(crate) struct Session {
    endpoint: Endpoint,
    pub(crate) connection: Connection,
    /// What the host said about itself and us when the connection began.
    pub(crate) host: HostView,
}

impl Link {
    pub(crate) async fn connect(options: ConnectOptions) -> Result<Self, Error> {
        let first = Session::connect(&options).await?;
        Ok(Self { options, session: Mutex::new(Some(Arc::new(first))) })
    }

    /// The live connection; a new one when the last was lost.
    ///
    /// Whoever finds it lost connects while the others wait, so that one loss makes one connection.
    pub(crate) async fn session(&self) -> Result<Arc<Session>, Error> {
        let mut current = self.session.lock().await;
        if let Some(session) = current.as_ref()
            && session.connection.close_reason().is_none()
        {
            return Ok(Arc::clone(session));
        }
        // A host that answered before and does not now is probably starting again: worth another attempt.
        let fresh = Session::connect(&self.options).await.map_err(|error| match error {
            Error::NotReachable { address, reason } => Error::Lost { address, reason },
            other => other,
        })?;
        Ok(Arc::clone(current.insert(Arc::new(fresh))))
    }

    /// Says goodbye, so that the host need not wait for the idle timeout.
    pub(crate) async fn close(&self) {
        if let Some(session) = self.session.lock().await.take() {
            let code = CloseCode::Done.number().into();
            let before = session.datagrams_sent();
            session.connection.close(code, b"done");
            // From here on nothing but the goodbye goes out. The endpoint forgets the connection only after three probe timeouts, 80 ms
            // where there is no way to speak of: nobody waits for that.
            let gone = async {
                loop {
                    sleep(GOODBYE_TICK).await;
                    if session.datagrams_sent() != before {
                        break;
                    }
                }
            };
            tokio::select! {
                () = gone => {}
                _ = timeout(self.options.timeouts.connect, session.endpoint.wait_idle()) => {}
            }
        }
    }
}

impl Session {
    fn datagrams_sent(&self) -> u64 {
        self.connection.stats().udp_tx.datagrams
    }

    async fn connect(options: &ConnectOptions) -> Result<Self, Error> {
        let address = &options.addr;
        let unreachable = |reason: String| Error::NotReachable { address: address.clone(), reason };
        let resolved = tokio::net::lookup_host(address.as_str())
            .await
            .map_err(|error| unreachable(format!("it is no HOST:PORT that can be resolved ({error})")))?;
        let mut last = unreachable("the name stands for no address".into());
        for one in resolved {
            match Self::call(options, one).await {
                Err(error @ Error::NotReachable { .. }) => last = error,
                other => return other,
            }
        }
        Err(last)
    }

    async fn call(options: &ConnectOptions, to: SocketAddr) -> Result<Self, Error> {
        let address = &options.addr;
        let unreachable = |reason: String| Error::NotReachable { address: address.clone(), reason };
        let key = options.identity.public();
        let found = FoundKey::default();
        let config = quic::client_config(options.identity.secret(), &options.host_key, Arc::clone(&found))
            .map_err(|error| unreachable(format!("TLS could not be set up ({error})")))?;
        let endpoint = quic::endpoint(to)
            .map_err(|error| unreachable(format!("no UDP socket could be opened ({error})")))?;
        let connecting =
            endpoint.connect_with(config, to, SERVER_NAME).map_err(|error| unreachable(error.to_string()))?;

        let within = options.timeouts.connect;
        let connection = match timeout(within, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                return Err(match found.get() {
                    Some(found) => Error::WrongHostKey {
                        address: address.clone(),
                        expected: Box::new(options.host_key),
                        found: Box::new(*found),
                    },
                    None => quic::connection_error(address, &key, false, &error),
                });
            }
            Err(_) => return Err(unreachable(format!("no answer within {} ms", within.as_millis()))),
        };
        // Our half of the handshake is over before the host has looked at our key: only an answer shows that it did.
        let host = timeout(within, introduce(&connection, address, key))
            .await
            .unwrap_or_else(|_| Err(unreachable(format!("no answer within {} ms", within.as_millis()))))?;
        Ok(Self { endpoint, connection, host })
    }
}

/// TLS wants a name. The pinned key is what counts, and the name is not sent.
const SERVER_NAME: &str = "strongroom";

async fn introduce(connection: &Connection, address: &str, key: PublicKey) -> Result<HostView, Error> {
    let mut exchange = Exchange::begin(connection, address, key, &Request::Host {}).await?;
    exchange.end_request();
    match exchange.answer().await? {
        Response::Host(view) => Ok(view),
        other => Err(exchange.unexpected(kind_of(&other))),
    }
}
