//! The client's QUIC endpoint and its bounds, and what QUIC's errors mean to us.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, Endpoint, EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use strongroom_job::{CloseCode, PublicKey, SecretKey};

use crate::Error;
use crate::tls::{self, FoundKey};

/// A connection on which nothing arrived for so long is lost. The host may say less.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a quiet connection is kept alive; a wait may take days.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Bytes of one answer that may wait here to be read.
const STREAM_WINDOW: u32 = 512 << 10;
/// Bytes of all answers that may wait here to be read: 32 outputs that nobody reads do not block the others.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Bytes that we send ahead of the host's acknowledgement.
const SEND_WINDOW: u64 = 8 << 20;

/// TLS alert numbers inside QUIC's error codes (RFC 9001 §4.8).
const CRYPTO_ERRORS: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;
const ALERT_ACCESS_DENIED: u64 = 0x100 + 49;
const ALERT_NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;
/// QUIC's CONNECTION_REFUSED (RFC 9000 §20.1): the host has no room.
const CONNECTION_REFUSED: u64 = 2;

/// An endpoint that only calls, on any free port.
pub(crate) fn endpoint(to: SocketAddr) -> io::Result<Endpoint> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = std::net::UdpSocket::bind(any)?;
    Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(quinn::TokioRuntime))
}

/// The configuration of one call, to the holder of `host`.
pub(crate) fn client_config(
    identity: &SecretKey,
    host: &PublicKey,
    found: FoundKey,
) -> Result<ClientConfig, rustls::Error> {
    let tls = tls::client_config(identity, host, found)?;
    let crypto = QuicClientConfig::try_from(tls)
        .map_err(|_| rustls::Error::General("the cipher suite that QUIC begins with is missing".into()))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok())
        .keep_alive_interval(Some(KEEP_ALIVE));
    transport
}

/// What the end of a connection means. `established`: whether the handshake was over before.
pub(crate) fn connection_error(
    address: &str,
    key: &PublicKey,
    established: bool,
    error: &ConnectionError,
) -> Error {
    let address = address.to_owned();
    match error {
        ConnectionError::ApplicationClosed(close) => closed(address, close.error_code.into_inner()),
        ConnectionError::ConnectionClosed(close) => match u64::from(close.error_code) {
            ALERT_ACCESS_DENIED => Error::KeyNotAccepted { address, key: Box::new(*key) },
            ALERT_NO_APPLICATION_PROTOCOL => {
                Error::Protocol { address, detail: "it does not speak strongroom/1".into() }
            }
            CONNECTION_REFUSED => Error::Closed { address, code: CloseCode::TooManyConnections },
            code if CRYPTO_ERRORS.contains(&code) => {
                Error::Protocol { address, detail: format!("it ended the handshake: {close}") }
            }
            _ if established => Error::Lost { address, reason: close.to_string() },
            _ => Error::NotReachable { address, reason: close.to_string() },
        },
        ConnectionError::VersionMismatch => {
            Error::Protocol { address, detail: "it speaks another version of QUIC".into() }
        }
        ConnectionError::TransportError(fault) => Error::Protocol { address, detail: fault.to_string() },
        ConnectionError::TimedOut
        | ConnectionError::Reset
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => {
            let reason = error.to_string();
            if established {
                Error::Lost { address, reason }
            } else {
                Error::NotReachable { address, reason }
            }
        }
    }
}

/// What an application error code of the host means.
pub(crate) fn closed(address: String, number: u64) -> Error {
    match CloseCode::from_number(number) {
        Some(code) => Error::Closed { address, code },
        None => Error::Protocol { address, detail: format!("it closed with the unknown code {number}") },
    }
}
