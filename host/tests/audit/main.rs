//! The audit log on disk: what is published stays, what is altered is found, what crashes goes on.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod crash;
mod read;
mod support;
mod tamper;
mod verify;
mod writer;
