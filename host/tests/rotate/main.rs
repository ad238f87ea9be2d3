//! Keys that are replaced: whoever pinned an earlier one follows, what was signed before holds, and a rotation that was cut off ends.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

#[path = "../cli_support/mod.rs"]
mod cli_support;
#[path = "../common/trees.rs"]
mod trees;

mod accept;
mod cut_off;
mod life;
mod log;
mod support;
