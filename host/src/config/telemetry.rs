//! `[telemetry]`: the collector that traces and metrics of this host go to.
//!
//! *Never:* opens or resolves it. One that is not there must not keep a host from starting.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use strongroom_runtime::TlsRoots;

use super::forward::{self, ParseDestinationError, Server};
use super::raw::{Fault, Section};
use super::roots;

/// Time between two readings of the metrics unless the configuration says otherwise, and what it may say, milliseconds.
pub(super) const METRICS_EVERY_MS: u64 = 15_000;
const METRICS_RANGE: std::ops::RangeInclusive<u64> = 1000..=3_600_000;
/// What stands behind the collector's address for each signal, as OTLP/HTTP says.
const SIGNALS: [&str; 3] = ["/v1/traces", "/v1/metrics", "/v1/logs"];

/// Where traces and metrics go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// Who takes them.
    pub to: Endpoint,
    /// Whether traces are sent.
    pub traces: bool,
    /// From one reading of the metrics that is sent to the next; none: none is sent.
    pub metrics_every: Option<Duration>,
    /// Whom a TLS connection trusts.
    pub roots: TlsRoots,
    /// The file that says so, if one does.
    pub ca_file: Option<PathBuf>,
}

/// A collector that speaks OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether it is HTTPS.
    pub tls: bool,
    /// The host and the port.
    pub server: Server,
    /// What stands before the path of each signal; without a slash at its end.
    pub prefix: String,
}

/// A text that is no collector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseEndpointError {
    /// Another form.
    #[error(
        "expected otlp+http://HOST:PORT or otlp+https://HOST:PORT, with a path if /v1/traces and /v1/metrics stand below one: a host \
         name or an IP address (IPv6 in brackets), a colon and a port from 1 to 65535, usually 4318"
    )]
    Form,
    /// The path of one signal.
    #[error("ends with {0}, which is for one signal: leave it out, and the host adds what each needs")]
    Signal(&'static str),
}

pub(super) fn check(top: &mut Section<'_>) -> Result<Option<Telemetry>, Fault> {
    let Some(value) = top.take("telemetry") else { return Ok(None) };
    let mut section = value.section()?;
    let to_value =
        section.require("to", "where a collector takes OTLP, such as \"otlp+http://127.0.0.1:4318\"")?;
    let to: Endpoint = to_value.parsed()?;
    let traces = section.take("traces").map_or(Ok(true), |value| value.boolean())?;
    let metrics = section.take("metrics").map_or(Ok(true), |value| value.boolean())?;
    let every = match section.take("metrics_every_ms") {
        Some(value) if !metrics => return Err(value.fault("is for metrics, which are switched off")),
        Some(value) => value.number(&METRICS_RANGE)?,
        None => METRICS_EVERY_MS,
    };
    let (roots, ca_file) = match section.take("ca_file") {
        Some(value) if !to.tls => {
            return Err(value.fault("is for a collector that begins with otlp+https://"));
        }
        Some(value) => (roots::load(&value)?, Some(value.text()?.into())),
        None => (TlsRoots::default(), None),
    };
    section.finish()?;
    if !traces && !metrics {
        return Err(to_value
            .fault("nothing would be sent there: take [telemetry] out, or one of traces and metrics in"));
    }
    let metrics_every = metrics.then(|| Duration::from_millis(every));
    Ok(Some(Telemetry { to, traces, metrics_every, roots, ca_file }))
}

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (tls, server, path) =
            forward::otlp(text).map_err(|_: ParseDestinationError| ParseEndpointError::Form)?;
        let prefix = path.trim_end_matches('/');
        match SIGNALS.into_iter().find(|signal| prefix.ends_with(signal)) {
            Some(signal) => Err(ParseEndpointError::Signal(signal)),
            None => Ok(Self { tls, server, prefix: prefix.to_owned() }),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", forward::otlp_scheme(self.tls), self.server, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_told_as_it_was_written() {
        for text in
            ["otlp+http://127.0.0.1:4318", "otlp+https://[::1]:443", "otlp+https://c.example:443/otlp"]
        {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        let slash: Endpoint = "otlp+http://c:4318/".parse().unwrap();
        assert_eq!(slash.to_string(), "otlp+http://c:4318");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "http://c:4318",
            "otlp+http://c",
            "otlp+http://c:0",
            "otlp+http://c:1/x?y",
            "syslog+tcp://c:1",
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(ParseEndpointError::Form), "{text}");
        }
        assert_eq!(
            "otlp+http://c:4318/a/v1/traces".parse::<Endpoint>(),
            Err(ParseEndpointError::Signal("/v1/traces"))
        );
    }
}
