//! Forwarding: every record of the log reaches every destination, whatever happens to either side, and no job waits for it.
//!
//! Receivers are real sockets on loopback, and a real rsyslog. What they got is read strictly (`rfc5424`) and held against the
//! log: each record, in order, byte for byte.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

#[path = "../common/mod.rs"]
mod common;
mod datagram;
mod file;
mod otlp;
mod receiver;
mod rfc5424;
mod rsyslog;
mod stream;
mod support;
mod tls;

/// The host of the tests that kill one.
#[test]
fn host_process() {
    common::process::serve_here();
}
