//! What a grant says about the network: destinations, listening addresses, HTTP origins.
//!
//! Only data; who holds an attempt against them is in `net`.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Hosts that a rule speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// One DNS name, lower case. The engine looks it up; the guest can reach only the answers, and of them only public ones.
    Name(String),
    /// Addresses. One single address is named exactly, and allowed even where it is private; a wider net covers
    /// no private, loopback, link-local or otherwise special address unless it lies wholly within that special range. No net covers
    /// a cloud's metadata service, or, loopback aside, an address of this machine.
    Net(IpNet),
}

/// Where a guest may connect or send to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Which hosts.
    pub hosts: Hosts,
    /// Which ports.
    pub ports: RangeInclusive<u16>,
}

/// Where a guest may listen. Whoever can reach the address is served: the rule says nothing about clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The exact address. With port 0 it allows nothing.
    pub address: SocketAddr,
}

/// HTTP requests that a guest may make through `wasi:http`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRule {
    /// Allowed methods in upper case; empty: any.
    pub methods: Vec<String>,
    /// Whether over TLS. There is no rule for both.
    pub tls: bool,
    /// One host: a lower-case name, or an address, which then is named exactly.
    pub host: HttpHost,
    /// Its port.
    pub port: u16,
    /// What the path must begin with, whole segments only: `/v1` covers `/v1` and `/v1/a`, not `/v10`. `/` covers all.
    pub path: String,
}

/// The host of an [`HttpRule`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpHost {
    /// A DNS name, lower case; must resolve to public addresses.
    Name(String),
    /// An address, allowed even where it is private.
    Address(std::net::IpAddr),
}
