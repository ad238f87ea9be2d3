//! The transport keeps its promises: strangers stay outside, floods end at their own share, no part of a request counts as
//! the whole, and the SDK notices every answer that is not the one it asked for.
//!
//! The host behind it is an in-memory service (`site`); the peers are the SDK, and hand-made ones that break the rules (`raw`).
//! Every test talks to its own endpoint on a loopback port.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;
#[path = "transport/handshake.rs"]
mod handshake;
#[path = "transport/hostile.rs"]
mod hostile;
#[path = "transport/ordinary.rs"]
mod ordinary;
#[path = "transport/shutdown.rs"]
mod shutdown;
#[path = "transport/site.rs"]
mod site;
#[path = "transport/untrusted_host.rs"]
mod untrusted_host;
