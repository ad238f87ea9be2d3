//! Disk: what was acknowledged survives a power cut at any moment, and any call that fails (`docs/crash-safety.md`).
//!
//! `tracer` runs a real process and records each change of its files, or makes one call fail; `model` says what the disk may
//! hold when the power goes there; `check` opens that with the real code. `child` is what the process does.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]
#![allow(unreachable_pub, reason = "modules of one test crate")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "registers hold numbers of all kinds"
)]

mod calls;
mod check;
mod child;
#[path = "../common/mod.rs"]
mod common;
mod cuts;
mod faults;
mod model;
mod trace;
mod tracer;

#[test]
fn child_process() {
    child::run_if_asked();
}
