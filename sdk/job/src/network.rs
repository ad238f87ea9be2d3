//! What a job may ask of the network: destinations, listening addresses and HTTP rules, each one line of text.
//!
//! The same text stands in a flag, in the host's configuration and in a signed body. Each value has one spelling, the
//! one that `Display` writes; only that spelling is taken from a signed body.
//!
//! *Spec:* `docs/formats/job.md`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::shown;

/// Longest rule, in bytes.
pub const MAX_RULE_BYTES: usize = 512;
/// Longest DNS name, in bytes (RFC 1035).
const MAX_HOST_BYTES: usize = 253;
/// Longest label of a DNS name, in bytes.
const MAX_LABEL_BYTES: usize = 63;
/// Most methods of an HTTP rule.
const MAX_METHODS: usize = 16;

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Hosts that a rule speaks of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hosts {
    /// One DNS name, lower case.
    Name(String),
    /// Addresses. One single address is one host.
    Net(IpNet),
}

/// Where a job may connect or send to: `tcp://db.example.com:5432`, `udp://10.0.0.0/8:53`, `tcp://[fd00::/8]:8000-8999`.
///
/// Without a scheme it is TCP; `*` is any port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Which hosts.
    pub hosts: Hosts,
    /// First and last port.
    pub ports: (u16, u16),
}

/// Where a job may wait for connections or datagrams: `tcp://127.0.0.1:8080`, an exact address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The exact address.
    pub address: SocketAddr,
}

/// HTTP requests that a job may make: `GET,POST https://api.example.com:8443/v1`.
///
/// Without methods they are GET and HEAD, `*` is any method; without a port it is the scheme's; the path covers whole
/// segments: `/v1` covers `/v1` and `/v1/a`, not `/v10`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpRule {
    /// Upper case, sorted; empty: any.
    pub methods: Vec<String>,
    /// `https` or `http`.
    pub tls: bool,
    /// A DNS name, or one single address.
    pub host: Hosts,
    /// Its port.
    pub port: u16,
    /// Begins with `/`; no `/` at the end but in `/` itself.
    pub path: String,
}

/// A text that is not a rule of the network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {problem}")]
pub struct ParseRuleError {
    text: String,
    problem: &'static str,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.protocol)?;
        write_hosts(f, &self.hosts)?;
        match self.ports {
            (1, u16::MAX) => f.write_str(":*"),
            (first, last) if first == last => write!(f, ":{first}"),
            (first, last) => write!(f, ":{first}-{last}"),
        }
    }
}

fn write_hosts(f: &mut fmt::Formatter<'_>, hosts: &Hosts) -> fmt::Result {
    match hosts {
        Hosts::Name(name) => f.write_str(name),
        Hosts::Net(net) => {
            let v6 = matches!(net, IpNet::V6(_));
            let single = net.prefix_len() == net.max_prefix_len();
            match (v6, single) {
                (false, true) => write!(f, "{}", net.addr()),
                (false, false) => write!(f, "{net}"),
                (true, true) => write!(f, "[{}]", net.addr()),
                (true, false) => write!(f, "[{net}]"),
            }
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.protocol, self.address)
    }
}

impl fmt::Display for HttpRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods = if self.methods.is_empty() { "*".to_owned() } else { self.methods.join(",") };
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{methods} {scheme}://")?;
        write_hosts(f, &self.host)?;
        write!(f, ":{}{}", self.port, self.path)
    }
}

impl FromStr for Destination {
    type Err = ParseRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = |problem| ParseRuleError::new(text, problem);
        let (protocol, rest) = protocol(text).map_err(fault)?;
        let (host, ports) = rest.rsplit_once(':').ok_or(NO_PORT).map_err(fault)?;
        Ok(Self { protocol, hosts: hosts(host).map_err(fault)?, ports: port_range(ports).map_err(fault)? })
    }
}

impl FromStr for Listener {
    type Err = ParseRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = |problem| ParseRuleError::new(text, problem);
        let (protocol, rest) = protocol(text).map_err(fault)?;
        let address: SocketAddr = rest
            .parse()
            .map_err(|_| fault("is not an exact address such as tcp://127.0.0.1:8080 or tcp://[::1]:8080"))?;
        if address.port() == 0 {
            return Err(fault("needs a port from 1 to 65535"));
        }
        Ok(Self { protocol, address })
    }
}

impl FromStr for HttpRule {
    type Err = ParseRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = |problem| ParseRuleError::new(text, problem);
        let (methods, url) = match text.split_once(' ') {
            None => (vec!["GET".to_owned(), "HEAD".to_owned()], text),
            Some(("*", url)) => (Vec::new(), url),
            Some((methods, url)) => (self::methods(methods).map_err(fault)?, url),
        };
        let (tls, rest) = match url.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(fault("must be a URL that begins with https:// or http://")),
        };
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let (host, port) = match authority.rsplit_once(':') {
            // A colon inside the brackets of an IPv6 address is none of a port.
            Some((host, port)) if !port.ends_with(']') => (host, self::port(port).map_err(fault)?),
            _ => (authority, if tls { 443 } else { 80 }),
        };
        let host = hosts(host).map_err(fault)?;
        if matches!(&host, Hosts::Net(net) if net.prefix_len() != net.max_prefix_len()) {
            return Err(fault("must name one host, not a network"));
        }
        Ok(Self { methods, tls, host, port, path: self::path(path).map_err(fault)? })
    }
}

const NO_PORT: &str = "needs a port at its end, such as example.com:443, or :* for any";

fn protocol(text: &str) -> Result<(Protocol, &str), &'static str> {
    match text.split_once("://") {
        None => Ok((Protocol::Tcp, text)),
        Some(("tcp", rest)) => Ok((Protocol::Tcp, rest)),
        Some(("udp", rest)) => Ok((Protocol::Udp, rest)),
        Some(_) => Err("must begin with tcp:// or udp://, or with the host"),
    }
}

fn hosts(text: &str) -> Result<Hosts, &'static str> {
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or("has a bracket that does not end")?;
        return match net(inner)? {
            Some(net @ IpNet::V6(_)) => Ok(Hosts::Net(net)),
            _ => Err("has something else than an IPv6 address or network in brackets"),
        };
    }
    match net(text)? {
        Some(net @ IpNet::V4(_)) => return Ok(Hosts::Net(net)),
        Some(IpNet::V6(_)) => return Err("needs brackets around an IPv6 address: [::1]:443"),
        None => {}
    }
    let label = |label: &str| {
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits would be read as an IPv4 address by some resolvers: 127.1, 0x7f.1.
    let numeric = |last: &str| last.starts_with(|first: char| first.is_ascii_digit());
    let last_is_numeric = text.rsplit('.').next().is_some_and(numeric);
    if text.len() > MAX_HOST_BYTES || !text.split('.').all(label) || last_is_numeric {
        return Err(
            "does not name a host: use a lower-case DNS name, an address, or a network such as 10.0.0.0/8",
        );
    }
    Ok(Hosts::Name(text.to_owned()))
}

/// An address or a network; none when it looks like neither.
fn net(text: &str) -> Result<Option<IpNet>, &'static str> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Some(IpNet::from(address)));
    }
    match text.parse::<IpNet>() {
        Ok(net) if net.trunc() == net => Ok(Some(net)),
        Ok(_) => Err("has bits set behind the network's length: 10.1.0.0/8 is written 10.0.0.0/8"),
        Err(_) => Ok(None),
    }
}

fn port(text: &str) -> Result<u16, &'static str> {
    let plain = !text.starts_with('+') && !text.starts_with('0');
    text.parse().ok().filter(|port| plain && *port > 0).ok_or("needs a port from 1 to 65535")
}

fn port_range(text: &str) -> Result<(u16, u16), &'static str> {
    match text.split_once('-') {
        None if text == "*" => Ok((1, u16::MAX)),
        None => port(text).map(|port| (port, port)),
        Some((first, last)) => {
            let range = (port(first)?, port(last)?);
            if range.0 < range.1 { Ok(range) } else { Err("has a port range that does not go upwards") }
        }
    }
}

fn methods(text: &str) -> Result<Vec<String>, &'static str> {
    let mut methods: Vec<String> = text.split(',').map(str::to_owned).collect();
    let plain = |method: &String| {
        (1..=32).contains(&method.len())
            && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
    };
    if methods.len() > MAX_METHODS || !methods.iter().all(plain) {
        return Err("must begin with methods in upper case, such as GET,POST, or with *");
    }
    methods.sort();
    methods.dedup();
    Ok(methods)
}

fn path(text: &str) -> Result<String, &'static str> {
    let path = if text == "/" { text } else { text.strip_suffix('/').unwrap_or(text) };
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'%' | b'\\');
    // A dot segment or a percent sign could be resolved at the server to something that the rule does not cover.
    let whole = path == "/" || path[1..].split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !path.bytes().all(plain) || !whole {
        return Err("has a path that is not plain: no query, '%', empty or dot segment");
    }
    Ok(path.to_owned())
}

impl Destination {
    /// Whether everything that `asked` covers is covered by `self`.
    #[must_use]
    pub fn covers(&self, asked: &Self) -> bool {
        let hosts = match (&self.hosts, &asked.hosts) {
            (Hosts::Name(name), Hosts::Name(other)) => name == other,
            (Hosts::Net(net), Hosts::Net(other)) => net.contains(other),
            // A name may stand for any address, and an address for any name.
            _ => false,
        };
        hosts
            && self.protocol == asked.protocol
            && self.ports.0 <= asked.ports.0
            && asked.ports.1 <= self.ports.1
    }
}

impl HttpRule {
    /// Whether every request that `asked` covers is covered by `self`.
    #[must_use]
    pub fn covers(&self, asked: &Self) -> bool {
        let methods = self.methods.is_empty()
            || (!asked.methods.is_empty()
                && asked.methods.iter().all(|method| self.methods.contains(method)));
        let path = match asked.path.strip_prefix(self.path.as_str()) {
            Some(rest) => self.path == "/" || rest.is_empty() || rest.starts_with('/'),
            None => false,
        };
        methods && path && self.tls == asked.tls && self.host == asked.host && self.port == asked.port
    }
}

impl ParseRuleError {
    fn new(text: &str, problem: &'static str) -> Self {
        Self { text: shown(text, 120), problem }
    }
}

/// Text in JSON; a second spelling of the same rule is refused, since signed things have one.
macro_rules! as_text {
    ($($ty:ty),*) => {$(
        impl Serialize for $ty {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $ty {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                if text.len() > MAX_RULE_BYTES {
                    return Err(serde::de::Error::custom(ParseRuleError::new(&text, "is too long for a rule")));
                }
                let rule: Self = text.parse().map_err(serde::de::Error::custom)?;
                let written = rule.to_string();
                if written == text {
                    return Ok(rule);
                }
                let text = shown(&text, 120);
                Err(serde::de::Error::custom(format_args!("{text:?} must be written {written:?}")))
            }
        }
    )*};
}

as_text!(Destination, Listener, HttpRule);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn to(text: &str) -> Destination {
        text.parse().unwrap()
    }

    fn http(text: &str) -> HttpRule {
        text.parse().unwrap()
    }

    #[test]
    fn each_rule_has_one_spelling() {
        for (written, shown) in [
            ("example.com:443", "tcp://example.com:443"),
            ("udp://10.0.0.0/8:53", "udp://10.0.0.0/8:53"),
            ("10.1.2.3/32:1-65535", "tcp://10.1.2.3:*"),
            ("[fd00::/8]:8000-8999", "tcp://[fd00::/8]:8000-8999"),
            ("tcp://[0:0::1]:1", "tcp://[::1]:1"),
        ] {
            assert_eq!(to(written).to_string(), shown);
            assert_eq!(to(shown), to(written));
        }
        for (written, shown) in [
            ("https://a.example", "GET,HEAD https://a.example:443/"),
            ("POST,GET,POST http://[::1]/v1/", "GET,POST http://[::1]:80/v1"),
            ("* https://10.0.0.1:8443/a/b", "* https://10.0.0.1:8443/a/b"),
        ] {
            assert_eq!(http(written).to_string(), shown);
            assert_eq!(http(shown), http(written));
        }
        assert_eq!("[::1]:80".parse::<Listener>().unwrap().to_string(), "tcp://[::1]:80");
        let json = "\"example.com:443\"";
        let error = serde_json::from_str::<Destination>(json).unwrap_err().to_string();
        assert!(error.contains("must be written \"tcp://example.com:443\""), "{error}");
        assert_eq!(serde_json::from_str::<Destination>("\"tcp://a.b:1\"").unwrap(), to("a.b:1"));
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for wrong in [
            "",
            "a",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "a:01",
            "a:2-1",
            ":1",
            "A.com:1",
            "a..b:1",
            "-a:1",
            "a b:1",
            "::1:80",
            "[10.0.0.1]:1",
            "10.1.0.0/8:1",
            "127.1:80",
            "0x7f.1:80",
            "a.7:1",
            "ftp://a:1",
            "ü.de:1",
            "a.com/8:1",
            "[::1:1",
        ] {
            assert!(wrong.parse::<Destination>().is_err(), "{wrong:?}");
        }
        for wrong in [
            "a.com",
            "ftp://a",
            "get https://a.b",
            "GET  https://a.b",
            "https://a.b/x?y",
            "https://a.b/%2e",
            "https://a.b/../x",
            "https://a.b//x",
            "https://10.0.0.0/8",
            "https://user@a.b",
            "https://a.b:x/",
            "https://a.b:0/",
            ", https://a.b",
        ] {
            // `https://10.0.0.0/8` is the path /8 of one host.
            assert_eq!(wrong.parse::<HttpRule>().is_ok(), wrong == "https://10.0.0.0/8", "{wrong:?}");
        }
        for wrong in ["localhost:80", "127.0.0.1:0", "127.0.0.1", "127.0.0.0/8:80"] {
            assert!(wrong.parse::<Listener>().is_err(), "{wrong:?}");
        }
    }

    // Each line is red with the part of `covers` that it is about taken out; all of them were, one by one.
    #[test]
    fn a_policy_covers_what_is_narrower() {
        let covers = |policy: &str, asked: &str| to(policy).covers(&to(asked));
        assert!(covers("10.0.0.0/8:*", "10.1.2.0/24:5432"));
        assert!(covers("a.b:1-10", "a.b:10"));
        assert!(!covers("a.b:1-10", "a.b:10-11"));
        assert!(!covers("a.b:5-10", "a.b:4-10"));
        assert!(!covers("10.1.0.0/16:1", "10.0.0.0/8:1"));
        assert!(!covers("10.0.0.0/8:1", "a.b:1"));
        assert!(!covers("a.b:1", "c.a.b:1"));
        assert!(!covers("tcp://a.b:1", "udp://a.b:1"));
        let covers = |policy: &str, asked: &str| http(policy).covers(&http(asked));
        assert!(covers("* https://a.b", "GET https://a.b/x"));
        assert!(covers("https://a.b/v1", "GET https://a.b/v1/x"));
        assert!(covers("https://a.b/v1", "https://a.b/v1"));
        assert!(!covers("https://a.b/v1", "https://a.b/v10"));
        assert!(!covers("https://a.b/v1", "https://a.b/"));
        assert!(!covers("GET https://a.b", "* https://a.b"));
        assert!(!covers("GET https://a.b", "GET,POST https://a.b"));
        assert!(!covers("https://a.b", "http://a.b:443"));
        assert!(!covers("https://a.b", "https://a.b:444"));
        assert!(!covers("https://a.b", "https://c.b"));
    }
}
