//! Which addresses a net in a rule means.
//!
//! A pure function of two values. A wide net such as `0.0.0.0/0` is meant to be the internet; what is closer than that (this
//! machine, its neighbours, the cloud's metadata service) is reached only by a rule that says so.
//!
//! *Spec:* the IANA special-purpose address registries (RFC 6890), RFC 4291, 6052, 3056, 4380, 5214.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// How a net covers an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Covers {
    /// It is that one address.
    Exactly,
    /// It is wider, and the address is among those that it means.
    Widely,
    /// It does not.
    Not,
}

/// How `net` covers `ip`.
pub(crate) fn covers(net: IpNet, ip: IpAddr) -> Covers {
    let (net, ip) = (canonical_net(net), canonical(ip));
    if !net.contains(&ip) {
        return Covers::Not;
    }
    if net.prefix_len() == net.max_prefix_len() {
        return Covers::Exactly;
    }
    let on_purpose = !is_metadata(ip) && within_special(net) && !embedded(ip).is_some_and(is_special_v4);
    if on_purpose || !is_special(ip) { Covers::Widely } else { Covers::Not }
}

/// Whether `ip` is anything but an ordinary public address: loopback, private, link-local, multicast, reserved, a translated
/// form, or an ordinary form with such an address inside it.
pub(crate) fn is_special(ip: IpAddr) -> bool {
    match canonical(ip) {
        IpAddr::V4(ip) => is_special_v4(ip),
        IpAddr::V6(ip) => {
            !GLOBAL_V6.contains(&ip)
                || SPECIAL_V6.iter().any(|net| net.contains(&ip))
                || embedded(IpAddr::V6(ip)).is_some_and(is_special_v4)
        }
    }
}

/// `ip` without the IPv6 clothes of an IPv4-mapped address (`::ffff:0:0/96`): to the kernel the two are one.
pub(crate) fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// What [`canonical`] makes of every address in it.
fn canonical_net(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let Some(inner) = v6.network().to_ipv4_mapped() else { return net };
    let prefix = v6.prefix_len().checked_sub(MAPPED_PREFIX);
    prefix.and_then(|prefix| Ipv4Net::new(inner, prefix).ok()).map_or(net, IpNet::V4)
}

fn is_special_v4(ip: Ipv4Addr) -> bool {
    SPECIAL_V4.iter().any(|net| net.contains(&ip)) || is_metadata(IpAddr::V4(ip))
}

/// Where clouds tell a machine its own secrets. Never covered by a net, however narrow.
fn is_metadata(ip: IpAddr) -> bool {
    METADATA.contains(&ip)
}

/// Whether all of `net` lies in one special range: then whoever granted it means special addresses.
fn within_special(net: IpNet) -> bool {
    match net {
        IpNet::V4(net) => SPECIAL_V4.iter().any(|range| range.contains(&net)),
        IpNet::V6(net) => SPECIAL_V6.iter().any(|range| range.contains(&net)),
    }
}

/// The IPv4 address that a translator or a tunnel would make of an IPv6 one.
fn embedded(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else { return None };
    let segments = ip.segments();
    let pair = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        // IPv4-compatible, IPv4-translated, NAT64 with the well-known and with a local prefix.
        [0, 0, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, _, _, _, _, high, low] => Some(pair(high, low)),
        // 6to4.
        [0x2002, high, low, ..] => Some(pair(high, low)),
        // Teredo hides the client behind an exclusive or.
        [0x2001, 0, _, _, _, _, high, low] => Some(pair(!high, !low)),
        // ISATAP, under any prefix.
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => Some(pair(high, low)),
        _ => None,
    }
}

const MAPPED_PREFIX: u8 = 96;

/// The only part of IPv6 from which ordinary addresses are given out.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

const METADATA: [IpAddr; 4] = [
    // Most clouds.
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    // Alibaba's, in shared space; Azure's wire server, which looks public.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

const SPECIAL_V4: &[Ipv4Net] = &[
    // This network.
    v4([0, 0, 0, 0], 8),
    // Private.
    v4([10, 0, 0, 0], 8),
    // Shared behind a carrier's NAT.
    v4([100, 64, 0, 0], 10),
    // Loopback.
    v4([127, 0, 0, 0], 8),
    // Link-local.
    v4([169, 254, 0, 0], 16),
    // Private.
    v4([172, 16, 0, 0], 12),
    // Protocol assignments.
    v4([192, 0, 0, 0], 24),
    // Documentation.
    v4([192, 0, 2, 0], 24),
    // 6to4 relays.
    v4([192, 88, 99, 0], 24),
    // Private.
    v4([192, 168, 0, 0], 16),
    // Benchmarking.
    v4([198, 18, 0, 0], 15),
    // Documentation.
    v4([198, 51, 100, 0], 24),
    // Documentation.
    v4([203, 0, 113, 0], 24),
    // Multicast.
    v4([224, 0, 0, 0], 4),
    // Reserved, and broadcast.
    v4([240, 0, 0, 0], 4),
];

const SPECIAL_V6: &[Ipv6Net] = &[
    // Unspecified, loopback, IPv4-compatible.
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96),
    // IPv4-mapped.
    v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96),
    // IPv4-translated.
    v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96),
    // NAT64.
    v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96),
    // NAT64, local.
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
    // Discard.
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64),
    // Dummy.
    v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64),
    // Protocol assignments: Teredo, ORCHID, benchmarking.
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    // Documentation.
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
    // 6to4.
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
    // Documentation.
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
    // Segment routing.
    v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16),
    // Unique local.
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
    // Link-local.
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
    // Site-local.
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10),
    // Multicast.
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
];

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}
