//! `wasi:sockets`: wasmtime's sockets, each made with a check of its own, and counted.
//!
//! The guest's WASI context itself allows no network: a socket that was not made here can do nothing. Preview 1, which has no way
//! to make one, stays without. What a socket may do is asked of the [`Gate`] before each system call that names an address.
//!
//! A guest without any grant gets sockets, too, but only [`UNGRANTED`]: so it comes to light *where* it wanted to go.
//!
//! *Bound:* [`Limits::sockets`](crate::Limits), accepted ones included; [`MAX_PEERS`] for each socket.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceTable, ResourceType};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily};
use wasmtime_wasi::p2::bindings::sockets::tcp::HostTcpSocket;
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket::Host as _;
use wasmtime_wasi::p2::bindings::sockets::udp::HostUdpSocket;
use wasmtime_wasi::p2::bindings::sockets::udp_create_socket::Host as _;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, TcpSocket, UdpSocket};
use wasmtime_wasi::sockets::{SocketAddrUse, WasiSocketsCtx, WasiSocketsCtxView, WasiSocketsView};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiView};

use super::{Gate, names};
use crate::rules::Protocol;
use crate::sandbox::Guest;
use crate::soft::{OverLimit, SoftLimits};

/// Sockets that a guest without any rule about sockets may have open at once.
const UNGRANTED: u32 = 2;
/// Strangers that a serving datagram socket can answer: those it heard from last.
const MAX_PEERS: usize = 256;

/// The interfaces as wasmtime links them: the same versions, so that these take their places.
const TCP: &str = "wasi:sockets/tcp@0.2.12";
const TCP_CREATE: &str = "wasi:sockets/tcp-create-socket@0.2.12";
const UDP: &str = "wasi:sockets/udp@0.2.12";
const UDP_CREATE: &str = "wasi:sockets/udp-create-socket@0.2.12";

type Accepted = (Resource<TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>);

/// A guest's sockets: the gate they ask, and how many there are.
#[derive(Debug)]
pub(crate) struct Sockets {
    gate: Gate,
    soft: SoftLimits,
    open: u32,
}

impl Sockets {
    pub(crate) fn new(gate: Gate, soft: SoftLimits) -> Self {
        Self { gate, soft, open: 0 }
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    fn open(&mut self) -> Result<(), OverLimit> {
        if self.open >= UNGRANTED && !self.gate.grants_sockets() {
            return Err(OverLimit);
        }
        self.soft.open_socket()?;
        self.open += 1;
        Ok(())
    }

    fn close(&mut self) {
        self.soft.close_socket();
        self.open = self.open.saturating_sub(1);
    }
}

/// Puts our making, accepting and dropping of sockets, and our name lookup, in the place of wasmtime's.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    link_tcp(linker)?;
    link_udp(linker)?;
    names::link(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn link_tcp(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.instance(TCP_CREATE)?.func_wrap(
        "create-tcp-socket",
        |mut store: StoreContextMut<'_, Guest>, (family,): (IpAddressFamily,)| {
            let guest = store.data_mut();
            if guest.net_mut().open().is_err() {
                return Ok((Err(ErrorCode::NewSocketLimit),));
            }
            let mut maker = Maker::new(guest.net().gate(), Protocol::Tcp);
            let made = maker.sockets(guest.ctx().table).create_tcp_socket(family);
            made.map_or_else(|error| unmade(guest, error), |socket| Ok((Ok(socket),)))
        },
    )?;
    let mut interface = linker.instance(TCP)?;
    interface.func_wrap(
        "[method]tcp-socket.accept",
        |mut store: StoreContextMut<'_, Guest>, (this,): (Resource<TcpSocket>,)| {
            accept(store.data_mut(), this)
        },
    )?;
    interface.resource("tcp-socket", ResourceType::host::<TcpSocket>(), |mut store, rep| {
        HostTcpSocket::drop(&mut store.data_mut().sockets(), Resource::new_own(rep))?;
        store.data_mut().net_mut().close();
        Ok(())
    })
}

fn link_udp(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.instance(UDP_CREATE)?.func_wrap_async(
        "create-udp-socket",
        |mut store: StoreContextMut<'_, Guest>, (family,): (IpAddressFamily,)| {
            Box::new(async move {
                let guest = store.data_mut();
                if guest.net_mut().open().is_err() {
                    return Ok((Err(ErrorCode::NewSocketLimit),));
                }
                let mut maker = Maker::new(guest.net().gate(), Protocol::Udp);
                let made = maker.sockets(guest.ctx().table).create_udp_socket(family).await;
                made.map_or_else(|error| unmade(guest, error), |socket| Ok((Ok(socket),)))
            })
        },
    )?;
    linker.instance(UDP)?.resource("udp-socket", ResourceType::host::<UdpSocket>(), |mut store, rep| {
        HostUdpSocket::drop(&mut store.data_mut().sockets(), Resource::new_own(rep))?;
        store.data_mut().net_mut().close();
        Ok(())
    })
}

/// A socket that was counted and did not come about.
fn unmade<T>(
    guest: &mut Guest,
    error: wasmtime_wasi::p2::SocketError,
) -> wasmtime::Result<(Result<T, ErrorCode>,)> {
    guest.net_mut().close();
    Ok((Err(error.downcast()?),))
}

/// Takes one client. One too many is hung up on: left waiting, it would not know.
fn accept(guest: &mut Guest, this: Resource<TcpSocket>) -> wasmtime::Result<(Result<Accepted, ErrorCode>,)> {
    let (socket, input, output) = match guest.sockets().accept(this) {
        Ok(accepted) => accepted,
        Err(error) => return Ok((Err(error.downcast()?),)),
    };
    if guest.net_mut().open().is_ok() {
        return Ok((Ok((socket, input, output)),));
    }
    let table = guest.ctx().table;
    table.delete(input)?;
    table.delete(output)?;
    table.delete(socket)?;
    Ok((Err(ErrorCode::NewSocketLimit),))
}

/// A WASI context that exists for the making of one socket, which keeps its check.
struct Maker(WasiCtx);

impl Maker {
    fn new(gate: &Gate, protocol: Protocol) -> Self {
        let watch = Watch::new(gate.clone());
        let mut wasi = WasiCtxBuilder::new();
        match protocol {
            Protocol::Tcp => wasi.allow_tcp(true),
            Protocol::Udp => wasi.allow_udp(true),
        };
        wasi.socket_addr_check(move |address, intent| {
            Box::pin(std::future::ready(watch.allows(address, intent)))
        });
        Self(wasi.build())
    }

    /// The way to the context's part that makes sockets, which puts them into `table`.
    fn sockets<'a>(&'a mut self, table: &'a mut ResourceTable) -> WasiSocketsCtxView<'a> {
        WasiSocketsCtxView { ctx: self.ctx(), table }
    }

    fn ctx(&mut self) -> &mut WasiSocketsCtx {
        self.0.sockets()
    }
}

/// What decides about one socket.
#[derive(Debug)]
struct Watch {
    gate: Gate,
    /// Whether this is a datagram socket at an address that was granted for listening: it may hear from anybody.
    serving: AtomicBool,
    peers: Mutex<Peers>,
}

#[derive(Debug, Default)]
struct Peers {
    /// Strangers that a serving socket heard from, the last one last. They may be answered.
    heard: VecDeque<SocketAddr>,
    /// Who was last found to be granted. What is granted stays so: a stream of datagrams is asked about once.
    granted: Option<SocketAddr>,
}

impl Watch {
    fn new(gate: Gate) -> Self {
        Self { gate, serving: AtomicBool::new(false), peers: Mutex::default() }
    }

    fn allows(&self, address: SocketAddr, intent: SocketAddrUse) -> bool {
        match intent {
            // By itself such a port does nothing: whatever goes out or comes in through it is asked about.
            SocketAddrUse::TcpBind if any_port(address) => true,
            SocketAddrUse::UdpBind if any_port(address) => {
                // An earlier bind may have been allowed here and refused by the system.
                self.serving.store(false, Ordering::Relaxed);
                true
            }
            SocketAddrUse::TcpBind => self.gate.allows_bind(address),
            SocketAddrUse::TcpListen => self.gate.allows_listen(Protocol::Tcp, address),
            // Whoever reaches a granted address is served.
            SocketAddrUse::TcpAccept => true,
            SocketAddrUse::TcpConnect => self.gate.allows_connect(Protocol::Tcp, address),
            SocketAddrUse::UdpBind => {
                let serving = self.gate.allows_listen(Protocol::Udp, address);
                self.serving.store(serving, Ordering::Relaxed);
                serving
            }
            SocketAddrUse::UdpSend => self.may_send(address),
            SocketAddrUse::UdpReceive => self.may_hear(address),
        }
    }

    fn may_send(&self, address: SocketAddr) -> bool {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.granted == Some(address) || peers.heard.contains(&address) {
            return true;
        }
        let allowed = self.gate.allows_connect(Protocol::Udp, address);
        if allowed {
            peers.granted = Some(address);
        }
        allowed
    }

    /// What a stranger sends is the stranger's doing: nothing is written down.
    fn may_hear(&self, address: SocketAddr) -> bool {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if self.serving.load(Ordering::Relaxed) {
            peers.remember(address);
            return true;
        }
        peers.granted == Some(address) || self.gate.permits(Protocol::Udp, address)
    }
}

impl Peers {
    fn remember(&mut self, address: SocketAddr) {
        if let Some(place) = self.heard.iter().position(|heard| *heard == address) {
            self.heard.remove(place);
        } else if self.heard.len() == MAX_PEERS {
            self.heard.pop_front();
        }
        self.heard.push_back(address);
    }
}

/// Whether the system is left to choose the port of a socket that is bound to no address in particular.
fn any_port(address: SocketAddr) -> bool {
    address.ip().is_unspecified() && address.port() == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::Grant;
    use crate::net::resolve::Resolver;
    use crate::reach::Ledger;
    use crate::rules::{Destination, Hosts, Listener};

    const HERE: &str = "127.0.0.1:5353";
    const PEER: &str = "127.0.0.1:53";
    const ANY: &str = "0.0.0.0:0";

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// A socket of a guest that may listen for datagrams at HERE and talk to PEER.
    fn watch() -> Watch {
        let peer = at(PEER);
        let hosts = Hosts::Net(peer.ip().into());
        let grant = Grant::none()
            .listen(Listener { protocol: Protocol::Udp, address: at(HERE) })
            .connect(Destination { protocol: Protocol::Udp, hosts, ports: peer.port()..=peer.port() });
        Watch::new(Gate::new(&grant, &Ledger::new(false), &Resolver::system()))
    }

    // Red without the flag: then a serving socket hears nobody, or the other one everybody.
    #[test]
    fn only_a_socket_at_a_granted_address_hears_strangers() {
        let stranger = at("10.0.0.7:7");
        let serving = watch();
        assert!(!serving.allows(stranger, SocketAddrUse::UdpSend), "not heard from yet");
        assert!(serving.allows(at(HERE), SocketAddrUse::UdpBind));
        assert!(serving.allows(stranger, SocketAddrUse::UdpReceive));
        assert!(serving.allows(stranger, SocketAddrUse::UdpSend));
        assert!(
            !serving.allows(at("10.0.0.7:8"), SocketAddrUse::UdpSend),
            "another port is another stranger"
        );

        let asking = watch();
        assert!(asking.allows(at(ANY), SocketAddrUse::UdpBind));
        assert!(!asking.allows(stranger, SocketAddrUse::UdpReceive));
        assert!(asking.allows(at(PEER), SocketAddrUse::UdpReceive));
        assert!(asking.allows(at(PEER), SocketAddrUse::UdpSend));
        assert!(!asking.allows(stranger, SocketAddrUse::UdpSend));
    }

    // Red without the reset in the branch for any port.
    #[test]
    fn a_bind_that_the_system_refused_does_not_open_the_next() {
        let watch = watch();
        assert!(watch.allows(at(HERE), SocketAddrUse::UdpBind));
        assert!(watch.allows(at(ANY), SocketAddrUse::UdpBind));
        assert!(!watch.allows(at("10.0.0.7:7"), SocketAddrUse::UdpReceive));
    }

    // Red without MAX_PEERS.
    #[test]
    fn strangers_are_forgotten_in_the_end() {
        let watch = watch();
        let stranger = |n: usize| SocketAddr::from(([10, 0, 0, 7], u16::try_from(n).unwrap()));
        assert!(watch.allows(at(HERE), SocketAddrUse::UdpBind));
        for n in 1..=MAX_PEERS {
            assert!(watch.allows(stranger(n), SocketAddrUse::UdpReceive));
        }
        // Heard again: not the oldest any more.
        assert!(watch.allows(stranger(1), SocketAddrUse::UdpReceive));
        assert!(watch.allows(stranger(MAX_PEERS + 1), SocketAddrUse::UdpReceive));
        assert!(!watch.allows(stranger(2), SocketAddrUse::UdpSend));
        assert!(watch.allows(stranger(1), SocketAddrUse::UdpSend));
        assert!(watch.allows(stranger(MAX_PEERS + 1), SocketAddrUse::UdpSend));
    }

    // Red with `allows_bind` true.
    #[test]
    fn an_address_of_the_machine_is_not_there_to_be_chosen() {
        let watch = watch();
        for address in ["127.0.0.1:0", "10.0.0.1:0", "0.0.0.0:80", HERE] {
            assert!(!watch.allows(at(address), SocketAddrUse::TcpBind), "{address}");
        }
        assert!(watch.allows(at(ANY), SocketAddrUse::TcpBind));
        assert!(watch.allows(at("[::]:0"), SocketAddrUse::TcpBind));
        assert!(!watch.allows(at(ANY), SocketAddrUse::TcpListen));
    }
}
