//! The socket for who is in `allow_from`, and for nobody else.
//!
//! *Why here:* quinn answers some packets before it has a connection to ask about: an unknown version with a list of versions, a
//! packet of no connection with a reset. What it never sees it never answers.
//! *Never:* looks into a packet.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use crate::config::AllowList;
use crate::meters::Meters;

/// A socket that hears nobody from outside.
#[derive(Debug)]
pub(super) struct Gate {
    socket: Arc<dyn AsyncUdpSocket>,
    allow_from: AllowList,
    meters: Arc<Meters>,
}

impl Gate {
    pub(super) const fn new(
        socket: Arc<dyn AsyncUdpSocket>,
        allow_from: AllowList,
        meters: Arc<Meters>,
    ) -> Self {
        Self { socket, allow_from, meters }
    }
}

impl AsyncUdpSocket for Gate {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.socket.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = received {
            for packet in meta.iter_mut().take(count) {
                if !self.allow_from.admits(packet.addr.ip()) {
                    // Nothing is left of it; its place stays, so that quinn's bound on work in one go counts it.
                    packet.len = 0;
                    self.meters.outside_jobs.add();
                }
            }
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}
