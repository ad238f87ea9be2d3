//! The other face of a host: its socket, metrics, health and status, and which addresses reach which port.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../cli_support/mod.rs"]
mod cli_support;

mod checked;
mod config;
mod doors;
mod monitoring;
mod page;
mod prometheus;
mod socket;
mod support;
