//! Where a witness is asked: `http://`, a host, a port, and a path in front of all others.

use std::fmt;
use std::str::FromStr;

const SCHEME: &str = "http://";
const MAX_BYTES: usize = 1024;
const PORT: u16 = 80;

/// The URL that all requests to one server begin with; without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Without brackets, if it is an IPv6 address.
    host: String,
    port: u16,
    /// As it stands in the `Host` header.
    authority: String,
    path: String,
}

/// A text that is no such URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParsePrefixError {
    /// Another scheme.
    #[error(
        "expected a URL that begins with http://. A witness's answer is signed, so nobody on the way can forge one; for an \
         https:// witness, run a proxy"
    )]
    Scheme,
    /// Too long, or not in one plain form.
    #[error(
        "expected http://HOST[:PORT][/PATH] of at most {MAX_BYTES} visible ASCII characters, without user, query or fragment"
    )]
    Form,
}

impl Prefix {
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// The path of one request, which begins with a slash.
    pub(super) fn path_of(&self, path: &str) -> String {
        format!("{}{path}", self.path)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.authority, self.path)
    }
}

impl FromStr for Prefix {
    type Err = ParsePrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix(SCHEME).ok_or(ParsePrefixError::Scheme)?;
        parse(rest).filter(|_| text.len() <= MAX_BYTES).ok_or(ParsePrefixError::Form)
    }
}

fn parse(rest: &str) -> Option<Prefix> {
    let plain = |c: u8| c.is_ascii_graphic() && !b"?#@\\\"<>^`{|}%".contains(&c);
    if !rest.bytes().all(plain) {
        return None;
    }
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let (host, port) = match authority.strip_prefix('[') {
        Some(address) => {
            let (address, port) = address.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let named = |c: u8| c.is_ascii_alphanumeric() || b"-._:".contains(&c);
    if host.is_empty() || !host.bytes().all(named) {
        return None;
    }
    let digits = |port: &&str| !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit());
    let port = match port {
        Some(port) => Some(port).filter(digits)?.parse().ok().filter(|port| *port != 0)?,
        None => PORT,
    };
    let path = path.strip_suffix('/').unwrap_or(path).to_owned();
    Some(Prefix { host: host.to_owned(), port, authority: authority.to_owned(), path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_says_whom_to_connect_to_and_what_to_ask() {
        for (text, host, port, asked) in [
            ("http://witness.example", "witness.example", 80, "/x"),
            ("http://witness.example:8080/", "witness.example", 8080, "/x"),
            ("http://127.0.0.1:1/a/b/", "127.0.0.1", 1, "/a/b/x"),
            ("http://[::1]:7444", "::1", 7444, "/x"),
            ("http://[::1]/w", "::1", 80, "/w/x"),
        ] {
            let prefix: Prefix = text.parse().unwrap();
            assert_eq!((prefix.host(), prefix.port()), (host, port), "{text}");
            assert_eq!(prefix.path_of("/x"), asked, "{text}");
            assert_eq!(prefix.to_string(), text.strip_suffix('/').unwrap_or(text));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "witness.example", "https://witness.example", "HTTP://witness.example", "ftp://a"] {
            assert_eq!(text.parse::<Prefix>(), Err(ParsePrefixError::Scheme), "{text}");
        }
        for text in [
            "http://",
            "http:///x",
            "http://:80",
            "http://a:",
            "http://a:0",
            "http://a:65536",
            "http://a:+1",
            "http://a b",
            "http://a/b?c",
            "http://a/#b",
            "http://u@a",
            "http://u:p@a",
            "http://[::1",
            "http://[a]",
            "http://::1",
            "http://[::1]x",
            "http://a\r\n/b",
            "http://a/\u{e9}",
            "http://a,b",
        ] {
            assert_eq!(text.parse::<Prefix>(), Err(ParsePrefixError::Form), "{text}");
        }
        assert!(format!("http://{}", "a".repeat(MAX_BYTES)).parse::<Prefix>().is_err());
    }
}
