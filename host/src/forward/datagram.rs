//! Syslog in datagrams: UDP, and Unix sockets such as `/dev/log`.
//!
//! A datagram to a Unix socket waits until the receiver has room. One over UDP is gone once it is sent, and nobody learns whether it
//! came; that is what UDP is. A message that is too long for a datagram is told instead of being cut (`Sender::stand_in`).
//! *Spec:* RFC 5426.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{UdpSocket, UnixDatagram, lookup_host};
use tokio::time::timeout;

use super::Trouble;
use super::entry::Entry;
use super::syslog::Sender;
use crate::config::Server;

/// Longest message over UDP: what usual receivers take, and few IP fragments.
const MAX_UDP_BYTES: usize = 8192;
/// Longest message to a Unix socket. The kernel may take less, and says so.
const MAX_UNIX_BYTES: usize = 128 << 10;
/// Longest wait for a receiver that has no room, or for a name.
const SEND: Duration = Duration::from_secs(15);

enum To {
    Udp(Server),
    Unix(PathBuf),
}

enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

pub(super) struct DatagramSink {
    to: To,
    sender: Sender,
    open: Option<Socket>,
}

impl DatagramSink {
    pub(super) const fn udp(server: Server, sender: Sender) -> Self {
        Self { to: To::Udp(server), sender, open: None }
    }

    pub(super) const fn unix(path: PathBuf, sender: Sender) -> Self {
        Self { to: To::Unix(path), sender, open: None }
    }

    pub(super) async fn send(&mut self, batch: &[Entry]) -> Result<(), Trouble> {
        // Opened anew after trouble: the receiver may have made its socket anew, too.
        let socket = match self.open.take() {
            Some(socket) => socket,
            None => self.to.open().await.map_err(Trouble::later)?,
        };
        for entry in batch {
            self.send_one(&socket, entry).await.map_err(Trouble::later)?;
        }
        self.open = Some(socket);
        Ok(())
    }

    async fn send_one(&self, socket: &Socket, entry: &Entry) -> io::Result<()> {
        let message = self.sender.message(entry);
        if message.len() <= self.to.longest() {
            match socket.send(&message).await {
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => {}
                other => return other,
            }
        }
        socket.send(&self.sender.stand_in(entry)).await
    }
}

impl To {
    const fn longest(&self) -> usize {
        match self {
            Self::Udp(_) => MAX_UDP_BYTES,
            Self::Unix(_) => MAX_UNIX_BYTES,
        }
    }

    async fn open(&self) -> io::Result<Socket> {
        match self {
            Self::Udp(server) => {
                let mut found = timeout(SEND, lookup_host((server.host.as_str(), server.port))).await??;
                let to = found.next().ok_or_else(|| io::Error::other("the name has no address"))?;
                let any = match to {
                    SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                    SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
                };
                let socket = UdpSocket::bind(any).await?;
                socket.connect(to).await?;
                Ok(Socket::Udp(socket))
            }
            Self::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Ok(Socket::Unix(socket))
            }
        }
    }
}

impl Socket {
    async fn send(&self, message: &[u8]) -> io::Result<()> {
        let sending = async {
            match self {
                Self::Udp(socket) => socket.send(message).await,
                Self::Unix(socket) => socket.send(message).await,
            }
        };
        timeout(SEND, sending).await??;
        Ok(())
    }
}
