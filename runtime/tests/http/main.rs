//! Outbound HTTP: real guests, in Rust and in JavaScript, against real servers on loopback.
//!
//! What each guard keeps away was seen coming through without it; the comment at its test says which line that was.
#![allow(missing_docs, reason = "test names say it")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../common/mod.rs"]
mod common;
mod guests;
mod judged;
mod limits;
mod server;
mod tls;
