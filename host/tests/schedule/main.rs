//! The schedule: which waiting job starts next, and when there is something to do.
//!
//! `fairness`, `limits` and `time` hold one promise each; `model` holds all of them at once against `reference`, a few lines
//! that look at every job each time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod fairness;
mod limits;
mod model;
mod reference;
mod support;
mod time;
