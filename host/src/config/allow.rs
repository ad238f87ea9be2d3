//! Which addresses may reach a listener, and the `[admin]` section.
//!
//! *Never:* names. Who answers for a name can change between two packets; a network cannot.
//! *Spec:* `docs/reference/config.md`, "Which addresses".

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::raw::{Fault, Section, Value};

/// Most networks of one list: each costs a comparison for every packet.
const MAX_NETWORKS: usize = 256;

/// The networks that may reach a listener. An IPv4 address that arrives as `::ffff:a.b.c.d` is that IPv4 address, and is written
/// as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowList(Vec<IpNet>);

/// Administration over TCP: metrics and health, for reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminListener {
    /// Where.
    pub listen: SocketAddr,
    /// Who may connect.
    pub allow_from: AllowList,
}

impl AllowList {
    /// Whether `peer` is in one of the networks.
    #[must_use]
    pub fn admits(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.contains(&peer))
    }
}

impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, network) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{network}")?;
        }
        Ok(())
    }
}

/// The list called `key`; none where the file has none.
pub(super) fn list(section: &mut Section<'_>, key: &'static str) -> Result<Option<AllowList>, Fault> {
    let Some(value) = section.take(key) else { return Ok(None) };
    let empty = value
        .fault("an empty list would let nobody in, its author included; name networks, or leave the key out");
    let mut networks = Vec::new();
    for item in value.list()? {
        let network = network(&item)?;
        if networks.contains(&network) {
            return Err(item.fault(format_args!("{network} stands twice in the list")));
        }
        if networks.len() == MAX_NETWORKS {
            return Err(item.fault(format_args!("at most {MAX_NETWORKS} networks can be named")));
        }
        networks.push(network);
    }
    if networks.is_empty() { Err(empty) } else { Ok(Some(AllowList(networks))) }
}

/// `192.0.2.0/24`, or one address.
fn network(item: &Value<'_>) -> Result<IpNet, Fault> {
    let text = item.text()?;
    let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = parsed.map_err(|_| {
        item.fault(format_args!(
            "expected a network such as \"192.0.2.0/24\" or \"2001:db8::/32\", or one address; found {text:?}"
        ))
    })?;
    if let IpAddr::V6(address) = network.addr()
        && let Some(plain) = address.to_ipv4_mapped()
        && let Some(bits) = network.prefix_len().checked_sub(96)
    {
        return Err(
            item.fault(format_args!("{text} is an IPv4 network in other clothes; write {plain}/{bits}"))
        );
    }
    if network.trunc() != network {
        let meant = network.trunc();
        return Err(
            item.fault(format_args!("{text} has bits behind its prefix; write {meant}, or one address"))
        );
    }
    Ok(network)
}

/// `serve_log_allow_from`, which means nothing without `serve_log`.
pub(super) fn of_log(
    top: &mut Section<'_>,
    serve_log: Option<SocketAddr>,
) -> Result<Option<AllowList>, Fault> {
    const KEY: &str = "serve_log_allow_from";
    let line = top.fault_at(KEY, "bounds who reads the log, and nobody is served; add serve_log");
    let allowed = list(top, KEY)?;
    match line {
        Some(fault) if serve_log.is_none() => Err(fault),
        _ => Ok(allowed),
    }
}

/// `[admin]`: none unless it says where to listen, and then also to whom.
pub(super) fn admin(top: &mut Section<'_>) -> Result<Option<AdminListener>, Fault> {
    let mut section = top.section("admin")?;
    if section.is_empty() {
        return Ok(None);
    }
    let value = section.require("listen", "an address and a port, such as \"127.0.0.1:9433\"")?;
    let problem = "expected an address and a port, such as \"127.0.0.1:9433\" or \"[::1]:9433\"";
    let listen = value.text()?.parse().map_err(|_| value.fault(problem))?;
    let Some(allow_from) = list(&mut section, "allow_from")? else {
        return Err(value.fault(
            "plain HTTP knows nobody, so say who may connect: add allow_from, such as [\"127.0.0.1\"]",
        ));
    };
    section.finish()?;
    Ok(Some(AdminListener { listen, allow_from }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(list: &[&str]) -> AllowList {
        AllowList(list.iter().map(|network| network.parse().unwrap()).collect())
    }

    #[test]
    fn a_mapped_address_is_the_address_that_it_maps() {
        let four = of(&["192.0.2.0/24"]);
        for (peer, admitted) in [
            ("192.0.2.9", true),
            ("192.0.3.9", false),
            ("::ffff:192.0.2.9", true),
            ("::ffff:192.0.3.9", false),
            ("::192.0.2.9", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(four.admits(peer.parse().unwrap()), admitted, "{peer}");
        }
        // Every IPv6 address is not every address.
        assert!(!of(&["::/0"]).admits("192.0.2.9".parse().unwrap()));
        assert!(of(&["::/0"]).admits("2001:db8::1".parse().unwrap()));
    }
}
