//! Where a request goes, and whether a rule covers that. Pure.
//!
//! *Never:* a path under a rule's prefix that a server could resolve to one that is not: see [`is_plain`].

use std::net::{IpAddr, Ipv6Addr};

use http::uri::Scheme;
use http::{Method, Uri};

use crate::rules::{HttpHost, HttpRule};

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// Where a request goes: what it is judged by, and what is connected to and written into it afterwards.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    method: String,
    pub(super) tls: bool,
    pub(super) host: HttpHost,
    pub(super) port: u16,
    path: String,
    /// Whether the authority held a user's name, which no rule covers: some would read the host out of it.
    userinfo: bool,
}

impl Target {
    /// Reads method, scheme, host, port and path. A request without one of them has one that no rule covers.
    pub(super) fn of(method: &Method, uri: &Uri) -> Self {
        let tls = uri.scheme() != Some(&Scheme::HTTP);
        let port = uri.port_u16().unwrap_or(if tls { HTTPS_PORT } else { HTTP_PORT });
        let path = if uri.path().is_empty() { "/" } else { uri.path() };
        Self {
            method: method.as_str().to_owned(),
            tls,
            host: host(uri.host().unwrap_or_default()),
            port,
            path: path.to_owned(),
            userinfo: uri.authority().is_some_and(|authority| authority.as_str().contains('@')),
        }
    }

    pub(super) fn method(&self) -> &str {
        &self.method
    }

    /// Scheme, host and port, the port always.
    pub(super) fn origin(&self) -> String {
        format!("{}://{}:{}", if self.tls { "https" } else { "http" }, self.host_text(), self.port)
    }

    /// What the `Host` header says.
    pub(super) fn authority(&self) -> String {
        let usual = if self.tls { HTTPS_PORT } else { HTTP_PORT };
        let host = self.host_text();
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }

    fn host_text(&self) -> String {
        match &self.host {
            HttpHost::Name(name) => name.clone(),
            HttpHost::Address(IpAddr::V4(address)) => address.to_string(),
            HttpHost::Address(IpAddr::V6(address)) => format!("[{address}]"),
        }
    }

    /// Whether `rule` allows it.
    pub(super) fn is_covered_by(&self, rule: &HttpRule) -> bool {
        // A tunnel leads to places that no rule was held against.
        let method =
            self.method != "CONNECT" && (rule.methods.is_empty() || rule.methods.contains(&self.method));
        method
            && !self.userinfo
            && rule.tls == self.tls
            && rule.host == self.host
            && rule.port == self.port
            && is_under(&self.path, &rule.path)
    }
}

fn host(text: &str) -> HttpHost {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match inner {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse::<IpAddr>().ok(),
    };
    address.map_or_else(|| HttpHost::Name(text.to_ascii_lowercase()), HttpHost::Address)
}

/// Whether `path` is `prefix` or below it.
fn is_under(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    if prefix.is_empty() {
        // The whole origin: wherever the server takes the path to, it is under it.
        return true;
    }
    let rest = path.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) && is_plain(path)
}

/// Whether every server takes the path as it is spelled. Not so are dot segments, also those that only some servers see:
/// percent-encoded once or more often, with parameters behind, or behind a backslash that stands for a slash.
fn is_plain(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && path.split('/').all(|segment| !is_dots(segment))
        && escapes_hide_nothing(path.as_bytes())
}

/// Dots alone, maybe with a parameter (`..;a=b`) or spaces behind, which some servers drop.
fn is_dots(segment: &str) -> bool {
    let name = segment.split(';').next().unwrap_or(segment).replace("%20", "");
    name.starts_with('.') && name.bytes().all(|byte| byte == b'.')
}

/// Whether no percent escape, however often escaped, stands for what gives a path its shape, and all of them for UTF-8: other
/// bytes may be read as a dot or a slash spelled too long.
fn escapes_hide_nothing(path: &[u8]) -> bool {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first != b'%' {
            decoded.push(first);
            continue;
        }
        let Some(byte) = escape(rest) else { return false };
        let mut inner = Some(byte);
        let mut behind = &rest[2..];
        rest = behind;
        decoded.push(byte);
        while inner == Some(b'%') {
            inner = escape(behind);
            behind = behind.get(2..).unwrap_or_default();
        }
        if inner.is_some_and(|byte| byte.is_ascii_control() || matches!(byte, b'/' | b'\\' | b'.' | b';')) {
            return false;
        }
    }
    std::str::from_utf8(&decoded).is_ok()
}

/// The byte that two hexadecimal digits stand for.
fn escape(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| digits.get(at).and_then(|digit| char::from(*digit).to_digit(16));
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(path: &str) -> HttpRule {
        HttpRule {
            methods: vec!["GET".to_owned()],
            tls: true,
            host: HttpHost::Name("example.com".to_owned()),
            port: 443,
            path: path.to_owned(),
        }
    }

    /// A host as people may spell it.
    fn loud() -> String {
        "https://example.com:443/v1".replace("example", "EXAMPLE")
    }

    fn covers(rule: &HttpRule, method: &str, url: &str) -> bool {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Target::of(&method, &url.parse().unwrap()).is_covered_by(rule)
    }

    // Red without each comparison of `is_covered_by`, taken out one by one, but the one with CONNECT, which the next test has.
    #[test]
    fn every_part_of_a_request_is_held_against_the_rule() {
        let rule = rule("/v1");
        for url in
            ["https://example.com/v1", "https://example.com:443/v1/a?b=/../c", "https://example.com/v1/"]
        {
            assert!(covers(&rule, "GET", url), "{url}");
        }
        assert!(covers(&rule, "GET", &loud()));
        assert!(!covers(&rule, "POST", "https://example.com/v1"));
        assert!(!covers(&rule, "get", "https://example.com/v1"));
        for url in [
            "http://example.com:443/v1",
            "https://example.com:8443/v1",
            "https://example.com./v1",
            "https://a.example.com/v1",
            "https://example.com@evil.example/v1",
            "https://evil.example@example.com/v1",
            "https://example.com/v10",
            "https://example.com/V1",
            "https://example.com/",
            "https://example.com//v1",
            "https://example.com",
            "/v1",
        ] {
            assert!(!covers(&rule, "GET", url), "{url}");
        }
    }

    #[test]
    fn any_method_is_every_one_but_a_tunnel() {
        let rule = HttpRule { methods: Vec::new(), ..rule("/") };
        assert!(covers(&rule, "DELETE", "https://example.com/"));
        assert!(!covers(&rule, "CONNECT", "https://example.com/"));
    }

    #[test]
    fn an_address_is_compared_as_an_address() {
        let rule = HttpRule { host: HttpHost::Address("::1".parse().unwrap()), ..rule("/") };
        assert!(covers(&rule, "GET", "https://[0:0::1]/"));
        assert!(!covers(&rule, "GET", "https://[::ffff:0:1]/"));
        let rule = HttpRule { host: HttpHost::Address("127.0.0.1".parse().unwrap()), ..rule };
        assert!(covers(&rule, "GET", "https://127.0.0.1/"));
        for host in ["127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]"] {
            assert!(!covers(&rule, "GET", &format!("https://{host}/")), "{host}");
        }
    }

    // Red without `is_plain`, and each line without its part of it.
    #[test]
    fn a_path_that_could_lead_out_is_under_no_prefix() {
        let rule = rule("/v1");
        for path in [
            "/v1/../admin",
            "/v1/./a",
            "/v1/..",
            "/v1/...",
            "/v1/..;/admin",
            "/v1/..;a=b/admin",
            "/v1/..%20/admin",
            "/v1/..%3b/admin",
            "/v1/%2e%2e/admin",
            "/v1/%2E./admin",
            "/v1/..%2fadmin",
            "/v1/a%2F..%2fadmin",
            "/v1/..\\admin",
            "/v1/..%5cadmin",
            "/v1/%252e%252e/admin",
            "/v1/%25252e%25252e/admin",
            "/v1/%c0%ae%c0%ae/admin",
            "/v1/%e0%80%ae/admin",
            "/v1/a%00",
            "/v1/%u002e",
            "/v1/%2",
        ] {
            assert!(!covers(&rule, "GET", &format!("https://example.com{path}")), "{path}");
        }
        for path in
            ["/v1/a.b", "/v1/.well-known/..a", "/v1/a%20b", "/v1/caf%C3%A9", "/v1/100%25", "/v1/a;b=c"]
        {
            assert!(covers(&rule, "GET", &format!("https://example.com{path}")), "{path}");
        }
    }

    // Some services want an encoded slash in a path; where everything is granted it leads nowhere else.
    #[test]
    fn where_the_whole_origin_is_granted_any_path_will_do() {
        assert!(covers(&rule("/"), "GET", "https://example.com/projects/a%2Fb/../c"));
    }

    #[test]
    fn the_host_header_is_what_was_judged() {
        let of = |url: &str| Target::of(&Method::GET, &url.parse().unwrap());
        assert_eq!(of(&loud()).authority(), "example.com");
        assert_eq!(of("http://example.com:443/").authority(), "example.com:443");
        assert_eq!(of("https://[::1]:8443/").authority(), "[::1]:8443");
        assert_eq!(of("https://example.com/private?key=1").origin(), "https://example.com:443");
    }
}
