//! Whether an address is this machine's own.
//!
//! The kernel is asked: a socket can be bound only to an address of the machine. Nothing is sent. *Never:* an answer from a list
//! read at the start: addresses come and go.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Any port will do, as a datagram socket that is only connected sends nothing: this is "discard".
const NOWHERE: u16 = 9;
/// Addresses for documentation, which no machine has.
const FOREIGN_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const FOREIGN_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// Whether `ip` belongs to this machine, or is a broadcast address of one of its networks.
pub(super) fn is_own(ip: IpAddr) -> bool {
    // A group is joined, not owned.
    if ip.is_multicast() || bind(ip).is_err() {
        return false;
    }
    let foreign = if ip.is_ipv4() { FOREIGN_V4 } else { FOREIGN_V6 };
    // A kernel can be told to bind to anything (`ip_nonlocal_bind`). Then what it would send from is the next best sign: it talks
    // to its own address from that same address, secondary ones excepted.
    bind(foreign).is_err() || source_towards(ip).is_ok_and(|source| source == ip)
}

fn bind(ip: IpAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind(SocketAddr::new(ip, 0))
}

fn source_towards(ip: IpAddr) -> io::Result<IpAddr> {
    let socket = match ip {
        IpAddr::V4(_) => bind(Ipv4Addr::UNSPECIFIED.into())?,
        IpAddr::V6(_) => bind(Ipv6Addr::UNSPECIFIED.into())?,
    };
    socket.connect(SocketAddr::new(ip, NOWHERE))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_own_and_what_is_elsewhere_is_not() {
        assert!(is_own("127.0.0.1".parse().unwrap()));
        assert!(is_own("127.9.9.9".parse().unwrap()));
        for elsewhere in ["192.0.2.1", "2001:db8::1", "8.8.8.8", "224.0.0.251", "ff02::fb"] {
            assert!(!is_own(elsewhere.parse().unwrap()), "{elsewhere}");
        }
        assert_eq!(source_towards("127.0.0.1".parse().unwrap()).unwrap(), IpAddr::from([127, 0, 0, 1]));
    }
}
