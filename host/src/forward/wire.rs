//! A connection to a destination: TCP, or TLS over it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Trouble;
use super::tls::{Tls, TlsStream};
use crate::config::Server;

/// Bytes that may wait in the kernel, which doubles them for what it keeps beside them. More would only hide how little a slow receiver reads.
const SEND_BUFFER: usize = 256 << 10;
/// Longest wait for a name, a connection and a handshake together.
const CONNECT: Duration = Duration::from_secs(15);

/// An open connection.
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

/// Connects to `server`, and verifies its certificate if there is TLS.
pub(super) async fn connect(server: &Server, tls: Option<&Tls>) -> Result<Wire, Trouble> {
    let connecting = async {
        let tcp = TcpStream::connect((server.host.as_str(), server.port)).await?;
        tcp.set_nodelay(true)?;
        rustix::net::sockopt::set_socket_send_buffer_size(&tcp, SEND_BUFFER)?;
        match tls {
            Some(tls) => Ok(Wire::Tls(Box::new(tls.connect(&server.host, tcp).await?))),
            None => Ok(Wire::Plain(tcp)),
        }
    };
    match timeout(CONNECT, connecting).await {
        Ok(connected) => {
            connected.map_err(|error: io::Error| Trouble::Later(format!("cannot connect: {error}")))
        }
        Err(_) => Err(Trouble::Later(format!("no connection within {} s", CONNECT.as_secs()))),
    }
}

impl Wire {
    /// The connection below.
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
