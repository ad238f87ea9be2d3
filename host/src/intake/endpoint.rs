//! The QUIC endpoint, every bound set by hand: quinn's own defaults leave some of them open.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, IdleTimeout, Runtime as _, ServerConfig, TransportConfig, VarInt};
use strongroom_job::SecretKey;

use super::gate::Gate;
use super::ids::RandomIds;
use super::tls::{self, IsKnown};
use crate::config::{AllowList, Bounds};
use crate::meters::Meters;

/// A connection on which nothing arrives for so long is closed. Clients keep theirs alive every 5 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of one request that may wait to be read.
const STREAM_WINDOW: u32 = 512 << 10;
/// Bytes of all requests of a connection that may wait to be read: 8 stalled uploads do not block the others. With 64
/// connections one key can make the host hold 256 MiB.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Bytes of answers of a connection that may wait for their acknowledgement. With 64 connections: 256 MiB.
const SEND_WINDOW: u64 = 4 << 20;
/// Handshakes that wait to be looked at; each is answered by a retry at once, so this is a matter of microseconds.
const MAX_INCOMING: usize = 256;
/// Bytes that one of them may send meanwhile.
const INCOMING_BYTES: u64 = 16 << 10;
/// Bytes that all of them may send meanwhile.
const ALL_INCOMING_BYTES: u64 = 2 << 20;
/// Bytes that the kernel keeps of what has arrived and was not read yet, as far as it lets us. All clients share one socket, and a small datagram counts as
/// more than 2 KiB: of 300 clients that send at once, the usual 208 KiB lose most, and each waits for its timeout then.
const ARRIVED_BYTES: usize = 4 << 20;
/// How long a retry token is good: one round trip.
const RETRY_LIFETIME: Duration = Duration::from_secs(10);

const _: () = assert!(STREAM_WINDOW < CONNECTION_WINDOW);
const _: () = assert!(INCOMING_BYTES <= ALL_INCOMING_BYTES);

/// What the host speaks, and to whom.
pub(super) fn server_config(
    key: &SecretKey,
    known: IsKnown,
    bounds: &Bounds,
) -> Result<ServerConfig, rustls::Error> {
    let crypto = QuicServerConfig::try_from(tls::server_config(key, known)?)
        .map_err(|_| rustls::Error::General("the cipher suite that QUIC begins with is missing".into()))?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(transport(bounds.max_streams_per_connection)))
        .retry_token_lifetime(RETRY_LIFETIME)
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(ALL_INCOMING_BYTES);
    Ok(config)
}

/// Binds the socket, or takes the one that was handed over.
pub(super) fn open(
    listen: SocketAddr,
    handed: Option<OwnedFd>,
    config: ServerConfig,
    gate: Option<(AllowList, Arc<Meters>)>,
) -> io::Result<Endpoint> {
    let socket = match handed {
        // Whoever made it could give it more than we can.
        Some(handed) => handed.into(),
        None => bind(listen)?,
    };
    let (runtime, mut endpoint) = (Arc::new(quinn::TokioRuntime), EndpointConfig::default());
    endpoint.cid_generator(|| Box::new(RandomIds));
    let Some((allow_from, meters)) = gate else {
        return Endpoint::new(endpoint, Some(config), socket, runtime);
    };
    let gate = Arc::new(Gate::new(runtime.wrap_udp_socket(socket)?, allow_from, meters));
    Endpoint::new_with_abstract_socket(endpoint, Some(config), gate, runtime)
}

/// A socket in which more may wait than is usual. Linux gives twice what is asked for, and of more than `net.core.rmem_max` twice that.
fn bind(listen: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(listen)?;
    if let Err(error) = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, ARRIVED_BYTES) {
        tracing::debug!(%error, "the socket keeps the receive buffer that it has");
    }
    Ok(socket)
}

fn transport(max_streams: u32) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(max_streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok());
    transport
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use rustix::net::sockopt::socket_recv_buffer_size;

    use super::*;

    // Red when nothing is asked for.
    #[test]
    fn the_socket_takes_more_than_it_would() {
        let any = "127.0.0.1:0".parse().unwrap();
        let usual = socket_recv_buffer_size(UdpSocket::bind(any).unwrap()).unwrap();
        assert!(socket_recv_buffer_size(bind(any).unwrap()).unwrap() > usual, "{usual}");
    }
}
