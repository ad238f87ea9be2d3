//! Witnesses over real HTTP, as real processes: what they sign, what they refuse, what they remember; hosts that ask them; and readers
//! who insist on them, so that a host with two stories is caught.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../cli_support/mod.rs"]
mod cli_support;

mod host_asks;
mod memory;
mod rotated;
mod served_log;
mod split_view;
mod support;
mod wire;
