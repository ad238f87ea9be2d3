//! `[[forward]]`: where else the audit log goes.
//!
//! *Never:* opens or resolves a destination. One that is not there when the host starts must not keep it from starting.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use strongroom_job::Name;
use strongroom_runtime::TlsRoots;

use super::raw::{Fault, Section, Value};
use super::roots;

/// Destinations of one host: each has a thread.
pub const MAX_FORWARDS: usize = 16;
/// Size at which a file is rotated unless the configuration says otherwise, and what it may say, bytes.
pub(super) const ROTATE_BYTES: u64 = 100 << 20;
const ROTATE_RANGE: std::ops::RangeInclusive<u64> = (64 << 10)..=(1 << 40);
/// Rotated files that may be kept.
const KEEP_RANGE: std::ops::RangeInclusive<u64> = 1..=100_000;
/// Longest host name (RFC 1035), and longest path, in bytes.
const MAX_HOST_BYTES: usize = 253;
const MAX_PATH_BYTES: usize = 4096;
/// Where OTLP takes logs, unless the destination names a path.
const OTLP_PATH: &str = "/v1/logs";

/// One destination of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// What people call it, and its cursor's file. Unique.
    pub name: Name,
    /// Where records go.
    pub to: ForwardTo,
    /// Where they begin when it has no cursor yet.
    pub from: Begin,
    /// Whom a TLS connection trusts.
    pub roots: TlsRoots,
    /// The file that says so, if one does.
    pub ca_file: Option<PathBuf>,
}

/// The first record that a new destination gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begin {
    /// The first of the log.
    #[default]
    Start,
    /// The first that is published after the host's start.
    Now,
}

/// How, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardTo {
    /// Syslog over TLS, RFC 5425.
    Tls(Server),
    /// Syslog over TCP, RFC 6587 with octet counting.
    Tcp(Server),
    /// Syslog over UDP, RFC 5426.
    Udp(Server),
    /// Syslog in datagrams to a Unix socket.
    Unix(PathBuf),
    /// JSON lines in a file.
    File(FileRules),
    /// OTLP logs over HTTP, in JSON.
    Otlp {
        /// Whether it is HTTPS.
        tls: bool,
        /// Who takes them.
        server: Server,
        /// The request's path; begins with a slash.
        path: String,
    },
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// A name, or an address without brackets.
    pub host: String,
    /// Not 0.
    pub port: u16,
}

/// A file that is rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRules {
    /// The file; absolute.
    pub path: PathBuf,
    /// The size past which it does not grow, bytes.
    pub rotate_bytes: u64,
    /// Rotated files that are kept; none: all.
    pub keep: Option<u64>,
}

/// A text that is no destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseDestinationError {
    /// Another scheme.
    #[error(
        "expected syslog+tls://HOST:PORT, syslog+tcp://HOST:PORT, syslog+udp://HOST:PORT, syslog+unix:///SOCKET, \
         file:///FILE, otlp+http://HOST:PORT or otlp+https://HOST:PORT"
    )]
    Scheme,
    /// No host and port.
    #[error(
        "expected a host name or an IP address (IPv6 in brackets), a colon and a port from 1 to 65535{0}"
    )]
    Server(&'static str),
    /// No path.
    #[error("expected an absolute path behind {0}, such as {0}/var/log/strongroom.jsonl")]
    Path(&'static str),
}

pub(super) fn check(top: &mut Section<'_>) -> Result<Vec<Forward>, Fault> {
    let Some(list) = top.take("forward") else { return Ok(Vec::new()) };
    let line = list.fault(format_args!("a host forwards to at most {MAX_FORWARDS} destinations"));
    let items = list.list()?;
    if items.len() > MAX_FORWARDS {
        return Err(line);
    }
    let mut names = BTreeSet::new();
    let mut forwards = Vec::with_capacity(items.len());
    for item in items {
        let mut section = item.section()?;
        let name_value =
            section.require("name", "what people call this destination; its cursor has that name")?;
        let name: Name = name_value.parsed()?;
        if !names.insert(name.clone()) {
            return Err(name_value.fault(format_args!("an earlier destination is called {name} too")));
        }
        let forward = one(section, name, &forwards)?;
        forwards.push(forward);
    }
    Ok(forwards)
}

fn one(mut section: Section<'_>, name: Name, earlier: &[Forward]) -> Result<Forward, Fault> {
    let to_value =
        section.require("to", "where records go, such as \"syslog+tls://logs.example.com:6514\"")?;
    let mut to: ForwardTo = to_value.parsed()?;
    if let Some(other) = earlier.iter().find(|other| is_one_file(&other.to, &to)) {
        return Err(to_value
            .fault(format_args!("{} writes to this file, and each destination needs its own", other.name)));
    }
    let from = section.take("from").map_or(Ok(Begin::default()), |value| begin(&value))?;
    let (roots, ca_file) = match section.take("ca_file") {
        Some(value) if !to.is_tls() => {
            return Err(value.fault("is for destinations that begin with syslog+tls:// or otlp+https://"));
        }
        Some(value) => (roots::load(&value)?, Some(value.text()?.into())),
        None => (TlsRoots::default(), None),
    };
    let (rotate, keep) = (section.take("rotate_bytes"), section.take("keep"));
    match (&mut to, rotate, keep) {
        (ForwardTo::File(rules), rotate, keep) => {
            if let Some(value) = rotate {
                rules.rotate_bytes = value.number(&ROTATE_RANGE)?;
            }
            rules.keep = keep.map(|value| value.number(&KEEP_RANGE)).transpose()?;
        }
        (_, None, None) => {}
        (_, Some(value), _) | (_, None, Some(value)) => {
            return Err(value.fault("is for destinations that begin with file://"));
        }
    }
    section.finish()?;
    Ok(Forward { name, to, from, roots, ca_file })
}

/// Each destination takes the file's last line for its own place.
fn is_one_file(one: &ForwardTo, other: &ForwardTo) -> bool {
    matches!((one, other), (ForwardTo::File(one), ForwardTo::File(other)) if one.path == other.path)
}

fn begin(value: &Value<'_>) -> Result<Begin, Fault> {
    match value.text()? {
        "start" => Ok(Begin::Start),
        "now" => Ok(Begin::Now),
        other => Err(value.fault(format_args!("expected \"start\" or \"now\", found {other:?}"))),
    }
}

impl ForwardTo {
    /// Whether a certificate of the other side is checked.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::Otlp { tls: true, .. })
    }
}

const TLS: &str = "syslog+tls://";
const TCP: &str = "syslog+tcp://";
const UDP: &str = "syslog+udp://";
const UNIX: &str = "syslog+unix://";
const FILE: &str = "file://";
const OTLP: &str = "otlp+http://";
const OTLPS: &str = "otlp+https://";

impl FromStr for ForwardTo {
    type Err = ParseDestinationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(rest) = text.strip_prefix(TLS) {
            return Ok(Self::Tls(server(rest, ", usually 6514")?));
        }
        if let Some(rest) = text.strip_prefix(TCP) {
            return Ok(Self::Tcp(server(rest, ", usually 601 or 514")?));
        }
        if let Some(rest) = text.strip_prefix(UDP) {
            return Ok(Self::Udp(server(rest, ", usually 514")?));
        }
        if let Some(rest) = text.strip_prefix(UNIX) {
            return Ok(Self::Unix(absolute(rest, UNIX)?));
        }
        if let Some(rest) = text.strip_prefix(FILE) {
            let path = absolute(rest, FILE)?;
            if path.file_name().is_none() {
                return Err(ParseDestinationError::Path(FILE));
            }
            return Ok(Self::File(FileRules { path, rotate_bytes: ROTATE_BYTES, keep: None }));
        }
        let (tls, server, path) = otlp(text)?;
        let path = if path.is_empty() || path == "/" { OTLP_PATH } else { path };
        Ok(Self::Otlp { tls, server, path: path.to_owned() })
    }
}

/// A server that speaks OTLP over HTTP, whether with TLS, and the path behind it.
pub(super) fn otlp(text: &str) -> Result<(bool, Server, &str), ParseDestinationError> {
    let (tls, rest) = match (text.strip_prefix(OTLP), text.strip_prefix(OTLPS)) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err(ParseDestinationError::Scheme),
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let problem = ParseDestinationError::Server(", usually 4318, and then a path, if it is not /v1/logs");
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\\\"<>^`{|}".contains(&byte);
    if !path.bytes().all(plain) || path.len() > MAX_PATH_BYTES {
        return Err(problem);
    }
    Ok((tls, server(authority, "").map_err(|_| problem)?, path))
}

pub(super) const fn otlp_scheme(tls: bool) -> &'static str {
    if tls { OTLPS } else { OTLP }
}

impl fmt::Display for ForwardTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(server) => write!(f, "{TLS}{server}"),
            Self::Tcp(server) => write!(f, "{TCP}{server}"),
            Self::Udp(server) => write!(f, "{UDP}{server}"),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
            Self::File(rules) => write!(f, "{FILE}{}", rules.path.display()),
            Self::Otlp { tls, server, path } => {
                write!(f, "{}{server}{path}", otlp_scheme(*tls))
            }
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn server(text: &str, usual: &'static str) -> Result<Server, ParseDestinationError> {
    parse_server(text).ok_or(ParseDestinationError::Server(usual))
}

fn parse_server(text: &str) -> Option<Server> {
    let (host, port) = text.rsplit_once(':')?;
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.strip_prefix('[') {
        Some(address) => {
            let address = address.strip_suffix(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            address
        }
        None => {
            let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if host.is_empty() || host.len() > MAX_HOST_BYTES || !host.bytes().all(named) {
                return None;
            }
            host
        }
    };
    Some(Server { host: host.to_owned(), port })
}

fn absolute(text: &str, scheme: &'static str) -> Result<PathBuf, ParseDestinationError> {
    let plain = !text.chars().any(char::is_control) && text.len() <= MAX_PATH_BYTES;
    if !plain || !Path::new(text).is_absolute() {
        return Err(ParseDestinationError::Path(scheme));
    }
    Ok(PathBuf::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_told_as_it_was_written() {
        for text in [
            "syslog+tls://logs.example.com:6514",
            "syslog+tcp://127.0.0.1:601",
            "syslog+udp://[::1]:514",
            "syslog+unix:///dev/log",
            "file:///var/log/strongroom.jsonl",
            "otlp+http://collector:4318/v1/logs",
            "otlp+https://collector.example:443/otlp/v1/logs",
        ] {
            assert_eq!(text.parse::<ForwardTo>().unwrap().to_string(), text);
        }
        let short: ForwardTo = "otlp+http://collector:4318".parse().unwrap();
        assert_eq!(short.to_string(), "otlp+http://collector:4318/v1/logs");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "syslog://a:1", "SYSLOG+TCP://a:1", "http://a:1", "syslog+tcp:a:1"] {
            assert_eq!(text.parse::<ForwardTo>(), Err(ParseDestinationError::Scheme), "{text}");
        }
        for text in [
            "syslog+tcp://",
            "syslog+tcp://a",
            "syslog+tcp://:1",
            "syslog+tcp://a:0",
            "syslog+tcp://a:65536",
            "syslog+tcp://a:+1",
            "syslog+tcp://::1:1",
            "syslog+tcp://[a]:1",
            "syslog+tls://u@a:1",
            "syslog+udp://a b:1",
            "syslog+tcp://a:1/x",
            "otlp+http://a",
            "otlp+http://a:1/x?y",
            "otlp+https://a:1/\r\nx",
        ] {
            let error = text.parse::<ForwardTo>().unwrap_err();
            assert!(matches!(error, ParseDestinationError::Server(_)), "{text}");
        }
        for text in ["syslog+unix://dev/log", "file://log", "file:///", "file:///a\nb"] {
            let error = text.parse::<ForwardTo>().unwrap_err();
            assert!(matches!(error, ParseDestinationError::Path(_)), "{text}");
        }
    }
}
