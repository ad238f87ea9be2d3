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

/// Without the IPv4-mapped ones, which [`canonical`] turns into IPv4.
const SPECIAL_V6: &[Ipv6Net] = &[
    // Unspecified, loopback, IPv4-compatible.
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn by(net: &str, address: &str) -> Covers {
        let net = net.parse().or_else(|_| net.parse::<IpAddr>().map(IpNet::from)).unwrap();
        covers(net, ip(address))
    }

    /// First and last of each range, and the forms that hide another address.
    const SPECIAL: &[&str] = &[
        "0.0.0.0",
        "0.255.255.255",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.0.1",
        "169.254.169.254",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "192.168.255.255",
        "198.18.0.0",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::10.0.0.1",
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:127.0.0.1",
        "::ffff:0:8.8.8.8",
        "64:ff9b::127.0.0.1",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::10.0.0.1",
        "64:ff9b:1:ffff::1",
        "100::1",
        "100:0:0:1::1",
        "2001:0:102:304::",
        "2001:2::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:808:808::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fdff::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "feff::1",
        "ff02::1",
        "ffff::1",
        // Parts of IPv6 that nobody was given.
        "1::1",
        "4000::1",
        "e000::1",
        // ISATAP in an ordinary prefix, with a private address behind it.
        "2600::5efe:10.0.0.1",
        "2600::200:5efe:127.0.0.1",
    ];

    /// The neighbours of the ranges.
    const PUBLIC: &[&str] = &[
        "1.0.0.0",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "168.63.129.17",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.0.3.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "203.0.114.0",
        "223.255.255.255",
        "::ffff:8.8.8.8",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2001:db9::1",
        "2003::1",
        "2600::1",
        "2600::5efe:8.8.8.8",
        "2a00::1",
        "3ffe::1",
    ];

    // Red with `is_special` answering no; and without each line of `SPECIAL_V4`, the public one of `METADATA`, those of `SPECIAL_V6`
    // within `GLOBAL_V6`, and the look at `GLOBAL_V6`, taken out one by one.
    #[test]
    fn what_is_no_ordinary_address_is_special() {
        for address in SPECIAL {
            assert!(is_special(ip(address)), "{address} passes for public");
        }
        for address in PUBLIC {
            assert!(!is_special(ip(address)), "{address} is refused");
        }
    }

    // Red with `canonical_net` an identity.
    #[test]
    fn a_single_address_is_named_exactly_whatever_it_is() {
        for address in SPECIAL.iter().chain(PUBLIC) {
            assert_eq!(by(address, address), Covers::Exactly, "{address}");
        }
        assert_eq!(by("127.0.0.1", "::ffff:127.0.0.1"), Covers::Exactly);
        assert_eq!(by("::ffff:127.0.0.1", "127.0.0.1"), Covers::Exactly);
        assert_eq!(by("127.0.0.1", "127.0.0.2"), Covers::Not);
        assert_eq!(by("127.0.0.1", "::1"), Covers::Not);
        // A translated form is another address: naming what is inside does not name it.
        assert_eq!(by("127.0.0.1", "64:ff9b::127.0.0.1"), Covers::Not);
        assert_eq!(by("127.0.0.1", "2002:7f00:1::"), Covers::Not);
        assert_eq!(by("127.0.0.1", "::127.0.0.1"), Covers::Not);
    }

    // Red with `covers` answering Widely for every address in the net.
    #[test]
    fn the_internet_is_not_the_neighbourhood() {
        for address in SPECIAL {
            for net in ["0.0.0.0/0", "::/0", "::ffff:0:0/96", "0.0.0.0/1", "128.0.0.0/1", "2000::/3"] {
                assert_eq!(by(net, address), Covers::Not, "{net} opens {address}");
            }
        }
        for address in PUBLIC {
            let net = if canonical(ip(address)).is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            assert_eq!(by(net, address), Covers::Widely, "{net} {address}");
        }
        assert_eq!(by("::ffff:0:0/96", "8.8.8.8"), Covers::Widely);
        assert_eq!(by("8.8.8.0/24", "8.8.9.1"), Covers::Not);
    }

    // Red without each line of `SPECIAL_V4` and `SPECIAL_V6`, and with each one bit wider or narrower, one by one.
    #[test]
    fn each_special_range_is_meant_by_itself_and_by_no_wider_net() {
        for (range, address) in [
            ("0.0.0.0/8", "0.1.2.3"),
            ("10.0.0.0/8", "10.1.2.3"),
            ("100.64.0.0/10", "100.64.1.2"),
            ("127.0.0.0/8", "127.0.0.1"),
            ("169.254.0.0/16", "169.254.1.1"),
            ("172.16.0.0/12", "172.16.0.1"),
            ("192.0.0.0/24", "192.0.0.8"),
            ("192.0.2.0/24", "192.0.2.1"),
            ("192.88.99.0/24", "192.88.99.1"),
            ("192.168.0.0/16", "192.168.0.1"),
            ("198.18.0.0/15", "198.18.0.1"),
            ("198.51.100.0/24", "198.51.100.1"),
            ("203.0.113.0/24", "203.0.113.1"),
            ("224.0.0.0/4", "224.0.0.1"),
            ("240.0.0.0/4", "240.0.0.1"),
            ("::/96", "::8.8.8.8"),
            ("::ffff:0:0:0/96", "::ffff:0:8.8.8.8"),
            ("64:ff9b::/96", "64:ff9b::8.8.8.8"),
            ("64:ff9b:1::/48", "64:ff9b:1:ffff::8.8.8.8"),
            ("100::/64", "100::1"),
            ("100:0:0:1::/64", "100:0:0:1::1"),
            ("2001::/23", "2001:20::1"),
            ("2001:db8::/32", "2001:db8::1"),
            ("2002::/16", "2002:808:808::1"),
            ("3fff::/20", "3fff::1"),
            ("5f00::/16", "5f00::1"),
            ("fc00::/7", "fd12::1"),
            ("fe80::/10", "fe80::1"),
            ("fec0::/10", "fec0::1"),
            ("ff00::/8", "ff02::1"),
        ] {
            assert_eq!(by(range, address), Covers::Widely, "{range} {address}");
            let range: IpNet = range.parse().unwrap();
            let wider = range.supernet().unwrap();
            assert_eq!(covers(wider, ip(address)), Covers::Not, "{wider} {address}");
        }
    }

    #[test]
    fn a_net_within_a_special_range_means_it() {
        for (net, address) in [
            ("10.0.0.0/8", "10.1.2.3"),
            ("10.1.0.0/16", "10.1.2.3"),
            ("127.0.0.0/8", "127.0.0.1"),
            ("192.168.1.0/31", "192.168.1.1"),
            ("169.254.0.0/16", "169.254.1.1"),
            ("::ffff:10.0.0.0/104", "10.1.2.3"),
            ("10.0.0.0/8", "::ffff:10.1.2.3"),
            ("fc00::/7", "fd12::1"),
            ("fd12::/16", "fd12::1"),
            ("64:ff9b::/96", "64:ff9b::8.8.8.8"),
            ("2002::/16", "2002:808:808::1"),
        ] {
            assert_eq!(by(net, address), Covers::Widely, "{net} {address}");
        }
        // Not wholly within one.
        assert_eq!(by("8.0.0.0/6", "10.1.2.3"), Covers::Not);
        assert_eq!(by("172.0.0.0/8", "172.16.0.1"), Covers::Not);
        assert_eq!(by("fe00::/8", "fe80::1"), Covers::Not);
    }

    // Red without `is_metadata`, without each line of `METADATA`, without `embedded` in `covers`, and without each pattern of it.
    #[test]
    fn a_net_never_means_the_metadata_service_or_what_a_translator_hides() {
        for (net, address) in [
            ("169.254.0.0/16", "169.254.169.254"),
            ("169.254.169.254/31", "169.254.169.254"),
            ("100.64.0.0/10", "100.100.100.200"),
            ("168.63.0.0/16", "168.63.129.16"),
            ("fc00::/7", "fd00:ec2::254"),
            ("64:ff9b::/96", "64:ff9b::127.0.0.1"),
            ("64:ff9b::/96", "64:ff9b::169.254.169.254"),
            ("2002::/16", "2002:a00:1::"),
            ("2001::/32", "2001::80ff:fffe"),
            ("::/96", "::10.0.0.1"),
            ("::ffff:0:0:0/96", "::ffff:0:127.0.0.1"),
        ] {
            assert_eq!(by(net, address), Covers::Not, "{net} opens {address}");
        }
    }
}
