//! Delegation: what a principal gives to another key is never more than it has, at no moment, and ends with whoever gave it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod commands;
#[path = "../common/mod.rs"]
mod common;
mod ended;
mod judge;
mod kept;
mod meet;
mod principal;
mod support;
mod taken;
